//! Repairs the histories of tenants that contradict the files: after a file was renumbered, edited or taken away.
//!
//! A plan says what would be done; nothing changes. A repair is done tenant by tenant, each in a transaction of its own
//! under the lock of its schema, and computed again there, so that it can be interrupted and run again. It changes rows
//! of histories and never a table of a tenant. While an operation is open nothing is repaired: its tenants were chosen
//! by the histories as they are.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::auth::CallContext;
use crate::domain::error::{Error, Noun, Result};
use crate::domain::names::{SchemaName, Slug, TenantId};
use crate::domain::operation::OperationKind;
use crate::domain::{AuditAction, Permission};
use crate::migrations::repair::{Change, HistoryRepair, RepairRequest};
use crate::migrations::{Applied, MigrationSet};
use crate::pg::catalog::history::{self, History};
use crate::pg::control::repairs::{self, Repairable};
use crate::pg::control::{migration_sets, operations, tenants};
use crate::pg::error::During;
use crate::pg::locks::{Lock, lock};
use crate::pg::{PublicTx, schema};
use crate::service::audit;
use crate::service::fleet::commands::{Fleet, held_or_open};
use crate::service::fleet::request::resolve;

/// What is done to the history of one tenant.
#[derive(Debug, Clone)]
pub struct TenantRepair {
    /// The tenant.
    pub id: TenantId,
    /// Its slug.
    pub slug: Slug,
    /// The changes of rows.
    pub changes: Vec<Change>,
    /// Versions of files that ran half-way and will run from their start.
    pub statements: Vec<i32>,
    /// What contradicts the files after the changes.
    pub problems: Vec<String>,
}

impl TenantRepair {
    /// Whether there is anything to do.
    #[must_use]
    pub fn changes_something(&self) -> bool {
        !self.changes.is_empty() || !self.statements.is_empty()
    }
}

impl Fleet {
    /// Returns the tenants whose histories would change or contradict the files, oldest first; only of the named
    /// tenants if some are named.
    ///
    /// # Errors
    /// Those of the rights check and of the database; [`Rule::UnknownTenant`](crate::domain::Rule::UnknownTenant).
    pub async fn plan_repair(
        &self,
        ctx: &CallContext,
        named: &[String],
        request: &RepairRequest,
    ) -> Result<Vec<TenantRepair>> {
        ctx.require(Permission::MigrateFleet)?;
        let during = "plan a repair";
        let tx = self.db.public().await.during(during)?;
        let only = resolve(&tx, "tenants", named).await?;
        let all = repairs::list_repairable(&tx, only.as_deref()).await?;
        let mut half_run: HashMap<TenantId, Vec<i32>> = HashMap::new();
        for (id, version) in migration_sets::half_run_in(&tx, &request.forget_statements).await? {
            half_run.entry(id).or_default().push(version);
        }
        drop(tx);
        let schemas: Vec<SchemaName> = all.iter().map(|one| SchemaName::of(one.id)).collect();
        let histories = history::read_all(&self.db, &schemas).await.during(during)?;
        // Most tenants have the same history.
        let mut known: HashMap<&str, HistoryRepair> = HashMap::new();
        let mut plan = Vec::new();
        for (Repairable { id, slug }, schema) in all.into_iter().zip(&schemas) {
            let statements = half_run.remove(&id).unwrap_or_default();
            let (changes, problems) = match histories.get(schema.as_str()) {
                Some(History::Applied(text)) => {
                    let repair = known
                        .entry(text)
                        .or_insert_with(|| self.set().repair(&parse(text), request));
                    (repair.changes.clone(), repair.problems.clone())
                }
                Some(
                    History::Unreadable(reason) | History::Denied(reason) | History::Away(reason),
                ) => (Vec::new(), vec![format!("its migration history cannot be read: {reason}")]),
                Some(History::Absent) | None => {
                    (Vec::new(), vec!["it has no migration history".to_owned()])
                }
            };
            let one = TenantRepair { id, slug, changes, statements, problems };
            if one.changes_something() || !one.problems.is_empty() {
                plan.push(one);
            }
        }
        Ok(plan)
    }

    /// Refuses if an operation is open, so that a repair does not begin.
    ///
    /// # Errors
    /// [`FleetProblem::Held`](crate::domain::operation::FleetProblem::Held) or
    /// [`FleetProblem::Open`](crate::domain::operation::FleetProblem::Open).
    pub async fn require_no_operation(&self, ctx: &CallContext) -> Result<()> {
        ctx.require(Permission::MigrateFleet)?;
        let tx = self.db.public().await.during("read open operation")?;
        require_no_operation(&tx).await
    }

