//! The nodes of a Citus cluster: what is on each, placing tenants that were made before, moving a tenant.
//!
//! Both changes outlive their request. A distribution is a fleet operation, which the routes of migrations read, pause and
//! resume by its id; a move is listed with the cluster while it runs, and is in the audit trail when it is done.

use actix_web::http::header::LOCATION;
use actix_web::{HttpResponse, get, post};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::call::{Call, names};
use super::migrations::MigrationAnswer;
use super::responses::{Forbidden, InvalidBody, Unexpected};
use super::{Answer, ProblemBody};
use crate::domain::Permission;
use crate::domain::error::Result;
use crate::domain::rule::Rule;
use crate::http::Mount;
use crate::http::control::PROBLEM_JSON;
use crate::http::responses::MigrateFleet;
use crate::service::cluster::{ClusterStatus, Move, NodeStatus, TenantMove};
use crate::service::tenants::TenantRef;

pub(super) fn mount(routes: &mut Mount<'_>) {
    routes.service(read).service(distribute).service(move_tenant);
}

/// The database, as one server or as a cluster.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Cluster)]
pub(super) struct ClusterAnswer {
    /// `postgres` for one server, or `citus`.
    engine: &'static str,
    /// The coordinator first; empty for one server.
    nodes: Vec<NodeAnswer>,
    /// The number of tenants whose tables are on the coordinator and cannot be moved.
    undistributed_count: usize,
    /// The slugs of these tenants, not all if there are more than 1,000.
    undistributed: Vec<String>,
    /// The moves of tenants that run now.
    moves: Vec<MoveAnswer>,
}

/// A node of a cluster.
#[expect(clippy::struct_excessive_bools, reason = "a form of JSON")]
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ClusterNode)]
pub(super) struct NodeAnswer {
    /// Host and port as the other nodes know it.
    name: String,
    /// Whether it has the control plane.
    is_coordinator: bool,
    /// Whether it takes part.
    is_active: bool,
    /// Whether schemas are placed on it.
    takes_tenants: bool,
    /// Whether it answered now.
    answers: bool,
    tenants: usize,
    vacancies: usize,
    /// The size of the tables of these; null if it does not answer, or has a table that the owner may not use.
    bytes: Option<i64>,
}

/// A move that runs.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ClusterMove)]
pub(super) struct MoveAnswer {
    tenant_id: Uuid,
    from: String,
    to: String,
    /// The size on the old node.
    source_bytes: i64,
    /// The size on the new node so far.
    target_bytes: i64,
}

/// The body that distributes tenants; an empty object distributes all that are not.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body in the OpenAPI document")]
struct NewDistribution {
    /// Only these tenants, by slug or id.
    #[schema(min_items = 1)]
    tenants: Option<Vec<String>>,
}

/// The body that moves a tenant.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body in the OpenAPI document")]
#[schema(as = NewClusterMove)]
struct NewMove {
    /// The slug or the id of the tenant.
    #[schema(min_length = 1)]
    tenant: String,
    /// The name of the node, as the cluster lists it: host and port.
    #[schema(min_length = 1)]
    to: String,
}

/// A move that was begun, or was not needed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TenantMove)]
pub(super) struct TenantMoveAnswer {
    tenant_id: Uuid,
    slug: String,
    from: String,
    to: String,
}

/// Returns the nodes, what is on each, which tenants are on none, and the moves that run.
#[utoipa::path(tag = "control", operation_id = "getCluster", security(("bearer" = [])), responses(
    (status = 200, description = "The cluster, or the one server", body = ClusterAnswer),
    Unexpected, Forbidden<MigrateFleet>,
))]
#[get("/control/v1/cluster")]
async fn read(call: Call) -> Answer {
    call.ctx.require(Permission::MigrateFleet)?;
    call.nothing_else()?;
    let status = call.services().cluster.status(&call.ctx).await?;
    Ok(HttpResponse::Ok().json(ClusterAnswer::from(status)))
}

