//! Keeps a stock of schemas that are built before they are needed, so that a set-up runs no DDL.
//!
//! A vacancy is what [`schema`](crate::pg::schema) makes for any tenant (role, schema, grants, all migrations), under
//! the id that its tenant will have, and a row in `vacancies`. A set-up takes it by deleting that row in the
//! transaction that inserts the tenant's; if that is rolled back, the vacancy is still in stock. Until then no
//! request can enter the schema: no tenant has that id, so no caller is entitled to it.
//!
//! [`plan`] decides what to do next from what is in the database, and [`steps`] does it in small transactions under
//! one lock, so that several processes share one stock. A first transaction makes several roles, with rows that say
//! *building*; then each schema follows in a transaction of its own, which also sets *ready*. If a process dies in
//! between, the next one continues with the rows that it left. A vacancy belongs to no tenant, so there is no audit
//! event before it becomes one.
//!
//! Each transaction that makes a role has every backend read all memberships of the runtime login again, which before
//! PostgreSQL 16 takes time with their square. So a set-up that finds no vacancy takes a role of those that say *building*,
//! and builds the schema itself; while set-ups do so, this process makes such roles ahead, many in one transaction.
//!
//! If none are wanted, set-ups look for none, and what is left of a stock is dropped as soon as no other process
//! wants it.

mod away;
pub(super) mod dropping;
mod outrun;
mod plan;
mod steps;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::join;
use time::{Duration, OffsetDateTime};
use tokio::sync::Notify;
use uuid::Uuid;

use self::outrun::Outrun;
use self::plan::ALIVE_FOR;
pub use self::plan::Aim;
use crate::auth::CallContext;
use crate::domain::Permission;
use crate::domain::error::{Error, Result};
use crate::domain::names::TenantId;
use crate::migrations::MigrationSet;
use crate::pg::control::vacancies::{self, Pattern, Replenisher, State, Vacancy};
use crate::pg::{Db, During};
use crate::service::new_tenants::NewTenants;
use crate::telemetry::Metrics;

/// How long a vacancy is left alone that could not be dropped because of what is outside of it.
const STUCK_FOR: Duration = Duration::minutes(10);

/// The stock of vacancies. Cheap to clone; the clones share their counters.
#[derive(Clone)]
pub struct Vacancies(Arc<Inner>);

struct Inner {
    db: Db,
    set: Arc<MigrationSet>,
    pattern: Pattern,
    server_version: u32,
    new_tenants: NewTenants,
    wanted: usize,
    /// This process as a replenisher.
    replenisher: Uuid,
    /// Notified when a set-up has asked for a vacancy.
    asked: Notify,
    /// Set-ups that took a vacancy, and those that found none.
    claimed: AtomicU64,
    missed: AtomicU64,
    /// One more than `missed` when damaged vacancies were last looked for.
    examined: AtomicU64,
    outrun: Mutex<Outrun>,
    /// The status when the stock was last read.
    last_status: Mutex<Option<StockStatus>>,
    /// The vacancies that could not be dropped because of what is outside of them, and when that was found.
    stuck: Mutex<HashMap<TenantId, OffsetDateTime>>,
}

/// The size and state of the stock.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StockStatus {
    /// How many this process wants.
    pub wanted: usize,
    /// How many processes keep a stock of this kind.
    pub replenishers: usize,
    /// How many can be taken.
    pub ready: usize,
    /// How many have a role and no schema yet.
    pub building: usize,
    /// How many have other migrations or another isolation, and are not ahead.
    pub stale: usize,
    /// How many are at a later version than this program's.
    pub ahead: usize,
    /// How many are being dropped.
    pub dropping: usize,
    /// When the oldest of those that can be taken was begun.
    pub oldest_at: Option<OffsetDateTime>,
}

/// What one call of [`Vacancies::tend`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TendOutcome {
    /// One step was done; there may be more.
    Worked,
    /// There is nothing to do.
    Done,
    /// Another process is changing the stock.
    Busy,
}

/// Counts of what was done to the stock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// Vacancies that were built.
    pub built: usize,
    /// Vacancies that were migrated.
    pub migrated: usize,
    /// Vacancies that were dropped.
    pub dropped: usize,
}

/// How one step ended.
enum StepOutcome {
    Busy,
    Nothing,
    Did(Work),
}

