//! The stock of schemas that are built before they are needed: read, fill and drop it.

use actix_web::{HttpResponse, get, post};
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::PROBLEM_JSON;
use super::call::Call;
use super::responses::{Forbidden, Unexpected};
use super::{Answer, ProblemBody};
use crate::domain::Permission;
use crate::http::Mount;
use crate::http::responses::{CreateTenant, DeleteTenant, ViewFleet};
use crate::service::vacancies::{StockStatus, Work};

pub(super) fn mount(routes: &mut Mount<'_>) {
    routes.service(read).service(fill).service(drop_all);
}

/// The stock of vacancies: schemas that were built before they are needed, so that a set-up runs no DDL.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Vacancies)]
pub(super) struct StockAnswer {
    /// The number that this server keeps; 0 if it keeps none.
    wanted: usize,
    /// The number that a set-up can take.
    ready: usize,
    /// The number that have a role and no schema yet.
    building: usize,
    /// The number that were built from other migrations and are brought up to date or dropped.
    stale: usize,
    /// The number that were built from later migrations than this server has.
    ahead: usize,
    /// The number that are being dropped.
    dropping: usize,
    /// The number of servers that keep this stock.
    servers: usize,
    /// When the oldest one that can be taken was begun.
    #[serde(with = "time::serde::rfc3339::option")]
    oldest_at: Option<OffsetDateTime>,
}

/// What was done to the stock.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = VacancyWork)]
pub(super) struct WorkAnswer {
    built: usize,
    migrated: usize,
    dropped: usize,
}

/// Returns the stock of vacancies.
#[utoipa::path(tag = "control", operation_id = "getVacancies", security(("bearer" = [])), responses(
    (status = 200, description = "The stock", body = StockAnswer),
    Unexpected, Forbidden<ViewFleet>,
))]
#[get("/control/v1/vacancies")]
async fn read(call: Call) -> Answer {
    call.ctx.require(Permission::ViewFleet)?;
    call.nothing_else()?;
    let status = call.services().vacancies.status(&call.ctx).await?;
    Ok(HttpResponse::Ok().json(StockAnswer::from(status)))
}

/// Builds, migrates and drops vacancies until there are as many as this server keeps, all of them up to date. A request
/// that is cut off has done a part of it, and can be repeated.
#[utoipa::path(tag = "control", operation_id = "fillVacancies", security(("bearer" = [])), responses(
    (status = 200, description = "What was done", body = WorkAnswer),
    Unexpected, Forbidden<CreateTenant>,
    (status = 409, description = "Another server is changing the stock", body = ProblemBody, content_type = PROBLEM_JSON),
))]
#[post("/control/v1/vacancies/fill")]
async fn fill(call: Call) -> Answer {
    call.ctx.require(Permission::CreateTenant)?;
    call.nothing_else()?;
    let work = call.services().vacancies.fill(&call.ctx).await?;
    Ok(HttpResponse::Ok().json(WorkAnswer::from(work)))
}

/// Drops every vacancy. A server that keeps a stock then builds a new one. A request that is cut off has done a part of
/// it, and can be repeated.
#[utoipa::path(tag = "control", operation_id = "dropVacancies", security(("bearer" = [])), responses(
    (status = 200, description = "What was done", body = WorkAnswer),
    Unexpected, Forbidden<DeleteTenant>,
    (status = 409, description = "Something outside of a vacancy depends on it or uses its role; all others were dropped, and `detail` lists it", body = ProblemBody, content_type = PROBLEM_JSON),
))]
#[post("/control/v1/vacancies/drop")]
async fn drop_all(call: Call) -> Answer {
    call.ctx.require(Permission::DeleteTenant)?;
    call.nothing_else()?;
    let work = call.services().vacancies.drop_all(&call.ctx).await?;
    Ok(HttpResponse::Ok().json(WorkAnswer::from(work)))
}

impl From<Work> for WorkAnswer {
    fn from(work: Work) -> Self {
        let Work { built, migrated, dropped } = work;
        Self { built, migrated, dropped }
    }
}

impl From<StockStatus> for StockAnswer {
    fn from(status: StockStatus) -> Self {
        Self {
            wanted: status.wanted,
            ready: status.ready,
            building: status.building,
            stale: status.stale,
            ahead: status.ahead,
            dropping: status.dropping,
            servers: status.replenishers,
            oldest_at: status.oldest_at,
        }
    }
}
