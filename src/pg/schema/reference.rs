//! Determines what a tenant's schema should look like: builds one with the code that builds a tenant's schema, reads it
//! and rolls back. That is also the proof that a new tenant can be made from a set.

use time::OffsetDateTime;

use super::create;
use super::error::ApplyError;
use crate::domain::names::{SchemaName, TenantId};
use crate::migrations::MigrationSet;
use crate::pg::catalog::{Fingerprint, Object, fingerprints, objects};
use crate::pg::db::Db;
use crate::pg::error::Failure;
use crate::pg::rules::{Isolation, Rules};
use crate::pg::scope::PublicTx;

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
/// The file that failed, or the tables outside of the schema that the files use; a failure of the database.
pub async fn build(
    db: &Db,
    set: &MigrationSet,
    server_version: u32,
) -> Result<Reference, ApplyError> {
    // What is read is on the coordinator of a cluster, also while a node is away.
    let rules = Rules { ddl_is_local: true, ..db.rules().clone() };
    let trial = Trial::begin(db, &rules, set, server_version).await?;
    let locks = "SELECT count(*) AS total FROM pg_catalog.pg_locks WHERE pid = pg_backend_pid()";
    let locks = trial.tx.query_one(locks, &[]).await?.get("total");
    let reference = read(&trial.tx, &trial.schema, db.rules().isolation).await?;
    trial.end(db, set).await?;
    Ok(Reference { locks, ..reference })
}

/// As [`build`], and does not read the schema: proves that a new tenant can be made, without the cost of a pass over the
/// catalogs of all tenants.
///
/// # Errors
/// As [`build`].
pub async fn prove(db: &Db, set: &MigrationSet, server_version: u32) -> Result<(), ApplyError> {
    Trial::begin(db, db.rules(), set, server_version).await?.end(db, set).await
}

/// A transaction that has built a schema and will be rolled back.
struct Trial {
    tx: PublicTx,
    schema: SchemaName,
    /// The relations that the files used.
    used: Vec<i64>,
    /// Whether the files ran as the owner.
    is_owner: bool,
}

impl Trial {
    async fn begin(
        db: &Db,
        rules: &Rules,
        set: &MigrationSet,
        server_version: u32,
    ) -> Result<Self, ApplyError> {
        let tx = db.public().await?;
        let schema = SchemaName::of(TenantId::generate());
        create(&tx, &schema, rules, server_version).await?;
        // Files that run as the owner may do what it may: what they use of the control plane is told from what a set-up
        // does. Elsewhere they have no rights there.
        let is_owner = rules.migrator().is_none();
        let before = if is_owner { relations_in_use(&tx).await? } else { Vec::new() };
        super::build(&tx, &schema, set, rules, OffsetDateTime::UNIX_EPOCH).await?;
        let mut used = relations_in_use(&tx).await?;
        used.retain(|relation| !before.contains(relation));
        Ok(Self { tx, schema, used, is_owner })
    }

    /// Rolls back, and fails if the files used tables of other schemas.
    async fn end(self, db: &Db, set: &MigrationSet) -> Result<(), ApplyError> {
        // Waits for the ROLLBACK, because the caller's next query may list the existing schemas.
        self.tx.roll_back().await?;
        let elsewhere = tables_of_other_schemas(db, &self.used, self.is_owner).await?;
        if elsewhere.is_empty() {
            return Ok(());
        }
        Err(ApplyError::Failed {
            file: set.files().join(", "),
            line: None,
            message: format!(
                "a migration reaches the schema of its own tenant only, and these files use {}",
                elsewhere.join(", ")
            ),
            needs_commit: false,
        })
    }
}

/// Selects the relations that the transaction has locked, and so used.
const RELATIONS_IN_USE: &str = "
    SELECT coalesce(array_agg(DISTINCT relation::bigint), '{}') AS oids
      FROM pg_catalog.pg_locks
     WHERE pid = pg_backend_pid() AND locktype = 'relation'";

async fn relations_in_use(tx: &PublicTx) -> Result<Vec<i64>, Failure> {
    Ok(tx.query_one(RELATIONS_IN_USE, &[]).await?.get("oids"))
}

/// Returns those of the relations that are tables of another tenant or of an operator, or of the control plane where
/// `is_owner`, but for the locks that a set-up takes itself. What the transaction created is rolled back, and what it dropped is there again.
async fn tables_of_other_schemas(
    db: &Db,
    relations: &[i64],
    is_owner: bool,
) -> Result<Vec<String>, Failure> {
    let names = "SELECT format('%I.%I', n.nspname, c.relname) AS name
                   FROM pg_catalog.pg_class c
                   JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                  WHERE c.oid = ANY ($1::bigint[]::oid[]) AND c.relkind NOT IN ('i', 'I', 't')
                    AND n.nspname NOT IN ('pg_catalog', 'pg_toast', 'information_schema', 'extensions')
                    AND (n.nspname <> 'public' OR ($2 AND c.relname <> 'locks'))
                  ORDER BY 1
                  LIMIT 10";
    let rows =
        db.public().await?.query_and_commit(names, &[&relations.to_vec(), &is_owner]).await?;
    Ok(rows.iter().map(|row| row.get("name")).collect())
}

/// Reads a schema that was built as a reference.
///
/// # Errors
/// [`Failure`]; [`Failure::RowCount`] if there is no such schema.
pub async fn read(
    tx: &PublicTx,
    schema: &SchemaName,
    isolation: Isolation,
) -> Result<Reference, Failure> {
    let this = std::slice::from_ref(schema);
    let fingerprint = fingerprints(tx, this, isolation).await?;
    let objects = objects(tx, this, isolation).await?;
    match (fingerprint.into_values().next(), objects.into_values().next()) {
        (Some(fingerprint), Some(objects)) => Ok(Reference { fingerprint, objects, locks: 0 }),
        _ => Err(Failure::RowCount),
    }
}
