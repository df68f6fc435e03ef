//! Creates and migrates the schema of the tables that all tenants of an application share.
//!
//! It is built like a tenant's, with a role of its own that has rights in it and nowhere else.

use time::OffsetDateTime;
use tokio_postgres::error::SqlState;

use super::ddl::{create_without_role, grant_to_runtime_login, role_ddl};
use super::error::ApplyError;
use super::{build, migrate};
use crate::domain::names::SchemaName;
use crate::migrations::MigrationSet;
use crate::pg::db::Db;
use crate::pg::error::Failure;
use crate::pg::locks::{Lock, lock};
use crate::pg::rules::Isolation;

/// Brings the schema up to date with the set, and creates it if it is missing; returns the files that were applied.
///
/// # Errors
/// The file that failed, or how the schema differs from the set; nothing is changed then.
pub async fn prepare(
    db: &Db,
    set: &MigrationSet,
    server_version: u32,
    now: OffsetDateTime,
) -> Result<Vec<String>, ApplyError> {
    let (schema, rules) = (SchemaName::shared(), db.rules());
    ensure_role(db, &schema, server_version).await?;
    let tx = db.public().await?;
    lock(&tx, Lock::Schema(&schema)).await?;
    let exists = "SELECT to_regnamespace($1) IS NOT NULL AS yes";
    let exists = tx.query_one(exists, &[&schema.as_str()]).await?;
    let applied = if exists.get("yes") {
        migrate(&tx, &schema, set, rules, now).await?
    } else {
        create_without_role(&tx, &schema, rules).await?;
        build(&tx, &schema, set, rules, now).await?;
        set.files()
    };
    tx.commit().await?;
    Ok(applied)
}

/// Creates the role unless another database of the server has it already, and lets the runtime login become it.
async fn ensure_role(db: &Db, schema: &SchemaName, server_version: u32) -> Result<(), Failure> {
    if db.rules().isolation == Isolation::SearchPath {
        return Ok(());
    }
    let tx = db.public().await?;
    let exists = "SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $1) AS yes";
    let exists: bool = tx.query_one(exists, &[&schema.as_str()]).await?.get("yes");
    let created = if exists {
        tx.batch(&grant_to_runtime_login(schema, db.rules(), server_version)).await
    } else {
        tx.batch(&role_ddl(schema, db.rules(), server_version)).await
    };
    match created {
        Ok(()) => tx.commit().await,
        // Another process, or another owner on the same server, has created it.
        Err(failure) if failure.sqlstate().is_some_and(is_there) => Ok(()),
        Err(failure) => Err(failure),
    }
}

fn is_there(state: &SqlState) -> bool {
    [
        &SqlState::DUPLICATE_OBJECT,
        &SqlState::UNIQUE_VIOLATION,
        &SqlState::INSUFFICIENT_PRIVILEGE,
        // Two sessions changed the same role.
        &SqlState::INTERNAL_ERROR,
    ]
    .contains(&state)
}
