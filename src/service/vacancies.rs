//! Keeps a stock of houses that are built before anybody asks for one, so that a set-up needs no DDL.
//!
//! A vacancy is what [`schemas`] makes for any tenant (role, schema, grants, all migrations), under the id
//! that its tenant will have, and a row that says so. A set-up takes it by deleting that row in the
//! transaction that writes the tenant's; rolled back, the vacancy is back in its place. Until then nobody
//! can enter it: there is no tenant of that id, and so nobody who is entitled to it.
//!
//! What is to be done is decided by `plan`, from what stands in the database, and is done in small
//! transactions under one lock, so that several processes share one stock. Roles are made together in a
//! first transaction, with rows that say *building*; each schema then follows in one of its own, which
//! also says *ready*. A process that dies in between leaves rows that the next one takes up. A vacancy is
//! nobody's, so there is no audit event before it becomes a tenant.
//!
//! With none wanted, set-ups do not look for any, and what is left of a stock is torn down as soon as no
//! other process wants it.

mod plan;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::join;
use time::OffsetDateTime;
use tokio::sync::Notify;
use uuid::Uuid;

use self::plan::{ALIVE_FOR, Asker, Step};
use crate::auth::CallContext;
use crate::domain::Permission;
use crate::domain::error::Result;
use crate::domain::names::{SchemaName, TenantId};
use crate::migrations::MigrationSet;
use crate::pg::control::vacancies::{self, Keeper, Pattern, State, Vacancy};
use crate::pg::schema::error::ApplyError;
use crate::pg::{Db, During, PublicTx, schema};
use crate::telemetry::Metrics;

pub use self::plan::Aim;

/// The stock of vacancies. Cheap to clone; the clones share what they know.
#[derive(Clone)]
pub struct Vacancies(Arc<Inner>);

struct Inner {
    db: Db,
    set: Arc<MigrationSet>,
    pattern: Pattern,
    server_version: u32,
    wanted: usize,
    /// This process as a keeper.
    keeper: Uuid,
    /// Told when a set-up has asked for a vacancy.
    asked: Notify,
    /// Set-ups that took a vacancy, and those that found none.
    claimed: AtomicU64,
    missed: AtomicU64,
    /// What the last look saw.
    seen: Mutex<Option<Standing>>,
}

/// How the stock stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// How many this process wants.
    pub wanted: usize,
    /// How many processes look after vacancies of this kind.
    pub keepers: usize,
    /// How many can be taken.
    pub ready: usize,
    /// How many have been begun.
    pub building: usize,
    /// How many are for other migrations or another isolation, and not ahead.
    pub stale: usize,
    /// How many are for a later version than this program's.
    pub ahead: usize,
    /// How many are being torn down.
    pub dropping: usize,
    /// When the oldest of those that can be taken was begun.
    pub oldest_at: Option<OffsetDateTime>,
}

/// What a look at the stock came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tended {
    /// One piece of work was done; there may be more.
    Worked,
    /// There is nothing to do.
    Done,
    /// Another process is at it.
    Busy,
}

/// What was done to the stock, piece by piece.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// Vacancies that were built.
    pub built: usize,
    /// Vacancies that were brought up to date.
    pub migrated: usize,
    /// Vacancies that were torn down.
    pub dropped: usize,
}

/// How one step ended.
enum Outcome {
    Busy,
    Nothing,
    Did(Work),
}

impl Vacancies {
    /// Keeps `wanted` vacancies on `set`.
    #[must_use]
    pub fn new(db: Db, set: Arc<MigrationSet>, server_version: u32, wanted: usize) -> Self {
        let pattern = Pattern::of(&set, db.rules().isolation);
        Self(Arc::new(Inner {
            db,
            set,
            pattern,
            server_version,
            wanted,
            keeper: Uuid::now_v7(),
            asked: Notify::new(),
            claimed: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            seen: Mutex::default(),
        }))
    }

