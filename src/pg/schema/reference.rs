//! Determines what a tenant's schema should look like: builds one with the code that builds a tenant's schema,
//! reads it and rolls back.

use crate::domain::names::{SchemaName, TenantId};
use crate::migrations::MigrationSet;
use crate::pg::catalog::{Fingerprint, Object};
use crate::pg::db::Db;
use crate::pg::error::Failure;
use crate::pg::schema::error::ApplyError;

/// A schema as a set of migrations creates it.
#[derive(Debug, Clone)]
pub struct Reference {
    /// Its digest.
    pub fingerprint: Fingerprint,
    /// All its objects.
    pub objects: Vec<Object>,
    /// The number of locks that creating it held at the end of the transaction.
    pub locks: i64,
}

/// Builds a schema from the set, reads it and rolls back. No other transaction ever sees it.
///
/// # Errors
/// The file that failed; a failure of the database.
pub async fn build(
    db: &Db,
    set: &MigrationSet,
    server_version: u32,
) -> Result<Reference, ApplyError> {
    let tx = db.public().await?;
    let schema = SchemaName::of(TenantId::generate());
    let isolation = db.rules().isolation;
    crate::pg::schema::create(&tx, &schema, db.rules(), server_version).await?;
    crate::pg::schema::migrate(&tx, &schema, set, db.rules()).await?;
    let locks = "SELECT count(*) AS total FROM pg_catalog.pg_locks WHERE pid = pg_backend_pid()";
    let locks = tx.query_one(locks, &[]).await?.get("total");
    let this = std::slice::from_ref(&schema);
    let fingerprint = crate::pg::catalog::fingerprints(&tx, this, isolation).await?;
    let objects = crate::pg::catalog::objects(&tx, this, isolation).await?;
    // Waits for the ROLLBACK, because the caller's next query may list the existing schemas.
    tx.roll_back().await?;
    match (fingerprint.into_values().next(), objects.into_values().next()) {
        (Some(fingerprint), Some(objects)) => Ok(Reference { fingerprint, objects, locks }),
        _ => Err(Failure::RowCount.into()),
    }
}