    /// Repairs the history of one tenant and returns what was done.
    ///
    /// # Errors
    /// Those of [`require_no_operation`](Self::require_no_operation) and of the database; [`Noun::Tenant`] not found if
    /// it was purged meanwhile. Nothing is changed then.
    pub async fn repair(
        &self,
        ctx: &CallContext,
        planned: &TenantRepair,
        request: &RepairRequest,
    ) -> Result<TenantRepair> {
        ctx.require(Permission::MigrateFleet)?;
        let during = "repair a history";
        let (id, schema) = (planned.id, SchemaName::of(planned.id));
        let tx = self.db.public().await.during(during)?;
        require_no_operation(&tx).await?;
        // The schema before the row, as a migration locks them.
        lock(&tx, Lock::Schema(&schema)).await.during(during)?;
        if !repairs::lock_repairable(&tx, id).await? {
            return Err(Error::NotFound(Noun::Tenant));
        }
        let applied = schema::history::read(&tx, &schema).await.during(during)?;
        let HistoryRepair { changes, after, problems } = self.set().repair(&applied, request);
        // A file whose row is made or deleted by hand is not in the middle of a run.
        let mut versions = request.forget_statements.clone();
        versions.extend(changes.iter().flat_map(versions_of));
        let statements = migration_sets::forget_statements(&tx, id, &versions).await?;
        let slug = planned.slug.clone();
        let done = TenantRepair { id, slug, changes, statements, problems };
        if !done.changes.is_empty() {
            schema::history::rewrite(&tx, &schema, &done.changes, ctx.now).await.during(during)?;
            let fingerprint = MigrationSet::fingerprint_of(&after);
            let version = after.iter().map(|row| row.version).max().unwrap_or(0).max(0);
            migration_sets::record(&tx, &fingerprint, &after, ctx.now).await?;
            tenants::set_migrated(&tx, id, version, &fingerprint, ctx.now).await?;
        }
        if done.changes_something() {
            let changes: Vec<Value> = done.changes.iter().map(in_json).collect();
            let details = json!({ "changes": changes, "statements": done.statements });
            audit::note(&tx, ctx, AuditAction::MigrationRepair, id, details).await?;
        }
        tx.commit().await.during(during)?;
        Ok(done)
    }
}

async fn require_no_operation(tx: &PublicTx) -> Result<()> {
    match operations::find_open(tx, OperationKind::Migrate).await? {
        Some(open) => Err(held_or_open(open).into()),
        None => Ok(()),
    }
}

/// Reads a history from its text.
fn parse(text: &str) -> Vec<Applied> {
    let row = |line: &str| {
        let (version, rest) = line.split_once(' ')?;
        let (name, checksum) = rest.rsplit_once(' ')?;
        let (name, checksum) = (name.to_owned(), checksum.to_owned());
        Some(Applied { version: version.parse().ok()?, name, checksum })
    };
    text.lines().filter_map(row).collect()
}

fn versions_of(change: &Change) -> Vec<i32> {
    match change {
        Change::Rename { from, to } | Change::Accept { from, to } => {
            vec![from.version, to.version]
        }
        Change::Stamp(row) | Change::Forget(row) => vec![row.version],
    }
}

/// A change in JSON, as the audit trail has it.
#[must_use]
pub fn in_json(change: &Change) -> Value {
    let row = |row: &Applied| json!({ "version": row.version, "name": row.name, "checksum": row.checksum });
    match change {
        Change::Rename { from, to } => {
            json!({ "change": "rename", "from": row(from), "to": row(to) })
        }
        Change::Accept { from, to } => {
            json!({ "change": "accept", "from": row(from), "to": row(to) })
        }
        Change::Stamp(file) => json!({ "change": "stamp", "from": null, "to": row(file) }),
        Change::Forget(gone) => json!({ "change": "forget", "from": row(gone), "to": null }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_is_read_from_its_text() {
        let rows = parse("-1 views 7\n1 a 11\n2 add b 22");
        let rows: Vec<_> = rows
            .iter()
            .map(|row| (row.version, row.name.as_str(), row.checksum.as_str()))
            .collect();
        assert_eq!(rows, [(-1, "views", "7"), (1, "a", "11"), (2, "add b", "22")]);
        assert!(parse("").is_empty());
    }
}
