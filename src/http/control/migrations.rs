//! Fleet migrations: plan and start them, watch them tenant by tenant, pause, resume, cancel and retry them.
//!
//! A migration outlives its request: it is answered as soon as it is written down and somebody runs it, and
//! what becomes of it is in the ledger, which every server reads. It is run by the server that took the
//! request; where that server is gone, `resume` makes another one go on.

use actix_web::http::header::LOCATION;
use actix_web::{HttpResponse, get, post};
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

use super::call::{Call, Fields, write_cursor};
use super::{Answer, ProblemBody};
use crate::domain::Permission;
use crate::domain::error::{Error, Noun, Result, Rule};
use crate::domain::operation::{OperationState, PauseReason, Then, WorkState};
use crate::service::fleet::{Behind, Canary, Plan, Record, Wish, Work};

pub(super) fn mount(config: &mut ServiceConfig<'_>) {
    config
        .service(list)
        .service(start)
        .service(read)
        .service(list_tenants)
        .service(pause)
        .service(resume)
        .service(cancel)
        .service(retry);
}

/// Most that can be asked for at the same time.
const WORKERS_MAX: i64 = 1024;

/// Most tenants that a canary can have, and most failures that can be allowed.
const COUNT_MAX: i64 = 1_000_000;

/// A fleet migration.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Migration)]
pub(super) struct MigrationAnswer {
    id: Uuid,
    /// `planned`, `running`, `paused`, `done`, `failed` (some tenants could not be migrated) or `cancelled`.
    state: &'static str,
    /// Why it is paused: `asked`, `canary`, `canary_failed` or `max_failures`.
    pause_reason: Option<&'static str>,
    /// Who runs it, or ran it last.
    runner: Option<RunnerAnswer>,
    /// Who asked for it.
    actor: String,
    /// The highest version of the set that it migrates to.
    target_version: i32,
    /// A digest of that set.
    target_fingerprint: String,
    /// What was asked for.
    #[schema(value_type = Object)]
    options: Value,
    tenants: CountsAnswer,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    started_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    ended_at: Option<OffsetDateTime>,
}

/// Who runs a migration.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MigrationRunner)]
pub(super) struct RunnerAnswer {
    host: String,
    pid: i32,
    #[serde(with = "time::serde::rfc3339")]
    since: OffsetDateTime,
    /// Whether it was heard of lately. A running migration without a living runner waits for `resume`.
    alive: bool,
}

/// Tenants of a migration by state.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MigrationCounts)]
pub(super) struct CountsAnswer {
    total: i64,
    pending: i64,
    running: i64,
    done: i64,
    failed: i64,
    skipped: i64,
}

/// A part of the migrations.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MigrationList {
    data: Vec<MigrationAnswer>,
    /// Ask with it as `cursor` for what follows; null at the end.
    next_cursor: Option<String>,
}

/// One tenant of a migration.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MigrationTenant)]
pub(super) struct TenantAnswer {
    tenant_id: Uuid,
    /// Its slug when the migration was made.
    slug: String,
    /// Whether it belongs to the canary.
    canary: bool,
    /// `pending`, `running`, `done`, `failed` or `skipped`.
    state: &'static str,
    /// How often it was begun.
    attempts: i32,
    /// The files that were applied.
    applied: Option<Vec<String>>,
    /// What went wrong, or why it was left out.
    error: Option<String>,
    #[serde(with = "time::serde::rfc3339::option")]
    started_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    ended_at: Option<OffsetDateTime>,
}

/// A part of a migration's tenants.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MigrationTenantList {
    data: Vec<TenantAnswer>,
    /// Ask with it as `cursor` for what follows; null at the end.
    next_cursor: Option<String>,
}

