//! Determines what the control plane's own tables should look like: runs its migrations in a schema that is rolled
//! back, and reads that and `public`.

use crate::domain::names::{SchemaName, TenantId};
use crate::migrations::MigrationSet;
use crate::pg::catalog::{self, Object};
use crate::pg::db::Db;
use crate::pg::error::Failure;
use crate::pg::rules::Rules;
use crate::pg::schema::error::ApplyError;
use crate::pg::scope;

/// The control plane as it is and as its migrations make it.
#[derive(Debug, Clone)]
pub struct ControlPlane {
    /// All objects of the schema `public`, also those of others.
    pub found: Vec<Object>,
    /// The objects that the migrations make.
    pub made: Vec<Object>,
    /// The login that the examination ran as, as SQL writes it.
    pub owner: String,
}

/// Builds the control plane in a schema of its own, reads it and `public`, and rolls back.
///
/// # Errors
/// The file that failed; a failure of the database.
pub async fn read(db: &Db, set: &MigrationSet) -> Result<ControlPlane, ApplyError> {
    let tx = db.public().await?;
    catalog::set_catalog_wide_limits(&tx).await?;
    let owner = tx.query_one("SELECT quote_ident(current_user) AS owner", &[]).await?.get("owner");
    let scratch = SchemaName::of(TenantId::generate());
    // It is compared and rolled back, and needs no node of a cluster.
    let rules = Rules { ddl_is_local: true, ..db.rules().clone() };
    let here = rules.keep_ddl_here().map_or_else(String::new, |here| format!("{here}; "));
    tx.batch(&format!("{here}CREATE SCHEMA {scratch}")).await?;
    scope::enter_scratch_schema(&tx, &scratch).await?;
    set.apply(&tx).await?;
    scope::leave_schemas(&tx).await?;
    let made = catalog::objects_of(&tx, scratch.as_str()).await?;
    let found = catalog::objects_of(&tx, "public").await?;
    // Waits for the ROLLBACK, because the caller's next query may list the existing schemas.
    tx.roll_back().await?;
    if made.is_empty() {
        return Err(Failure::RowCount.into());
    }
    Ok(ControlPlane { found, made, owner })
}
