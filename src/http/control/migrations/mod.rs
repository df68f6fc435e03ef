//! Fleet migrations: plan and start them, watch them tenant by tenant, pause, resume, cancel and retry them.
//!
//! A migration outlives its request: the answer is sent as soon as the migration is recorded and has a runner, and its
//! progress is in the ledger, which every server reads. The server that received the request runs it; if that server is
//! gone, `resume` makes another one continue.

mod answers;
mod rehearsals;
mod requests;

use actix_web::http::header::LOCATION;
use actix_web::{HttpResponse, get, post};
use uuid::Uuid;

pub(super) use self::answers::MigrationAnswer;
use self::answers::{MigrationList, MigrationTenantList, PlanAnswer, TenantAnswer};
use self::requests::{NewMigration, RetryBody};
use super::call::{Call, window, write_cursor};
use super::{Answer, ProblemBody};
use crate::domain::Permission;
use crate::domain::error::{Error, Noun, Result};
use crate::domain::operation::{OperationState, WorkState};
use crate::domain::rule::Rule;
use crate::http::Mount;
use crate::http::control::PROBLEM_JSON;
use crate::http::control::responses::{
    Ended, Forbidden, InvalidBody, InvalidParameter, NoSuchMigration, Unexpected,
};
use crate::http::responses::{MigrateFleet, ViewFleet};
use crate::service::fleet::{Record, WorkFilter, WorkOrder};

pub(super) fn mount(routes: &mut Mount<'_>) {
    routes
        .service(list)
        .service(start)
        .service(read)
        .service(list_tenants)
        .service(pause)
        .service(resume)
        .service(cancel)
        .service(retry)
        .service(rehearsals::rehearse);
}

/// Lists the fleet migrations, newest first.
#[utoipa::path(tag = "control", operation_id = "listMigrations", security(("bearer" = [])),
    params(
        ("limit" = Option<u16>, Query, description = "Rows in this response; default: 50", minimum = 1, maximum = 100),
        ("cursor" = Option<String>, Query, description = "The next_cursor of the previous response", pattern = "^A[A-Za-v][A-Za-z0-9_-]{30}$"),
        ("state" = Option<OperationState>, Query, description = "Only migrations in this state"),
    ),
    responses(
        (status = 200, description = "A page of migrations", body = MigrationList),
        InvalidParameter, Forbidden<ViewFleet>,
    ))]
#[get("/control/v1/migrations")]
async fn list(call: Call) -> Answer {
    call.ctx.require(Permission::ViewFleet)?;
    let mut query = call.query()?;
    let window = window(&mut query);
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

/// Starts a fleet migration, or returns its plan if `dry_run` is true, for which `VIEW_FLEET` is enough.
#[utoipa::path(tag = "control", operation_id = "startMigration", security(("bearer" = [])), request_body = NewMigration, responses(
    (status = 200, description = "The plan, if dry_run is true", body = PlanAnswer),
    (status = 202, description = "The migration; Location is its path", body = MigrationAnswer),
    InvalidBody,
    (status = 403, description = "VIEW_FLEET is missing, or without dry_run MIGRATE_FLEET", body = ProblemBody, content_type = PROBLEM_JSON),
    (status = 409, description = "Another migration is open (`detail` names its runner), some tenants are ahead, or the migration files do not match", body = ProblemBody, content_type = PROBLEM_JSON),
))]
#[post("/control/v1/migrations")]
async fn start(call: Call) -> Answer {
    call.ctx.require(Permission::ViewFleet)?;
    call.query()?.finish(Some(()))?;
    let (command, dry_run) = requests::command(call.body()?)?;
    let fleet = &call.services().fleet;
    if dry_run {
        let plan = fleet.plan(&call.ctx, &command.tenants).await?;
        return Ok(HttpResponse::Ok().json(PlanAnswer::from(plan)));
    }
    call.ctx.require(Permission::MigrateFleet)?;
    let made = fleet.start(&call.ctx, &command).await?;
    let record = fleet.run_in_background(&call.ctx, made.id).await?;
    Ok(accepted(record))
}

/// Returns a fleet migration. A client that asks often sends the `ETag` of the last answer in `If-None-Match`.
#[utoipa::path(tag = "control", operation_id = "getMigration", security(("bearer" = [])),
    params(
        ("id" = Uuid, Path, description = "The id of the migration"),
        ("If-None-Match" = Option<String>, Header, description = "The ETag of an earlier answer"),
    ),
    responses(
        (status = 200, description = "The migration, with an ETag", body = MigrationAnswer),
        (status = 304, description = "The migration is what it was when it had the ETag in If-None-Match"),
        Unexpected, Forbidden<ViewFleet>, NoSuchMigration,
    ))]
#[get("/control/v1/migrations/{id}")]
async fn read(call: Call) -> Answer {
    let id = named(&call, Permission::ViewFleet)?;
    let record = call.services().fleet.read(&call.ctx, id).await?;
    call.unless_known(&MigrationAnswer::from(record))
}

