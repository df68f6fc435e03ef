//! `audit`: list, verify.

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::tenant::{id_of, tenant_ref};
use super::{Exit, Failure, Output, output};
use crate::app::Backend;
use crate::cli::Program;
use crate::domain::page::Window;
use crate::service::audit::{Break, Entry, Filter, Link, Verdict};

/// The number of rows of one query.
const ROWS_AT_ONCE: u32 = 1000;

/// The verbs of this file.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List audit events, newest first
    List(List),
    /// Check that no event was changed or removed; exits with 1 and names the first one otherwise
    ///
    /// Seals the events that are not sealed yet first. A user who can write the tables can rebuild the whole chain:
    /// keep the number of events and the head that this prints in another place, and compare them.
    Verify(Output),
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// Only events of this tenant, by slug or id; a purged tenant can be named by id
    #[arg(long)]
    tenant: Option<String>,
    /// Only events of this actor, as listed
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
    /// Only events of this action, such as tenant.create
    #[arg(long, value_name = "NOUN.VERB")]
    action: Option<String>,
    /// Only events since this time, such as 2026-11-21T12:00:00Z, or since this long ago, such as 24h
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only events before this time, or before this long ago
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// The maximum number of events; if there are more, a line on stderr says so
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    #[command(flatten)]
    output: Output,
}

/// An event as programs read it; the names are those of the HTTP API.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct EventView {
    id: String,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    actor: String,
    action: String,
    tenant_id: Option<String>,
    request_id: String,
    details: Value,
}

/// The result of a check of the chain, as programs read it.
#[derive(Debug, Serialize)]
struct VerdictView {
    /// Whether the chain is intact.
    whole: bool,
    events: i64,
    head: String,
    broken: Option<BreakView>,
}

#[derive(Debug, Serialize)]
struct BreakView {
    /// The position in the chain, from 1.
    position: i64,
    /// `changed` or `missing`.
    kind: &'static str,
    /// The changed event as it is now; null for a missing event.
    event: Option<EventView>,
}

pub(super) async fn run(settings: &Program, verb: Verb) -> Result<Exit, Failure> {
    match verb {
        Verb::List(command) => list(settings, command).await,
        Verb::Verify(output) => verify(settings, output).await,
    }
}

async fn list(settings: &Program, command: List) -> Result<Exit, Failure> {
    command.tenant.as_deref().map(tenant_ref).transpose()?;
    for (flag, given) in [("--since", &command.since), ("--until", &command.until)] {
        if let Some(given) = given {
            point_in_time(flag, given, OffsetDateTime::UNIX_EPOCH)?;
        }
    }
    let (entries, more) = output::on_control_plane(settings, async |backend| {
        let now = backend.operator().now;
        let time = |flag, given: &Option<String>| {
            given.as_deref().map(|given| point_in_time(flag, given, now)).transpose()
        };
        let filter = Filter {
            actor: command.actor.clone(),
            action: command.action.clone(),
            tenant: id_of(backend, command.tenant.as_deref()).await?,
            created_after: time("--since", &command.since)?,
            created_before: time("--until", &command.until)?,
        };
        read(backend, &filter, command.limit).await
    })
    .await?;
    let views: Vec<EventView> = entries.into_iter().map(EventView::from).collect();
    let row = |view: &EventView| {
        vec![
            output::time(view.created_at),
            view.actor.clone(),
            view.action.clone(),
            view.tenant_id.clone().unwrap_or_else(|| "-".to_owned()),
            view.details.to_string(),
        ]
    };
    let header = ["AT", "ACTOR", "ACTION", "TENANT", "DETAILS"];
    output::print_list(command.output, &views, &header, row, "no matching events")?;
    if more {
        output::say("there are older events; raise --limit or pass --until");
    }
    Ok(Exit::Done)
}

/// Returns up to `limit` events, and whether there are more.
async fn read(
    backend: &Backend,
    filter: &Filter,
    limit: u32,
) -> Result<(Vec<Entry>, bool), Failure> {
    let (mut entries, mut after, mut left) = (Vec::new(), None, limit);
    loop {
        let rows = u16::try_from(left.min(ROWS_AT_ONCE)).unwrap_or(u16::MAX);
        let window = Window { after, limit: rows };
        let page = backend.services.audit.list(&backend.operator(), filter, &window).await?;
        entries.extend(page.rows);
        left -= u32::from(rows);
        after = page.next;
        if after.is_none() || left == 0 {
            return Ok((entries, after.is_some()));
        }
    }
}

