//! Migrates one tenant of an operation.
//!
//! In one transaction: the schema's lock, the files, the history, the tenant's row, the row in the ledger.
//!
//! It is one message where the tenant says by which of our files it was made, and is right; what must not be
//! committed fails in it by itself. Such messages travel some at a time. Where one fails, whatever ran in it was
//! taken back, and a closer look follows: a message that enters and asks what was applied before, and one that
//! holds all the rest and ends with the commit. It tells the file and the line. A file that runs outside of a
//! transaction comes between two of these, and the journal of its statements stands for it until the last
//! transaction.

use time::OffsetDateTime;
use uuid::Uuid;

use super::Engine;
use crate::domain::names::{SchemaName, TenantId};
use crate::pg::error::Failure;
use crate::pg::migrations::{Beginning, MigrationError, MigrationSet, Segment};
use crate::pg::operation_tenants::{self, End};
use crate::pg::schemas::at_once::{self, Known, Outcome};
use crate::pg::schemas::{self, Then};
use crate::pg::scope::Flush;
use crate::pg::tenants;

/// Which tenant of which operation, for whom.
#[derive(Debug, Clone, Copy)]
pub(super) struct Job {
    pub(super) operation: Uuid,
    pub(super) runner: Uuid,
    pub(super) tenant: TenantId,
    /// This is so manieth time that it is begun.
    pub(super) attempts: i32,
    /// When what is done to it is on disk.
    pub(super) flush: Flush,
}

impl Engine {
    /// Brings tenants up to date that were made by these beginnings of the set as far as is known, on one
    /// connection; of each the files that were applied, and nothing where it wants a closer look.
    ///
    /// # Errors
    /// Of each, what may go well a moment later.
    pub(super) async fn migrate_at_once(
        &self,
        some: &[(Job, &Beginning)],
    ) -> Vec<Result<Option<Vec<String>>, MigrationError>> {
        let now = self.clock.now();
        let flush = some.iter().map(|(job, _)| job.flush).next().unwrap_or(Flush::Now);
        let mut names = Vec::with_capacity(some.len());
        let mut known = Vec::with_capacity(some.len());
        for (job, beginning) in some {
            let files = self.set.names(&beginning.files);
            let records = job.done(&files, &self.set, now);
            known.push(Known { schema: SchemaName::of(job.tenant), beginning, records });
            names.push(files);
        }
        let ran = at_once::catch_up_at_once(&self.db, &self.set, &known, flush, now).await;
        // Without a connection nothing was tried.
        let ran = ran.unwrap_or_else(|_failure| some.iter().map(|_| Outcome::Unclear).collect());
        ran.into_iter()
            .zip(names)
            .map(|(outcome, names)| match outcome {
                Outcome::Done => Ok(Some(names)),
                Outcome::Unclear => Ok(None),
                Outcome::Interrupted(failure) => {
                    Err(MigrationError::Interrupted { file: names.join(", "), failure })
                }
            })
            .collect()
    }

    /// Brings a tenant up to date; tells which files were applied.
    pub(super) async fn migrate(&self, job: Job) -> Result<Vec<String>, MigrationError> {
        let schema = SchemaName::of(job.tenant);
        let mut names = None;
        loop {
            let entered = schemas::enter(&self.db, &schema, job.flush).await?;
            let files = self.set.pending(&entered.applied)?;
            let names = names.get_or_insert_with(|| self.set.names(&files));
            let now = self.clock.now();
            let (inside, records) = match self.set.segments(&files).as_slice() {
                [Segment::Inside(files)] => (files.clone(), Some(job.done(names, &self.set, now))),
                [Segment::Inside(files), ..] => (files.clone(), None),
                [Segment::Outside(file), ..] => {
                    drop(entered);
                    self.set.run_outside(&self.database, &self.db, job.tenant, *file, now).await?;
                    continue;
                }
                [] => return Ok(names.clone()),
            };
            let (set, rules) = (&self.set, self.db.rules());
            let then = Then::Commit(records.as_deref());
            schemas::catch_up(&entered, &schema, set, &inside, rules, now, then).await?;
            if records.is_some() {
                return Ok(names.clone());
            }
        }
    }

    /// Writes down that a tenant was not migrated. One that is gone or going was not to be; and one that is done
    /// was migrated by a try that did not hear of its commit.
    pub(super) async fn give_up(&self, job: Job, error: &MigrationError) -> Result<End, Failure> {
        let tx = self.db.public().await?;
        if let Some(applied) = operation_tenants::done(&tx, job.operation, job.tenant).await? {
            return Ok(End::Done(applied));
        }
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
    fn done(&self, names: &[String], set: &MigrationSet, now: OffsetDateTime) -> String {
        operation_tenants::done_inside(&self.key(), self.attempts, names, set, now)
    }

    fn key(&self) -> operation_tenants::Key {
        operation_tenants::Key {
            operation: self.operation,
            runner: self.runner,
            tenant: self.tenant,
        }
    }
}
