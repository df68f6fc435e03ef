//! Brings a schema that is in use up to date in few round trips: refinery's own driver sends several queries a
//! file, and with thousands of tenants these dominate the cost.

use std::fmt::Write as _;

use futures_util::future::join;
use time::OffsetDateTime;
use tokio_postgres::error::SqlState;

use super::ddl::{history_is_writable, runtime_role};
use super::error::ApplyError;
use super::frame::Frame;
use super::history;
use super::ownership::{is_taken_over, take_over};
use super::run::Completion;
use crate::domain::names::SchemaName;
use crate::migrations::{Applied, HISTORY_TABLE, HistoryError, MigrationSet, Pending};
use crate::pg::db::Db;
use crate::pg::error::Failure;
use crate::pg::rules::Rules;
use crate::pg::scope::{Entry, Flush, PublicTx};

/// A transaction that has entered a schema to migrate it.
pub struct MigrationTx {
    /// The transaction. Its search path holds the schema; the control plane's tables need qualified names.
    pub tx: PublicTx,
    /// The schema's history.
    pub applied: Vec<Applied>,
    /// Whether the tenant's role may write the history.
    history_is_writable: bool,
    /// Whether this transaction has given the schema to the migrator.
    took_over: bool,
    flush: Flush,
}

impl MigrationTx {
    /// Ends a transaction in which no file was run. Commits if it has given the schema to the migrator.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn leave(self) -> Result<(), Failure> {
        if self.took_over { self.tx.commit().await } else { Ok(()) }
    }
}

/// Enters a schema that is in use, locks it for [`catch_up`] and reads its history, in one round trip. A second
/// transaction that enters the same schema waits, up to the lock timeout. A schema that was made before migrations had
/// a role of their own is given to that role.
///
/// # Errors
/// [`HistoryError::Diverged`] if it has no history; [`Failure::Late`].
pub async fn enter(db: &Db, schema: &SchemaName, entry: Entry) -> Result<MigrationTx, ApplyError> {
    let tx = db.in_schema(schema, entry).await?;
    let rights = format!(
        "SELECT {} AS history_is_writable, {} AS is_taken_over",
        history_is_writable(schema, runtime_role(schema, db.rules().isolation)),
        is_taken_over(schema, db.rules())
    );
    // Not joined with the catalogs, which a distributed engine does not know on the node of the tenant. Both queries begin
    // after the lock is granted.
    let columns = history::COLUMNS;
    let history = format!("SELECT {columns} FROM {schema}.{HISTORY_TABLE} ORDER BY version");
    let (rights, applied) = join(tx.begin_with(&rights), tx.query(&history, &[])).await;
    let (rights, applied) =
        rights.and_then(|rights| Ok((rights, applied?))).map_err(explain_entry)?;
    let rights = rights.first().ok_or(Failure::RowCount)?;
    let history_is_writable = rights.get("history_is_writable") == Some("t");
    let took_over = rights.get("is_taken_over") != Some("t");
    let applied = applied.iter().map(history::of_row).collect();
    if took_over {
        take_over(&tx, schema, db.rules()).await?;
    }
    Ok(MigrationTx { tx, applied, history_is_writable, took_over, flush: entry.flush })
}

/// Why a schema could not be entered.
fn explain_entry(failure: Failure) -> ApplyError {
    let none =
        [&SqlState::UNDEFINED_TABLE, &SqlState::INVALID_SCHEMA_NAME, &SqlState::UNDEFINED_OBJECT];
    match failure.sqlstate() {
        Some(state) if none.contains(&state) => ApplyError::from(HistoryError::Diverged(
            "the schema, its role or its migration history does not exist".to_owned(),
        )),
        _ => failure.into(),
    }
}

/// Runs files in the schema that was entered and completes the transaction in the same round trip. Does not commit
/// if a file has ended the transaction or changed its schema or role.
///
/// # Errors
/// The file that failed; the transaction is then aborted.
pub async fn catch_up(
    migration: &MigrationTx,
    schema: &SchemaName,
    set: &MigrationSet,
    files: &Pending,
    rules: &Rules,
    now: OffsetDateTime,
    completion: Completion,
) -> Result<(), ApplyError> {
    let mut ending = "SELECT 1".to_owned();
    if migration.history_is_writable {
        let runtime_role = runtime_role(schema, rules.isolation);
        let _ = write!(ending, "; REVOKE ALL ON {schema}.{HISTORY_TABLE} FROM {runtime_role}");
    }
    let frame = Frame::new(set, schema, rules, migration.flush);
    set.run(&migration.tx, files, &frame, &ending, completion, now).await
}
