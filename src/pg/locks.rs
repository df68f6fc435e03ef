//! Advisory locks that end with their transaction.

use super::error::Failure;
use super::scope::PublicTx;
use crate::domain::names::SchemaName;

/// Holds everyone else who wants the same lock until the transaction ends.
pub async fn lock(tx: &PublicTx, name: &str) -> Result<(), Failure> {
    tx.query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", &[&name]).await?;
    Ok(())
}

/// Takes a lock for the rest of the transaction if nobody holds it.
///
/// # Errors
/// [`Failure`].
pub async fn try_lock(tx: &PublicTx, name: &str) -> Result<bool, Failure> {
    let row = tx
        .query_one("SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0)) AS is_had", &[&name])
        .await?;
    Ok(row.get("is_had"))
}

/// As [`try_lock`] for many; tells of each whether it was had.
///
/// # Errors
/// [`Failure`].
pub async fn try_locks(tx: &PublicTx, schemas: &[SchemaName]) -> Result<Vec<bool>, Failure> {
    let names: Vec<String> = schemas.iter().map(SchemaName::to_string).collect();
    let rows = tx
        .query(
            "SELECT pg_try_advisory_xact_lock(hashtextextended(name, 0)) AS is_had
               FROM unnest($1) WITH ORDINALITY AS schemas (name, place)
              ORDER BY place",
            &[&names],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get("is_had")).collect())
}
