//! Does what [`plan`](super::plan) decides, one step a transaction, under the lock on the stock.

use futures_util::join;
use time::OffsetDateTime;
use uuid::Uuid;

use super::dropping::drop_piece;
use super::plan::{self, ALIVE_FOR, Aim, Requester, Step};
use super::{StepOutcome, Vacancies, Work};
use crate::auth::CallContext;
use crate::domain::error::{Error, Result};
use crate::domain::names::{SchemaName, TenantId};
use crate::pg::control::vacancies::{self, Replenisher, State, Vacancy};
use crate::pg::schema::error::ApplyError;
use crate::pg::{During, PublicTx, schema};
use crate::service::fleet::to_error;

impl Vacancies {
    /// Does steps until nothing is left to do.
    pub(super) async fn work(&self, ctx: &CallContext, aim: Aim) -> Result<Work> {
        let mut sum = Work::default();
        loop {
            match self.step(ctx, None, aim).await? {
                StepOutcome::Did(work) => sum += work,
                StepOutcome::Nothing | StepOutcome::Busy => return Ok(sum),
            }
        }
    }

    /// Does one step. A replenisher does nothing while another process holds the lock on the stock; a command
    /// waits for it.
    pub(super) async fn step(
        &self,
        ctx: &CallContext,
        replenisher: Option<Uuid>,
        aim: Aim,
    ) -> Result<StepOutcome> {
        let tx = self.0.db.public().await.during("maintain the stock of vacancies")?;
        let lock = async {
            match replenisher {
                Some(_) => vacancies::try_lock(&tx).await,
                None => vacancies::lock(&tx).await.map(|()| true),
            }
        };
        // Each statement sees what was committed before it began: the lists show what the last owner of the lock did.
        let (locked, stock, replenishers, damaged) = join!(
            lock,
            vacancies::list(&tx),
            vacancies::list_replenishers(&tx),
            vacancies::list_damaged(&tx)
        );
        let (is_ours, mut stock, replenishers) = (locked?, stock?, replenishers?);
        let damaged = damaged?;
        // What was set aside is as good as not there, until it is dropped.
        stock.retain(|v| v.state == State::Dropping || !damaged.contains(&v.id));
        self.note_status(ctx.now, &stock, &replenishers);
        // What cannot be dropped must not keep the rest of the stock from being maintained.
        stock.retain(|v| v.state != State::Dropping || !self.is_stuck(v.id, ctx.now));
        if !is_ours {
            return Ok(StepOutcome::Busy);
        }
        let (pattern, wanted) = (&self.0.pattern, self.0.wanted);
        let spare_roles = replenisher.map_or(0, |_| self.spare_roles(ctx.now));
        let requester = Requester { replenisher, pattern, wanted, spare_roles, now: ctx.now };
        match plan::next(&requester, &stock, &replenishers, aim) {
            None => Ok(StepOutcome::Nothing),
            Some(step) => self.carry_out(ctx, tx, step).await.map(StepOutcome::Did),
        }
    }

    /// Carries a step out in the transaction in which it was decided.
    async fn carry_out(&self, ctx: &CallContext, tx: PublicTx, step: Step) -> Result<Work> {
        if matches!(step, Step::Reserve(_) | Step::Build(_) | Step::Migrate(_)) {
            self.0.new_tenants.require_fit(ctx.now).await?;
        }
        match step {
            Step::Register => self.register(tx, ctx.now).await.map(|()| Work::default()),
            Step::Reserve(count) => {
                self.reserve(tx, ctx.now, count).await.map(|()| Work::default())
            }
            Step::Build(id) => {
                let built = self.build(tx, id, ctx.now).await?;
                Ok(Work { built: built.into(), ..Work::default() })
            }
            Step::Migrate(id) => {
                let migrated = self.migrate(tx, id, ctx.now).await?;
                Ok(Work { migrated: migrated.into(), ..Work::default() })
            }
            Step::Drop(vacancy) => {
                let id = vacancy.id;
                match self.drop_some(tx, vacancy).await {
                    Ok(dropped) => Ok(Work { dropped: dropped.into(), ..Work::default() }),
                    Err(Error::Purge(problem)) => {
                        tracing::warn!(tenant.id = %id, reason = %problem, "a vacancy is not dropped");
                        self.note_stuck(id, ctx.now);
                        Ok(Work::default())
                    }
                    Err(error) => Err(error),
                }
            }
        }
    }

    async fn register(&self, tx: PublicTx, now: OffsetDateTime) -> Result<()> {
        let (pattern, wanted) = (self.0.pattern.clone(), self.0.wanted);
        let replenisher = Replenisher { id: self.0.replenisher, pattern, wanted, seen_at: now };
        vacancies::upsert_replenisher(&tx, &replenisher, now - ALIVE_FOR).await?;
        tx.commit().await.during("record a replenisher of vacancies")
    }

    /// Makes roles, and rows that say that schemas follow.
    async fn reserve(&self, tx: PublicTx, now: OffsetDateTime, count: usize) -> Result<()> {
        let ids: Vec<TenantId> = (0..count).map(|_| TenantId::generate()).collect();
        self.reserve_ids(tx, now, &ids).await
    }

    async fn reserve_ids(&self, tx: PublicTx, now: OffsetDateTime, ids: &[TenantId]) -> Result<()> {
        let names: Vec<SchemaName> = ids.iter().copied().map(SchemaName::of).collect();
        let rules = self.0.db.rules();
        schema::create_roles(&tx, &names, rules, self.0.server_version)
            .await
            .during("make the roles of vacancies")?;
        vacancies::insert(&tx, ids, &self.0.pattern, now).await?;
        tx.commit().await.during("begin vacancies")
    }