/// Parses an RFC 3339 time, or a duration before `now`.
fn point_in_time(flag: &str, given: &str, now: OffsetDateTime) -> Result<OffsetDateTime, Failure> {
    let ago = || {
        let ago = time::Duration::try_from(humantime::parse_duration(given).ok()?).ok()?;
        now.checked_sub(ago)
    };
    OffsetDateTime::parse(given, &Rfc3339).ok().or_else(ago).ok_or_else(|| {
        Failure::usage(format!(
            "{flag} must be a time, such as 2026-11-21T12:00:00Z, or a duration before now, such as 24h"
        ))
    })
}

async fn verify(settings: &Program, output: Output) -> Result<Exit, Failure> {
    let (verdict, event) = output::on_control_plane(settings, async |backend| {
        let (audit, ctx) = (&backend.services.audit, backend.operator());
        let verdict = audit.verify(&ctx).await?;
        let event = match verdict.broken {
            Some(Break::Changed(position)) => audit.sealed_from(&ctx, position).await?,
            Some(Break::Missing(_)) | None => None,
        };
        Ok((verdict, event))
    })
    .await?;
    let problem = problem(&verdict, event.as_ref());
    let view = VerdictView::new(verdict, event);
    if output.json {
        output::print(output, &view, String::new)?;
    }
    match problem {
        None if output.json => Ok(Exit::Done),
        None => {
            let (events, head) = (view.events, &view.head);
            output::data(&format!("the chain of {events} events is intact; its head is {head}"))?;
            Ok(Exit::Done)
        }
        Some(problem) => Err(Failure::Other(problem)),
    }
}

/// Returns the problem of the chain, or `None` if it is intact.
fn problem(verdict: &Verdict, event: Option<&Link>) -> Option<String> {
    let events = verdict.events;
    match (verdict.broken?, event) {
        (Break::Missing(position), _) => {
            Some(format!("audit event {position} of {events} was removed"))
        }
        (Break::Changed(position), Some(event)) => Some(format!(
            "audit event {position} of {events} was changed; it is now {} of {} by {}, id {}",
            event.action,
            output::time(event.at),
            event.actor,
            event.id
        )),
        (Break::Changed(position), None) => {
            Some(format!("audit event {position} of {events} was changed"))
        }
    }
}

impl VerdictView {
    fn new(verdict: Verdict, event: Option<Link>) -> Self {
        let broken = verdict.broken.map(|broken| match broken {
            Break::Missing(position) => BreakView { position, kind: "missing", event: None },
            Break::Changed(position) => {
                BreakView { position, kind: "changed", event: event.map(EventView::from) }
            }
        });
        let Verdict { events, head, .. } = verdict;
        Self { whole: broken.is_none(), events, head, broken }
    }
}

impl From<Entry> for EventView {
    fn from(entry: Entry) -> Self {
        Self {
            id: entry.id.to_string(),
            created_at: entry.at,
            actor: entry.actor,
            action: entry.action,
            tenant_id: entry.tenant.map(|tenant| tenant.to_string()),
            request_id: entry.request_id,
            details: entry.details,
        }
    }
}

impl From<Link> for EventView {
    fn from(link: Link) -> Self {
        // A changed event can have details that are not JSON.
        let details = serde_json::from_str(&link.details).unwrap_or(Value::String(link.details));
        Self {
            id: link.id.to_string(),
            created_at: link.at,
            actor: link.actor,
            action: link.action,
            tenant_id: link.tenant.map(|tenant| tenant.to_string()),
            request_id: link.request_id,
            details,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_timestamp_or_a_duration_before_now() {
        let now = time::macros::datetime!(2026-11-22 12:00 UTC);
        for (given, at) in [
            ("2026-11-21T12:00:00Z", Some(time::macros::datetime!(2026-11-21 12:00 UTC))),
            ("2026-11-21T12:00:00+02:00", Some(time::macros::datetime!(2026-11-21 10:00 UTC))),
            ("24h", Some(time::macros::datetime!(2026-11-21 12:00 UTC))),
            ("1h 30m", Some(time::macros::datetime!(2026-11-22 10:30 UTC))),
            ("yesterday", None),
            ("2026-11-21", None),
            ("", None),
            ("999999999999 years", None),
        ] {
            assert_eq!(point_in_time("--since", given, now).ok(), at, "{given:?}");
        }
    }
}