/// Who is behind and by what.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MigrationPlan)]
pub(super) struct PlanAnswer {
    target_version: i32,
    target_fingerprint: String,
    /// Tenants that are on the set.
    current_count: i64,
    /// Tenants that are not.
    behind_count: i64,
    /// Tenants that are being deleted, which are not migrated.
    deleting_count: i64,
    behind: Vec<BehindAnswer>,
    /// Sets that this server is too old for; a migration is refused.
    ahead: Vec<String>,
    /// Sets whose files are not the ones that this server has; a migration is refused.
    diverged: Vec<String>,
}

/// Tenants that lack the same files.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MigrationBehind)]
pub(super) struct BehindAnswer {
    fingerprint: String,
    version: i32,
    count: i64,
    /// Some of them, oldest first.
    slugs: Vec<String>,
    /// The files that they lack.
    files: Vec<String>,
}

/// What starts a migration; an empty object migrates everybody who is behind.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body in the OpenAPI document")]
pub(super) struct NewMigration {
    /// These tenants alone, by slug or id.
    #[schema(min_items = 1)]
    tenants: Option<Vec<String>>,
    canary: Option<NewCanary>,
    /// Tenants at the same time; the server may do fewer.
    #[schema(minimum = 1, maximum = 1024)]
    workers: Option<u32>,
    /// Pause as soon as so many have failed.
    #[schema(minimum = 1, maximum = 1_000_000)]
    max_failures: Option<u32>,
    /// Answer the plan and do nothing.
    dry_run: Option<bool>,
}

/// Tenants that come first.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body in the OpenAPI document")]
#[schema(as = NewMigrationCanary)]
pub(super) struct NewCanary {
    /// So many, the oldest ones.
    #[schema(minimum = 1, maximum = 1_000_000)]
    count: Option<u32>,
    /// These, by slug or id.
    #[schema(min_items = 1)]
    tenants: Option<Vec<String>>,
    /// What follows if they went well: `pause` (the default) or `continue`.
    #[schema(pattern = "^(pause|continue)$")]
    then: Option<String>,
}

/// The fleet migrations, newest first.
#[utoipa::path(tag = "control", operation_id = "ControlListMigrations", security(("bearer" = [])),
    params(
        ("limit" = Option<u16>, Query, description = "Rows in this answer; 50 where it is not said", minimum = 1, maximum = 100),
        ("cursor" = Option<String>, Query, description = "The next_cursor of the answer before", pattern = "^A[A-Za-v][A-Za-z0-9_-]{30}$"),
        ("state" = Option<String>, Query, description = "In this state: planned, running, paused, done, failed or cancelled", pattern = "^(planned|running|paused|done|failed|cancelled)$"),
    ),
    responses(
        (status = 200, description = "Migrations", body = MigrationList),
        (status = 400, description = "A parameter is unknown or not valid", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid token", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "MIGRATE_FLEET is missing", body = ProblemBody, content_type = "application/problem+json"),
    ))]
#[get("/control/v1/migrations")]
async fn list(call: Call) -> Answer {
    call.ctx.require(Permission::MigrateFleet)?;
    let mut query = call.query()?;
    let window = query.window();
    let state = query.optional("state", |text| {
        text.parse().map_err(|_unknown| Rule::OneOf(OperationState::WORDS))
    });
    let window = query.finish(Some(window))?;
    let page = call.services().fleet.list(&call.ctx, state, &window).await?;
    Ok(HttpResponse::Ok().json(MigrationList {
        next_cursor: page.next.map(write_cursor),
        data: page.rows.into_iter().map(MigrationAnswer::from).collect(),
    }))
}

