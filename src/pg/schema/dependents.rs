//! Finds what a drop of a schema and its role would take along outside of the schema. A drop asks in its own
//! transaction, before it destroys anything.

use crate::domain::error::Error;
use crate::domain::names::SchemaName;
use crate::domain::purge::PurgeProblem;
use crate::pg::error::{During, Failure};
use crate::pg::scope::PublicTx;

const DEPENDENTS: &str = include_str!("dependents.sql");

/// Why a drop did not happen.
#[derive(Debug, thiserror::Error)]
pub enum DropError {
    /// Something outside of the schema depends on it, or this login may not drop its role; nothing was dropped.
    #[error(transparent)]
    Stopped(#[from] PurgeProblem),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] Failure),
}

impl<T> During<T> for Result<T, DropError> {
    fn during(self, during: &'static str) -> Result<T, Error> {
        self.map_err(|error| match error {
            DropError::Stopped(problem) => Error::Purge(Box::new(problem)),
            DropError::Database(failure) => failure.during(during),
        })
    }
}

/// Lists what a drop of a schema, and of a role if there is one, would take along outside of the schema: objects of others,
/// or in other schemas.
///
/// # Errors
/// [`Failure`].
pub async fn find(tx: &PublicTx, schema: &str, role: Option<&str>) -> Result<Vec<String>, Failure> {
    // The planner overestimates the recursion, and compiles what takes a few milliseconds to run.
    tx.batch("SET LOCAL jit = off").await?;
    let role = role.map(str::to_owned);
    let rows = tx.query(DEPENDENTS, &[&schema, &role]).await?;
    Ok(rows.iter().map(|row| row.get("object")).collect())
}

/// Lists what a drop of a tenant's schema and role would take along, and fails if it is more than `allowed`.
///
/// # Errors
/// [`DropError::Stopped`] with all of it.
pub async fn check(
    tx: &PublicTx,
    schema: &SchemaName,
    allowed: &[String],
) -> Result<(), DropError> {
    let found = find(tx, schema.as_str(), Some(schema.as_str())).await?;
    let objects: Vec<String> =
        found.into_iter().filter(|object| !allowed.contains(object)).collect();
    if objects.is_empty() {
        return Ok(());
    }
    Err(PurgeProblem::Dependents { schema: schema.to_string(), objects }.into())
}