/// Places the tenants that are not distributed on the nodes. The operation is read, paused, resumed and cancelled as a
/// migration.
#[utoipa::path(tag = "control", operation_id = "distributeTenants", security(("bearer" = [])), request_body = NewDistribution, responses(
    (status = 202, description = "The operation; Location is its path", body = MigrationAnswer),
    (status = 204, description = "All of them are distributed"),
    InvalidBody, Forbidden<MigrateFleet>,
    (status = 409, description = "The database is no cluster, or another distribution is open (`detail` names its runner)", body = ProblemBody, content_type = PROBLEM_JSON),
))]
#[post("/control/v1/cluster/distribute")]
async fn distribute(call: Call) -> Answer {
    call.ctx.require(Permission::MigrateFleet)?;
    call.query()?.finish(Some(()))?;
    let mut body = call.body()?;
    let tenants = names(&mut body, "tenants");
    let tenants = body.finish(Some(tenants))?;
    let fleet = &call.services().fleet;
    let Some(made) = fleet.start_distribution(&call.ctx, &tenants).await? else {
        return Ok(HttpResponse::NoContent().finish());
    };
    let record = fleet.run_in_background(&call.ctx, made.id).await?;
    Ok(HttpResponse::Accepted()
        .insert_header((LOCATION, format!("/control/v1/migrations/{}", record.id)))
        .json(MigrationAnswer::from(record)))
}

/// Begins to move a tenant to another node. Its requests are answered meanwhile.
#[utoipa::path(tag = "control", operation_id = "moveTenant", security(("bearer" = [])), request_body = NewMove, responses(
    (status = 200, description = "It is on that node already", body = TenantMoveAnswer),
    (status = 202, description = "The move runs; the cluster lists it", body = TenantMoveAnswer),
    InvalidBody, Forbidden<MigrateFleet>,
    (status = 404, description = "No such tenant or node", body = ProblemBody, content_type = PROBLEM_JSON),
    (status = 409, description = "The database is no cluster, the tenant is not distributed or is being moved, or the node takes no tenants", body = ProblemBody, content_type = PROBLEM_JSON),
))]
#[post("/control/v1/cluster/move")]
async fn move_tenant(call: Call) -> Answer {
    call.ctx.require(Permission::MigrateFleet)?;
    call.query()?.finish(Some(()))?;
    let (which, to) = new_move(&call)?;
    let moving = call.services().cluster.begin_move(&call.ctx, &which, &to).await?;
    let is_there = moving.from == moving.to;
    let mut answer = if is_there { HttpResponse::Ok() } else { HttpResponse::Accepted() };
    Ok(answer.json(TenantMoveAnswer::from(moving)))
}

fn new_move(call: &Call) -> Result<(TenantRef, String)> {
    let mut body = call.body()?;
    let text = |text: &str| if text.is_empty() { Err(Rule::Required) } else { Ok(text.to_owned()) };
    let tenant = body.required("tenant", text);
    let to = body.required("to", text);
    let given = tenant.zip(to).map(|(tenant, to)| (TenantRef::IdOrSlug(tenant), to));
    body.finish(given)
}

impl From<ClusterStatus> for ClusterAnswer {
    fn from(status: ClusterStatus) -> Self {
        Self {
            engine: status.engine.as_str(),
            nodes: status.nodes.into_iter().map(NodeAnswer::from).collect(),
            undistributed_count: status.undistributed_count,
            undistributed: status.undistributed.iter().map(ToString::to_string).collect(),
            moves: status.moves.into_iter().map(MoveAnswer::from).collect(),
        }
    }
}

impl From<NodeStatus> for NodeAnswer {
    fn from(status: NodeStatus) -> Self {
        let NodeStatus { node, tenants, vacancies, bytes } = status;
        Self {
            name: node.name(),
            is_coordinator: node.is_coordinator(),
            is_active: node.is_active,
            takes_tenants: node.takes_schemas,
            answers: node.answers,
            tenants,
            vacancies,
            bytes,
        }
    }
}

impl From<Move> for MoveAnswer {
    fn from(running: Move) -> Self {
        Self {
            tenant_id: running.tenant.uuid(),
            from: running.from,
            to: running.to,
            source_bytes: running.source_bytes,
            target_bytes: running.target_bytes,
        }
    }
}

impl From<TenantMove> for TenantMoveAnswer {
    fn from(moving: TenantMove) -> Self {
        let TenantMove { tenant, from, to } = moving;
        Self { tenant_id: tenant.id.uuid(), slug: tenant.slug.to_string(), from, to }
    }
}
