//! Migrates a schema whose history is known before it is read, in one message from `BEGIN` to `COMMIT`.
//!
//! What is known is only believed: a row of the history is written by a statement that fails where the schema
//! says something else. Whoever is told so goes the long way ([`enter`](super::enter) and
//! [`catch_up`](super::catch_up)), which finds out what is true, and names the file and the line that failed.

use std::collections::HashSet;

use time::OffsetDateTime;
use tokio_postgres::error::SqlState;

use crate::domain::names::SchemaName;
use crate::pg::error::Failure;
use crate::pg::migrations::{Beginning, HISTORY_TABLE, MigrationSet};
use crate::pg::operation_tenants;
use crate::pg::pool::Db;
use crate::pg::scope::{self, Flush, PublicTx};

/// Brings a schema up to date that was made by a beginning of the set, runs `records`
/// ([`operation_tenants::done_inside`]) and commits. False where it did not come to that, for whatever reason
/// that a closer look will show; nothing is done then.
///
/// # Errors
/// What a closer look would meet as well: a lock that was not given, a database that went away;
/// [`Failure::RowCount`] where `records` refused.
pub async fn catch_up_at_once(
    db: &Db,
    schema: &SchemaName,
    flush: Flush,
    set: &MigrationSet,
    beginning: &Beginning,
    records: &str,
    now: OffsetDateTime,
) -> Result<bool, Failure> {
    let tx = db.inside(schema, flush).await?;
    let files = set.script(schema, beginning, &scope::stands(), now);
    match tx.all_at_once(&format!("{files}\n;\n{records}")).await {
        Ok(()) => Ok(true),
        Err(failure) if operation_tenants::has_refused(&failure) => Err(Failure::RowCount),
        Err(failure) if failure.is_away() || failure.is_retryable() => Err(failure),
        Err(failure) => {
            if !is_other_than_known(&failure) {
                tracing::debug!(tenant.schema = %schema, error = %failure, "looking closer at a tenant");
            }
            Ok(false)
        }
    }
}

/// Whether a schema's history is not the one that was known.
fn is_other_than_known(failure: &Failure) -> bool {
    let Failure::Postgres(error) = failure else { return false };
    error.as_db_error().is_some_and(|db| {
        *db.code() == SqlState::NOT_NULL_VIOLATION && db.table() == Some(HISTORY_TABLE)
    })
}

/// The schemas whose histories somebody else may write than their owner. A closer look tells whether it is their
/// tenant, and takes the right away. Asked once for all of them, and not again in each message.
///
/// # Errors
/// [`Failure`].
pub async fn open_histories(tx: &PublicTx) -> Result<HashSet<String>, Failure> {
    let sql = "SELECT nspname::text
                 FROM pg_class
                 JOIN pg_namespace ON pg_namespace.oid = relnamespace
                WHERE relname = $1
                  AND EXISTS (SELECT FROM aclexplode(relacl)
                               WHERE grantee <> relowner AND privilege_type = 'INSERT')";
    let rows = tx.query(sql, &[&HISTORY_TABLE]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
