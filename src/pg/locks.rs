//! Locks that are released when their transaction ends.
//!
//! A lock is a row of `public.locks`, which its owner has locked with `FOR UPDATE`, and not an advisory lock: PostgreSQL
//! lets any role take any advisory lock, so SQL that was injected into one tenant could keep all locks from us. A row
//! can be locked only by a role that may write to its table. A tenant's role has no rights in `public`.
//!
//! The control plane's own migrations have no row to lock before the first of them has run: [`crate::pg::bootstrap`]
//! locks their history table.

use super::error::Failure;
use super::scope::PublicTx;
use crate::domain::names::SchemaName;

pub use super::scope::Lock;

/// Takes a lock until the transaction ends; waits while another transaction has it.
///
/// # Errors
/// [`Failure`], also if the wait exceeds `lock_timeout`.
pub async fn lock(tx: &PublicTx, lock: Lock<'_>) -> Result<(), Failure> {
    // Two statements, because each sees what was committed before it began: the second finds a row that another
    // transaction inserted while the first waited for it.
    tx.batch(&format!("{}; {}", lock.insert_sql(), lock.select_sql())).await
}

/// Takes a lock until the transaction ends, and returns true, if no other transaction has it.
///
/// # Errors
/// [`Failure`].
pub async fn try_lock(tx: &PublicTx, lock: Lock<'_>) -> Result<bool, Failure> {
    let taken = take_free(tx, vec![lock.name().to_owned()]).await?;
    Ok(!taken.is_empty())
}

/// As [`try_lock`], for the lock of each schema; returns the outcomes in the same order.
///
/// # Errors
/// [`Failure`].
pub async fn try_locks(tx: &PublicTx, schemas: &[SchemaName]) -> Result<Vec<bool>, Failure> {
    let taken = take_free(tx, schemas.iter().map(SchemaName::to_string).collect()).await?;
    Ok(schemas.iter().map(|schema| taken.iter().any(|name| name == schema.as_str())).collect())
}

/// Locks those of the rows that no other transaction has locked, inserts those that are missing, and returns their
/// names. Waits only for a transaction that is inserting one of them.
async fn take_free(tx: &PublicTx, names: Vec<String>) -> Result<Vec<String>, Failure> {
    let rows = tx
        .query(
            "WITH inserted AS (
                 INSERT INTO public.locks (name)
                 SELECT name
                   FROM unnest($1) AS wanted (name)
                  WHERE NOT EXISTS (SELECT FROM public.locks l WHERE l.name = wanted.name)
                 ON CONFLICT (name) DO NOTHING
                 RETURNING name
             ), locked AS (
                 SELECT name FROM public.locks WHERE name = ANY ($1) FOR UPDATE SKIP LOCKED
             )
             SELECT name FROM inserted UNION ALL SELECT name FROM locked",
            &[&names],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get("name")).collect())
}
