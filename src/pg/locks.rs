//! Advisory locks that are released when their transaction ends.

use super::error::Failure;
use super::scope::PublicTx;
use crate::domain::names::SchemaName;

/// Takes a lock until the transaction ends; waits while another transaction holds it.
///
/// # Errors
/// [`Failure`], also if the wait exceeds `lock_timeout`.
pub async fn lock(tx: &PublicTx, name: &str) -> Result<(), Failure> {
    tx.query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", &[&name]).await?;
    Ok(())
}

/// Takes a lock until the transaction ends, and returns true, if no other transaction holds it.
///
/// # Errors
/// [`Failure`].
pub async fn try_lock(tx: &PublicTx, name: &str) -> Result<bool, Failure> {
    let row = tx
        .query_one(
            "SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0)) AS is_locked",
            &[&name],
        )
        .await?;
    Ok(row.get("is_locked"))
}

/// As [`try_lock`], for the lock of each schema; returns the outcomes in the same order.
///
/// # Errors
/// [`Failure`].
pub async fn try_locks(tx: &PublicTx, schemas: &[SchemaName]) -> Result<Vec<bool>, Failure> {
    let names: Vec<String> = schemas.iter().map(SchemaName::to_string).collect();
    let rows = tx
        .query(
            "SELECT pg_try_advisory_xact_lock(hashtextextended(name, 0)) AS is_locked
               FROM unnest($1) WITH ORDINALITY AS schemas (name, position)
              ORDER BY position",
            &[&names],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get("is_locked")).collect())
}
