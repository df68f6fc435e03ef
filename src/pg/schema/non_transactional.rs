//! Runs a file that cannot run in a transaction, one statement at a time, so that an interrupted run resumes at the
//! statement that it had reached.
//!
//! An ordinary statement of such a file runs in its own transaction, which also writes its row in the journal,
//! and so it runs once. `CREATE INDEX CONCURRENTLY` and `DROP INDEX CONCURRENTLY` run outside a transaction:
//! the journal records before them that they started and after them that they are done. A statement that
//! started but is not done is repaired first: an invalid index is left from a failed attempt; it is dropped and
//! created again.
//!
//! A file that failed half-way may be corrected before it runs again. A statement that has run and is another one now is
//! refused ([`edited`]): it is neither skipped nor run. What was not reached may change.
//!
//! A file is not paused half-way: an operation stops between tenants.

mod edited;
mod journal;

use futures_util::future::join;
use time::OffsetDateTime;

use self::edited::Edited;
use self::journal::{Journal, Step};
use crate::domain::names::{SchemaName, TenantId};
use crate::migrations::statements::{Kind, Statement};
use crate::migrations::{MigrationSet, NonTransactionalFile, file_name};
use crate::pg::connect::dedicated::DedicatedConnection;
use crate::pg::db::{Database, Db};
use crate::pg::error::Failure;
use crate::pg::schema::error::ApplyError;
use crate::pg::schema::frame::Frame;
use crate::pg::scope::{self, Flush, PublicTx};

impl MigrationSet {
    /// Whether one of these files runs outside a transaction.
    pub fn any_non_transactional<'a>(&self, mut files: impl Iterator<Item = &'a String>) -> bool {
        let non_transactional: Vec<String> = self
            .migrations
            .iter()
            .zip(&self.non_transactional)
            .filter(|(_, file)| file.is_some())
            .map(|(migration, _)| file_name(migration))
            .collect();
        files.any(|file| non_transactional.contains(file))
    }

    /// Whether the file of this version runs outside a transaction; false if there is none.
    #[must_use]
    pub fn is_non_transactional(&self, version: i32) -> bool {
        let mut files = self.migrations.iter().zip(&self.non_transactional);
        files.any(|(migration, file)| migration.version() == version && file.is_some())
    }

    /// Runs the remaining statements of a file in a tenant's schema, and adds the file to the history.
    ///
    /// # Errors
    /// The file and line that failed. The statements before it stay applied and are not run again.
    pub async fn run_non_transactional(
        &self,
        database: &Database,
        db: &Db,
        tenant: TenantId,
        file: NonTransactionalFile,
        now: OffsetDateTime,
    ) -> Result<(), ApplyError> {
        let NonTransactionalFile(at) = file;
        let schema = SchemaName::of(tenant);
        let version = self.migrations[at].version();
        let journal = Journal { db, tenant, version, now };
        let frame = Frame::new(self, &schema, db.rules(), Flush::Now);
        let sql = self.migrations[at].sql();
        let statements =
            self.non_transactional[at].as_ref().map_or(&[][..], |file| &file.statements);
        let steps: Vec<Step<'_>> = (1..)
            .zip(statements)
            .map(|(position, statement)| Step { position, statement, text: statement.text(sql) })
            .collect();
        let entries = journal.read().await?;
        let mut connection = OnDemand { database, schema: &schema, opened: None };
        let edited =
            Edited { journal: &journal, schema: &schema, steps: &steps, entries: &entries };
        edited.settle(&mut connection).await?.map_err(|changed| ApplyError::Failed {
            file: file_name(&self.migrations[at]),
            line: changed.line,
            message: changed.message,
            needs_commit: false,
        })?;
        for step in steps {
            let entry = entries.get(&step.position).filter(|entry| entry.is_about(&step));
            let attempt = match entry {
                Some(entry) if entry.is_done => continue,
                Some(_) => Attempt::Repeated,
                None => Attempt::First,
            };
            let ran = match &step.statement.kind {
                Kind::Ordinary | Kind::CopyIn { .. } => {
                    in_a_transaction(&journal, &schema, &frame, step, sql).await
                }
                Kind::CreateIndex { .. } | Kind::DropIndex { .. } => {
                    let connection = connection.open().await?;
                    without_transaction(&journal, connection, &schema, step, attempt).await
                }
            };
            ran.map_err(|failure| self.failed_at(at, step.statement, failure))?;
        }
        let tx = db.public().await?;
        let row = self.history_row(at, &schema, now);
        let (entered, forgotten) = join(tx.batch(&row), journal.forget(&tx)).await;
        entered?;
        forgotten?;
        tx.commit().await?;
        Ok(())
    }

    /// Adds the statement's line in the file to the line that the server reports, which counts from the statement.
    fn failed_at(&self, at: usize, statement: &Statement, failure: Failure) -> ApplyError {
        let text = statement.text(self.migrations[at].sql());
        let inner = crate::pg::error::line_of(&failure, text).unwrap_or(1);
        let first_line = text.lines().next().map(str::to_owned);
        self.failed(at, Some(statement.line + inner - 1), first_line, failure)
    }

    /// The name of a file.
    #[must_use]
    pub fn name_of(&self, file: NonTransactionalFile) -> String {
        file_name(&self.migrations[file.0])
    }
}