/// Starts a fleet migration, or answers the plan where `dry_run` asks for it.
#[utoipa::path(tag = "control", operation_id = "ControlStartMigration", security(("bearer" = [])), request_body = NewMigration, responses(
    (status = 200, description = "The plan, where dry_run was asked for", body = PlanAnswer),
    (status = 202, description = "The migration; Location leads to it", body = MigrationAnswer),
    (status = 400, description = "The body is not valid; every bad field is named", body = ProblemBody, content_type = "application/problem+json"),
    (status = 401, description = "No valid token", body = ProblemBody, content_type = "application/problem+json"),
    (status = 403, description = "MIGRATE_FLEET is missing", body = ProblemBody, content_type = "application/problem+json"),
    (status = 409, description = "Another one is open (who runs it is said), some tenants are ahead, or the files do not fit", body = ProblemBody, content_type = "application/problem+json"),
))]
#[post("/control/v1/migrations")]
async fn start(call: Call) -> Answer {
    call.ctx.require(Permission::MigrateFleet)?;
    call.query()?.finish(Some(()))?;
    let (wish, dry_run) = wish(call.body()?)?;
    let fleet = &call.services().fleet;
    if dry_run {
        let plan = fleet.plan(&call.ctx, &wish.tenants).await?;
        return Ok(HttpResponse::Ok().json(PlanAnswer::from(plan)));
    }
    let made = fleet.start(&call.ctx, &wish).await?;
    let record = fleet.run_in_background(&call.ctx, made.id).await?;
    Ok(accepted(record))
}

/// One fleet migration.
#[utoipa::path(tag = "control", operation_id = "ControlReadMigration", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The migration's id")),
    responses(
        (status = 200, description = "The migration", body = MigrationAnswer),
        (status = 401, description = "No valid token", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "MIGRATE_FLEET is missing", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "No such migration", body = ProblemBody, content_type = "application/problem+json"),
    ))]
#[get("/control/v1/migrations/{id}")]
async fn read(call: Call) -> Answer {
    let id = named(&call)?;
    let record = call.services().fleet.read(&call.ctx, id).await?;
    Ok(HttpResponse::Ok().json(MigrationAnswer::from(record)))
}

/// The tenants of a fleet migration, and what became of each.
#[utoipa::path(tag = "control", operation_id = "ControlListMigrationTenants", security(("bearer" = [])),
    params(
        ("id" = Uuid, Path, description = "The migration's id"),
        ("limit" = Option<u16>, Query, description = "Rows in this answer; 50 where it is not said", minimum = 1, maximum = 100),
        ("cursor" = Option<String>, Query, description = "The next_cursor of the answer before", pattern = "^A[A-Za-v][A-Za-z0-9_-]{30}$"),
        ("state" = Option<String>, Query, description = "In this state: pending, running, done, failed or skipped", pattern = "^(pending|running|done|failed|skipped)$"),
    ),
    responses(
        (status = 200, description = "Tenants", body = MigrationTenantList),
        (status = 400, description = "A parameter is unknown or not valid", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid token", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "MIGRATE_FLEET is missing", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "No such migration", body = ProblemBody, content_type = "application/problem+json"),
    ))]
#[get("/control/v1/migrations/{id}/tenants")]
async fn list_tenants(call: Call) -> Answer {
    call.ctx.require(Permission::MigrateFleet)?;
    let id = id_of(&call)?;
    let mut query = call.query()?;
    let window = query.window();
    let state = query
        .optional("state", |text| text.parse().map_err(|_unknown| Rule::OneOf(WorkState::WORDS)));
    let window = query.finish(Some(window))?;
    let page = call.services().fleet.tenants(&call.ctx, id, state, &window).await?;
    Ok(HttpResponse::Ok().json(MigrationTenantList {
        next_cursor: page.next.map(write_cursor),
        data: page.rows.into_iter().map(TenantAnswer::from).collect(),
    }))
}

/// Begins no more tenants; those that are begun come to their end.
#[utoipa::path(tag = "control", operation_id = "ControlPauseMigration", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The migration's id")),
    responses(
        (status = 200, description = "The migration, paused", body = MigrationAnswer),
        (status = 400, description = "There is a body or a parameter", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid token", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "MIGRATE_FLEET is missing", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "No such migration", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "It has ended", body = ProblemBody, content_type = "application/problem+json"),
    ))]
