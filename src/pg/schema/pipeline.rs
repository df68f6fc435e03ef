//! Migrates schemas whose histories are known before they are read, each in one message from `BEGIN` to `COMMIT`.
//!
//! What is known is only believed: a row of the history is written by a statement that fails where the schema
//! says something else, and nothing begins too late. Whoever is told so goes the long way ([`enter`](crate::pg::schema::enter) and
//! [`catch_up`](crate::pg::schema::catch_up)), which finds out what is true, and names the file and the line that failed.

use std::collections::HashSet;

use time::OffsetDateTime;

use crate::domain::names::SchemaName;
use crate::migrations::{Beginning, HISTORY_TABLE, MigrationSet};
use crate::pg::db::Db;
use crate::pg::error::Failure;
use crate::pg::scope::{self, Entry, PublicTx};

/// A schema to bring up to date.
pub struct Known<'a> {
    /// Which.
    pub schema: SchemaName,
    /// What made it, as far as is known.
    pub beginning: &'a Beginning,
}

/// What became of a schema.
pub enum Outcome {
    /// It is up to date.
    Done,
    /// Nothing is done to it, for whatever reason that a closer look will show: it may just have stood behind one
    /// that failed.
    Unclear,
    /// A lock was not given, or the database went away. Nothing is done to it, unless the answer to its commit was
    /// lost.
    Interrupted(Failure),
}

/// Brings schemas up to date, each in a transaction of its own, one behind the other on one connection; tells what
/// became of each.
///
/// # Errors
/// [`Failure`] where no connection can be had.
pub async fn catch_up_at_once(
    db: &Db,
    set: &MigrationSet,
    some: &[Known<'_>],
    entry: Entry,
    now: OffsetDateTime,
) -> Result<Vec<Outcome>, Failure> {
    let is_same = scope::is_same_transaction();
    let script = |known: &Known<'_>| {
        (known.schema.clone(), set.script(&known.schema, known.beginning, &is_same, now))
    };
    let scripts: Vec<_> = some.iter().map(script).collect();
    let outcomes = db.run_pipelined(&scripts, entry).await?.into_iter().map(|ran| match ran {
        Ok(()) => Outcome::Done,
        Err(failure) if failure.is_unavailable() || failure.is_retryable() => {
            Outcome::Interrupted(failure)
        }
        Err(_failure) => Outcome::Unclear,
    });
    Ok(outcomes.collect())
}

/// The schemas whose histories somebody else may write than their owner. A closer look tells whether it is their
/// tenant, and takes the right away. Asked once for all of them, and not again in each message.
///
/// # Errors
/// [`Failure`].
pub async fn open_histories(tx: &PublicTx) -> Result<HashSet<String>, Failure> {
    let sql = "SELECT nspname::text AS schema
                 FROM pg_class
                 JOIN pg_namespace ON pg_namespace.oid = relnamespace
                WHERE relname = $1
                  AND EXISTS (SELECT FROM aclexplode(relacl)
                               WHERE grantee <> relowner AND privilege_type = 'INSERT')";
    let rows = tx.query(sql, &[&HISTORY_TABLE]).await?;
    Ok(rows.iter().map(|row| row.get("schema")).collect())
}
