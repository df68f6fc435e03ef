//! The schema of a tenant: its migrations, its tables, a check and a rehearsal of it alone.

use actix_web::HttpResponse;
use askama::Template;

use super::Answer;
use super::call::Call;
use super::frame::Area;
use super::one_tenant::{Tabs, api, named, record};
use super::text::{Count, When};
use crate::domain::Permission;
use crate::domain::error::Result;
use crate::domain::page::Window;
use crate::domain::tenant::TenantRecord;
use crate::service::doctor::Orphans;
use crate::service::examinations::{Filter, Record as Examination, Request, StoredFinding};
use crate::service::fleet::{Rehearsal, RehearsalTarget, TrialEnd};
use crate::service::overview::TenantSchema;

/// How many findings about a tenant are shown.
const FINDINGS: u16 = 20;

#[derive(Template)]
#[template(path = "schema.html")]
struct SchemaPage<'a> {
    record: &'a TenantRecord,
    tabs: Tabs,
    schema: TenantSchema,
    /// Whether the caller may check and rehearse.
    may_run: bool,
    /// The last check of everything and what it found about the tenant, for those who may see it.
    checked: Option<(Examination, Vec<StoredFinding>)>,
    /// What a rehearsal said just now: each file, whether it can be applied, and more.
    trials: Option<Vec<(String, &'static str, String)>>,
}

/// Shows the schema.
pub(super) async fn read(call: &Call) -> Answer {
    show(call, None).await
}

async fn show(call: &Call, trials: Option<Vec<(String, &'static str, String)>>) -> Answer {
    let record = record(call).await?;
    let schema = call.services().overview.tenant_schema(&call.ctx, &named(call)?).await?;
    let checked = checked(call, &record).await?;
    let page = call.page(Area::Tenants, format!("Schema of {}", record.tenant.name));
    let page = page.api(format!("{}/schema", api(&record)));
    let page = match &checked {
        Some((check, _)) => page.api(format!(
            "/control/v1/examinations/{}/findings?tenant={}&limit={FINDINGS}",
            check.id, record.tenant.id
        )),
        None => page,
    };
    let content = SchemaPage {
        record: &record,
        tabs: Tabs::of(call, &record, "Schema"),
        schema,
        may_run: call.may_everywhere(Permission::MigrateFleet),
        checked,
        trials,
    };
    page.show(&content)
}

async fn checked(
    call: &Call,
    record: &TenantRecord,
) -> Result<Option<(Examination, Vec<StoredFinding>)>> {
    if !call.may_everywhere(Permission::ViewFleet) {
        return Ok(None);
    }
    let examinations = &call.services().examinations;
    let Some(check) = examinations.find_last(&call.ctx).await? else { return Ok(None) };
    let filter = Filter { tenant: Some(record.tenant.id), ..Filter::default() };
    let window = Window { after: None, limit: FINDINGS };
    let found = examinations.findings(&call.ctx, check.id, &filter, &window).await?.rows;
    Ok(Some((check, found)))
}

/// Applies the migrations that the tenant lacks, rolls them back, and shows what came of it.
pub(super) async fn rehearse(call: &Call) -> Answer {
    call.ctx.require(Permission::MigrateFleet)?;
    let record = record(call).await?;
    let target = RehearsalTarget::Tenant(record.tenant.id.to_string());
    let fleet = &call.services().fleet;
    let rehearsal = Box::pin(fleet.rehearse(&call.ctx, target)).await?;
    show(call, Some(told(rehearsal))).await
}

fn told(rehearsal: Option<Rehearsal>) -> Vec<(String, &'static str, String)> {
    let trials = rehearsal.map(|rehearsal| rehearsal.trials).unwrap_or_default();
    let told = trials.into_iter().map(|trial| match trial.end {
        TrialEnd::Applied(took) => {
            (trial.file, "ok", format!("applied in {} ms", took.as_millis()))
        }
        TrialEnd::Failed { line: Some(line), message } => {
            (trial.file, "failed", format!("line {line}: {message}"))
        }
        TrialEnd::Failed { line: None, message } => (trial.file, "failed", message),
        TrialEnd::NotReached => (trial.file, "skipped", "not reached".to_owned()),
    });
    told.collect()
}

/// Starts a check of this tenant alone, which goes on in the background.
pub(super) async fn check(call: &Call) -> Result<HttpResponse> {
    let slug = record(call).await?.tenant.slug.to_string();
    let request = Request { tenants: vec![slug], repair: false, orphans: Orphans::Keep };
    call.services().examinations.start(&call.ctx, request).await?;
    call.done("/console/health", "The check has begun.")
}
