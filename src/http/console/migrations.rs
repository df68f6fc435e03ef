//! Fleet migrations: what is behind, a rehearsal, a start, and what ran before.

use actix_web::HttpResponse;
use askama::Template;

use super::Answer;
use super::call::{Call, window};
use super::form::Form;
use super::frame::Area;
use super::list::{List, Pages};
use super::problem::Problem;
use super::text::{Count, When};
use crate::domain::Permission;
use crate::domain::error::{Error, Noun, Result};
use crate::domain::operation::Then;
use crate::domain::page::Window;
use crate::domain::rule::Rule;
use crate::service::fleet::{
    Canary, MigrationRequest, Plan, Record, Rehearsal, RehearsalTarget, SchemaOwner, Trial,
    TrialEnd,
};
use crate::service::overview::MigrationFile;

const HERE: &str = "/console/migrations";

/// The most tenants that are migrated at the same time.
const WORKERS_MAX: i64 = 1024;

/// The most tenants of a canary, and the most failures.
const COUNT_MAX: i64 = 1_000_000;

/// The migrations on a page. The tenants of each are counted.
const EARLIER: u16 = 8;

/// The most groups of tenants that lack the same files on the page.
const GROUPS: usize = 20;

#[derive(Template)]
#[template(path = "migrations.html")]
struct MigrationsPage<'a> {
    plan: Plan,
    /// The groups of the plan that are not shown.
    more_groups: usize,
    /// The files that some tenant lacks.
    lacking: Vec<MigrationFile>,
    open: Option<Record>,
    may_migrate: bool,
    /// How many vacancies can be rehearsed on.
    vacancies: usize,
    form: &'a Form,
    rehearsal: Option<RehearsalView>,
    earlier: Vec<Record>,
    pages: Pages,
}

/// What a rehearsal showed.
struct RehearsalView {
    /// What it was made on; `None` if no tenant is behind.
    on: Option<String>,
    passed: bool,
    new_tenant_error: Option<String>,
    trials: Vec<TrialView>,
}

/// What became of a file in a rehearsal.
struct TrialView {
    file: String,
    status: &'static str,
    words: &'static str,
    took: Option<String>,
    line: Option<usize>,
    message: Option<String>,
}

/// Shows which tenants are behind, and the migrations that ran.
pub(super) async fn list(call: &Call) -> Answer {
    let mut query = call.query()?;
    let window = Window { limit: EARLIER, ..window(&mut query) };
    let window = query.finish(Some(window))?;
    let html = page(call, &Form::default(), None, &window).await?;
    Ok(super::page::respond(actix_web::http::StatusCode::OK, html, &call.shown()))
}

/// Starts a migration, and leads to it.
pub(super) async fn start(call: &Call) -> Answer {
    call.ctx.require(Permission::MigrateFleet)?;
    let fleet = &call.services().fleet;
    let request = request(&call.form);
    if !call.form.is_good() {
        return refused(call, Error::Invalid(Vec::new())).await;
    }
    let record = match fleet.start(&call.ctx, &request).await {
        Ok(record) => record,
        Err(Error::Invalid(problems)) => {
            for problem in &problems {
                let (field, named) = if problem.field.starts_with("/canary") {
                    let canary = request.canary.as_ref();
                    ("canary_tenants", canary.map_or(&[][..], |canary| &canary.tenants))
                } else {
                    ("tenants", &request.tenants[..])
                };
                call.form.blame_tenant(field, problem, named);
            }
            return refused(call, Error::Invalid(problems)).await;
        }
        Err(error @ Error::Fleet(_)) => {
            call.form.blame("", format!("{}.", super::problem::words(&error).1));
            return refused(call, error).await;
        }
        Err(error) => return Err(error),
    };
    fleet.run_in_background(&call.ctx, record.id).await?;
    call.done(&format!("/console/migrations/{}", record.id), "The migration has started.")
}

/// Rehearses the migration on one schema, and shows what became of each file. Nothing of it is kept, so that the answer is
/// the page itself.
pub(super) async fn rehearse(call: &Call) -> Answer {
    call.ctx.require(Permission::MigrateFleet)?;
    let (fleet, form) = (&call.services().fleet, &call.form);
    let target = match form.text("on") {
        "vacancy" => RehearsalTarget::Vacancy,
        "tenant" => {
            let named = form.required("tenant", |text| Ok(text.to_owned()));
            let Some(named) = named else {
                return refused(call, Error::Invalid(Vec::new())).await;
            };
            RehearsalTarget::Tenant(named)
        }
        _ => RehearsalTarget::FirstBehind,
    };
    let rehearsal = match fleet.rehearse(&call.ctx, target).await {
        Ok(rehearsal) => rehearsal,
        Err(error @ Error::NotFound(noun)) => {
            match noun {
                Noun::Vacancy => form.blame("", "There is no free vacancy to rehearse on."),
                _ => form.blame("tenant", "is no tenant"),
            }
            return refused(call, error).await;
        }
        Err(error @ Error::Fleet(_)) => {
            form.blame("", format!("{}.", super::problem::words(&error).1));
            return refused(call, error).await;
        }
        Err(error) => return Err(error),
    };
    let why = fleet.why_no_new_tenants(&call.ctx).await?;
    let view = RehearsalView::of(rehearsal, why);
    let window = Window { after: None, limit: EARLIER };
    let html = page(call, form, Some(view), &window).await?;
    Ok(super::page::respond(actix_web::http::StatusCode::OK, html, &call.shown()))
}