#[post("/control/v1/migrations/{id}/pause")]
async fn pause(call: Call) -> Answer {
    let id = named(&call)?;
    let record = call.services().fleet.pause(&call.ctx, id).await?;
    Ok(HttpResponse::Ok().json(MigrationAnswer::from(record)))
}

/// Goes on with a migration that is paused, or whose runner is gone; this server runs it from now on.
#[utoipa::path(tag = "control", operation_id = "ControlResumeMigration", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The migration's id")),
    responses(
        (status = 202, description = "The migration, running", body = MigrationAnswer),
        (status = 400, description = "There is a body or a parameter", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid token", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "MIGRATE_FLEET is missing", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "No such migration", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "Somebody runs it (who is said), it has ended, or this server has another set", body = ProblemBody, content_type = "application/problem+json"),
    ))]
#[post("/control/v1/migrations/{id}/resume")]
async fn resume(call: Call) -> Answer {
    let id = named(&call)?;
    let record = call.services().fleet.run_in_background(&call.ctx, id).await?;
    Ok(accepted(record))
}

/// Gives a migration up; what is migrated stays so.
#[utoipa::path(tag = "control", operation_id = "ControlCancelMigration", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The migration's id")),
    responses(
        (status = 200, description = "The migration, cancelled", body = MigrationAnswer),
        (status = 400, description = "There is a body or a parameter", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid token", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "MIGRATE_FLEET is missing", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "No such migration", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "It has ended", body = ProblemBody, content_type = "application/problem+json"),
    ))]
#[post("/control/v1/migrations/{id}/cancel")]
async fn cancel(call: Call) -> Answer {
    let id = named(&call)?;
    let record = call.services().fleet.cancel(&call.ctx, id).await?;
    Ok(HttpResponse::Ok().json(MigrationAnswer::from(record)))
}

/// Tries those tenants again that failed.
#[utoipa::path(tag = "control", operation_id = "ControlRetryMigration", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The migration's id")),
    responses(
        (status = 202, description = "The migration, running", body = MigrationAnswer),
        (status = 400, description = "There is a body or a parameter", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid token", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "MIGRATE_FLEET is missing", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "No such migration", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "It has not failed, another one is open, or this server has another set", body = ProblemBody, content_type = "application/problem+json"),
    ))]
#[post("/control/v1/migrations/{id}/retry")]
async fn retry(call: Call) -> Answer {
    let id = named(&call)?;
    let fleet = &call.services().fleet;
    fleet.retry(&call.ctx, id).await?;
    let record = fleet.run_in_background(&call.ctx, id).await?;
    Ok(accepted(record))
}

/// The migration that a call is about which takes nothing else.
fn named(call: &Call) -> Result<Uuid> {
    call.ctx.require(Permission::MigrateFleet)?;
    call.nothing_else()?;
    id_of(call)
}

fn id_of(call: &Call) -> Result<Uuid> {
    call.path("id")?.parse().map_err(|_no_id| Error::NotFound(Noun::Operation))
}

fn accepted(record: Record) -> HttpResponse {
    HttpResponse::Accepted()
        .insert_header((LOCATION, format!("/control/v1/migrations/{}", record.id)))
        .json(MigrationAnswer::from(record))
}

fn wish(mut body: Fields) -> Result<(Wish, bool)> {
    let tenants = names(&mut body, "tenants");
    let workers = number(&mut body, "workers", WORKERS_MAX);
    let max_failures = number(&mut body, "max_failures", COUNT_MAX);
    let dry_run = match body.value("dry_run") {
        None => false,
        Some(Value::Bool(dry_run)) => dry_run,
        Some(_) => {
            body.refuse("dry_run", Rule::Type("boolean"));
            false
        }
    };
    let canary = body.object("canary").map(|mut inner| {
        let count = number(&mut inner, "count", COUNT_MAX);
        let tenants = names(&mut inner, "tenants");
        let then = inner
            .optional("then", |word| word.parse().map_err(|_unknown| Rule::OneOf(Then::WORDS)));
        if count.is_none() && tenants.is_empty() && !inner.is_refused() {
            inner.refuse("count", Rule::Required);
        }
        body.merge(inner);
        Canary {
            count: count.and_then(|count| u32::try_from(count).ok()).unwrap_or(0),
            tenants,
            then: then.unwrap_or(Then::Pause),
        }
    });
    body.finish(Some((Wish { tenants, canary, workers, max_failures }, dry_run)))
}

