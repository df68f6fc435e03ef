//! Goes on with an operation whose runner is gone, without being asked.
//!
//! Whether it is gone the lease in its row tells, which holds behind any pooler; who goes on with it is
//! decided where the lease is taken, so any number of processes may look at once. What somebody paused or
//! stopped on purpose is left to them, and what migrates to other files to those who have them.

use std::sync::Arc;

use uuid::Uuid;

use crate::auth::CallContext;
use crate::domain::Permission;
use crate::domain::error::{Error, Noun, Result};
use crate::domain::operation::FleetProblem;
use crate::pg::PublicTx;
use crate::pg::connect::dedicated::is_direct;
use crate::pg::control::operations::{self, Record};
use crate::pg::error::During;
use crate::service::fleet::{Fleet, plan, to_error};

/// What a look for an operation that was left came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// There is none.
    Nothing,
    /// This process runs it from now on.
    Taken(Uuid),
    /// Somebody else was first, or moved it meanwhile.
    Late(Uuid),
    /// It was made for another set of migrations than this program has, and is left alone.
    OtherSet {
        /// Which.
        id: Uuid,
        /// The highest version of that set.
        target_version: i32,
    },
    /// It has files to run that need a direct connection to the database, which this process does not have,
    /// and is left alone: every tenant would fail.
    NotDirect(Uuid),
}

/// Why an operation is taken up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// Somebody asked.
    Asked,
    /// It was found to be left.
    Left,
}

impl Why {
    /// Refuses where the reason does not hold, or no longer. The operation's row is held.
    pub(super) async fn require(self, tx: &PublicTx, before: &Record) -> Result<()> {
        match self {
            Self::Left if !operations::is_left(tx, before.id).await? => {
                Err(FleetProblem::IllegalMove(before.state).into())
            }
            Self::Asked | Self::Left => Ok(()),
        }
    }
}

impl Fleet {
    /// Looks once, in one statement, for an operation that was left, and runs it behind the caller's back.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn take_up_left(&self, ctx: &CallContext) -> Result<Look> {
        ctx.require(Permission::MigrateFleet)?;
        let during = "look for an operation that was left";
        let tx = self.db.public().await.during(during)?;
        let Some(left) = operations::find_left(tx).await.during(during)? else {
            return Ok(Look::Nothing);
        };
        let (id, target_version) = (left.id, left.target_version);
        if left.target_fingerprint != self.set().fingerprint() {
            return Ok(Look::OtherSet { id, target_version });
        }
        if !self.can_run(ctx).await? {
            return Ok(Look::NotDirect(id));
        }
        match self.engine.take_up(ctx, id, Why::Left).await {
            Ok(go) => {
                Arc::clone(&self.engine).work_in_background(go);
                Ok(Look::Taken(id))
            }
            Err(Error::Fleet(problem))
                if matches!(*problem, FleetProblem::Held(_) | FleetProblem::IllegalMove(_)) =>
            {
                Ok(Look::Late(id))
            }
            Err(Error::NotFound(Noun::Operation)) => Ok(Look::Late(id)),
            Err(error) => Err(error),
        }
    }

    /// Whether this process reaches the database as the files need it that tenants lack.
    async fn can_run(&self, ctx: &CallContext) -> Result<bool> {
        let during = "look for an operation that was left";
        let tx = self.db.public().await.during(during)?;
        let plan = plan::make(&tx, self.set(), None, ctx.now).await?;
        drop(tx);
        let files = plan.behind.iter().flat_map(|group| &group.files);
        if !self.set().any_non_transactional(files) {
            return Ok(true);
        }
        let database = &self.engine.database;
        let direct = is_direct(database.owner(), &database.rules().limits).await;
        direct.map_err(|error| to_error(during, error.into()))
    }
}
