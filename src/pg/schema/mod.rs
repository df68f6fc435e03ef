//! Owns the DDL of tenants: creates, migrates, compares, repairs and drops a schema with its role.
//!
//! Every identifier here comes from a [`SchemaName`], and so from an id that we generated. The statements run as
//! the owner, inside the caller's transaction, which is not committed here unless the function says so. So a
//! schema exists if and only if its tenant does, or the vacancy ([`crate::pg::control::vacancies`]) that will
//! become a tenant.

pub mod adopt;
mod catch_up;
mod ddl;
pub mod dependents;
mod drop;
pub mod error;
mod frame;
pub mod history;
pub mod non_transactional;
mod ownership;
pub mod pipeline;
pub mod placement;
pub mod reference;
mod refinery;
pub mod rehearse;
pub mod repair;
mod role;
mod run;
pub mod shared;
mod steps;

use futures_util::future::join;
use time::OffsetDateTime;

use self::ddl::{history_is_writable, runtime_role};
use self::error::ApplyError;
use self::frame::Frame;
use self::ownership::is_taken_over;
use super::error::Failure;
use super::locks::{Lock, lock};
use super::rules::Rules;
use super::scope::{self, Flush, PublicTx};
use crate::domain::names::SchemaName;
use crate::migrations::{HISTORY_TABLE, MigrationSet, Pending};

pub use self::catch_up::{MigrationTx, catch_up, enter};
pub use self::ddl::{create, create_roles, create_with_any_role, create_without_role};
pub use self::drop::{check, drop, drop_some};
pub use self::ownership::take_over;
pub(in crate::pg) use self::refinery::create_history_sql;
pub use self::role::RoleOutcome;
pub use self::run::Completion;
pub use self::steps::build_in_steps;

/// Runs the whole set in a schema that the same transaction has created.
///
/// # Errors
/// The file that failed; the transaction is then aborted.
pub async fn build(
    tx: &PublicTx,
    schema: &SchemaName,
    set: &MigrationSet,
    rules: &Rules,
    now: OffsetDateTime,
) -> Result<(), ApplyError> {
    enter_new(tx, schema, rules).await?;
    run_inside(tx, schema, set, &set.all(), rules, now).await
}

/// Enters and locks a schema that belongs to no tenant yet, and creates its history if it is missing.
async fn enter_new(tx: &PublicTx, schema: &SchemaName, rules: &Rules) -> Result<(), Failure> {
    // Joined statements share a round trip. The server runs them in this order, and refuses the next if one failed.
    let mut create_history = create_history_sql();
    if rules.migrator().is_none() {
        // It is created by the role that creates the tables, whose tables the tenant's role may write.
        let runtime_role = runtime_role(schema, rules.isolation);
        create_history =
            format!("{create_history}; REVOKE ALL ON {schema}.{HISTORY_TABLE} FROM {runtime_role}");
    }
    let (entered, (locked, created)) = join(
        scope::enter_schema(tx, schema, &rules.limits),
        join(lock(tx, Lock::Schema(schema)), tx.batch(&create_history)),
    )
    .await;
    entered.and(locked).and(created)
}

/// Brings the schema of a vacancy up to date with the set; returns the files that were applied. A second migration of
/// it waits.
///
/// # Errors
/// The file that failed, or how the schema differs from the set; the transaction is then aborted.
pub async fn migrate(
    tx: &PublicTx,
    schema: &SchemaName,
    set: &MigrationSet,
    rules: &Rules,
    now: OffsetDateTime,
) -> Result<Vec<String>, ApplyError> {
    let entering = scope::enter_schema(tx, schema, &rules.limits);
    let (entered, locked) = join(entering, lock(tx, Lock::Schema(schema))).await;
    entered.and(locked)?;
    let runtime_role = runtime_role(schema, rules.isolation);
    let rights = format!(
        "SELECT {} AS history_is_writable, {} AS is_taken_over",
        history_is_writable(schema, runtime_role),
        is_taken_over(schema, rules)
    );
    let (rights, applied) = join(tx.query_one(&rights, &[]), history::read(tx, schema)).await;
    let (rights, applied) = (rights?, applied?);
    if !rights.get::<_, bool>("is_taken_over") {
        take_over(tx, schema, rules).await?;
    }
    if rights.get("history_is_writable") {
        tx.batch(&format!("REVOKE ALL ON {schema}.{HISTORY_TABLE} FROM {runtime_role}")).await?;
    }
    let files = set.pending(&applied)?;
    run_inside(tx, schema, set, &files, rules, now).await?;
    Ok(set.names(&files))
}

/// Runs files in the schema that the transaction has entered, and goes back to the control plane.
async fn run_inside(
    tx: &PublicTx,
    schema: &SchemaName,
    set: &MigrationSet,
    files: &Pending,
    rules: &Rules,
    now: OffsetDateTime,
) -> Result<(), ApplyError> {
    let frame = Frame::new(set, schema, rules, Flush::Now);
    let leaving = scope::leave_schema_sql(&rules.limits);
    set.run(tx, files, &frame, &leaving, Completion::KeepOpen, now).await
}
