//! Rehearsals: the migration on one schema, rolled back.
//!
//! A rehearsal ends with its request, at the latest after `http.request_timeout`; it leaves no change in either case.

use actix_web::{HttpResponse, post};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::Permission;
use crate::domain::error::Result;
use crate::domain::rule::Rule;
use crate::http::body::Fields;
use crate::http::control::PROBLEM_JSON;
use crate::http::control::call::Call;
use crate::http::control::responses::{Forbidden, InvalidBody};
use crate::http::control::{Answer, ProblemBody};
use crate::http::responses::MigrateFleet;
use crate::service::fleet::{Rehearsal, RehearsalTarget, SchemaOwner, Trial, TrialEnd};

/// The result of a rehearsal.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Rehearsal)]
pub(super) struct RehearsalAnswer {
    /// Whether no file failed and new tenants can be made; also true if there was no file to apply.
    passed: bool,
    /// Why no new tenant can be made from all files; null if one can.
    new_tenant_error: Option<String>,
    /// The tenant that was used; null if a vacancy was used or no tenant is behind.
    tenant_id: Option<Uuid>,
    /// The slug of that tenant.
    slug: Option<String>,
    /// The vacancy that was used.
    vacancy_id: Option<Uuid>,
    /// The missing migration files, in order.
    migrations: Vec<TrialAnswer>,
}

/// How the rehearsal of a file ended.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[schema(as = RehearsedMigrationState)]
#[serde(rename_all = "snake_case")]
pub(super) enum TrialState {
    /// It was applied, and rolled back.
    Applied,
    /// It failed.
    Failed,
    /// An earlier file failed.
    NotReached,
}

/// A file of a rehearsal.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RehearsedMigration)]
pub(super) struct TrialAnswer {
    file: String,
    state: TrialState,
    /// How long the database took to apply it, in milliseconds.
    duration_ms: Option<f64>,
    /// The line that failed, if the database reports it.
    line: Option<usize>,
    /// The error message of the database.
    error: Option<String>,
}

/// The schema to rehearse on; an empty object selects the first tenant that is behind.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body in the OpenAPI document")]
pub(super) struct NewRehearsal {
    /// The tenant, by slug or id.
    tenant: Option<String>,
    /// Whether to use a free vacancy instead of a tenant.
    vacancy: Option<bool>,
}

/// Applies the migration to one schema and rolls everything back, and builds a new tenant from all files and takes it
/// back. Until then the tables of the rehearsed tenant are locked.
#[utoipa::path(tag = "control", operation_id = "rehearseMigration", security(("bearer" = [])), request_body = NewRehearsal, responses(
    (status = 200, description = "The result of each file, failed files included", body = RehearsalAnswer),
    InvalidBody, Forbidden<MigrateFleet>,
    (status = 404, description = "No such tenant, or no free vacancy", body = ProblemBody, content_type = PROBLEM_JSON),
    (status = 409, description = "The schema is ahead of this server, or was migrated with other files", body = ProblemBody, content_type = PROBLEM_JSON),
))]
#[post("/control/v1/rehearsals")]
pub(super) async fn rehearse(call: Call) -> Answer {
    call.ctx.require(Permission::MigrateFleet)?;
    call.query()?.finish(Some(()))?;
    let target = target(call.body()?)?;
    let fleet = &call.services().fleet;
    let rehearsal = fleet.rehearse(&call.ctx, target).await?;
    let mut answer = RehearsalAnswer::from(rehearsal);
    answer.new_tenant_error = fleet.why_no_new_tenants(&call.ctx).await?;
    answer.passed &= answer.new_tenant_error.is_none();
    Ok(HttpResponse::Ok().json(answer))
}

fn target(mut body: Fields) -> Result<RehearsalTarget> {
    let tenant = body.optional("tenant", |text| Ok(text.to_owned()));
    let vacancy = body.flag("vacancy");
    if tenant.is_some() && vacancy {
        // One rehearsal has one schema.
        body.refuse("vacancy", Rule::OneOf(&["false"]));
    }
    body.finish(Some(match tenant {
        Some(named) => RehearsalTarget::Tenant(named),
        None if vacancy => RehearsalTarget::Vacancy,
        None => RehearsalTarget::FirstBehind,
    }))
}

impl From<Option<Rehearsal>> for RehearsalAnswer {
    fn from(rehearsal: Option<Rehearsal>) -> Self {
        let Some(Rehearsal { owner, trials, .. }) = rehearsal else {
            let migrations = Vec::new();
            return Self {
                passed: true,
                new_tenant_error: None,
                tenant_id: None,
                slug: None,
                vacancy_id: None,
                migrations,
            };
        };
        let (tenant_id, slug, vacancy_id) = match owner {
            SchemaOwner::Tenant { id, slug } => {
                (Some(id.uuid()), Some(slug.as_str().to_owned()), None)
            }
            SchemaOwner::Vacancy(id) => (None, None, Some(id.uuid())),
        };
        Self {
            new_tenant_error: None,
            passed: trials.iter().all(|trial| matches!(trial.end, TrialEnd::Applied(_))),
            tenant_id,
            slug,
            vacancy_id,
            migrations: trials.into_iter().map(TrialAnswer::from).collect(),
        }
    }
}

impl From<Trial> for TrialAnswer {
    fn from(Trial { file, end }: Trial) -> Self {
        let (state, duration_ms, line, error) = match end {
            TrialEnd::Applied(took) => {
                (TrialState::Applied, Some(took.as_secs_f64() * 1000.0), None, None)
            }
            TrialEnd::Failed { line, message } => (TrialState::Failed, None, line, Some(message)),
            TrialEnd::NotReached => (TrialState::NotReached, None, None, None),
        };
        Self { file, state, duration_ms, line, error }
    }
}