/// Lists the tenants of a fleet migration with the result of each.
#[utoipa::path(tag = "control", operation_id = "listMigrationTenants", security(("bearer" = [])),
    params(
        ("id" = Uuid, Path, description = "The id of the migration"),
        ("limit" = Option<u16>, Query, description = "Rows in this response; default: 50", minimum = 1, maximum = 100),
        ("cursor" = Option<String>, Query, description = "The next_cursor of the previous response", pattern = "^A[A-Za-v][A-Za-z0-9_-]{30}$"),
        ("q" = Option<String>, Query, description = "Only tenants whose slug contains this text, ignoring case"),
        ("state" = Option<WorkState>, Query, description = "Only tenants in this state"),
        ("order" = Option<String>, Query, description = "tenant_id (the default) or -took (those whose last attempt took longest first)", pattern = "^(tenant_id|-took)$"),
    ),
    responses(
        (status = 200, description = "A page of tenants", body = MigrationTenantList),
        InvalidParameter, Forbidden<ViewFleet>, NoSuchMigration,
    ))]
#[get("/control/v1/migrations/{id}/tenants")]
async fn list_tenants(call: Call) -> Answer {
    call.ctx.require(Permission::ViewFleet)?;
    let id = id_of(&call)?;
    let mut query = call.query()?;
    let window = window(&mut query);
    let filter = WorkFilter {
        state: query.optional("state", |text| {
            text.parse().map_err(|_unknown| Rule::OneOf(WorkState::WORDS))
        }),
        q: query.optional("q", |text| Ok(text.to_owned())),
        order: query
            .optional("order", |word| WorkOrder::of(word).ok_or(Rule::OneOf(WorkOrder::WORDS)))
            .unwrap_or_default(),
    };
    let window = query.finish(Some(window))?;
    let page = call.services().fleet.tenants(&call.ctx, id, &filter, &window).await?;
    Ok(HttpResponse::Ok().json(MigrationTenantList {
        next_cursor: page.next.map(write_cursor),
        data: page.rows.into_iter().map(TenantAnswer::from).collect(),
    }))
}

/// Pauses a migration: it starts no more tenants, and the started ones are completed.
#[utoipa::path(tag = "control", operation_id = "pauseMigration", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The id of the migration")),
    responses(
        (status = 200, description = "The paused migration", body = MigrationAnswer),
        Unexpected, Forbidden<MigrateFleet>, NoSuchMigration, Ended,
    ))]
#[post("/control/v1/migrations/{id}/pause")]
async fn pause(call: Call) -> Answer {
    let id = named(&call, Permission::MigrateFleet)?;
    let record = call.services().fleet.pause(&call.ctx, id).await?;
    Ok(HttpResponse::Ok().json(MigrationAnswer::from(record)))
}

/// Resumes a migration that is paused or whose runner is not alive; this server runs it from now on. While the runner of a
/// paused migration still finishes the tenants that it has begun, the pause is taken back and that runner goes on.
#[utoipa::path(tag = "control", operation_id = "resumeMigration", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The id of the migration")),
    responses(
        (status = 202, description = "The running migration", body = MigrationAnswer),
        Unexpected, Forbidden<MigrateFleet>, NoSuchMigration,
        (status = 409, description = "Another server runs the migration (`detail` names it), it has ended, or this server has another migration set", body = ProblemBody, content_type = PROBLEM_JSON),
    ))]
#[post("/control/v1/migrations/{id}/resume")]
async fn resume(call: Call) -> Answer {
    let id = named(&call, Permission::MigrateFleet)?;
    let record = call.services().fleet.run_in_background(&call.ctx, id).await?;
    Ok(accepted(record))
}

/// Cancels a migration; tenants that are already migrated stay migrated.
#[utoipa::path(tag = "control", operation_id = "cancelMigration", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The id of the migration")),
    responses(
        (status = 200, description = "The cancelled migration", body = MigrationAnswer),
        Unexpected, Forbidden<MigrateFleet>, NoSuchMigration, Ended,
    ))]
#[post("/control/v1/migrations/{id}/cancel")]
async fn cancel(call: Call) -> Answer {
    let id = named(&call, Permission::MigrateFleet)?;
    let record = call.services().fleet.cancel(&call.ctx, id).await?;
    Ok(HttpResponse::Ok().json(MigrationAnswer::from(record)))
}

/// Retries the tenants that failed, or those of them that the body names.
#[utoipa::path(tag = "control", operation_id = "retryMigration", security(("bearer" = [])), request_body = Option<RetryBody>,
    params(("id" = Uuid, Path, description = "The id of the migration")),
    responses(
        (status = 202, description = "The running migration", body = MigrationAnswer),
        InvalidBody, Forbidden<MigrateFleet>, NoSuchMigration,
        (status = 409, description = "The migration has not failed, its failed tenants are no longer recorded, another migration is open, or this server has another migration set", body = ProblemBody, content_type = PROBLEM_JSON),
    ))]
#[post("/control/v1/migrations/{id}/retry")]
async fn retry(call: Call) -> Answer {
    call.ctx.require(Permission::MigrateFleet)?;
    call.query()?.finish(Some(()))?;
    let named = RetryBody::read(call.optional_body()?)?;
    let id = id_of(&call)?;
    let fleet = &call.services().fleet;
    fleet.retry(&call.ctx, id, &named).await?;
    let record = fleet.run_in_background(&call.ctx, id).await?;
    Ok(accepted(record))
}

/// Returns the migration that a call names, for calls that take neither a query nor a body.
fn named(call: &Call, permission: Permission) -> Result<Uuid> {
    call.ctx.require(permission)?;
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
