//! Runs the control plane's own set with refinery, inside the caller's transaction. The schemas of tenants, whose
//! files are not ours, are migrated by `run`.

use futures_util::future::join;
use refinery_core::traits::r#async::{AsyncMigrate, AsyncQuery, AsyncTransaction};
use refinery_core::{Migration, Runner};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::error::ApplyError;
use crate::migrations::{File, HISTORY_TABLE, HistoryError, MigrationSet, file_name};
use crate::pg::error::{Failure, line_at, offset_of};
use crate::pg::scope::{BatchFailure, PublicTx, TX_IDENTITY_QUERY};

/// Returns the statement with which refinery creates its history table, if it is missing, in the first schema of the
/// search path.
pub(in crate::pg) fn create_history_sql() -> String {
    TransactionDriver::assert_migrations_table_query(HISTORY_TABLE)
}

impl MigrationSet {
    /// Brings the schema in `tx`'s search path up to date; returns the files that were applied. Does not commit.
    ///
    /// # Errors
    /// The file that failed, or how the schema differs from the set; the transaction is then lost.
    pub(in crate::pg) async fn apply(&self, tx: &PublicTx) -> Result<Vec<String>, ApplyError> {
        let mut driver = TransactionDriver { tx, identity: None, interrupted: None };
        let files: Vec<Migration> = self.migrations.iter().filter_map(File::to_refinery).collect();
        let outcome = Runner::new(&files).run_async(&mut driver).await;
        let report = outcome.map_err(|error| match driver.interrupted.take() {
            Some(failure) => self.interrupted(&error, failure),
            None => self.explain(&error),
        })?;
        Ok(report.applied_migrations().iter().map(file_name).collect())
    }

    /// Returns the file that refinery was applying, if its error message `what` names one.
    fn applying(&self, what: &str) -> Option<&File> {
        let applying = |file: &&File| {
            what == format!("error applying migration V{}__{}", file.version(), file.name())
        };
        self.migrations.iter().find(applying)
    }

    fn interrupted(&self, error: &refinery_core::Error, failure: Failure) -> ApplyError {
        use refinery_core::error::Kind;
        let applying = match error.kind() {
            Kind::Connection(what, _) => self.applying(what),
            _ => None,
        };
        match applying {
            Some(migration) => {
                ApplyError::Interrupted { file: file_name(migration), line: None, failure }
            }
            None => failure.into(),
        }
    }

    fn explain(&self, error: &refinery_core::Error) -> ApplyError {
        use refinery_core::error::Kind;
        match error.kind() {
            Kind::Connection(what, source) => {
                let postgres = source.downcast_ref::<Refused>();
                match (self.applying(what), postgres) {
                    (Some(migration), Some(refused)) => ApplyError::Failed {
                        file: file_name(migration),
                        line: refused.line_in(migration.sql()),
                        message: refused.to_string(),
                        needs_commit: false,
                    },
                    (_, Some(refused)) => HistoryError::Diverged(refused.to_string()).into(),
                    _ => HistoryError::Diverged(format!("{what}: {source}")).into(),
                }
            }
            Kind::MissingVersion(found) if found.version() > self.version() => {
                HistoryError::Ahead { found: found.version(), known: self.version() }.into()
            }
            Kind::MissingVersion(missing) => HistoryError::Diverged(format!(
                "{} was applied and is not among the files, or is new and has a lower number than one that was applied",
                file_name(missing)
            )).into(),
            Kind::DivergentVersion(applied, file) => HistoryError::edited(&file_name(applied), &file_name(file)).into(),
            other => HistoryError::Diverged(other.to_string()).into(),
        }
    }
}

/// Lets refinery run in the caller's transaction.
struct TransactionDriver<'a> {
    tx: &'a PublicTx,
    /// The transaction's identity and path after the first batch; no file may change them.
    identity: Option<String>,
    /// The failure itself, because refinery only returns a reference to its source.
    interrupted: Option<Failure>,
}

/// Why a batch failed.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("{}", .failure.server_message())]
    Failed {
        /// Where the message that failed begins in the batch, in bytes.
        from: usize,
        failure: Failure,
    },
    #[error("the connection was lost or a lock was not granted")]
    Interrupted,
    #[error("the file ended the transaction or changed the schema that it runs in")]
    Escaped,
}

impl Refused {
    /// The line in the file, if the server reported a position in it.
    fn line_in(&self, sql: &str) -> Option<usize> {
        let Self::Failed { from, failure } = self else { return None };
        line_at(sql, from + offset_of(failure, sql.get(*from..)?)?)
    }
}

/// The failure of a message of its own.
const fn whole(failure: Failure) -> BatchFailure {
    BatchFailure { from: 0, completed: 0, failure }
}

impl TransactionDriver<'_> {
    /// Keeps a failure that is not the fault of a file.
    fn refused(&mut self, failed: BatchFailure) -> Refused {
        let BatchFailure { from, failure, .. } = failed;
        if failure.is_unavailable() || failure.is_retryable() {
            self.interrupted = Some(failure);
            Refused::Interrupted
        } else {
            Refused::Failed { from, failure }
        }
    }
}

impl AsyncTransaction for TransactionDriver<'_> {
    type Error = Refused;

    async fn execute<'a, T: Iterator<Item = &'a str> + Send + 'a>(
        &'a mut self,
        queries: T,
    ) -> Result<usize, Self::Error> {
        let statements: Vec<&str> = queries.collect();
        // Each semicolon is on its own line, so that it is not part of a comment at the end of a statement.
        let batch = statements.join("\n;\n");
        let identity = async {
            // Sent together and answered in this order, so a failure of the batch comes first.
            let running = self.tx.batch_counted(&batch);
            let (ran, identity) = join(running, self.tx.query_one(TX_IDENTITY_QUERY, &[])).await;
            ran?;
            Ok::<String, BatchFailure>(identity.map_err(whole)?.get("identity"))
        };
        let identity = identity.await.map_err(|failed| self.refused(failed))?;
        match &self.identity {
            Some(before) if *before != identity => Err(Refused::Escaped),
            _ => {
                self.identity = Some(identity);
                Ok(statements.len())
            }
        }
    }
}

impl AsyncQuery<Vec<Migration>> for TransactionDriver<'_> {
    async fn query<'a>(&'a mut self, query: &'a str) -> Result<Vec<Migration>, Self::Error> {
        let rows = self.tx.query(query, &[]).await;
        let rows = rows.map_err(|failure| self.refused(whole(failure)))?;
        Ok(rows
            .iter()
            .map(|row| {
                let applied_on = OffsetDateTime::parse(row.get("applied_on"), &Rfc3339)
                    .unwrap_or(OffsetDateTime::UNIX_EPOCH);
                // An invalid checksum becomes 0, and refinery reports the divergence.
                let checksum = row.get::<_, &str>("checksum").parse().unwrap_or(0);
                Migration::applied(row.get("version"), row.get("name"), applied_on, checksum)
            })
            .collect())
    }
}

impl AsyncMigrate for TransactionDriver<'_> {}
