//! The state of the whole installation, and what the server is that answers.

use actix_web::{HttpResponse, get};
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::Answer;
use super::call::Call;
use super::examinations::ExaminationAnswer;
use super::migrations::MigrationAnswer;
use super::responses::{Forbidden, Unexpected};
use super::vacancies::StockAnswer;
use crate::domain::Permission;
use crate::http::Mount;
use crate::http::responses::ViewFleet;
use crate::service::overview::{ServerInfo, Summary, TenantCounts};

pub(super) fn mount(routes: &mut Mount<'_>) {
    routes.service(read).service(read_server);
}

/// The state of the whole installation.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Summary)]
pub(super) struct SummaryAnswer {
    tenants: TenantCountsAnswer,
    /// The highest version of this server's tenant migrations.
    migrations_version: i32,
    /// The digest of this server's tenant migrations.
    migrations_fingerprint: String,
    /// The migration that is planned, running or paused; null if there is none.
    open_migration: Option<MigrationAnswer>,
    vacancies: StockAnswer,
    /// The last examination of everything that is done; null if there is none.
    last_examination: Option<ExaminationAnswer>,
}

/// The numbers of tenants.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TenantCounts)]
pub(super) struct TenantCountsAnswer {
    total: i64,
    active: i64,
    suspended: i64,
    deleting: i64,
    /// Those that were created in the last 24 hours.
    created_last_day: i64,
    /// Those that were created in the last 7 days.
    created_last_week: i64,
    /// Those whose migrations are not those of this server. A migration plan tells what they lack.
    behind: i64,
    /// When the next grace period ends; null if no tenant is deleted.
    #[serde(with = "time::serde::rfc3339::option")]
    next_purge_at: Option<OffsetDateTime>,
}

/// The server that answers.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Server)]
pub(super) struct ServerAnswer {
    /// The version of the program.
    version: &'static str,
    host: String,
    pid: u32,
    #[serde(with = "time::serde::rfc3339")]
    started_at: OffsetDateTime,
    /// The version of the database server, such as `15.18`.
    postgresql_version: String,
    /// How tenants are separated: `role` or `search_path`.
    #[schema(pattern = "^(role|search_path)$")]
    isolation: &'static str,
    /// The version of the tables of the control plane.
    control_plane_version: i32,
    /// The highest version of the tenant migrations.
    migrations_version: i32,
    /// The digest of the tenant migrations.
    migrations_fingerprint: String,
    /// The servers that have an open connection to the same database server.
    servers: i64,
}

/// Returns the state of the whole installation: numbers of tenants, the open migration, vacancies, the last examination.
#[utoipa::path(tag = "control", operation_id = "getSummary", security(("bearer" = [])), responses(
    (status = 200, description = "The summary", body = SummaryAnswer),
    Unexpected, Forbidden<ViewFleet>,
))]
#[get("/control/v1/summary")]
async fn read(call: Call) -> Answer {
    call.ctx.require(Permission::ViewFleet)?;
    call.nothing_else()?;
    let summary = call.services().overview.summary(&call.ctx).await?;
    Ok(HttpResponse::Ok().json(SummaryAnswer::from(summary)))
}

/// Returns what the server is that answers.
#[utoipa::path(tag = "control", operation_id = "getServer", security(("bearer" = [])), responses(
    (status = 200, description = "The server", body = ServerAnswer),
    Unexpected, Forbidden<ViewFleet>,
))]
#[get("/control/v1/server")]
async fn read_server(call: Call) -> Answer {
    call.ctx.require(Permission::ViewFleet)?;
    call.nothing_else()?;
    let info = call.services().overview.server(&call.ctx).await?;
    Ok(HttpResponse::Ok().json(ServerAnswer::from(info)))
}

impl From<Summary> for SummaryAnswer {
    fn from(summary: Summary) -> Self {
        Self {
            tenants: TenantCountsAnswer::from(summary.tenants),
            migrations_version: summary.version,
            migrations_fingerprint: summary.fingerprint,
            open_migration: summary.open.map(MigrationAnswer::from),
            vacancies: StockAnswer::from(summary.vacancies),
            last_examination: summary.examined.map(ExaminationAnswer::from),
        }
    }
}

impl From<TenantCounts> for TenantCountsAnswer {
    fn from(counts: TenantCounts) -> Self {
        Self {
            total: counts.total,
            active: counts.active,
            suspended: counts.suspended,
            deleting: counts.deleting,
            created_last_day: counts.created_last_day,
            created_last_week: counts.created_last_week,
            behind: counts.other_migrations,
            next_purge_at: counts.next_purge_at,
        }
    }
}

impl From<ServerInfo> for ServerAnswer {
    fn from(info: ServerInfo) -> Self {
        let number = info.process.server_version;
        Self {
            version: env!("CARGO_PKG_VERSION"),
            host: info.process.host,
            pid: info.process.pid,
            started_at: info.process.started_at,
            postgresql_version: format!("{}.{}", number / 10_000, number % 10_000),
            isolation: info.isolation,
            control_plane_version: info.process.control_plane_version,
            migrations_version: info.version,
            migrations_fingerprint: info.fingerprint,
            servers: info.servers,
        }
    }
}
