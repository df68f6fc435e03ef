//! The nodes of a Citus cluster: which tenants are on which of them, and moving a tenant to another.
//!
//! Placing tenants that were made before is a fleet operation ([`Fleet`](crate::service::Fleet)). All of it requires
//! `MIGRATE_FLEET`: it shows and changes where the schemas of all tenants are.
//!
//! A move is Citus's own. It runs in one transaction with its audit event, so that one that is cut off leaves the tenant
//! where it was. Where each table has a primary key, writes go on; otherwise they wait until the rows are copied.

use std::collections::HashMap;

use serde_json::json;
use tokio::runtime::Handle;

use crate::auth::CallContext;
use crate::domain::error::{Conflict, Error, Noun, Result};
use crate::domain::names::{SchemaName, Slug, TenantId};
use crate::domain::tenant::Tenant;
use crate::domain::{AuditAction, Permission};
use crate::pg::catalog::cluster::{self, Node};
use crate::pg::catalog::inventory::{self, SchemaOwner};
use crate::pg::catalog::set_catalog_wide_limits;
use crate::pg::rules::engine::Engine;
use crate::pg::schema::placement::{self, Copying};
use crate::pg::{Db, During};
use crate::service::audit::note;
use crate::service::tenants::{self, TenantRef};

pub use crate::pg::catalog::cluster::Move;

const READ: &str = "read the nodes of the cluster";
const MOVE: &str = "move a tenant";

/// The most tenants that are listed as not distributed.
const LISTED_AT_MOST: usize = 1000;

/// Shows a cluster and moves tenants in it.
#[derive(Clone)]
pub struct Cluster {
    db: Db,
    /// The runtime to which the pools of `main` belong, for moves that outlive their request.
    runtime: Handle,
    main: Db,
}

/// A node, with what is on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStatus {
    /// The node.
    pub node: Node,
    /// How many tenants are on it.
    pub tenants: usize,
    /// How many vacancies are on it.
    pub vacancies: usize,
    /// The bytes of their tables; `None` if the node does not answer, or has a table that the owner may not use.
    pub bytes: Option<i64>,
}

/// A cluster, or one server.
#[derive(Debug, Clone)]
pub struct ClusterStatus {
    /// The engine.
    pub engine: Engine,
    /// The nodes, the coordinator first; empty for one server.
    pub nodes: Vec<NodeStatus>,
    /// How many tenants are not distributed; always 0 for one server.
    pub undistributed_count: usize,
    /// Their slugs, not all if there are very many.
    pub undistributed: Vec<Slug>,
    /// The moves that run now.
    pub moves: Vec<Move>,
}

/// A tenant that has moved, or is about to.
#[derive(Debug, Clone)]
pub struct TenantMove {
    /// The tenant.
    pub tenant: Tenant,
    /// Host and port of the node that had it.
    pub from: String,
    /// Host and port of the node that it is on, or will be.
    pub to: String,
}

/// A move that was found to be possible.
struct PlannedMove {
    of: TenantMove,
    to: Node,
}

impl Cluster {
    /// Reads through `db` and moves through `main`, whose pools belong to `runtime`.
    #[must_use]
    pub const fn new(db: Db, main: Db, runtime: Handle) -> Self {
        Self { db, runtime, main }
    }

