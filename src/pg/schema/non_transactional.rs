//! Runs a file that cannot run in a transaction, one statement at a time, so that an interrupted run resumes at the
//! statement that it had reached.
//!
//! An ordinary statement of such a file runs in its own transaction, which also writes its row in the journal,
//! and so it runs once. `CREATE INDEX CONCURRENTLY` and `DROP INDEX CONCURRENTLY` run outside a transaction:
//! the journal records before them that they started and after them that they are done. A statement that
//! started but is not done is repaired first: an invalid index is left from a failed attempt; it is dropped and
//! created again.
//!
//! A file is not paused half-way: an operation stops between tenants.

use std::collections::HashMap;

use futures_util::future::join;
use time::OffsetDateTime;

use crate::domain::names::{SchemaName, TenantId};
use crate::migrations::statements::{Kind, Statement};
use crate::migrations::{MigrationSet, NonTransactionalFile, file_name};
use crate::pg::Row;
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
        let limits = &db.rules().limits;
        let frame = Frame::new(self, &schema, limits, Flush::Now);
        let progress = journal.read().await?;
        let mut connection = None;
        let sql = self.migrations[at].sql().unwrap_or_default();
        let statements =
            self.non_transactional[at].as_ref().map_or(&[][..], |file| &file.statements);
        for (position, statement) in (1..).zip(statements) {
            let attempt = match progress.get(&position) {
                Some(Progress::Done) => continue,
                Some(Progress::Started) => Attempt::Repeated,
                None => Attempt::First,
            };
            let ran = match &statement.kind {
                Kind::Ordinary | Kind::CopyIn { .. } => {
                    in_a_transaction(&journal, &schema, &frame, position, statement, sql).await
                }
                Kind::CreateIndex { .. } | Kind::DropIndex { .. } => {
                    if connection.is_none() {
                        connection = Some(
                            DedicatedConnection::open(database.owner(), &schema, limits).await?,
                        );
                    }
                    match &connection {
                        Some(connection) => {
                            let to_run = (statement, statement.text(sql));
                            without_transaction(
                                &journal, connection, &schema, position, to_run, attempt,
                            )
                            .await
                        }
                        None => Ok(()),
                    }
                }
            };
            ran.map_err(|failure| self.failed_at(at, statement, failure))?;
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
        let text = statement.text(self.migrations[at].sql().unwrap_or_default());
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
    position: i32,
    statement: &Statement,
    sql: &str,
) -> Result<(), Failure> {
    let (tx, limits) = (journal.db.public().await?, &journal.db.rules().limits);
    tx.runs_files();
    let begin = frame.open(true);
    let (entered, opened) = join(scope::enter_schema(&tx, schema, limits), tx.batch(&begin)).await;
    entered.and(opened)?;
    let text = statement.text(sql);
    let end = frame.close();
    match &statement.kind {
        Kind::CopyIn { rows } => {
            tx.copy_in(text, sql.get(rows.clone()).unwrap_or_default()).await?;
            tx.batch(&end).await?;
        }
        _ => {
            let (ran, closed) = join(tx.batch(text), tx.batch(&end)).await;
            ran.and(closed)?;
        }
    }
    scope::leave_schema(&tx, limits).await?;
    journal.done(&tx, position).await?;
    tx.commit().await
}

async fn without_transaction(
    journal: &Journal<'_>,
    connection: &DedicatedConnection,
    schema: &SchemaName,
    position: i32,
    (statement, text): (&Statement, &str),
    attempt: Attempt,
) -> Result<(), Failure> {
    let tx = journal.db.public().await?;
    journal.start(&tx, position).await?;
    let found = match &statement.kind {
        Kind::CreateIndex { index } | Kind::DropIndex { index } => {
            find_index(&tx, schema, index).await?.map(|is_valid| (index, is_valid))
        }
        Kind::Ordinary | Kind::CopyIn { .. } => None,
    };
    tx.commit().await?;
    let creates = matches!(statement.kind, Kind::CreateIndex { .. });
    if creates && let Some((index, false)) = found {
        let index = index.replace('"', "\"\"");
        connection.run(&format!("DROP INDEX CONCURRENTLY IF EXISTS \"{index}\"")).await?;
    }
    // The statement succeeded, but the process ended before the journal recorded it.
    let is_done = attempt == Attempt::Repeated
        && match found {
            Some((_, is_valid)) => creates && is_valid,
            None => !creates,
        };
    if !is_done {
        connection.run(text).await?;
    }
    let tx = journal.db.public().await?;
    journal.done(&tx, position).await?;
    tx.commit().await
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

/// A statement in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Started,
    Done,
}

/// Whether a statement may have run before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attempt {
    First,
    Repeated,
}

/// The progress of a file in one tenant: `public.migration_statements`.
struct Journal<'a> {
    db: &'a Db,
    tenant: TenantId,
    version: i32,
    now: OffsetDateTime,
}

impl Journal<'_> {
    /// Returns the progress of each statement that was started, by its position.
    async fn read(&self) -> Result<HashMap<i32, Progress>, Failure> {
        let tx = self.db.public().await?;
        let sql = "SELECT position, is_done FROM migration_statements
                    WHERE tenant_id = $1 AND version = $2";
        let rows = tx.query_and_commit(sql, &[&self.tenant, &self.version]).await?;
        let progress = |row: &Row| {
            let progress = if row.get("is_done") { Progress::Done } else { Progress::Started };
            (row.get("position"), progress)
        };
        Ok(rows.iter().map(progress).collect())
    }

    async fn start(&self, tx: &PublicTx, position: i32) -> Result<(), Failure> {
        let sql =
            "INSERT INTO migration_statements (tenant_id, version, position, is_done, started_at)
                   VALUES ($1, $2, $3, false, $4)
                   ON CONFLICT (tenant_id, version, position) DO NOTHING";
        tx.execute(sql, &[&self.tenant, &self.version, &position, &self.now]).await.map(drop)
    }

    async fn done(&self, tx: &PublicTx, position: i32) -> Result<(), Failure> {
        let sql = "INSERT INTO migration_statements
                       (tenant_id, version, position, is_done, started_at, ended_at)
                   VALUES ($1, $2, $3, true, $4, $4)
                   ON CONFLICT (tenant_id, version, position)
                   DO UPDATE SET is_done = true, ended_at = excluded.ended_at";
        tx.execute(sql, &[&self.tenant, &self.version, &position, &self.now]).await.map(drop)
    }

    /// Deletes the file's rows: from now on it is in the history.
    async fn forget(&self, tx: &PublicTx) -> Result<(), Failure> {
        let sql = "DELETE FROM migration_statements WHERE tenant_id = $1 AND version = $2";
        tx.execute(sql, &[&self.tenant, &self.version]).await.map(drop)
    }
}
