//! Rehearsals: the migration on one schema, taken back.
//!
//! One is over when it is answered, and is cut off with its request (`http.request_timeout`); nothing is left
//! of it in either case.

use actix_web::{HttpResponse, post};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::Permission;
use crate::domain::error::{Result, Rule};
use crate::http::control::call::{Call, Fields};
use crate::http::control::{Answer, ProblemBody};
use crate::service::fleet::{House, Rehearsal, Stage, Trial, TrialEnd};

/// What was tried, and how it went. Nothing of it stays.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Rehearsal)]
pub(super) struct RehearsalAnswer {
    /// Whether no file failed; also where there was nothing to try.
    passed: bool,
    /// The tenant that it was tried on; null on a vacancy, and where nobody is behind.
    tenant_id: Option<Uuid>,
    /// Its slug.
    slug: Option<String>,
    /// The vacancy that it was tried on.
    vacancy_id: Option<Uuid>,
    /// The files that were lacking, in order; empty where none was.
    migrations: Vec<TrialAnswer>,
}

/// A file of a rehearsal.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RehearsedMigration)]
pub(super) struct TrialAnswer {
    file: String,
    /// `applied`, `failed`, or `not_reached` where one before it failed.
    state: &'static str,
    /// How long the database took, in milliseconds, where it was applied.
    duration_ms: Option<f64>,
    /// The line that failed, where the database says.
    line: Option<usize>,
    /// What the database said.
    error: Option<String>,
}

/// What to try the migration on; an empty object takes the first tenant that is behind.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body in the OpenAPI document")]
pub(super) struct NewRehearsal {
    /// This tenant, by slug or id.
    tenant: Option<String>,
    /// A vacancy, which nobody uses.
    vacancy: Option<bool>,
}

/// Tries the migration on one schema and takes everything back. The tenant's tables are locked meanwhile.
#[utoipa::path(tag = "control", operation_id = "ControlRehearseMigration", security(("bearer" = [])), request_body = NewRehearsal, responses(
    (status = 200, description = "What came of each file, also where one failed", body = RehearsalAnswer),
    (status = 400, description = "The body is not valid; every bad field is named", body = ProblemBody, content_type = "application/problem+json"),
    (status = 401, description = "No valid token", body = ProblemBody, content_type = "application/problem+json"),
    (status = 403, description = "MIGRATE_FLEET is missing", body = ProblemBody, content_type = "application/problem+json"),
    (status = 404, description = "No such tenant, or no vacancy that is free", body = ProblemBody, content_type = "application/problem+json"),
    (status = 409, description = "It is ahead of this server, or was migrated with other files", body = ProblemBody, content_type = "application/problem+json"),
))]
#[post("/control/v1/rehearsals")]
pub(super) async fn rehearse(call: Call) -> Answer {
    call.ctx.require(Permission::MigrateFleet)?;
    call.query()?.finish(Some(()))?;
    let stage = stage(call.body()?)?;
    let rehearsal = call.services().fleet.rehearse(&call.ctx, stage).await?;
    Ok(HttpResponse::Ok().json(RehearsalAnswer::from(rehearsal)))
}

fn stage(mut body: Fields) -> Result<Stage> {
    let tenant = body.optional("tenant", |text| Ok(text.to_owned()));
    let vacancy = match body.value("vacancy") {
        None => false,
        Some(Value::Bool(vacancy)) => vacancy,
        Some(_) => {
            body.refuse("vacancy", Rule::Type("boolean"));
            false
        }
    };
    if tenant.is_some() && vacancy {
        // Beside a tenant there is nothing else to try it on.
        body.refuse("vacancy", Rule::OneOf(&["false"]));
    }
    body.finish(Some(match tenant {
        Some(named) => Stage::Tenant(named),
        None if vacancy => Stage::Vacancy,
        None => Stage::FirstBehind,
    }))
}

impl From<Option<Rehearsal>> for RehearsalAnswer {
    fn from(rehearsal: Option<Rehearsal>) -> Self {
        let Some(Rehearsal { house, trials, .. }) = rehearsal else {
            let migrations = Vec::new();
            return Self {
                passed: true,
                tenant_id: None,
                slug: None,
                vacancy_id: None,
                migrations,
            };
        };
        let (tenant_id, slug, vacancy_id) = match house {
            House::Tenant { id, slug } => (Some(id.uuid()), Some(slug.as_str().to_owned()), None),
            House::Vacancy(id) => (None, None, Some(id.uuid())),
        };
        Self {
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
            TrialEnd::Applied(took) => ("applied", Some(took.as_secs_f64() * 1000.0), None, None),
            TrialEnd::Failed { line, message } => ("failed", None, line, Some(message)),
            TrialEnd::NotReached => ("not_reached", None, None, None),
        };
        Self { file, state, duration_ms, line, error }
    }
}