    /// How the stock stands.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn standing(&self, ctx: &CallContext) -> Result<Standing> {
        ctx.require(Permission::ViewTenants)?;
        let tx = self.0.db.public().await.during("look at the stock of vacancies")?;
        let (there, keepers) = join!(vacancies::list(&tx), vacancies::list_keepers(&tx));
        Ok(self.look(ctx.now, &there?, &keepers?))
    }

    /// Does the next piece of the work that keeps the stock in order, unless another process is at it. For
    /// a task in the background, which says by this that it lives.
    ///
    /// # Errors
    /// Those of the rights check and of the database; the migration that cannot be applied.
    pub async fn tend(&self, ctx: &CallContext) -> Result<Tended> {
        ctx.require(Permission::CreateTenant)?;
        Ok(match self.step(ctx, Some(self.0.keeper), Aim::Order).await? {
            Outcome::Busy => Tended::Busy,
            Outcome::Nothing => Tended::Done,
            Outcome::Did(_) => Tended::Worked,
        })
    }

    /// Does what is to be done until there are as many vacancies as are wanted, all of them up to date.
    ///
    /// # Errors
    /// As [`Vacancies::tend`]; [`Conflict::Concurrent`](crate::domain::error::Conflict) where another
    /// process does not let go of the stock.
    pub async fn fill(&self, ctx: &CallContext) -> Result<Work> {
        ctx.require(Permission::CreateTenant)?;
        self.work(ctx, Aim::Full).await
    }

    /// Migrates or drops every vacancy that this program is ahead of, and makes no new ones: what a
    /// migration of the whole fleet does beside the tenants.
    ///
    /// # Errors
    /// As [`Vacancies::fill`].
    pub async fn rebuild_stale(&self, ctx: &CallContext) -> Result<Work> {
        ctx.require(Permission::MigrateFleet)?;
        self.work(ctx, Aim::Fitting).await
    }

    /// Tears down every vacancy there is, of whatever kind. A server that keeps a stock makes a new one.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn drop_all(&self, ctx: &CallContext) -> Result<Work> {
        ctx.require(Permission::DeleteTenant)?;
        let tx = self.0.db.public().await.during("drop vacancies")?;
        vacancies::lock(&tx).await?;
        let there = vacancies::list(&tx).await?;
        let ids: Vec<TenantId> = there.iter().map(|vacancy| vacancy.id).collect();
        vacancies::set_dropping(&tx, &ids).await?;
        tx.commit().await.during("drop vacancies")?;
        let mut work = Work::default();
        for id in ids {
            work.dropped += usize::from(self.finish_dropping(id).await?);
        }
        Ok(work)
    }

    /// Says that this process looks after the stock no more.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn retire(&self, ctx: &CallContext) -> Result<()> {
        ctx.require(Permission::CreateTenant)?;
        if self.0.wanted == 0 {
            return Ok(()); // it never said that it did
        }
        let tx = self.0.db.public().await.during("forget a keeper of vacancies")?;
        vacancies::delete_keeper(&tx, self.0.keeper).await?;
        tx.commit().await.during("forget a keeper of vacancies")
    }

    /// Waits until a set-up has asked for a vacancy since the last time.
    pub async fn asked(&self) {
        self.0.asked.notified().await;
    }

    /// Writes what is known of the stock into the metrics: what this process counted, and what its last
    /// look saw.
    pub fn measure(&self, metrics: &Metrics, now: OffsetDateTime) {
        let inner = &self.0;
        metrics.set_vacancy_claims("claimed", inner.claimed.load(Ordering::Relaxed));
        metrics.set_vacancy_claims("missed", inner.missed.load(Ordering::Relaxed));
        let seen = inner.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(standing) = seen else { return };
        for (state, count) in [
            ("wanted", standing.wanted),
            ("ready", standing.ready),
            ("building", standing.building),
            ("stale", standing.stale),
            ("ahead", standing.ahead),
            ("dropping", standing.dropping),
        ] {
            metrics.set_vacancies(state, count);
        }
        let age = standing.oldest_at.map_or(0, |at| (now - at).whole_seconds());
        metrics.set_vacancy_age(age.max(0));
    }

    /// Whether a set-up looks for a vacancy.
    pub(super) fn are_kept(&self) -> bool {
        self.0.wanted > 0
    }

    /// What a vacancy must fit, and a tenant that is built without one.
    pub(super) fn pattern(&self) -> &Pattern {
        &self.0.pattern
    }

    /// To be told after the commit: whether the tenant's house was a vacancy.
    pub(super) fn note_set_up(&self, was_vacancy: bool) {
        if self.are_kept() {
            let counter = if was_vacancy { &self.0.claimed } else { &self.0.missed };
            counter.fetch_add(1, Ordering::Relaxed);
            self.0.asked.notify_one();
        }
    }

    async fn work(&self, ctx: &CallContext, aim: Aim) -> Result<Work> {
        let mut sum = Work::default();
        loop {
            match self.step(ctx, None, aim).await? {
                Outcome::Did(work) => sum += work,
                Outcome::Nothing | Outcome::Busy => return Ok(sum),
            }
        }
    }

    /// One step. A keeper leaves the stock to whoever is at it; a command waits.
    async fn step(&self, ctx: &CallContext, keeper: Option<Uuid>, aim: Aim) -> Result<Outcome> {
        let tx = self.0.db.public().await.during("look after the stock of vacancies")?;
        let lock = async {
            match keeper {
                Some(_) => vacancies::try_lock(&tx).await,
                None => vacancies::lock(&tx).await.map(|()| true),
            }
        };
        // Each statement sees what was committed before it began: the lists, what the last holder did.
        let (locked, there, keepers) =
            join!(lock, vacancies::list(&tx), vacancies::list_keepers(&tx));
        let (is_ours, there, keepers) = (locked?, there?, keepers?);
        self.look(ctx.now, &there, &keepers);
        if !is_ours {
            return Ok(Outcome::Busy);
        }
        let (pattern, wanted) = (&self.0.pattern, self.0.wanted);
        let asker = Asker { keeper, pattern, wanted, now: ctx.now };
        match plan::next(&asker, &there, &keepers, aim) {
            None => Ok(Outcome::Nothing),
            Some(step) => self.carry_out(ctx, tx, step).await.map(Outcome::Did),
        }
    }

    /// Carries a step out in the transaction that it was decided in.
    async fn carry_out(&self, ctx: &CallContext, tx: PublicTx, step: Step) -> Result<Work> {
        match step {
            Step::Register => self.register(tx, ctx.now).await.map(|()| Work::default()),
            Step::Reserve(count) => {
                self.reserve(tx, ctx.now, count).await.map(|()| Work::default())
            }
            Step::Build(id) => {
                let built = self.build(tx, id).await?;
                Ok(Work { built: built.into(), ..Work::default() })
            }
            Step::Migrate(id) => {
                let migrated = self.migrate(tx, id).await?;
                Ok(Work { migrated: migrated.into(), ..Work::default() })
            }
            Step::Drop(vacancy) => {
                let dropped = self.drop_some(tx, vacancy).await?;
                Ok(Work { dropped: dropped.into(), ..Work::default() })
            }
        }
    }

    async fn register(&self, tx: PublicTx, now: OffsetDateTime) -> Result<()> {
        let (pattern, wanted) = (self.0.pattern.clone(), self.0.wanted);
        let keeper = Keeper { id: self.0.keeper, pattern, wanted, seen_at: now };
        vacancies::write_keeper(&tx, &keeper, now - ALIVE_FOR).await?;
        tx.commit().await.during("write a keeper of vacancies")
    }

    /// Makes roles, and rows that say that schemas are to follow.
    async fn reserve(&self, tx: PublicTx, now: OffsetDateTime, count: usize) -> Result<()> {
        let ids: Vec<TenantId> = (0..count).map(|_| TenantId::generate()).collect();
        let names: Vec<SchemaName> = ids.iter().copied().map(SchemaName::of).collect();
        let rules = self.0.db.rules();
        schema::create_roles(&tx, &names, rules, self.0.server_version)
            .await
            .during("make the roles of vacancies")?;
        vacancies::insert(&tx, &ids, &self.0.pattern, now).await?;
        tx.commit().await.during("begin vacancies")
    }

    /// Makes the schema of a vacancy whose role is there; false where it is gone meanwhile.
    async fn build(&self, tx: PublicTx, id: TenantId) -> Result<bool> {
        if !vacancies::hold(&tx, id).await? {
            return Ok(false);
        }
        let (schema, rules) = (SchemaName::of(id), self.0.db.rules());
        schema::create_without_role(&tx, &schema, rules).await.during("build a vacancy")?;
        schema::migrate(&tx, &schema, &self.0.set, rules)
            .await
            .map_err(|error| super::fleet::to_error("migrate a vacancy", error))?;
        vacancies::set_ready(&tx, id, &self.0.pattern).await?;
        tx.commit().await.during("build a vacancy")?;
        Ok(true)
    }

    /// Brings a vacancy of a lower version up to date; false where it was taken meanwhile. One that cannot
    /// be brought there is given up: a new one is made of the same files as any new tenant.
    async fn migrate(&self, tx: PublicTx, id: TenantId) -> Result<bool> {
        if !vacancies::hold(&tx, id).await? {
            return Ok(false);
        }
        let schema = SchemaName::of(id);
        match schema::migrate(&tx, &schema, &self.0.set, self.0.db.rules()).await {
            Ok(_) => {
                vacancies::set_ready(&tx, id, &self.0.pattern).await?;
                tx.commit().await.during("migrate a vacancy")?;
                Ok(true)
            }
            Err(error @ (ApplyError::Database(_) | ApplyError::Interrupted { .. })) => {
                Err(super::fleet::to_error("migrate a vacancy", error))
            }
            Err(error) => {
                drop(tx);
                tracing::info!(tenant.id = %id, reason = %error, "a vacancy cannot be migrated and is given up");
                let tx = self.0.db.public().await.during("give a vacancy up")?;
                vacancies::set_dropping(&tx, &[id]).await?;
                tx.commit().await.during("give a vacancy up")?;
                Ok(false)
            }
        }
    }

    /// Begins to tear a vacancy down, or goes on with it; true where nothing of it is left. Few things go
    /// in one transaction, as when a tenant is purged.
    async fn drop_some(&self, tx: PublicTx, vacancy: Vacancy) -> Result<bool> {
        if vacancy.state != State::Dropping {
            vacancies::set_dropping(&tx, &[vacancy.id]).await?;
            tx.commit().await.during("drop a vacancy")?;
            return Ok(false);
        }
        self.drop_piece(tx, &vacancy).await
    }

    async fn drop_piece(&self, tx: PublicTx, vacancy: &Vacancy) -> Result<bool> {
        let schema = SchemaName::of(vacancy.id);
        let some = schema::drop_some(&tx, &schema).await.during("drop tables of a vacancy")?;
        if !some {
            schema::drop_unfinished(&tx, &schema, vacancy.pattern.isolation)
                .await
                .during("drop a vacancy")?;
            vacancies::delete(&tx, vacancy.id).await?;
        }
        tx.commit().await.during("drop a vacancy")?;
        Ok(!some)
    }

    /// Tears a vacancy down to its end; false where a set-up or another process was first.
    async fn finish_dropping(&self, id: TenantId) -> Result<bool> {
        loop {
            let tx = self.0.db.public().await.during("drop a vacancy")?;
            let (locked, there) = join!(vacancies::lock(&tx), vacancies::list(&tx));
            locked?;
            let doomed = |vacancy: &Vacancy| vacancy.id == id && vacancy.state == State::Dropping;
            let Some(vacancy) = there?.into_iter().find(doomed) else { return Ok(false) };
            if self.drop_piece(tx, &vacancy).await? {
                return Ok(true);
            }
        }
    }

    /// Adds up what is there, and remembers it for the metrics.
    fn look(&self, now: OffsetDateTime, there: &[Vacancy], keepers: &[Keeper]) -> Standing {
        let ours = &self.0.pattern;
        let keeps = |k: &&Keeper| k.pattern == *ours && k.seen_at + ALIVE_FOR > now;
        let mut standing = Standing {
            wanted: self.0.wanted,
            keepers: keepers.iter().filter(keeps).count(),
            ..Standing::default()
        };
        for Vacancy { state, pattern, created_at, .. } in there {
            let count = match state {
                State::Dropping => &mut standing.dropping,
                _ if pattern.version > ours.version => &mut standing.ahead,
                _ if pattern != ours => &mut standing.stale,
                State::Building => &mut standing.building,
                State::Ready => {
                    // The list begins with the oldest.
                    standing.oldest_at.get_or_insert(*created_at);
                    &mut standing.ready
                }
            };
            *count += 1;
        }
        let mut seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen = Some(standing.clone());
        standing
    }
}

impl std::ops::AddAssign for Work {
    fn add_assign(&mut self, other: Self) {
        self.built += other.built;
        self.migrated += other.migrated;
        self.dropped += other.dropped;
    }
}
