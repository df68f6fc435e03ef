//! Migrates one tenant of an operation.
//!
//! In one transaction: the schema's lock, the files, the history, the tenant's row, the row in the ledger. A
//! file that runs outside of a transaction comes between two of them, and the journal of its statements
//! stands for it until the last transaction.

use time::OffsetDateTime;
use uuid::Uuid;

use super::Engine;
use crate::domain::names::{SchemaName, TenantId};
use crate::pg::error::Failure;
use crate::pg::migrations::{MigrationError, Pending, Segment};
use crate::pg::operation_tenants::{self, End};
use crate::pg::pool::Rules;
use crate::pg::schemas::{self, Entered};
use crate::pg::tenants;

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
            let entered = schemas::enter(&self.db, &schema).await?;
            let files = self.set.pending(&entered.applied)?;
            let names = names.get_or_insert_with(|| self.set.names(&files)).clone();
            let (now, rules) = (self.clock.now(), self.db.rules());
            let segments = self.set.segments(&files);
            match segments.as_slice() {
                [Segment::Inside(files)] => {
                    let key = job.key();
                    let records = operation_tenants::end_inside(
                        &entered.tx,
                        &key,
                        job.attempts,
                        names.clone(),
                        &self.set,
                        &entered.here,
                        now,
                    );
                    self.catch_up(&entered, &schema, files, rules, now, records).await?;
                    entered.tx.commit().await?;
                    return Ok(names);
                }
                [Segment::Inside(files), ..] => {
                    let check = schemas::check_place(&entered);
                    self.catch_up(&entered, &schema, files, rules, now, check).await?;
                    entered.tx.commit().await?;
                }
                [Segment::Outside(file), ..] => {
                    drop(entered);
                    self.set.run_outside(&self.database, &self.db, job.tenant, *file, now).await?;
                }
                [] => return Ok(names),
            }
        }
    }

    async fn catch_up(
        &self,
        entered: &Entered,
        schema: &SchemaName,
        files: &Pending,
        rules: &Rules,
        now: OffsetDateTime,
        records: impl Future<Output = Result<(), Failure>>,
    ) -> Result<(), MigrationError> {
        let set = &self.set;
        Box::pin(schemas::catch_up(entered, schema, set, files, rules, now, records)).await
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