/// Runs an ordinary statement as the migrator, in a transaction that also writes its row in the journal.
async fn in_a_transaction(
    journal: &Journal<'_>,
    schema: &SchemaName,
    frame: &Frame,
    step: Step<'_>,
    sql: &str,
) -> Result<(), Failure> {
    let (tx, limits) = (journal.db.public().await?, &journal.db.rules().limits);
    tx.runs_files();
    let begin = frame.open();
    let (entered, opened) = join(scope::enter_schema(&tx, schema, limits), tx.batch(&begin)).await;
    entered.and(opened)?;
    let end = format!("{}; {}", frame.close(), frame.settings());
    if let Kind::CopyIn { rows } = &step.statement.kind {
        tx.copy_in(step.text, sql.get(rows.clone()).unwrap_or_default()).await?;
        tx.batch(&end).await?;
    } else {
        let (ran, closed) = join(tx.batch(step.text), tx.batch(&end)).await;
        ran.and(closed)?;
    }
    scope::leave_schema(&tx, limits).await?;
    journal.done(&tx, step).await?;
    tx.commit().await
}

/// The connection for statements that run outside a transaction, opened for the first of them.
struct OnDemand<'a> {
    database: &'a Database,
    schema: &'a SchemaName,
    opened: Option<DedicatedConnection>,
}

impl OnDemand<'_> {
    async fn open(&mut self) -> Result<&DedicatedConnection, ApplyError> {
        let opened = if let Some(opened) = self.opened.take() {
            opened
        } else {
            let (owner, rules) = (self.database.owner(), self.database.rules());
            DedicatedConnection::open(owner, self.schema, rules).await?
        };
        Ok(self.opened.insert(opened))
    }
}

async fn without_transaction(
    journal: &Journal<'_>,
    connection: &DedicatedConnection,
    schema: &SchemaName,
    step: Step<'_>,
    attempt: Attempt,
) -> Result<(), Failure> {
    let tx = journal.db.public().await?;
    journal.start(&tx, step).await?;
    let found = match &step.statement.kind {
        Kind::CreateIndex { index } | Kind::DropIndex { index } => {
            find_index(&tx, schema, index).await?.map(|is_valid| (index, is_valid))
        }
        Kind::Ordinary | Kind::CopyIn { .. } => None,
    };
    tx.commit().await?;
    let creates = matches!(step.statement.kind, Kind::CreateIndex { .. });
    if creates && let Some((index, false)) = found {
        drop_index(connection, index).await?;
    }
    // The statement succeeded, but the process ended before the journal recorded it.
    let is_done = attempt == Attempt::Repeated
        && match found {
            Some((_, is_valid)) => creates && is_valid,
            None => !creates,
        };
    if !is_done && let Err(failure) = connection.run(step.text).await {
        withdraw_if_without_effect(journal, schema, step, &failure).await?;
        return Err(failure);
    }
    let tx = journal.db.public().await?;
    journal.done(&tx, step).await?;
    tx.commit().await
}

/// Deletes the entry of a statement that the server refused, unless it has left an invalid index: if the statement is
/// edited, an index of that name may be another statement's.
async fn withdraw_if_without_effect(
    journal: &Journal<'_>,
    schema: &SchemaName,
    step: Step<'_>,
    failure: &Failure,
) -> Result<(), Failure> {
    if failure.is_unavailable() {
        return Ok(());
    }
    if let Kind::CreateIndex { index } = &step.statement.kind {
        let tx = journal.db.public().await?;
        if find_index(&tx, schema, index).await? == Some(false) {
            return Ok(());
        }
    }
    journal.withdraw(step.position).await
}

async fn drop_index(connection: &DedicatedConnection, index: &str) -> Result<(), Failure> {
    let index = index.replace('"', "\"\"");
    connection.run(&format!("DROP INDEX CONCURRENTLY IF EXISTS \"{index}\"")).await
}

/// Returns whether an index of the schema is valid; `None` if it does not exist.
async fn find_index(
    tx: &PublicTx,
    schema: &SchemaName,
    index: &str,
) -> Result<Option<bool>, Failure> {
    let sql = "SELECT i.indisvalid
                 FROM pg_index i
                 JOIN pg_class c ON c.oid = i.indexrelid
                 JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE n.nspname = $1 AND c.relname = $2";
    Ok(tx.query_opt(sql, &[&schema.as_str(), &index]).await?.map(|row| row.get("indisvalid")))
}

/// Whether a statement may have run before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attempt {
    First,
    Repeated,
}
