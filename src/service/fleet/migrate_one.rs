//! Migrates one tenant of an operation.
//!
//! In one transaction: the schema's lock, the files, the history. That is written down afterwards, many at a
//! time ([`crate::service::fleet::recorder`]).
//!
//! It is one message where the tenant says by which of our files it was made, and is right; what must not be
//! committed fails in it by itself. Such messages travel some at a time. Where one fails, whatever ran in it was
//! taken back, and a closer look follows: a message that enters and asks what was applied before, and one that
//! holds all the rest and ends with the commit. It tells the file and the line. A file that runs outside of a
//! transaction comes between two of these, and the journal of its statements stands for it until it is in the
//! history.

use crate::domain::names::{SchemaName, TenantId};
use crate::domain::operation::WorkState;
use crate::migrations::{AppliedPrefix, Segment};
use crate::pg::control::operation_tenants::{self, End, Key};
use crate::pg::control::tenants;
use crate::pg::error::Failure;
use crate::pg::schema::error::ApplyError;
use crate::pg::schema::pipeline::{self, MigrationTarget, PipelinedOutcome};
use crate::pg::schema::{self, Completion};
use crate::pg::scope::Entry;
use crate::service::fleet::Engine;

impl Engine {
    /// Brings tenants up to date whose schemas are expected to have these prefixes of the set applied, on one
    /// connection; of each the files that were applied, and nothing where it wants a closer look.
    ///
    /// # Errors
    /// Of each, what may go well a moment later.
    pub(super) async fn migrate_at_once(
        &self,
        some: &[(TenantId, &AppliedPrefix)],
        entry: Entry,
    ) -> Vec<Result<Option<Vec<String>>, ApplyError>> {
        let known: Vec<MigrationTarget<'_>> = some
            .iter()
            .map(|(tenant, prefix)| MigrationTarget { schema: SchemaName::of(*tenant), prefix })
            .collect();
        let now = self.clock.now();
        let ran = pipeline::catch_up_pipelined(&self.db, &self.set, &known, entry, now).await;
        // Without a connection nothing was tried.
        let ran = ran.unwrap_or_else(|_failure| {
            some.iter().map(|_| PipelinedOutcome::NotMigrated).collect()
        });
        ran.into_iter()
            .zip(some)
            .map(|(outcome, (_, prefix))| match outcome {
                PipelinedOutcome::Migrated => Ok(Some(self.set.names(&prefix.files))),
                PipelinedOutcome::NotMigrated => Ok(None),
                PipelinedOutcome::Interrupted(failure) => {
                    let file = self.set.names(&prefix.files).join(", ");
                    Err(ApplyError::Interrupted { file, failure })
                }
            })
            .collect()
    }

    /// Brings a tenant up to date; tells which files were applied.
    pub(super) async fn migrate(
        &self,
        tenant: TenantId,
        entry: Entry,
    ) -> Result<Vec<String>, ApplyError> {
        let schema = SchemaName::of(tenant);
        let mut names = None;
        loop {
            let entered = schema::enter(&self.db, &schema, entry).await?;
            let files = self.set.pending(&entered.applied)?;
            let names = names.get_or_insert_with(|| self.set.names(&files));
            let now = self.clock.now();
            let segments = self.set.segments(&files);
            let (inside, is_last) = match segments.as_slice() {
                [Segment::Transactional(files)] => (files, true),
                [Segment::Transactional(files), ..] => (files, false),
                [Segment::NonTransactional(file), ..] => {
                    drop(entered);
                    self.set
                        .run_non_transactional(&self.database, &self.db, tenant, *file, now)
                        .await?;
                    continue;
                }
                [] => return Ok(names.clone()),
            };
            let (set, rules) = (&self.set, self.db.rules());
            schema::catch_up(&entered, &schema, set, inside, rules, now, Completion::Commit)
                .await?;
            if is_last {
                return Ok(names.clone());
            }
        }
    }

    /// Writes down that a tenant was not migrated. One that is gone or going was not to be.
    pub(super) async fn give_up(
        &self,
        key: &Key,
        attempts: i32,
        reason: String,
    ) -> Result<End, Failure> {
        let tx = self.db.public().await?;
        let (state, end, reason): (_, fn(String) -> End, _) =
            if tenants::is_kept(&tx, key.tenant).await? {
                (WorkState::Failed, End::Failed, reason)
            } else {
                let reason = "the tenant is being deleted, or gone".to_owned();
                (WorkState::Skipped, End::Skipped, reason)
            };
        let now = self.clock.now();
        operation_tenants::give_up(&tx, key, attempts, state, &reason, now).await?;
        tx.commit().await?;
        Ok(end(reason))
    }
}