    /// Makes a vacancy and returns its id, for a set-up whose schema is not built in one transaction.
    pub(in crate::service) async fn make_one(&self, now: OffsetDateTime) -> Result<TenantId> {
        let tx = self.0.db.public().await.during("begin a vacancy")?;
        let id = TenantId::generate();
        self.reserve_ids(tx, now, &[id]).await?;
        self.build_in_steps(id, now).await.map(|_is_there| id)
    }

    /// Makes the schema of a vacancy that has its role; false if the vacancy is gone.
    async fn build(&self, tx: PublicTx, id: TenantId, now: OffsetDateTime) -> Result<bool> {
        if self.0.new_tenants.in_steps() {
            drop(tx); // and with it the lock on the stock, which this would hold for too long
            return self.build_in_steps(id, now).await;
        }
        if !vacancies::lock_in(&tx, id, State::Building).await? {
            return Ok(false);
        }
        let (schema, rules) = (SchemaName::of(id), self.0.db.rules());
        match schema::create_without_role(&tx, &schema, rules).await {
            // A process that built it in several transactions has died, or still does so.
            Err(failure) if failure.is_duplicate_schema() => {
                drop(tx);
                return self.build_in_steps(id, now).await;
            }
            created => created.during("build a vacancy")?,
        }
        match schema::build(&tx, &schema, &self.0.set, rules, now).await {
            Ok(()) => {}
            Err(ApplyError::Failed { needs_commit: true, .. }) => {
                self.0.new_tenants.note_steps();
                drop(tx);
                return self.build_in_steps(id, now).await;
            }
            Err(error) => return Err(self.unbuildable(error)),
        }
        vacancies::set_ready(&tx, id, &self.0.pattern).await?;
        tx.commit().await.during("build a vacancy")?;
        self.0.new_tenants.note_built();
        Ok(true)
    }

    /// As [`build`](Self::build), in several transactions. A vacancy whose files fail is dropped.
    async fn build_in_steps(&self, id: TenantId, now: OffsetDateTime) -> Result<bool> {
        let (db, set) = (&self.0.db, &self.0.set);
        let built = schema::build_in_steps(db, id, set, now).await;
        let tx = db.public().await.during("build a vacancy")?;
        match built {
            Ok(false) => return Ok(false),
            Ok(true) if !vacancies::lock_in(&tx, id, State::Building).await? => return Ok(false),
            Ok(true) => vacancies::set_ready(&tx, id, &self.0.pattern).await?,
            Err(error @ (ApplyError::Database(_) | ApplyError::Interrupted { .. })) => {
                return Err(to_error("build a vacancy", error));
            }
            Err(error) => {
                if vacancies::lock_in(&tx, id, State::Building).await? {
                    vacancies::set_dropping(&tx, &[id]).await?;
                    tx.commit().await.during("drop a vacancy")?;
                }
                return Err(self.unbuildable(error));
            }
        }
        tx.commit().await.during("build a vacancy")?;
        self.0.new_tenants.note_built();
        Ok(true)
    }

    /// Remembers that a file is at fault, and returns the error for the caller.
    pub(in crate::service) fn unbuildable(&self, error: ApplyError) -> Error {
        match error {
            ApplyError::Failed { .. } => {
                self.0.new_tenants.note_unbuildable(error.to_string()).into()
            }
            other => to_error("migrate a new schema", other),
        }
    }

    /// Migrates a vacancy of a lower version; false if a set-up has taken it. One that cannot be migrated is dropped:
    /// a new one is made from the same files as any new tenant.
    async fn migrate(&self, tx: PublicTx, id: TenantId, now: OffsetDateTime) -> Result<bool> {
        if !vacancies::lock_in(&tx, id, State::Ready).await? {
            return Ok(false);
        }
        let schema = SchemaName::of(id);
        match schema::migrate(&tx, &schema, &self.0.set, self.0.db.rules(), now).await {
            Ok(_) => {
                vacancies::set_ready(&tx, id, &self.0.pattern).await?;
                tx.commit().await.during("migrate a vacancy")?;
                Ok(true)
            }
            Err(error @ (ApplyError::Database(_) | ApplyError::Interrupted { .. })) => {
                Err(to_error("migrate a vacancy", error))
            }
            Err(error) => {
                drop(tx);
                tracing::info!(tenant.id = %id, reason = %error, "a vacancy cannot be migrated and is dropped");
                let tx = self.0.db.public().await.during("drop a vacancy")?;
                vacancies::set_dropping(&tx, &[id]).await?;
                tx.commit().await.during("drop a vacancy")?;
                Ok(false)
            }
        }
    }

    /// Begins to drop a vacancy, or continues; true if nothing of it is left. One transaction drops only a few
    /// tables, as in a purge of a tenant.
    async fn drop_some(&self, tx: PublicTx, vacancy: Vacancy) -> Result<bool> {
        if vacancy.state != State::Dropping {
            vacancies::set_dropping(&tx, &[vacancy.id]).await?;
            tx.commit().await.during("drop a vacancy")?;
            return Ok(false);
        }
        drop_piece(tx, vacancy.id).await
    }

    /// Drops a vacancy completely; false if a set-up took it or another process has dropped it.
    pub(super) async fn finish_dropping(&self, id: TenantId) -> Result<bool> {
        loop {
            let tx = self.0.db.public().await.during("drop a vacancy")?;
            let (locked, stock) = join!(vacancies::lock(&tx), vacancies::list(&tx));
            locked?;
            let is_it = |vacancy: &Vacancy| vacancy.id == id && vacancy.state == State::Dropping;
            let Some(vacancy) = stock?.into_iter().find(is_it) else { return Ok(false) };
            if drop_piece(tx, vacancy.id).await? {
                return Ok(true);
            }
        }
    }
}
