//! Migrates one tenant of an operation.
//!
//! In one transaction: the schema's lock, the files, the history, the tenant's row, the row in the ledger. A
//! file that runs outside of a transaction comes between two of them, and the journal of its statements
//! stands for it until the last transaction.

use futures_util::future::join;
use uuid::Uuid;

use super::Engine;
use crate::domain::names::{SchemaName, TenantId};
use crate::pg::error::Failure;
use crate::pg::migrations::{MigrationError, Segment};
use crate::pg::operation_tenants::{self, End};
use crate::pg::{schemas, tenants};

/// Which tenant of which operation, for whom.
#[derive(Debug, Clone, Copy)]
pub(super) struct Job {
    pub(super) operation: Uuid,
    pub(super) runner: Uuid,
    pub(super) tenant: TenantId,
    /// This is so manieth time that it is begun.
    pub(super) attempts: i32,
}

impl Engine {
    /// Brings a tenant up to date; tells which files were applied.
    pub(super) async fn migrate(&self, job: Job) -> Result<Vec<String>, MigrationError> {
        let schema = SchemaName::of(job.tenant);
        let mut names = None;
        loop {
            let tx = self.db.public().await?;
            let entered = schemas::enter(&tx, &schema, self.db.rules()).await?;
            let files = self.set.pending(&entered.applied)?;
            let names = names.get_or_insert_with(|| self.set.names(&files)).clone();
            let now = self.clock.now();
            let rules = self.db.rules();
            let segments = self.set.segments(&files);
            match segments.as_slice() {
                [Segment::Inside(files)] => {
                    let end = End::Done(names.clone());
                    let records = async {
                        let (migrated, ended) = join(
                            tenants::set_migrated(&tx, job.tenant, &self.set, now),
                            operation_tenants::end(&tx, &job.key(), job.attempts, &end, now),
                        )
                        .await;
                        migrated.and(ended)
                    };
                    Box::pin(schemas::catch_up(
                        &tx, &schema, &entered, &self.set, files, rules, now, records,
                    ))
                    .await?;
                    tx.commit().await?;
                    return Ok(names);
                }
                [Segment::Inside(files), ..] => {
                    let nothing_more = async { Ok::<(), Failure>(()) };
                    Box::pin(schemas::catch_up(
                        &tx,
                        &schema,
                        &entered,
                        &self.set,
                        files,
                        rules,
                        now,
                        nothing_more,
                    ))
                    .await?;
                    tx.commit().await?;
                }
                [Segment::Outside(file), ..] => {
                    drop(tx);
                    self.set.run_outside(&self.database, &self.db, job.tenant, *file, now).await?;
                }
                [] => return Ok(names),
            }
        }
    }

    /// Writes down that a tenant was not migrated. One that is gone or going was not to be.
    pub(super) async fn give_up(&self, job: Job, error: &MigrationError) -> Result<End, Failure> {
        let tx = self.db.public().await?;
        let end = if tenants::is_kept(&tx, job.tenant).await? {
            End::Failed(error.to_string())
        } else {
            End::Skipped("the tenant is being deleted, or gone".to_owned())
        };
        let now = self.clock.now();
        operation_tenants::end(&tx, &job.key(), job.attempts, &end, now).await?;
        tx.commit().await?;
        Ok(end)
    }
}

impl Job {
    fn key(&self) -> operation_tenants::Key {
        operation_tenants::Key {
            operation: self.operation,
            runner: self.runner,
            tenant: self.tenant,
        }
    }
}
