//! Owns the DDL of tenants: making a schema with its role, migrating it.
//!
//! Every identifier here comes from a [`SchemaName`] and so from an id of ours. What runs here runs as
//! the owner, inside the caller's transaction: nothing is committed, so that a schema is there if and
//! only if its tenant is, or the vacancy ([`crate::pg::control::vacancies`]) that will be a tenant.

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

use self::ddl::{entrant, history_is_open};
use self::error::ApplyError;
use super::locks::lock;
use super::rules::Rules;
use super::scope::{self, PublicTx};
use crate::domain::names::SchemaName;
use crate::migrations::{HISTORY_TABLE, MigrationSet};

pub use self::catch_up::{Entered, Then, catch_up, enter};
pub use self::ddl::{create, create_roles, create_without_role};
pub use self::drop::{drop, drop_some, drop_unfinished};

/// Brings a tenant's schema up to date with the set and tells which files were applied.
///
/// Two runners on one schema wait for each other, since refinery takes no lock of its own.
///
/// # Errors
/// The file that failed, or how the schema differs from the set; the transaction is then lost.
pub async fn migrate(
    tx: &PublicTx,
    schema: &SchemaName,
    set: &MigrationSet,
    rules: &Rules,
) -> Result<Vec<String>, ApplyError> {
    // Statements that are joined share a round trip. The server takes them in this order, and refuses the
    // second where the first has failed.
    let entering = scope::enter_schema(tx, schema, &rules.limits);
    let (entered, locked) = join(entering, lock(tx, schema.as_str())).await;
    entered.and(locked)?;
    let applied = set.apply(tx).await?;
    let leaving = scope::leave_schema(tx, &rules.limits);
    // The default privileges cover refinery's table too, and its history is not the tenant's to edit. It
    // is there even after a set without files.
    let entrant = entrant(schema, rules.isolation);
    if applied.is_empty() {
        let is_open = format!("SELECT {} AS is_open", history_is_open(schema, entrant));
        if !tx.query_one(&is_open, &[]).await?.get::<_, bool>("is_open") {
            leaving.await?;
            return Ok(applied);
        }
    }
    let revoke = format!("REVOKE ALL ON {schema}.{HISTORY_TABLE} FROM {entrant}");
    let (revoked, left) = join(tx.batch(&revoke), leaving).await;
    revoked.and(left)?;
    Ok(applied)
}
