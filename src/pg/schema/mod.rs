//! Owns the DDL of tenants: creates, migrates, compares, repairs and drops a schema with its role.
//!
//! Every identifier here comes from a [`SchemaName`], and so from an id that we generated. The statements run as
//! the owner, inside the caller's transaction, which is not committed here unless the function says so. So a
//! schema exists if and only if its tenant does, or the vacancy ([`crate::pg::control::vacancies`]) that will
//! become a tenant.

mod catch_up;
mod ddl;
mod drop;
pub mod error;
pub mod non_transactional;
pub mod pipeline;
pub mod reference;
mod refinery;
pub mod rehearse;
pub mod repair;

use futures_util::future::join;

use self::ddl::{history_is_writable, runtime_role};
use self::error::ApplyError;
use super::locks::{Lock, lock};
use super::rules::Rules;
use super::scope::{self, PublicTx};
use crate::domain::names::SchemaName;
use crate::migrations::{HISTORY_TABLE, MigrationSet};

pub use self::catch_up::{Completion, MigrationTx, catch_up, enter};
pub use self::ddl::{create, create_roles, create_without_role};
pub use self::drop::{drop, drop_some, drop_unfinished};
pub(in crate::pg) use self::refinery::create_history_sql;

/// Brings a tenant's schema up to date with the set; returns the files that were applied.
///
/// Locks the schema, because refinery takes no lock of its own: a second migration of it waits.
///
/// # Errors
/// The file that failed, or how the schema differs from the set; the transaction is then aborted.
pub async fn migrate(
    tx: &PublicTx,
    schema: &SchemaName,
    set: &MigrationSet,
    rules: &Rules,
) -> Result<Vec<String>, ApplyError> {
    // Joined statements share a round trip. The server runs them in this order, and refuses the second if the
    // first failed.
    let entering = scope::enter_schema(tx, schema, &rules.limits);
    let (entered, locked) = join(entering, lock(tx, Lock::Schema(schema))).await;
    entered.and(locked)?;
    let applied = set.apply(tx).await?;
    let leaving = scope::leave_schema(tx, &rules.limits);
    // The default privileges also cover refinery's table, which the tenant must not write. The table exists even
    // for a set without files.
    let runtime_role = runtime_role(schema, rules.isolation);
    if applied.is_empty() {
        let is_writable =
            format!("SELECT {} AS is_writable", history_is_writable(schema, runtime_role));
        if !tx.query_one(&is_writable, &[]).await?.get::<_, bool>("is_writable") {
            leaving.await?;
            return Ok(applied);
        }
    }
    let revoke = format!("REVOKE ALL ON {schema}.{HISTORY_TABLE} FROM {runtime_role}");
    let (revoked, left) = join(tx.batch(&revoke), leaving).await;
    revoked.and(left)?;
    Ok(applied)
}