/// Shows the page again, with what was typed and what is wrong with it.
async fn refused(call: &Call, error: Error) -> Answer {
    let window = Window { after: None, limit: EARLIER };
    let html = page(call, &call.form, None, &window).await?;
    Ok(HttpResponse::from_error(Problem::shown(error, html)))
}

async fn page(
    call: &Call,
    form: &Form,
    rehearsal: Option<RehearsalView>,
    window: &Window,
) -> Result<String> {
    let services = call.services();
    let mut plan = services.fleet.plan(&call.ctx, &[]).await?;
    let earlier = services.fleet.list(&call.ctx, None, window).await?;
    let open = services.fleet.find_open(&call.ctx).await?;
    let vacancies = services.vacancies.status(&call.ctx).await?.ready;
    let files = services.overview.migrations(&call.ctx)?.files.into_iter();
    let is_lacked =
        |file: &MigrationFile| plan.behind.iter().any(|group| group.files.contains(&file.name));
    let lacking = files.filter(is_lacked).collect();
    let more_groups = plan.behind.len().saturating_sub(GROUPS);
    plan.behind.truncate(GROUPS);
    let content = MigrationsPage {
        plan,
        more_groups,
        lacking,
        open,
        may_migrate: call.may_everywhere(Permission::MigrateFleet),
        vacancies,
        form,
        rehearsal,
        pages: List::of(call, HERE, &[]).pages(window, earlier.next),
        earlier: earlier.rows,
    };
    call.page(Area::Migrations, "Migrations")
        .api(format!("/control/v1/migrations?limit={EARLIER}"))
        .api("/control/v1/migration-set")
        .api("/control/v1/vacancies")
        .html(&content)
}

/// Reads the form that starts a migration.
fn request(form: &Form) -> MigrationRequest {
    let number = |name: &str, most: i64| {
        form.optional(name, |text| {
            let number = text.parse::<i64>().ok().filter(|number| (1..=most).contains(number));
            number.ok_or(Rule::Range(1, most))
        })
    };
    let tenants = match form.text("which") {
        "these" => {
            let named = names(form.text("tenants"));
            if named.is_empty() {
                form.refuse("tenants", Rule::Required);
            }
            named
        }
        _ => Vec::new(),
    };
    let canary = match form.text("canary") {
        "count" => {
            let count = number("canary_count", COUNT_MAX);
            if count.is_none() && form.is_good() {
                form.refuse("canary_count", Rule::Required);
            }
            Some((count.and_then(|count| u32::try_from(count).ok()).unwrap_or(0), Vec::new()))
        }
        "these" => {
            let named = names(form.text("canary_tenants"));
            if named.is_empty() {
                form.refuse("canary_tenants", Rule::Required);
            }
            Some((0, named))
        }
        _ => None,
    };
    let then = if form.has("then", "continue") { Then::Continue } else { Then::Pause };
    let as_size = |number: i64| usize::try_from(number).ok();
    MigrationRequest {
        tenants,
        canary: canary.map(|(count, tenants)| Canary { count, tenants, then }),
        workers: number("workers", WORKERS_MAX).and_then(as_size),
        max_failures: number("max_failures", COUNT_MAX).and_then(as_size),
    }
}

/// Splits a text into names.
fn names(text: &str) -> Vec<String> {
    let separators = |c: char| c.is_whitespace() || c == ',' || c == ';';
    text.split(separators).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

impl RehearsalView {
    fn of(rehearsal: Option<Rehearsal>, new_tenant_error: Option<String>) -> Self {
        let (on, trials) = match rehearsal {
            None => (None, Vec::new()),
            Some(Rehearsal { owner, trials, .. }) => {
                let on = match owner {
                    SchemaOwner::Tenant { slug, .. } => format!("the tenant {slug}"),
                    SchemaOwner::Vacancy(_) => "a vacancy".to_owned(),
                };
                (Some(on), trials)
            }
        };
        let applied = trials.iter().all(|trial| matches!(trial.end, TrialEnd::Applied(_)));
        Self {
            on,
            passed: applied && new_tenant_error.is_none(),
            new_tenant_error,
            trials: trials.into_iter().map(TrialView::from).collect(),
        }
    }
}

impl From<Trial> for TrialView {
    fn from(Trial { file, end }: Trial) -> Self {
        let view =
            |status, words| Self { file, status, words, took: None, line: None, message: None };
        match end {
            TrialEnd::Applied(took) => {
                let took = Some(format!("{:.1} ms", took.as_secs_f64() * 1000.0));
                Self { took, ..view("ok", "applied") }
            }
            TrialEnd::Failed { line, message } => {
                Self { line, message: Some(message), ..view("failed", "failed") }
            }
            TrialEnd::NotReached => view("off", "not reached"),
        }
    }
}
