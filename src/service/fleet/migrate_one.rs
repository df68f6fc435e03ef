//! Migrates the schema of one tenant, or of a few on one connection.
//!
//! One transaction locks the schema, runs the files and writes the history. [`super::recorder`] records it
//! afterwards, many at a time.
//!
//! If the tenant's row says which prefix of our files made it, and is right, the whole transaction is one message; a
//! statement in it fails if it must not be committed. Such messages are pipelined. If one fails it is rolled back, and
//! the tenant is migrated again step by step: a message that enters the schema and reads what was applied, and one
//! that holds all the rest and ends with the commit. That tells the file and the line. A file that runs outside of a
//! transaction comes between two of these, and the journal of its statements stands for it until it is in the
//! history. If a file needs what an earlier one has committed, such as a new value of an enum, each file is committed
//! by itself.

use crate::domain::names::{SchemaName, TenantId};
use crate::domain::operation::OperationKind;
use crate::migrations::{AppliedPrefix, Segment};
use crate::pg::schema::error::ApplyError;
use crate::pg::schema::pipeline::{self, MigrationTarget, PipelinedOutcome};
use crate::pg::schema::{self, Completion};
use crate::pg::scope::Entry;
use crate::service::fleet::engine::Engine;

impl Engine {
    /// Migrates tenants, each made by this prefix of the set according to its row, pipelined on one connection.
    /// Returns for each the files that were applied, and `None` if it must be migrated step by step.
    ///
    /// # Errors
    /// For each tenant, what may succeed a moment later.
    pub(super) async fn migrate_pipelined(
        &self,
        batch: &[(TenantId, &AppliedPrefix)],
        entry: Entry,
    ) -> Vec<Result<Option<Vec<String>>, ApplyError>> {
        let known: Vec<MigrationTarget<'_>> = batch
            .iter()
            .map(|(tenant, prefix)| MigrationTarget { schema: SchemaName::of(*tenant), prefix })
            .collect();
        let now = self.clock.now();
        let ran = pipeline::catch_up_pipelined(&self.db, &self.set, &known, entry, now).await;
        // Without a connection nothing was tried.
        let ran = ran.unwrap_or_else(|_failure| {
            batch.iter().map(|_| PipelinedOutcome::NotMigrated).collect()
        });
        ran.into_iter()
            .zip(batch)
            .map(|(outcome, (_, prefix))| match outcome {
                PipelinedOutcome::Migrated => Ok(Some(self.set.names(&prefix.files))),
                PipelinedOutcome::NotMigrated => Ok(None),
                PipelinedOutcome::Interrupted(failure) => {
                    let file = self.set.names(&prefix.files).join(", ");
                    Err(ApplyError::Interrupted { file, line: None, failure })
                }
            })
            .collect()
    }

    /// Does to a tenant what the operation is for; returns what was done, one line each.
    ///
    /// # Errors
    /// [`ApplyError`].
    pub(super) async fn work_on(
        &self,
        kind: OperationKind,
        tenant: TenantId,
        entry: Entry,
    ) -> Result<Vec<String>, ApplyError> {
        match kind {
            OperationKind::Migrate => self.migrate(tenant, entry).await,
            OperationKind::Distribute => self.distribute(tenant, entry).await,
        }
    }

    /// Migrates a tenant step by step, and returns the files that were applied.
    ///
    /// # Errors
    /// [`ApplyError`], with the file and the line if a file is to blame.
    pub(super) async fn migrate(
        &self,
        tenant: TenantId,
        entry: Entry,
    ) -> Result<Vec<String>, ApplyError> {
        let schema = SchemaName::of(tenant);
        let (mut names, mut commit_each) = (None, false);
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
                    entered.leave().await?;
                    self.set
                        .run_non_transactional(&self.database, &self.db, tenant, *file, now)
                        .await?;
                    continue;
                }
                [] => return Ok(names.clone()),
            };
            let each = inside.each();
            let (inside, is_last) = match each.as_slice() {
                [first, _, ..] if commit_each => (first, false),
                _ => (inside, is_last),
            };
            let (set, rules) = (&self.set, self.db.rules());
            let run =
                schema::catch_up(&entered, &schema, set, inside, rules, now, Completion::Commit);
            match run.await {
                Err(ApplyError::Failed { needs_commit: true, .. })
                    if !commit_each && each.len() > 1 =>
                {
                    commit_each = true;
                }
                ran => {
                    ran?;
                    if is_last {
                        return Ok(names.clone());
                    }
                }
            }
        }
    }
}