impl Vacancies {
    /// Keeps `wanted` vacancies on `set`.
    #[must_use]
    pub fn new(db: Db, set: Arc<MigrationSet>, server_version: u32, wanted: usize) -> Self {
        let pattern = Pattern::of(&set, db.rules().isolation);
        let new_tenants = NewTenants::new(db.clone(), Arc::clone(&set), server_version);
        Self(Arc::new(Inner {
            db,
            set,
            pattern,
            server_version,
            new_tenants,
            wanted,
            replenisher: Uuid::now_v7(),
            asked: Notify::new(),
            claimed: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            examined: AtomicU64::new(0),
            outrun: Mutex::default(),
            last_status: Mutex::default(),
            stuck: Mutex::default(),
        }))
    }

    /// Returns the size and state of the stock.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn status(&self, ctx: &CallContext) -> Result<StockStatus> {
        ctx.require(Permission::ViewFleet)?;
        let tx = self.0.db.public().await.during("read the stock of vacancies")?;
        let (stock, replenishers, damaged) = join!(
            vacancies::list(&tx),
            vacancies::list_replenishers(&tx),
            vacancies::list_damaged(&tx)
        );
        let (mut stock, damaged) = (stock?, damaged?);
        stock.retain(|v| v.state == State::Dropping || !damaged.contains(&v.id));
        Ok(self.note_status(ctx.now, &stock, &replenishers?))
    }

    /// Does the next step that keeps the stock in order, unless another process is changing the stock. For a
    /// background task; it also records that this process is alive.
    ///
    /// # Errors
    /// Those of the rights check and of the database; a migration that cannot be applied.
    pub async fn tend(&self, ctx: &CallContext) -> Result<TendOutcome> {
        ctx.require(Permission::CreateTenant)?;
        self.set_damaged_aside(ctx).await?;
        self.take_back_if_answered().await?;
        Ok(match self.step(ctx, Some(self.0.replenisher), Aim::Maintain).await? {
            StepOutcome::Busy => TendOutcome::Busy,
            StepOutcome::Nothing => TendOutcome::Done,
            StepOutcome::Did(_) => TendOutcome::Worked,
        })
    }

    /// Sets aside the vacancies whose schema or role was changed, if a set-up found none that it could take since the last
    /// time, or at the first time.
    async fn set_damaged_aside(&self, ctx: &CallContext) -> Result<()> {
        let missed = self.0.missed.load(Ordering::Relaxed) + 1;
        if self.0.examined.swap(missed, Ordering::Relaxed) == missed {
            return Ok(());
        }
        let tx = self.0.db.public().await.during("look for damaged vacancies")?;
        let damaged = vacancies::set_damaged(&tx, ctx.now).await?;
        tx.commit().await.during("look for damaged vacancies")?;
        for id in damaged {
            tracing::error!(
                tenant.id = %id,
                "the schema or the role of a vacancy was changed by hand, so no tenant gets it; `rowhouse doctor` tells \
                 what was changed, and `rowhouse vacancies drop` drops it"
            );
        }
        Ok(())
    }

    /// Builds, migrates and drops until there are as many vacancies as are wanted, all of them up to date.
    ///
    /// # Errors
    /// As [`Vacancies::tend`]; [`Conflict::Concurrent`](crate::domain::error::Conflict) if another process does not
    /// release the lock on the stock.
    pub async fn fill(&self, ctx: &CallContext) -> Result<Work> {
        ctx.require(Permission::CreateTenant)?;
        self.work(ctx, Aim::Fill).await
    }

    /// Migrates or drops every vacancy that this program is ahead of, and makes no new ones: what a migration of the
    /// whole fleet does beside the tenants.
    ///
    /// # Errors
    /// As [`Vacancies::fill`].
    pub async fn rebuild_stale(&self, ctx: &CallContext) -> Result<Work> {
        ctx.require(Permission::MigrateFleet)?;
        self.work(ctx, Aim::RebuildStale).await
    }

    /// Drops every vacancy of whatever kind. A server that keeps a stock then makes a new one.
    ///
    /// # Errors
    /// Those of the rights check and of the database; [`Error::Purge`] for the first vacancy that was not dropped because
    /// of what is outside of it, after all others are dropped.
    pub async fn drop_all(&self, ctx: &CallContext) -> Result<Work> {
        ctx.require(Permission::DeleteTenant)?;
        let tx = self.0.db.public().await.during("drop vacancies")?;
        vacancies::lock(&tx).await?;
        let stock = vacancies::list(&tx).await?;
        let ids: Vec<TenantId> = stock.iter().map(|vacancy| vacancy.id).collect();
        vacancies::set_dropping(&tx, &ids).await?;
        tx.commit().await.during("drop vacancies")?;
        let mut work = Work::default();
        let mut stopped = None;
        for id in ids {
            match self.finish_dropping(id).await {
                Ok(dropped) => work.dropped += usize::from(dropped),
                Err(problem @ Error::Purge(_)) => stopped = stopped.or(Some(problem)),
                Err(error) => return Err(error),
            }
        }
        stopped.map_or(Ok(work), Err)
    }

    /// Removes the record that this process keeps a stock.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn retire(&self, ctx: &CallContext) -> Result<()> {
        ctx.require(Permission::CreateTenant)?;
        if self.0.wanted == 0 {
            return Ok(()); // it was never recorded
        }
        let tx = self.0.db.public().await.during("forget a replenisher of vacancies")?;
        vacancies::delete_replenisher(&tx, self.0.replenisher).await?;
        tx.commit().await.during("forget a replenisher of vacancies")
    }

    /// Waits until a set-up has asked for a vacancy since the last call.
    pub async fn asked(&self) {
        self.0.asked.notified().await;
    }

    /// Sets the metrics: what this process counted, and the status when it last read the stock.
    pub fn measure(&self, metrics: &Metrics, now: OffsetDateTime) {
        let inner = &self.0;
        metrics.set_vacancy_claims("claimed", inner.claimed.load(Ordering::Relaxed));
        metrics.set_vacancy_claims("missed", inner.missed.load(Ordering::Relaxed));
        let last = inner.last_status.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(status) = last else { return };
        metrics.set_vacancies_wanted(status.wanted);
        for (state, count) in [
            ("ready", status.ready),
            ("building", status.building),
            ("stale", status.stale),
            ("ahead", status.ahead),
            ("dropping", status.dropping),
        ] {
            metrics.set_vacancies(state, count);
        }
        let age = status.oldest_at.map_or(0, |at| (now - at).whole_seconds());
        metrics.set_vacancy_age(age.max(0));
    }

    /// Whether tenants can be made from the set.
    #[must_use]
    pub fn new_tenants(&self) -> &NewTenants {
        &self.0.new_tenants
    }

    /// Whether a set-up looks for a vacancy.
    pub(super) fn are_kept(&self) -> bool {
        self.0.wanted > 0
    }

    /// What a vacancy must match, and a tenant that is built without one.
    pub(super) fn pattern(&self) -> &Pattern {
        &self.0.pattern
    }

    /// Counts a set-up after its commit: whether it took a vacancy.
    pub(super) fn note_set_up(&self, was_vacancy: bool) {
        if self.are_kept() {
            let counter = if was_vacancy { &self.0.claimed } else { &self.0.missed };
            counter.fetch_add(1, Ordering::Relaxed);
            self.0.asked.notify_one();
        }
    }

    /// Returns the number of roles that this process keeps for set-ups that find no vacancy.
    fn spare_roles(&self, now: OffsetDateTime) -> usize {
        let missed = self.0.missed.load(Ordering::Relaxed);
        self.0.outrun.lock().unwrap_or_else(PoisonError::into_inner).note(missed, now)
    }

    /// Notes that a vacancy could not be dropped.
    fn note_stuck(&self, id: TenantId, now: OffsetDateTime) {
        self.0.stuck.lock().unwrap_or_else(PoisonError::into_inner).insert(id, now);
    }

    /// Whether a vacancy could not be dropped lately.
    fn is_stuck(&self, id: TenantId, now: OffsetDateTime) -> bool {
        let stuck = self.0.stuck.lock().unwrap_or_else(PoisonError::into_inner);
        stuck.get(&id).is_some_and(|since| *since + STUCK_FOR > now)
    }

    /// Computes the status, and keeps it for the metrics.
    fn note_status(
        &self,
        now: OffsetDateTime,
        stock: &[Vacancy],
        replenishers: &[Replenisher],
    ) -> StockStatus {
        let ours = &self.0.pattern;
        let is_alike = |r: &&Replenisher| r.pattern == *ours && r.seen_at + ALIVE_FOR > now;
        let mut status = StockStatus {
            wanted: self.0.wanted,
            replenishers: replenishers.iter().filter(is_alike).count(),
            ..StockStatus::default()
        };
        for Vacancy { state, pattern, created_at, .. } in stock {
            let count = match state {
                State::Dropping => &mut status.dropping,
                _ if pattern.version > ours.version => &mut status.ahead,
                _ if pattern != ours => &mut status.stale,
                State::Building => &mut status.building,
                State::Ready => {
                    // The list begins with the oldest.
                    status.oldest_at.get_or_insert(*created_at);
                    &mut status.ready
                }
            };
            *count += 1;
        }
        let mut last = self.0.last_status.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some(status.clone());
        status
    }
}

impl std::ops::AddAssign for Work {
    fn add_assign(&mut self, other: Self) {
        self.built += other.built;
        self.migrated += other.migrated;
        self.dropped += other.dropped;
    }
}