    /// Returns the nodes, what is on each, and what is on none.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn status(&self, ctx: &CallContext) -> Result<ClusterStatus> {
        ctx.require(Permission::MigrateFleet)?;
        let engine = self.db.rules().engine;
        let mut status = ClusterStatus {
            engine,
            nodes: Vec::new(),
            undistributed_count: 0,
            undistributed: Vec::new(),
            moves: Vec::new(),
        };
        if !engine.has_nodes() {
            return Ok(status);
        }
        let tx = self.db.public().await.during(READ)?;
        set_catalog_wide_limits(&tx).await.during(READ)?;
        let placements = cluster::placements(&tx).await.during(READ)?;
        let entries = inventory::list(&tx, None, self.db.rules().isolation).await.during(READ)?;
        let bytes = cluster::bytes(&tx).await.during(READ)?;
        let (mut tenants, mut vacancies) = (HashMap::new(), HashMap::new());
        for entry in &entries {
            let node = placements.get(&entry.id).copied().flatten();
            match (&entry.owner, node) {
                (SchemaOwner::Tenant(_), Some(node)) => *tenants.entry(node).or_insert(0) += 1,
                (SchemaOwner::Tenant(recorded), None) => {
                    status.undistributed_count += 1;
                    if status.undistributed.len() < LISTED_AT_MOST {
                        status.undistributed.push(recorded.slug.clone());
                    }
                }
                (SchemaOwner::Vacancy { .. }, Some(node)) => {
                    *vacancies.entry(node).or_insert(0) += 1;
                }
                (SchemaOwner::Vacancy { .. } | SchemaOwner::None, _) => {}
            }
        }
        status.nodes = cluster::nodes(&tx)
            .await
            .during(READ)?
            .into_iter()
            .map(|node| {
                let tenants = tenants.get(&node.group).copied().unwrap_or_default();
                let vacancies = vacancies.get(&node.group).copied().unwrap_or_default();
                let none = (node.answers && tenants + vacancies == 0).then_some(0);
                let bytes = bytes.get(&node.group).copied().or(none);
                NodeStatus { node, tenants, vacancies, bytes }
            })
            .collect();
        status.moves = cluster::moves(&tx).await.during(READ)?;
        Ok(status)
    }

    /// Returns the moves that run now.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn moves(&self, ctx: &CallContext) -> Result<Vec<Move>> {
        ctx.require(Permission::MigrateFleet)?;
        let tx = self.db.public().await.during(READ)?;
        cluster::moves(&tx).await.during(READ)
    }

    /// Moves a tenant to the node with this host and port, and returns when it is there. On that node already, it stays.
    ///
    /// # Errors
    /// [`Noun::Tenant`] and [`Noun::Node`] not found; [`Conflict::NoCluster`], [`Conflict::NotDistributed`],
    /// [`Conflict::NodeTakesNone`], [`Conflict::BeingMoved`]; those of the rights check and of the database, after which
    /// the tenant is where it was.
    pub async fn move_tenant(
        &self,
        ctx: &CallContext,
        which: &TenantRef,
        to: &str,
    ) -> Result<TenantMove> {
        ctx.require(Permission::MigrateFleet)?;
        let planned = self.plan(which, to).await?;
        self.carry_out(ctx, &planned).await?;
        Ok(planned.of)
    }

    /// Begins to move a tenant as [`move_tenant`](Self::move_tenant) does, in the background: [`status`](Self::status)
    /// lists the move while it runs, and the audit trail has it when it is done.
    ///
    /// # Errors
    /// As [`move_tenant`](Self::move_tenant), for what is known before the move.
    pub async fn begin_move(
        &self,
        ctx: &CallContext,
        which: &TenantRef,
        to: &str,
    ) -> Result<TenantMove> {
        ctx.require(Permission::MigrateFleet)?;
        let planned = self.plan(which, to).await?;
        let (this, ctx, of) = (self.clone(), ctx.clone(), planned.of.clone());
        self.runtime.spawn(async move {
            if let Err(error) = this.carry_out(&ctx, &planned).await {
                let TenantMove { tenant, from, to } = &planned.of;
                tracing::warn!(
                    tenant.id = %tenant.id, from, to, error = %error.chain(), "a tenant was not moved"
                );
            }
        });
        Ok(of)
    }

    /// Finds the tenant and the node, and whether the one can go to the other.
    async fn plan(&self, which: &TenantRef, to: &str) -> Result<PlannedMove> {
        if !self.db.rules().engine.has_nodes() {
            return Err(Error::Conflict(Conflict::NoCluster));
        }
        let tx = self.db.public().await.during(MOVE)?;
        let tenant = tenants::find(&tx, which).await?.ok_or(Error::NotFound(Noun::Tenant))?;
        let nodes = cluster::nodes(&tx).await.during(MOVE)?;
        let target = nodes.iter().find(|node| node.name() == to);
        let target = target.ok_or(Error::NotFound(Noun::Node))?.clone();
        let schema = SchemaName::of(tenant.id);
        let group = cluster::placement(&tx, &schema).await.during(MOVE)?;
        let group = group.ok_or(Error::Conflict(Conflict::NotDistributed))?;
        if !(target.is_active && target.takes_schemas && target.answers) && target.group != group {
            return Err(Error::Conflict(Conflict::NodeTakesNone));
        }
        let moves = cluster::moves(&tx).await.during(MOVE)?;
        if moves.iter().any(|running| running.tenant == tenant.id) {
            return Err(Error::Conflict(Conflict::BeingMoved));
        }
        let source = nodes.iter().find(|node| node.group == group);
        let from = source.map_or_else(String::new, Node::name);
        Ok(PlannedMove { of: TenantMove { tenant, from, to: target.name() }, to: target })
    }

    async fn carry_out(&self, ctx: &CallContext, planned: &PlannedMove) -> Result<()> {
        let TenantMove { tenant, from, to } = &planned.of;
        if from == to {
            return Ok(());
        }
        let schema = SchemaName::of(tenant.id);
        let copying = if self.can_be_replicated(tenant.id).await? {
            Copying::Logical
        } else {
            Copying::BlockWrites
        };
        let tx = self.main.public().await.during(MOVE)?;
        placement::move_to(&tx, &schema, &planned.to, copying).await.during(MOVE)?;
        let details = json!({ "slug": tenant.slug.as_str(), "from": from, "to": to });
        note(&tx, ctx, AuditAction::TenantMove, tenant.id, details).await?;
        tx.commit().await.during(MOVE)?;
        tracing::info!(tenant.id = %tenant.id, tenant.slug = %tenant.slug, from, to, "moved a tenant");
        Ok(())
    }

    async fn can_be_replicated(&self, tenant: TenantId) -> Result<bool> {
        let tx = self.main.public().await.during(MOVE)?;
        cluster::can_be_replicated(&tx, &SchemaName::of(tenant)).await.during(MOVE)
    }
}
