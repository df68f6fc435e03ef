//! Brings a schema that is in use up to date in few round trips: refinery's own driver sends several queries a
//! file, and with thousands of tenants these dominate the cost.

use std::fmt::Write as _;

use time::OffsetDateTime;
use tokio_postgres::SimpleQueryRow;
use tokio_postgres::error::SqlState;

use super::ddl::{history_is_writable, runtime_role};
use super::error::ApplyError;
use super::frame::Frame;
use super::ownership::{is_taken_over, take_over};
use super::run::Completion;
use crate::domain::names::SchemaName;
use crate::migrations::{Applied, HISTORY_TABLE, HistoryError, MigrationSet, Pending};
use crate::pg::db::Db;
use crate::pg::error::Failure;
use crate::pg::rules::Rules;
use crate::pg::scope::{self, Entry, Flush, PublicTx};

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
    // This query begins after the lock is granted. The outer join gives one row even for an empty history.
    let about = format!(
        "SELECT {} AS history_is_writable, {} AS is_taken_over, version, name, checksum
           FROM (VALUES (1)) AS one LEFT JOIN {schema}.{HISTORY_TABLE} ON true",
        history_is_writable(schema, runtime_role(schema, db.rules().isolation)),
        is_taken_over(schema)
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
    let took_over = first.get("is_taken_over") != Some("t");
    let file = |row: &SimpleQueryRow| {
        let version = row.get("version")?.parse().ok()?;
        let text = |column| row.get(column).unwrap_or_default().to_owned();
        Some(Applied { version, name: text("name"), checksum: text("checksum") })
    };
    let applied = rows.iter().filter_map(file).collect();
    if took_over {
        take_over(&tx, schema, db.rules()).await?;
    }
    Ok(MigrationTx { tx, applied, history_is_writable, took_over, flush: entry.flush })
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
    let frame = Frame::new(set, schema, &rules.limits, migration.flush);
    set.run(&migration.tx, files, &frame, &ending, completion, now).await
}
