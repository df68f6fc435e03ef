//! Brings a schema that is in use up to date in few round trips: refinery's own driver sends several queries a
//! file, and with thousands of tenants these dominate the cost.

use std::fmt::Write as _;

use futures_util::future::{join, join_all};
use time::OffsetDateTime;
use tokio_postgres::SimpleQueryRow;
use tokio_postgres::error::SqlState;

use super::ddl::{history_is_writable, runtime_role};
use super::error::ApplyError;
use crate::domain::names::SchemaName;
use crate::migrations::{Applied, HISTORY_TABLE, HistoryError, MigrationSet, Pending, file_name};
use crate::pg::db::Db;
use crate::pg::error::{Failure, line_of};
use crate::pg::rules::Rules;
use crate::pg::scope::{self, Entry, PublicTx, TX_IDENTITY};

/// A transaction that has entered a schema to migrate it.
pub struct MigrationTx {
    /// The transaction. Its search path holds the schema; the control plane's tables need qualified names.
    pub tx: PublicTx,
    /// The schema's history.
    pub applied: Vec<Applied>,
    /// Whether the tenant's role may write the history.
    history_is_writable: bool,
}

/// Enters a schema that is in use, locks it for [`catch_up`] and reads its history, in one round trip. A second
/// transaction that enters the same schema waits, up to the lock timeout.
///
/// # Errors
/// [`HistoryError::Diverged`] if it has no history; [`Failure::Late`].
pub async fn enter(db: &Db, schema: &SchemaName, entry: Entry) -> Result<MigrationTx, ApplyError> {
    let tx = db.in_schema(schema, entry).await?;
    // This query begins after the lock is granted. The outer join gives one row even for an empty history.
    let about = format!(
        "SELECT {} AS history_is_writable, version, name, checksum
           FROM (VALUES (1)) AS one LEFT JOIN {schema}.{HISTORY_TABLE} ON true",
        history_is_writable(schema, runtime_role(schema, db.rules().isolation))
    );
    let none =
        [&SqlState::UNDEFINED_TABLE, &SqlState::INVALID_SCHEMA_NAME, &SqlState::UNDEFINED_OBJECT];
    let rows = tx.begin_with(&about).await.map_err(|failure| match failure.sqlstate() {
        Some(state) if none.contains(&state) => ApplyError::from(HistoryError::Diverged(
            "the schema, its role or its migration history does not exist".to_owned(),
        )),
        _ if scope::is_late(&failure) => Failure::Late.into(),
        _ => failure.into(),
    })?;
    let first = rows.first().ok_or(Failure::RowCount)?;
    let history_is_writable = first.get("history_is_writable") == Some("t");
    let file = |row: &SimpleQueryRow| {
        let version = row.get("version")?.parse().ok()?;
        let text = |column| row.get(column).unwrap_or_default().to_owned();
        Some(Applied { version, name: text("name"), checksum: text("checksum") })
    };
    let applied = rows.iter().filter_map(file).collect();
    Ok(MigrationTx { tx, applied, history_is_writable })
}

/// How a migration ends after its files have run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completion {
    /// The transaction stays open; the caller rolls it back.
    KeepOpen,
    /// The transaction is committed.
    Commit,
}

/// Runs files in the schema that was entered and completes the transaction in the same round trip. Does not commit
/// if a file has ended the transaction or changed its schema.
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
    let mut ending = assert_same_transaction();
    if migration.history_is_writable {
        let runtime_role = runtime_role(schema, rules.isolation);
        let _ = write!(ending, ";\nREVOKE ALL ON {schema}.{HISTORY_TABLE} FROM {runtime_role}");
    }
    let ran = set.run(&migration.tx, schema, files, &ending, completion, now).await;
    ran.map_err(|(at, failure)| {
        if failure.has_marker(TRANSACTION_CHANGED) {
            return ApplyError::Failed {
                file: set.names(files).join(", "),
                line: None,
                message: "a file ended the transaction or changed the schema that it runs in"
                    .to_owned(),
            };
        }
        match at {
            Some(at) => set.failed(at, failure),
            None => failure.into(),
        }
    })
}

/// Part of the server's message if [`assert_same_transaction`] fails. The server quotes it in every language.
const TRANSACTION_CHANGED: &str = "rowhouse: transaction changed to ";

/// Builds a statement that fails unless the transaction and its schema are still those that were entered. If they
/// are, it selects no row; otherwise it casts a text that is not a number to bigint.
fn assert_same_transaction() -> String {
    format!(
        "SELECT ('{TRANSACTION_CHANGED}' || ({TX_IDENTITY}))::bigint WHERE ({}) IS NOT TRUE",
        scope::is_same_transaction()
    )
}

/// How many files are sent together. `join_all` polls this few futures in order, and so they are sent in order.
const PIPELINED_FILES: usize = 16;

impl MigrationSet {
    /// Runs files in the schema that `tx` has entered, pipelined, and adds them to its history. The message of the
    /// last file ends with `ending`; the commit, if any, is pipelined behind it.
    ///
    /// # Errors
    /// The failure, with the file whose message failed, if there is one; the transaction is then aborted.
    pub(in crate::pg) async fn run(
        &self,
        tx: &PublicTx,
        schema: &SchemaName,
        files: &Pending,
        ending: &str,
        completion: Completion,
        now: OffsetDateTime,
    ) -> Result<(), (Option<usize>, Failure)> {
        let mut messages: Vec<(Option<usize>, String)> =
            files.0.iter().map(|at| (Some(*at), self.batch_of(*at, schema, now))).collect();
        let (last_file, mut last) = messages.pop().unwrap_or_default();
        // The file comes first, so that the server's line numbers are those of the file.
        last.push_str(";\n");
        last.push_str(ending);
        let mut rest = messages.as_slice();
        loop {
            let (some, later) = rest.split_at(rest.len().min(PIPELINED_FILES));
            // Sent together and answered in this order, so the first failure is returned.
            let running = join_all(some.iter().map(|(_, message)| tx.batch(message)));
            rest = later;
            let (ran, ended) = if !rest.is_empty() {
                (running.await, Ok(()))
            } else if completion == Completion::Commit {
                join(running, tx.batch_and_commit(&last)).await
            } else {
                join(running, tx.batch(&last)).await
            };
            for ((at, _), outcome) in some.iter().zip(ran) {
                outcome.map_err(|failure| (*at, failure))?;
            }
            ended.map_err(|failure| (last_file, failure))?;
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    /// Converts a failure while a file ran: an error of the file, with its line, or an interruption.
    pub(in crate::pg) fn failed(&self, at: usize, failure: Failure) -> ApplyError {
        let migration = &self.migrations[at];
        let file = file_name(migration);
        if failure.is_unavailable() || failure.is_retryable() {
            return ApplyError::Interrupted { file, failure };
        }
        let line = line_of(&failure, migration.sql().unwrap_or_default());
        ApplyError::Failed { file, line, message: failure.server_message() }
    }
}