/// A whole number from 1 that may be absent.
fn number(body: &mut Fields, name: &str, most: i64) -> Option<usize> {
    let value = body.value(name)?;
    let number = value.as_i64().filter(|number| (1..=most).contains(number));
    if number.is_none() {
        let rule = if value.is_number() { Rule::Range(1, most) } else { Rule::Type("integer") };
        body.refuse(name, rule);
    }
    number.and_then(|number| usize::try_from(number).ok())
}

/// The texts of an array that may be absent.
fn names(body: &mut Fields, name: &str) -> Vec<String> {
    let values = match body.value(name) {
        None => return Vec::new(),
        Some(Value::Array(values)) => values,
        Some(_) => {
            body.refuse(name, Rule::Type("array"));
            return Vec::new();
        }
    };
    if values.is_empty() {
        // Nobody is no narrower wish than everybody by accident.
        body.refuse(name, Rule::Required);
    }
    let mut names = Vec::new();
    for (place, value) in values.iter().enumerate() {
        match value.as_str() {
            Some(text) if text.contains('\0') => {
                body.refuse_inside(name, place, Rule::ControlCharacter);
            }
            Some(text) => names.push(text.to_owned()),
            None => body.refuse_inside(name, place, Rule::Type("string")),
        }
    }
    names
}

impl From<Record> for MigrationAnswer {
    fn from(record: Record) -> Self {
        let alive = record.is_held;
        let counts = record.counts;
        Self {
            id: record.id,
            state: record.state.as_str(),
            pause_reason: record.pause_reason.map(PauseReason::as_str),
            runner: record.holder.map(|holder| RunnerAnswer {
                host: holder.host,
                pid: holder.pid,
                since: holder.since,
                alive,
            }),
            actor: record.actor,
            target_version: record.target_version,
            target_fingerprint: record.target_fingerprint,
            options: record.options,
            tenants: CountsAnswer {
                total: counts.total,
                pending: counts.pending,
                running: counts.running,
                done: counts.done,
                failed: counts.failed,
                skipped: counts.skipped,
            },
            created_at: record.created_at,
            started_at: record.started_at,
            ended_at: record.ended_at,
        }
    }
}

impl From<Work> for TenantAnswer {
    fn from(work: Work) -> Self {
        Self {
            tenant_id: work.tenant.uuid(),
            slug: work.slug.as_str().to_owned(),
            canary: work.is_canary,
            state: work.state.as_str(),
            attempts: work.attempts,
            applied: work.applied,
            error: work.error,
            started_at: work.started_at,
            ended_at: work.ended_at,
        }
    }
}

impl From<Plan> for PlanAnswer {
    fn from(plan: Plan) -> Self {
        Self {
            behind_count: plan.behind_count(),
            target_version: plan.target_version,
            target_fingerprint: plan.target_fingerprint,
            current_count: plan.current_count,
            deleting_count: plan.deleting_count,
            behind: plan.behind.into_iter().map(BehindAnswer::from).collect(),
            ahead: plan.ahead,
            diverged: plan.diverged,
        }
    }
}

impl From<Behind> for BehindAnswer {
    fn from(group: Behind) -> Self {
        Self {
            fingerprint: group.fingerprint,
            version: group.version,
            count: group.count,
            slugs: group.slugs,
            files: group.files,
        }
    }
}
