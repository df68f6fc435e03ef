//! Brings a schema that is in use up to date, in as few round trips as it takes: refinery's own driver asks
//! several questions a file, and with thousands of tenants it is the questions that cost.

use std::fmt::Write as _;

use futures_util::future::{join, join_all};
use time::OffsetDateTime;
use tokio_postgres::SimpleQueryRow;
use tokio_postgres::error::SqlState;

use super::ddl::{entrant, history_is_open};
use super::error::ApplyError;
use crate::domain::names::SchemaName;
use crate::migrations::{Applied, HISTORY_TABLE, MigrationSet, Pending, file_name};
use crate::pg::db::Db;
use crate::pg::error::{Failure, line_of};
use crate::pg::rules::Rules;
use crate::pg::scope::{self, Entry, PublicTx, TX_IDENTITY};

/// A schema that a migration has entered.
pub struct Entered {
    /// The transaction, which sees the schema; the control plane's tables by their full names alone.
    pub tx: PublicTx,
    /// What was applied to it before.
    pub applied: Vec<Applied>,
    /// Whether the tenant could edit its history.
    history_is_open: bool,
}

/// Enters a schema that is in use, for [`catch_up`], and reads its history, in one round trip. Two that enter
/// one schema wait for each other, as long as a lock may be waited for.
///
/// # Errors
/// [`ApplyError::Diverged`] where it has no history; [`Failure::Late`].
pub async fn enter(db: &Db, schema: &SchemaName, entry: Entry) -> Result<Entered, ApplyError> {
    let tx = db.in_schema(schema, entry).await?;
    // Read by a query that begins after the lock is had. A history without a file is a row all the same.
    let about = format!(
        "SELECT {} AS history_is_open, version, name, checksum
           FROM (VALUES (1)) AS one LEFT JOIN {schema}.{HISTORY_TABLE} ON true",
        history_is_open(schema, entrant(schema, db.rules().isolation))
    );
    let none =
        [&SqlState::UNDEFINED_TABLE, &SqlState::INVALID_SCHEMA_NAME, &SqlState::UNDEFINED_OBJECT];
    let rows = tx.begin_with(&about).await.map_err(|failure| match failure.sqlstate() {
        Some(state) if none.contains(&state) => ApplyError::Diverged(
            "the schema, its role or its history of migrations is not there".to_owned(),
        ),
        _ if scope::is_late(&failure) => Failure::Late.into(),
        _ => failure.into(),
    })?;
    let first = rows.first().ok_or(Failure::RowCount)?;
    let history_is_open = first.get("history_is_open") == Some("t");
    let file = |row: &SimpleQueryRow| {
        let version = row.get("version")?.parse().ok()?;
        let text = |column| row.get(column).unwrap_or_default().to_owned();
        Some(Applied { version, name: text("name"), checksum: text("checksum") })
    };
    let applied = rows.iter().filter_map(file).collect();
    Ok(Entered { tx, applied, history_is_open })
}

/// What follows when the files have run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Nothing: whoever tries drops the transaction.
    Nothing,
    /// The commit.
    Commit,
}

/// Runs files in the schema that was entered, and what is to follow in the same round trip. Nothing is committed
/// where a file has moved the transaction to another place.
///
/// # Errors
/// The file that failed; the transaction is then lost.
pub async fn catch_up(
    entered: &Entered,
    schema: &SchemaName,
    set: &MigrationSet,
    files: &Pending,
    rules: &Rules,
    now: OffsetDateTime,
    then: Then,
) -> Result<(), ApplyError> {
    let mut ending = assert_same_transaction();
    if entered.history_is_open {
        let entrant = entrant(schema, rules.isolation);
        let _ = write!(ending, ";\nREVOKE ALL ON {schema}.{HISTORY_TABLE} FROM {entrant}");
    }
    let ran = set.run(&entered.tx, schema, files, &ending, then == Then::Commit, now).await;
    ran.map_err(|(at, failure)| {
        if failure.has_marker(MOVED_MARKER) {
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

/// The text in the server's error if [`assert_same_transaction`] fails; the server quotes it in every language.
const MOVED_MARKER: &str = "rowhouse: now at ";

/// Returns a statement that fails unless the transaction, its search path and its role are those with which it
/// began: the cast of a text to bigint fails. Otherwise it returns no row.
fn assert_same_transaction() -> String {
    let is_same = scope::is_same_transaction();
    format!("SELECT ('{MOVED_MARKER}' || ({TX_IDENTITY}))::bigint WHERE ({is_same}) IS NOT TRUE")
}

/// Files that travel together. They are polled in order and so sent in order, which holds for as many.
const FILES_AT_ONCE: usize = 16;

impl MigrationSet {
    /// Runs files in the schema that `tx` has entered, all of them sent together, and writes them into its
    /// history; behind the last of them and in its message `ending`, and if it `commits` the commit.
    ///
    /// # Errors
    /// What failed, with the file in whose message it did, if there is one; the transaction is then lost.
    pub(in crate::pg) async fn run(
        &self,
        tx: &PublicTx,
        schema: &SchemaName,
        files: &Pending,
        ending: &str,
        commits: bool,
        now: OffsetDateTime,
    ) -> Result<(), (Option<usize>, Failure)> {
        let mut messages: Vec<(Option<usize>, String)> =
            files.0.iter().map(|at| (Some(*at), self.batch_of(*at, schema, now))).collect();
        let (last_file, mut last) = messages.pop().unwrap_or_default();
        // The file stands first, so that the server counts its lines from the first.
        last.push_str(";\n");
        last.push_str(ending);
        let mut rest = messages.as_slice();
        loop {
            let (some, later) = rest.split_at(rest.len().min(FILES_AT_ONCE));
            // Sent together, answered in this order: what failed first is told first.
            let running = join_all(some.iter().map(|(_, message)| tx.batch(message)));
            rest = later;
            let (ran, ended) = if !rest.is_empty() {
                (running.await, Ok(()))
            } else if commits {
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

    /// A file's failure: the server's, with the line, or that of the way there.
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
