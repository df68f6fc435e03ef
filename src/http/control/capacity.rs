//! The capacity of the database server: what grows with the number of tenants, and what it may grow to.

use actix_web::{HttpResponse, get};
use serde::Serialize;
use utoipa::ToSchema;

use super::Answer;
use super::call::Call;
use super::responses::{Forbidden, Unexpected};
use crate::domain::Permission;
use crate::http::Mount;
use crate::http::responses::ViewFleet;
use crate::service::doctor::{Capacity, Finding, Resource};

pub(super) fn mount(routes: &mut Mount<'_>) {
    routes.service(read);
}

/// The capacity of the database server.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Capacity)]
pub(super) struct CapacityAnswer {
    resources: Vec<ResourceAnswer>,
    /// What will run out, or may soon, and what helps.
    warnings: Vec<WarningAnswer>,
}

/// Something of the server that may run out.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CapacityResource)]
pub(super) struct ResourceAnswer {
    /// `connections` and `locks` that the servers may take, `relations`, `catalogs`, `dead_rows` in the catalogs, `memory`
    /// of the backends, and before PostgreSQL 16 `roles`.
    name: &'static str,
    used: i64,
    /// How much there is, or should be at most.
    limit: i64,
    /// What is counted: `number`, `bytes` or `percent`.
    #[schema(pattern = "^(number|bytes|percent)$")]
    unit: &'static str,
}

/// A resource that will run out, or may soon.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CapacityWarning)]
pub(super) struct WarningAnswer {
    what: String,
    /// What to do.
    next: String,
}

/// Returns what of the database server is in use by all tenants together, and what there is.
#[utoipa::path(tag = "control", operation_id = "getCapacity", security(("bearer" = [])), responses(
    (status = 200, description = "The capacity", body = CapacityAnswer),
    Unexpected, Forbidden<ViewFleet>,
))]
#[get("/control/v1/capacity")]
async fn read(call: Call) -> Answer {
    call.ctx.require(Permission::ViewFleet)?;
    call.nothing_else()?;
    let capacity = call.services().doctor.capacity(&call.ctx).await?;
    Ok(HttpResponse::Ok().json(CapacityAnswer::from(capacity)))
}

impl From<Capacity> for CapacityAnswer {
    fn from(capacity: Capacity) -> Self {
        Self {
            resources: capacity.resources.into_iter().map(ResourceAnswer::from).collect(),
            warnings: capacity.warnings.into_iter().map(WarningAnswer::from).collect(),
        }
    }
}

impl From<Resource> for ResourceAnswer {
    fn from(resource: Resource) -> Self {
        let Resource { name, used, limit, unit } = resource;
        Self { name, used, limit, unit }
    }
}

impl From<Finding> for WarningAnswer {
    fn from(finding: Finding) -> Self {
        Self { what: finding.what, next: finding.next }
    }
}
