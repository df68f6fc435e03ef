//! Recovers an operation whose runner is gone, without a request.
//!
//! The lease in its row tells whether the runner is gone, which also holds behind a pooler. Acquiring the lease
//! decides which process recovers it, so any number of processes may look at the same time. An operation that was
//! paused or stopped on purpose is left to its operator, and one that migrates to another set of files to a process
//! that has them.

use std::sync::Arc;

use uuid::Uuid;

use crate::auth::CallContext;
use crate::domain::Permission;
use crate::domain::error::{Error, Noun, Result};
use crate::domain::operation::{FleetProblem, OperationKind};
use crate::pg::connect::dedicated::is_direct;
use crate::pg::control::operations;
use crate::pg::error::During;
use crate::service::fleet::commands::Fleet;
use crate::service::fleet::error::to_error;
use crate::service::fleet::plan;
use crate::service::fleet::run::AcquireReason;

/// What came of looking for an abandoned operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecoveryOutcome {
    /// There is none.
    Nothing,
    /// This process runs it from now on.
    Recovered(Uuid),
    /// Another process was first, or it was paused or cancelled meanwhile.
    Late(Uuid),
    /// It was made for another set of migrations than this program has, and is left as it is.
    OtherSet {
        /// The operation.
        id: Uuid,
        /// The highest version of that set.
        target_version: i32,
    },
    /// Some of its files need a direct connection to the database, which this process does not have. It is left as it
    /// is, because every tenant would fail.
    NotDirect(Uuid),
}

impl Fleet {
    /// Looks once, with one statement, for an abandoned operation, and runs it in the background.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn recover(&self, ctx: &CallContext) -> Result<RecoveryOutcome> {
        ctx.require(Permission::MigrateFleet)?;
        let during = "look for an abandoned operation";
        let tx = self.db.public().await.during(during)?;
        let Some(abandoned) = operations::find_abandoned(tx).await.during(during)? else {
            return Ok(RecoveryOutcome::Nothing);
        };
        let (id, target_version) = (abandoned.id, abandoned.target_version);
        let is_migration = abandoned.kind == OperationKind::Migrate;
        if is_migration && abandoned.target_fingerprint != self.set().fingerprint() {
            return Ok(RecoveryOutcome::OtherSet { id, target_version });
        }
        if is_migration && !self.can_run(ctx).await? {
            return Ok(RecoveryOutcome::NotDirect(id));
        }
        match self.engine.acquire(ctx, id, AcquireReason::Recovery).await {
            Ok(run) => {
                Arc::clone(&self.engine).run_in_background(run);
                Ok(RecoveryOutcome::Recovered(id))
            }
            Err(Error::Fleet(problem))
                if matches!(*problem, FleetProblem::Held(_) | FleetProblem::IllegalMove(_)) =>
            {
                Ok(RecoveryOutcome::Late(id))
            }
            Err(Error::NotFound(Noun::Operation)) => Ok(RecoveryOutcome::Late(id)),
            Err(error) => Err(error),
        }
    }

    /// Whether the connections of this process suit the files that tenants lack.
    async fn can_run(&self, ctx: &CallContext) -> Result<bool> {
        let during = "look for an abandoned operation";
        let tx = self.db.public().await.during(during)?;
        let plan = plan::make(&tx, self.set(), None, ctx.now).await?;
        drop(tx);
        let files = plan.behind.iter().flat_map(|group| &group.files);
        if !self.set().any_non_transactional(files) {
            return Ok(true);
        }
        let direct = is_direct(self.engine.database.owner()).await;
        direct.map_err(|error| to_error(during, error.into()))
    }
}
