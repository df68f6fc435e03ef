//! Places the schemas of tenants that were made before on the nodes of a Citus cluster, one transaction a tenant: an
//! operation like a migration, with the same ledger, which can be paused and resumed.
//!
//! A vacancy that is not distributed would become a tenant that is not, so those are dropped, and servers make others.

use serde_json::json;
use uuid::Uuid;

use crate::auth::CallContext;
use crate::domain::error::{Conflict, Error, Noun, Result};
use crate::domain::names::{SchemaName, TenantId};
use crate::domain::operation::OperationKind;
use crate::domain::{AuditAction, Permission};
use crate::pg::catalog::cluster;
use crate::pg::control::{operation_tenants, operations, vacancies};
use crate::pg::error::During;
use crate::pg::schema::error::ApplyError;
use crate::pg::schema::placement;
use crate::pg::scope::{Entry, PublicTx};
use crate::service::fleet::Record;
use crate::service::fleet::audit::note;
use crate::service::fleet::commands::{Fleet, held_or_open};
use crate::service::fleet::engine::Engine;
use crate::service::fleet::request::resolve;

const DURING: &str = "start a distribution";

impl Engine {
    /// Places the schema of a tenant on a node, and returns which.
    ///
    /// # Errors
    /// [`ApplyError`]; nothing is changed then.
    pub(super) async fn distribute(
        &self,
        tenant: TenantId,
        entry: Entry,
    ) -> Result<Vec<String>, ApplyError> {
        let group = placement::distribute(&self.db, &SchemaName::of(tenant), entry).await?;
        let tx = self.db.public().await?;
        let nodes = cluster::nodes(&tx).await?;
        let node = nodes.into_iter().find(|node| node.group == group);
        Ok(node.map(|node| node.name()).into_iter().collect())
    }
}

impl Fleet {
    /// Inserts an operation that distributes tenants, with a row for each that is not distributed, and does not run it;
    /// only the named tenants if some are named. Returns `None` if all are distributed.
    ///
    /// # Errors
    /// [`Conflict::NoCluster`]; [`FleetProblem::Held`](crate::domain::operation::FleetProblem::Held) or
    /// [`FleetProblem::Open`](crate::domain::operation::FleetProblem::Open) if another distribution is open;
    /// [`Rule::UnknownTenant`](crate::domain::Rule::UnknownTenant).
    pub async fn start_distribution(
        &self,
        ctx: &CallContext,
        named: &[String],
    ) -> Result<Option<Record>> {
        ctx.require(Permission::MigrateFleet)?;
        if !self.db.rules().engine.has_nodes() {
            return Err(Error::Conflict(Conflict::NoCluster));
        }
        let tx = self.db.public().await.during(DURING)?;
        let only = resolve(&tx, "tenants", named).await?;
        if let Some(open) = operations::find_open(&tx, OperationKind::Distribute).await? {
            return Err(held_or_open(open).into());
        }
        let placements = cluster::placements(&tx).await.during(DURING)?;
        let is_named = |id: &TenantId| only.as_ref().is_none_or(|only| only.contains(&id.uuid()));
        let left: Vec<TenantId> = placements
            .into_iter()
            .filter(|(id, node)| node.is_none() && is_named(id))
            .map(|(id, _)| id)
            .collect();
        if only.is_none() {
            drop_vacancies(&tx, &left).await?;
        }
        tx.commit().await.during(DURING)?;
        let tx = self.db.public().await.during(DURING)?;
        let id = Uuid::now_v7();
        let new = operations::New {
            id,
            kind: OperationKind::Distribute,
            actor: &ctx.principal.label(),
            request_id: &ctx.request_id,
            set: self.set(),
            options: json!({ "tenants": named }),
            canary: false,
            now: ctx.now,
        };
        if operations::insert(&tx, &new).await?.is_none() {
            return Err(Error::Conflict(Conflict::Concurrent));
        }
        let count = operation_tenants::insert_these(&tx, id, &left).await?;
        if count == 0 {
            return Ok(None);
        }
        let record = operations::lookup(&tx, id).await?.ok_or(Error::NotFound(Noun::Operation))?;
        note(&tx, ctx, AuditAction::MigrationStart, &record, json!({ "tenants": count })).await?;
        tx.commit().await.during(DURING)?;
        Ok(Some(record))
    }

    /// Finds the open distribution.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn find_open_distribution(&self, ctx: &CallContext) -> Result<Option<Record>> {
        ctx.require(Permission::MigrateFleet)?;
        let tx = self.db.public().await.during("read open distribution")?;
        operations::find_open(&tx, OperationKind::Distribute).await
    }
}

/// Marks those of the schemas for dropping that are vacancies.
async fn drop_vacancies(tx: &PublicTx, schemas: &[TenantId]) -> Result<()> {
    let stock = vacancies::list(tx).await?.into_iter().map(|vacancy| vacancy.id);
    let stock: Vec<TenantId> = stock.filter(|id| schemas.contains(id)).collect();
    vacancies::set_dropping(tx, &stock).await?;
    Ok(())
}
