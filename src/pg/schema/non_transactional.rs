//! Runs a file that cannot run in a transaction, one statement at a time, so that one which breaks off is
//! taken up at the statement that it had reached.
//!
//! An ordinary statement of such a file has a transaction of its own, with its row in the journal in it, and
//! so runs once. `CREATE INDEX CONCURRENTLY` and `DROP INDEX CONCURRENTLY` run by themselves: the journal
//! says before that they begin and after that they are done, and what is found in between is mended first.
//! An index that is not valid is what a broken try left; it is dropped and made anew.
//!
//! Knows no pause inside of a file: whoever stops does so between tenants.

use std::collections::HashMap;

use futures_util::future::join;
use time::OffsetDateTime;

use crate::domain::names::{SchemaName, TenantId};
use crate::migrations::statements::{Kind, Statement};
use crate::migrations::{MigrationSet, OutsideFile, file_name};
use crate::pg::connect::dedicated::DedicatedConnection;
use crate::pg::db::{Database, Db};
use crate::pg::error::Failure;
use crate::pg::rules::TimeLimits;
use crate::pg::schema::error::ApplyError;
use crate::pg::scope::{self, PublicTx, tx_identity_query};

impl MigrationSet {
    /// Whether one of these files runs outside of a transaction.
    pub fn any_outside<'a>(&self, mut files: impl Iterator<Item = &'a String>) -> bool {
        let outside: Vec<String> = self
            .migrations
            .iter()
            .zip(&self.outside)
            .filter(|(_, outside)| outside.is_some())
            .map(|(migration, _)| file_name(migration))
            .collect();
        files.any(|file| outside.contains(file))
    }

    /// Runs what is left of a file in a tenant's schema and enters it into the history.
    ///
    /// # Errors
    /// The file and line that failed; what came before stays, and is not run again.
    pub async fn run_outside(
        &self,
        database: &Database,
        db: &Db,
        tenant: TenantId,
        file: OutsideFile,
        now: OffsetDateTime,
    ) -> Result<(), ApplyError> {
        let OutsideFile(at) = file;
        let schema = SchemaName::of(tenant);
        let version = self.migrations[at].version();
        let journal = Journal { db, tenant, version, now };
        let limits = &db.rules().limits;
        let reached = journal.read().await?;
        let mut connection = None;
        let statements = self.outside[at].as_ref().map_or(&[][..], |outside| &outside.statements);
        for (position, statement) in (1..).zip(statements) {
            let begun = match reached.get(&position) {
                Some(true) => continue,
                Some(false) => true,
                None => false,
            };
            let ran = match &statement.kind {
                Kind::Ordinary => {
                    in_a_transaction(&journal, &schema, limits, position, statement).await
                }
                Kind::CreateIndex { .. } | Kind::DropIndex { .. } => {
                    if connection.is_none() {
                        connection = Some(
                            DedicatedConnection::open(database.owner(), &schema, limits).await?,
                        );
                    }
                    match &connection {
                        Some(connection) => {
                            by_itself(&journal, connection, &schema, position, statement, begun)
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

    /// The line is that of the statement in its file, and the server's position counts from there.
    fn failed_at(&self, at: usize, statement: &Statement, failure: Failure) -> ApplyError {
        let inner = crate::pg::error::line_of(&failure, &statement.text).unwrap_or(1);
        let first = usize::try_from(statement.line).unwrap_or(1);
        match self.failed(at, failure) {
            ApplyError::Failed { file, message, .. } => {
                ApplyError::Failed { file, line: Some(first + inner - 1), message }
            }
            other => other,
        }
    }

    /// The name of such a file.
    #[must_use]
    pub fn name_of(&self, file: OutsideFile) -> String {
        file_name(&self.migrations[file.0])
    }
}

async fn in_a_transaction(
    journal: &Journal<'_>,
    schema: &SchemaName,
    limits: &TimeLimits,
    position: i32,
    statement: &Statement,
) -> Result<(), Failure> {
    let tx = journal.db.public().await?;
    let (entered, before) =
        join(scope::enter_schema(&tx, schema, limits), tx.query_one(&tx_identity_query(), &[]))
            .await;
    entered?;
    let before: String = before?.get("identity");
    let (ran, here) =
        join(tx.batch(&statement.text), tx.query_one(&tx_identity_query(), &[])).await;
    ran?;
    if here?.get::<_, &str>("identity") != before {
        return Err(Failure::NotEntered);
    }
    scope::leave_schema(&tx, limits).await?;
    journal.done(&tx, position).await?;
    tx.commit().await
}

async fn by_itself(
    journal: &Journal<'_>,
    connection: &DedicatedConnection,
    schema: &SchemaName,
    position: i32,
    statement: &Statement,
    begun: bool,
) -> Result<(), Failure> {
    let tx = journal.db.public().await?;
    journal.begin(&tx, position).await?;
    let found = match &statement.kind {
        Kind::CreateIndex { index } | Kind::DropIndex { index } => {
            find_index(&tx, schema, index).await?.map(|is_valid| (index, is_valid))
        }
        Kind::Ordinary => None,
    };
    tx.commit().await?;
    let creates = matches!(statement.kind, Kind::CreateIndex { .. });
    if creates && let Some((index, false)) = found {
        connection
            .run(&format!("DROP INDEX CONCURRENTLY IF EXISTS \"{}\"", index.replace('"', "\"\"")))
            .await?;
    }
    // Done, and killed before the journal said so.
    let is_done = begun
        && match found {
            Some((_, is_valid)) => creates && is_valid,
            None => !creates,
        };
    if !is_done {
        connection.run(&statement.text).await?;
    }
    let tx = journal.db.public().await?;
    journal.done(&tx, position).await?;
    tx.commit().await
}

/// Whether an index of the schema is valid, where there is one.
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

/// How far a file has come in one tenant: `public.migration_statements`.
struct Journal<'a> {
    db: &'a Db,
    tenant: TenantId,
    version: i32,
    now: OffsetDateTime,
}

impl Journal<'_> {
    /// Which statements were begun, and whether they are done.
    async fn read(&self) -> Result<HashMap<i32, bool>, Failure> {
        let tx = self.db.public().await?;
        let sql = "SELECT position, is_done FROM migration_statements
                    WHERE tenant_id = $1 AND version = $2";
        let rows = tx.query_and_commit(sql, &[&self.tenant, &self.version]).await?;
        Ok(rows.iter().map(|row| (row.get("position"), row.get("is_done"))).collect())
    }

    async fn begin(&self, tx: &PublicTx, position: i32) -> Result<(), Failure> {
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

    /// The history says it from now on.
    async fn forget(&self, tx: &PublicTx) -> Result<(), Failure> {
        let sql = "DELETE FROM migration_statements WHERE tenant_id = $1 AND version = $2";
        tx.execute(sql, &[&self.tenant, &self.version]).await.map(drop)
    }
}
