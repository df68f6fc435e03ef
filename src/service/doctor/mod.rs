//! Looks whether everything is as it should be, and puts right what it safely can.
//!
//! *Drift*: each tenant's schema is compared with one that the same migrations make in a transaction that is
//! rolled back. A first pass takes a digest of every schema, a thousand a statement; only those that differ
//! are looked at again, object by object, with the schema's lock held, so that a migration in between is no
//! drift. What was applied decides what a schema is compared with: refinery's history in it is the truth, the
//! tenant's row a copy of it. A tenant that is behind is compared with what it was at that version.
//!
//! *Mending* changes roles, owners, rights and recorded versions, never structure and never data; a schema
//! or a role that is nobody's is dropped only where that is asked for. Mends of some schemas share a transaction,
//! which looks again before it commits; each has its audit event, and one that fails undoes no other.
//!
//! All of it asks for `MIGRATE_FLEET`: it shows and changes what migrations make, of all tenants. Dropping
//! orphans asks for `DELETE_TENANT` besides.

mod capacity;
mod check;
mod diff;
mod repair;
mod report;

use std::sync::Arc;

use crate::auth::CallContext;
use crate::domain::Permission;
use crate::domain::error::Result;
use crate::domain::names::TenantId;
use crate::migrations::MigrationSet;
use crate::pg::Db;
use crate::service::tenants::TenantRef;

pub use report::{Area, Finding, Gravity, Outcome, Report, Subject};

/// Examines and mends.
#[derive(Clone)]
pub struct Doctor {
    db: Db,
    set: Arc<MigrationSet>,
    server_version: u32,
    budget: Budget,
}

/// What a process may ask of the server, from its settings.
#[derive(Debug, Clone)]
pub struct Budget {
    /// Connections of all its pools together.
    pub connections: usize,
    /// Set-ups that it makes at the same time.
    pub setups_at_once: usize,
    /// After how many distinct tenants it retires a connection; none where it never does.
    pub tenants_per_connection: Option<usize>,
}

/// What to look at.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// These tenants alone, and nothing that is not a tenant's; everything where there are none.
    pub tenants: Vec<TenantRef>,
}

/// What to do with schemas and roles that are nobody's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Orphans {
    /// Name them.
    Keep,
    /// Drop all of them with all that is in them.
    Drop,
    /// Drop those with these ids in their names.
    DropThese(Vec<TenantId>),
}

impl Orphans {
    fn drops(&self, id: TenantId) -> bool {
        match self {
            Self::Keep => false,
            Self::Drop => true,
            Self::DropThese(ids) => ids.contains(&id),
        }
    }
}

impl Doctor {
    /// Compares what `db` holds with what `set` makes.
    #[must_use]
    pub fn new(db: Db, set: Arc<MigrationSet>, server_version: u32, budget: Budget) -> Self {
        Self { db, set, server_version, budget }
    }

    /// Looks at everything, or at some tenants, and changes nothing.
    ///
    /// # Errors
    /// Those of the rights check and of the database; a tenant that there is not.
    pub async fn examine(&self, ctx: &CallContext, wish: &Wish) -> Result<Report> {
        ctx.require(Permission::MigrateFleet)?;
        check::Exam::new(self).all(wish).await
    }

    /// Looks as [`Doctor::examine`] does and puts right what it safely can; the report tells what became of
    /// each finding. Broken off, it leaves what was mended by then; asked again, it goes on.
    ///
    /// # Errors
    /// As [`Doctor::examine`]. A mend that fails is told in the report.
    pub async fn mend(&self, ctx: &CallContext, wish: &Wish, orphans: &Orphans) -> Result<Report> {
        ctx.require(Permission::MigrateFleet)?;
        if *orphans != Orphans::Keep {
            ctx.require(Permission::DeleteTenant)?;
        }
        let mut exam = check::Exam::new(self);
        let mut report = exam.all(wish).await?;
        repair::mend(&mut exam, ctx, orphans, &mut report).await?;
        Ok(report)
    }
}
