//! One fleet migration while it runs and afterwards.

use askama::Template;
use uuid::Uuid;

use super::Answer;
use super::call::{Call, window};
use super::frame::Area;
use super::list::{Chip, List, Pages, link};
use super::page::fragment;
use super::text::{Count, When};
use crate::domain::Permission;
use crate::domain::error::Noun;
use crate::domain::operation::{OperationKind, OperationState, PauseReason, WorkState};
use crate::domain::page::Window;
use crate::domain::rule::Rule;
use crate::service::fleet::{Record, Work, WorkFilter, WorkOrder};

/// The part of the page that changes by itself.
const LIVE: &str = "live";

/// How many failures are shown above the list of all tenants.
const FAILURES: u16 = 20;

/// How many of the slowest tenants are shown.
const SLOWEST: u16 = 5;

#[derive(Template)]
#[template(path = "migration.html", blocks = ["live"])]
struct MigrationPage {
    record: Record,
    path: String,
    what: &'static str,
    sentence: String,
    announced: String,
    over: i64,
    eta: Option<String>,
    took: Option<String>,
    pause: Button,
    resume: Button,
    cancel: Button,
    retry: Button,
    may_migrate: bool,
    failures: Vec<Work>,
    /// Those that took longest, once it is over.
    slowest: Vec<Work>,
    chips: Vec<Chip>,
    rows: Vec<Work>,
    q: String,
    state: &'static str,
    pages: Pages,
}

/// Whether something can be done now, or why not.
struct Button {
    why_not: Option<&'static str>,
}

/// Shows a migration.
#[expect(clippy::too_many_lines, reason = "a flat list of what the template shows")]
pub(super) async fn read(call: &Call) -> Answer {
    let id = call.id(Noun::Operation)?;
    let mut query = call.query()?;
    let window = window(&mut query);
    let state = query
        .optional("state", |text| text.parse().map_err(|_unknown| Rule::OneOf(WorkState::WORDS)));
    let q = query.optional("q", |text| Ok(text.to_owned()));
    let window = query.finish(Some(window))?;
    let fleet = &call.services().fleet;
    let record = fleet.read(&call.ctx, id).await?;
    let filter = WorkFilter { state, q: q.clone(), order: WorkOrder::Id };
    let page = fleet.tenants(&call.ctx, id, &filter, &window).await?;
    let failed = WorkFilter { state: Some(WorkState::Failed), ..WorkFilter::default() };
    let some = Window { after: None, limit: FAILURES };
    let failures = if record.counts.failed == 0 {
        Vec::new()
    } else {
        fleet.tenants(&call.ctx, id, &failed, &some).await?.rows
    };
    let slowest = if record.state.is_open() {
        Vec::new()
    } else {
        let some = Window { after: None, limit: SLOWEST };
        let slowest = WorkFilter { order: WorkOrder::Slowest, ..WorkFilter::default() };
        let mut rows = fleet.tenants(&call.ctx, id, &slowest, &some).await?.rows;
        rows.retain(|work| took_of(work).is_some());
        rows
    };
    let path = format!("/console/migrations/{id}");
    let list = List::of(call, &path, &["q", "state"]);
    let counts = record.counts;
    let chip = |words: &str, count, of: Option<WorkState>| Chip {
        words: format!("{words} {}", Count(count)),
        path: list.filtered_by("state", of.map(WorkState::as_str)),
        is_chosen: of == state,
    };
    let chips = vec![
        chip("all", counts.total, None),
        chip("failed", counts.failed, Some(WorkState::Failed)),
        chip("in flight", counts.running, Some(WorkState::Running)),
        chip("pending", counts.pending, Some(WorkState::Pending)),
        chip("done", counts.done, Some(WorkState::Done)),
        chip("skipped", counts.skipped, Some(WorkState::Skipped)),
    ];
    let pages = list.pages(&window, page.next);
    let title = title(&record);
    let over = counts.done + counts.failed + counts.skipped;
    let content = MigrationPage {
        what: if record.kind == OperationKind::Migrate { "Migration" } else { "Distribution" },
        sentence: sentence(&record),
        announced: announced(&record, over),
        over,
        eta: eta(&record),
        took: took(&record),
        pause: pause(&record),
        resume: resume(&record),
        cancel: cancel(&record),
        retry: retry(&record),
        may_migrate: call.may_everywhere(Permission::MigrateFleet),
        failures,
        slowest,
        chips,
        rows: page.rows,
        state: state.map_or("", WorkState::as_str),
        pages,
        path,
        q: q.unwrap_or_default(),
        record,
    };
    if call.fragment().as_deref() == Some(LIVE) {
        return fragment(call, &content.as_live());
    }
    let page = call.page(Area::Migrations, title);
    let page = page.api(format!("/control/v1/migrations/{id}")).api(alternate(call, id));
    let page = if content.record.state.is_open() {
        page.changing()
    } else {
        page.api(format!("/control/v1/migrations/{id}/tenants?order=-took&limit={SLOWEST}"))
    };
    page.show(&content)
}

/// Begins no more tenants.
pub(super) async fn stop(call: &Call) -> Answer {
    let id = call.id(Noun::Operation)?;
    call.services().fleet.pause(&call.ctx, id).await?;
    done(call, id, "The migration is paused. Tenants that were begun are finished.")
}

/// Goes on.
pub(super) async fn go_on(call: &Call) -> Answer {
    let id = call.id(Noun::Operation)?;
    call.services().fleet.run_in_background(&call.ctx, id).await?;
    done(call, id, "The migration goes on.")
}

