//! Checks whether everything is as it should be, and repairs what it safely can.
//!
//! *Drift*: each tenant's schema is compared with one that the same migrations make in a transaction that is rolled
//! back. A first pass computes a digest of every schema, a thousand a statement. Only schemas that differ are compared
//! again, object by object, with the schema's lock held, so that a migration in between is not reported as drift. The
//! applied migrations decide what a schema is compared with: the history in the schema is authoritative, the tenant's
//! row is a copy of it. A tenant that is behind is compared with a schema of its own version.
//!
//! A difference is left out where `drift.allow` expects it ([`ExpectedDrift`]), and is undecided where a migration asks
//! the catalogs without a schema, because the schema that is built for comparison is beside those of the tenants.
//!
//! *The control plane*: the tables of `public` are compared with what its own migrations make.
//!
//! *Repair* changes roles, owners, rights and recorded versions, never structure and never data. A schema or a role
//! that belongs to no tenant is dropped only on request. Repairs of several schemas share a transaction, which checks
//! again before it commits; each has its audit event, and one that fails undoes no other.
//!
//! All of it requires `MIGRATE_FLEET`: it shows and changes what migrations make, of all tenants. Dropping orphans
//! requires `DELETE_TENANT` as well.

mod capacity;
mod check;
pub(in crate::service) mod diff;
mod expected;
mod repair;
mod report;
mod request;

use std::sync::Arc;

use crate::auth::CallContext;
use crate::domain::Permission;
use crate::domain::error::Result;
use crate::migrations::MigrationSet;
use crate::pg::control::capacity as facts;
use crate::pg::{Db, During};

pub use self::capacity::{Capacity, Resource, connection_shortage, most_connections};
use self::check::Check;
pub use self::expected::{ALLOW_FILE, ExpectedDrift};
pub use self::report::{Area, ExpectedDriftUse, Finding, Gravity, RepairOutcome, Report, Subject};
pub use self::request::{Budget, Orphans, Selection};

/// Examines and repairs.
#[derive(Clone)]
pub struct Doctor {
    db: Db,
    set: Arc<MigrationSet>,
    server_version: u32,
    budget: Budget,
    expected: Arc<ExpectedDrift>,
}

impl Doctor {
    /// Compares what is in `db` with what `set` makes.
    #[must_use]
    pub fn new(db: Db, set: Arc<MigrationSet>, server_version: u32, budget: Budget) -> Self {
        Self { db, set, server_version, budget, expected: Arc::default() }
    }

    /// The same on the pools of another runtime.
    #[must_use]
    pub fn on(&self, db: Db) -> Self {
        Self { db, ..self.clone() }
    }

    /// As `self`, with the drift that the operator expects.
    #[must_use]
    pub fn expecting(self, expected: Arc<ExpectedDrift>) -> Self {
        Self { expected, ..self }
    }

    /// Examines everything, or some tenants, and changes nothing.
    ///
    /// # Errors
    /// Those of the rights check and of the database; [`Noun::Tenant`](crate::domain::error::Noun) not found.
    pub async fn examine(&self, ctx: &CallContext, selection: &Selection) -> Result<Report> {
        ctx.require(Permission::MigrateFleet)?;
        self.check(ctx).run(selection).await
    }

    /// Examines as [`Doctor::examine`] does and repairs what it safely can; the report has the outcome of each
    /// finding. If cancelled, what was repaired stays repaired, and the next call continues.
    ///
    /// # Errors
    /// As [`Doctor::examine`]. A repair that fails is in the report.
    pub async fn repair(
        &self,
        ctx: &CallContext,
        selection: &Selection,
        orphans: &Orphans,
    ) -> Result<Report> {
        ctx.require(Permission::MigrateFleet)?;
        if *orphans != Orphans::Keep {
            ctx.require(Permission::DeleteTenant)?;
        }
        let mut check = self.check(ctx);
        let mut report = check.run(selection).await?;
        repair::repair(&mut check, ctx, orphans, &mut report).await?;
        Ok(report)
    }

    /// Reads the capacity of the server, and judges it.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn capacity(&self, ctx: &CallContext) -> Result<Capacity> {
        ctx.require(Permission::ViewFleet)?;
        let during = "read the server's settings";
        let tx = self.db.public().await.during(during)?;
        let facts = facts::read(&tx).await.during(during)?;
        tx.commit().await.during(during)?;
        Ok(capacity::capacity(&facts, &self.budget))
    }

    fn check(&self, ctx: &CallContext) -> Check<'_> {
        Check::new(self, ctx.now)
    }
}
