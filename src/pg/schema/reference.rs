//! What a tenant's schema should look like: one is built by the very code that builds a tenant's, looked at
//! and rolled back.

use crate::domain::names::{SchemaName, TenantId};
use crate::migrations::MigrationSet;
use crate::pg::catalog::{Fingerprint, Object};
use crate::pg::db::Db;
use crate::pg::error::Failure;
use crate::pg::rules::Isolation;
use crate::pg::schema::error::ApplyError;

/// A schema as a set of migrations makes it.
#[derive(Debug, Clone)]
pub struct Reference {
    /// Its digest.
    pub fingerprint: Fingerprint,
    /// All that is in it.
    pub objects: Vec<Object>,
    /// The locks that its making held at the end of the transaction.
    pub locks: i64,
}

/// Builds a schema from the set, looks at it and rolls it back: nobody else ever sees it, and nothing stays.
///
/// # Errors
/// The file that failed; the database.
pub async fn build(
    db: &Db,
    set: &MigrationSet,
    server_version: u32,
) -> Result<Reference, ApplyError> {
    let tx = db.public().await?;
    let schema = SchemaName::of(TenantId::generate());
    let with_roles = db.rules().isolation == Isolation::Role;
    crate::pg::schema::create(&tx, &schema, db.rules(), server_version).await?;
    crate::pg::schema::migrate(&tx, &schema, set, db.rules()).await?;
    let locks = "SELECT count(*) AS total FROM pg_catalog.pg_locks WHERE pid = pg_backend_pid()";
    let locks = tx.query_one(locks, &[]).await?.get("total");
    let this = std::slice::from_ref(&schema);
    let fingerprint = crate::pg::catalog::fingerprints(&tx, this, with_roles).await?;
    let objects = crate::pg::catalog::objects(&tx, this, with_roles).await?;
    // Not by a ROLLBACK that is only queued: what comes next may look at what is there.
    tx.roll_back().await?;
    match (fingerprint.into_values().next(), objects.into_values().next()) {
        (Some(fingerprint), Some(objects)) => Ok(Reference { fingerprint, objects, locks }),
        _ => Err(Failure::RowCount.into()),
    }
}
