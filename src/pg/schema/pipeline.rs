//! Migrates several schemas pipelined on one connection, each in one message from `BEGIN` to `COMMIT`, without
//! reading their histories first.
//!
//! The expected history comes from the tenant's row, and the script verifies it: the statement that adds a row to
//! the history fails if the schema's history differs. A schema that was not migrated this way takes the slower
//! path ([`enter`](crate::pg::schema::enter) and [`catch_up`](crate::pg::schema::catch_up)), which reads the
//! history and names the file and the line that failed.

use std::collections::HashSet;

use time::OffsetDateTime;

use crate::domain::names::SchemaName;
use crate::migrations::{AppliedPrefix, HISTORY_TABLE, MigrationSet};
use crate::pg::db::Db;
use crate::pg::error::Failure;
use crate::pg::scope::{self, Entry, PublicTx};

/// A schema to bring up to date.
pub struct MigrationTarget<'a> {
    /// The schema.
    pub schema: SchemaName,
    /// The prefix of the set that it is expected to have applied.
    pub prefix: &'a AppliedPrefix,
}

/// The outcome for one schema.
pub enum PipelinedOutcome {
    /// It is up to date.
    Migrated,
    /// It was not changed. The cause is unknown here; it may only have been queued behind a schema that failed.
    NotMigrated,
    /// A lock was not granted, or the connection was lost. It was not changed, unless the answer to its commit was
    /// lost.
    Interrupted(Failure),
}

/// Brings schemas up to date, each in its own transaction, pipelined on one connection; returns the outcome of each
/// in order.
///
/// # Errors
/// [`Failure`] if no connection is available.
pub async fn catch_up_pipelined(
    db: &Db,
    set: &MigrationSet,
    targets: &[MigrationTarget<'_>],
    entry: Entry,
    now: OffsetDateTime,
) -> Result<Vec<PipelinedOutcome>, Failure> {
    let is_same = scope::is_same_transaction();
    let script = |target: &MigrationTarget<'_>| {
        (target.schema.clone(), set.script(&target.schema, target.prefix, &is_same, now))
    };
    let scripts: Vec<_> = targets.iter().map(script).collect();
    let outcomes = db.run_pipelined(&scripts, entry).await?.into_iter().map(|ran| match ran {
        Ok(()) => PipelinedOutcome::Migrated,
        Err(failure) if failure.is_unavailable() || failure.is_retryable() => {
            PipelinedOutcome::Interrupted(failure)
        }
        Err(_failure) => PipelinedOutcome::NotMigrated,
    });
    Ok(outcomes.collect())
}

/// Returns the schemas whose history a role other than its owner may write. Their migration takes the slower path,
/// which revokes the privilege from the tenant's role. One query for all schemas replaces a check in each message.
///
/// # Errors
/// [`Failure`].
pub async fn histories_writable_by_others(tx: &PublicTx) -> Result<HashSet<String>, Failure> {
    let sql = "SELECT nspname::text AS schema
                 FROM pg_class
                 JOIN pg_namespace ON pg_namespace.oid = relnamespace
                WHERE relname = $1
                  AND EXISTS (SELECT FROM aclexplode(relacl)
                               WHERE grantee <> relowner AND privilege_type = 'INSERT')";
    let rows = tx.query(sql, &[&HISTORY_TABLE]).await?;
    Ok(rows.iter().map(|row| row.get("schema")).collect())
}