/// Cancels.
pub(super) async fn end(call: &Call) -> Answer {
    let id = call.id(Noun::Operation)?;
    call.services().fleet.cancel(&call.ctx, id).await?;
    done(call, id, "The migration is cancelled. Tenants that are migrated stay so.")
}

/// Tries failed tenants again: those that are marked, or all.
pub(super) async fn try_again(call: &Call) -> Answer {
    let id = call.id(Noun::Operation)?;
    let named: Vec<String> = call.form.all("tenants").into_iter().map(str::to_owned).collect();
    let fleet = &call.services().fleet;
    fleet.retry(&call.ctx, id, &named).await?;
    fleet.run_in_background(&call.ctx, id).await?;
    done(call, id, "The failed tenants are tried again.")
}

fn done(call: &Call, id: Uuid, sentence: &str) -> Answer {
    call.done(&format!("/console/migrations/{id}"), sentence)
}

/// Returns the path of the same tenants in the control dialect.
fn alternate(call: &Call, id: Uuid) -> String {
    let path = format!("/control/v1/migrations/{id}/tenants");
    link(&path, ["state", "q", "cursor"].map(|name| (name, Some(call.parameter(name)))))
}

fn title(record: &Record) -> String {
    match record.kind {
        OperationKind::Migrate => format!("Migration to version {}", record.target_version),
        OperationKind::Distribute => "Distribution".to_owned(),
    }
}

/// Returns what the state means, in a sentence; empty where the word says it.
fn sentence(record: &Record) -> String {
    let in_flight = record.counts.running;
    let of_tenants = |count: i64| if count == 1 { "tenant" } else { "tenants" };
    match (record.state, record.pause_reason) {
        (OperationState::Running, _) if !record.is_held => {
            "The server that ran it is gone. Resume it, to go on from this server.".to_owned()
        }
        (OperationState::Paused, _) if record.is_held && in_flight > 0 => {
            format!("Pausing: {in_flight} {} in flight.", of_tenants(in_flight))
        }
        (OperationState::Paused, Some(PauseReason::Canary)) => {
            "The canary is done. Look at these tenants, then resume.".to_owned()
        }
        (OperationState::Paused, Some(PauseReason::CanaryFailed)) => {
            "A tenant of the canary failed. The others are untouched.".to_owned()
        }
        (OperationState::Paused, Some(PauseReason::MaxFailures)) => {
            "As many tenants failed as were allowed.".to_owned()
        }
        (OperationState::Paused, _) => "Paused on request.".to_owned(),
        (OperationState::Failed, _) => {
            "Every tenant was tried. Those that failed are as they were before.".to_owned()
        }
        (OperationState::Cancelled, _) => "Tenants that are migrated stay so.".to_owned(),
        _ => String::new(),
    }
}

/// Returns what a screen reader is told: the state, and each tenth of the way.
fn announced(record: &Record, over: i64) -> String {
    let state = record.state;
    if state == OperationState::Running && record.counts.total > 0 {
        let tenths = over * 10 / record.counts.total;
        return format!("The migration is running, {} percent", tenths * 10);
    }
    format!("The migration is {state}")
}

/// Returns how long the rest takes at the present rate.
fn eta(record: &Record) -> Option<String> {
    let rate = record.counts.done_per_second;
    if record.state != OperationState::Running || !record.is_held || rate <= 0.0 {
        return None;
    }
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "an estimate; a number of tenants is far below 2^52"
    )]
    let seconds = ((record.counts.pending + record.counts.running) as f64 / rate).ceil() as i64;
    Some(format!("{rate:.1} a second, about {} left", duration(seconds)))
}

fn took(record: &Record) -> Option<String> {
    let (begun, ended) = record.started_at.zip(record.ended_at)?;
    Some(duration((ended - begun).whole_seconds()))
}

fn duration(seconds: i64) -> String {
    match seconds {
        ..=0 => "less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..120 => format!("{seconds} seconds"),
        120..7200 => format!("{} minutes", seconds / 60),
        _ => format!("{} hours", seconds / 3600),
    }
}

/// How long a tenant took. What was skipped took no time.
fn took_of(work: &Work) -> Option<String> {
    if !matches!(work.state, WorkState::Done | WorkState::Failed) {
        return None;
    }
    let (begun, ended) = work.started_at.zip(work.ended_at)?;
    Some(format!("{:.2} s", (ended - begun).as_seconds_f64().max(0.0)))
}

fn pause(record: &Record) -> Button {
    let why_not = match record.state {
        OperationState::Planned | OperationState::Running => None,
        OperationState::Paused => Some("it is paused"),
        OperationState::Done | OperationState::Failed | OperationState::Cancelled => {
            Some("it is over")
        }
    };
    Button { why_not }
}

fn resume(record: &Record) -> Button {
    let why_not = match record.state {
        OperationState::Paused => None,
        OperationState::Planned | OperationState::Running => {
            record.is_held.then_some("it is running")
        }
        OperationState::Done | OperationState::Failed | OperationState::Cancelled => {
            Some("it is over")
        }
    };
    Button { why_not }
}

fn cancel(record: &Record) -> Button {
    Button { why_not: (!record.state.is_open()).then_some("it is over") }
}

fn retry(record: &Record) -> Button {
    let is_right = match record.state {
        OperationState::Failed => true,
        OperationState::Paused => !record.is_held,
        _ => false,
    };
    let why_not = match (record.counts.failed, is_right) {
        (0, _) => Some("no tenant has failed"),
        (_, true) => None,
        (_, false) => Some("possible when it has ended or is paused"),
    };
    Button { why_not }
}
