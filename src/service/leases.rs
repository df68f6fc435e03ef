//! The leases of an application's jobs: of all servers on one database, one runs a job at a time.

use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::auth::CallContext;
use crate::domain::Permission;
use crate::domain::error::Result;
use crate::pg::control::application_jobs;
use crate::pg::{Db, During};

/// How long a lease lasts that is not renewed: so long a job waits after the server that ran it was killed.
pub const LEASE: Duration = Duration::seconds(30);

/// Gives out leases.
#[derive(Clone)]
pub struct Leases {
    db: Db,
}

impl Leases {
    /// Creates the service on `db`.
    #[must_use]
    pub const fn new(db: Db) -> Self {
        Self { db }
    }

    /// Takes the lease of a job that is due, and returns the id of the run; none if the job is not due or runs.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn claim(&self, ctx: &CallContext, name: &'static str) -> Result<Option<Uuid>> {
        ctx.require(Permission::MigrateFleet)?;
        let run = Uuid::now_v7();
        let tx = self.db.public().await.during("take the lease of a job")?;
        let is_ours = application_jobs::claim(&tx, name, run, ctx.now, ctx.now + LEASE).await?;
        tx.commit().await.during("take the lease of a job")?;
        Ok(is_ours.then_some(run))
    }

    /// Extends the lease of a run; false if another run has taken it.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn renew(&self, ctx: &CallContext, name: &'static str, run: Uuid) -> Result<bool> {
        ctx.require(Permission::MigrateFleet)?;
        let tx = self.db.public().await.during("renew the lease of a job")?;
        let is_ours = application_jobs::renew(&tx, name, run, ctx.now + LEASE).await?;
        tx.commit().await.during("renew the lease of a job")?;
        Ok(is_ours)
    }

    /// Gives the lease of a run back. The job is due again at `due_at`.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn finish(
        &self,
        ctx: &CallContext,
        name: &'static str,
        run: Uuid,
        due_at: OffsetDateTime,
        has_succeeded: bool,
    ) -> Result<()> {
        ctx.require(Permission::MigrateFleet)?;
        let tx = self.db.public().await.during("end the lease of a job")?;
        let succeeded_at = has_succeeded.then_some(ctx.now);
        application_jobs::finish(&tx, name, run, due_at, succeeded_at).await?;
        tx.commit().await.during("end the lease of a job")
    }
}
