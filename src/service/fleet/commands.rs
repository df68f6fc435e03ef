//! The fleet, and the commands that start, run, pause, cancel and retry operations.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::auth::CallContext;
use crate::domain::error::{Conflict, Error, Noun, Result};
use crate::domain::operation::{FleetProblem, OperationKind, OperationState, PauseReason, Step};
use crate::domain::rule::{FieldProblem, Rule};
use crate::domain::{AuditAction, Permission};
use crate::migrations::MigrationSet;
use crate::pg::control::operation_tenants::{self, Choice};
use crate::pg::control::operations::{self, Record};
use crate::pg::error::During;
use crate::pg::{Db, PublicTx};
use crate::service::fleet::audit::note;
use crate::service::fleet::engine::Engine;
use crate::service::fleet::job::Events;
use crate::service::fleet::plan::{self, Plan};
use crate::service::fleet::rehearse::{Rehearsal, RehearsalTarget};
use crate::service::fleet::request::{MigrationRequest, resolve};
use crate::service::fleet::run::AcquireReason;
use crate::telemetry::Metrics;

/// Migrates tenants.
#[derive(Clone)]
pub struct Fleet {
    /// For short statements, from the runtime of the caller.
    pub(super) db: Db,
    pub(super) engine: Arc<Engine>,
}

impl Fleet {
    /// Runs short statements through `db` and operations with `engine`.
    #[must_use]
    pub fn new(db: Db, engine: Arc<Engine>) -> Self {
        Self { db, engine }
    }

    /// The set that tenants are migrated to.
    #[must_use]
    pub fn set(&self) -> &MigrationSet {
        &self.engine.set
    }

    /// Stops the runs of this process between tenants and releases their operations; any process can continue them.
    pub async fn stop(&self) {
        self.engine.stop().await;
    }

    /// As [`stop`](Self::stop), and does not wait for the tenants that are begun: they are rolled back.
    pub async fn stop_at_once(&self) {
        self.engine.stop_at_once().await;
    }

    /// Sets the metrics: what this process has done so far.
    pub fn measure(&self, metrics: &Metrics) {
        let tally = &self.engine.tally;
        metrics.set_fleet_runs(tally.running.load(Relaxed));
        metrics.set_fleet_tenants("done", tally.done.load(Relaxed));
        metrics.set_fleet_tenants("failed", tally.failed.load(Relaxed));
        metrics.set_fleet_tenants("again", tally.again.load(Relaxed));
    }

    /// Returns which tenants are behind and which files they lack; only of the named tenants if some are named.
    ///
    /// # Errors
    /// Those of the rights check and of the database; [`Rule::UnknownTenant`](crate::domain::Rule::UnknownTenant).
    pub async fn plan(&self, ctx: &CallContext, named: &[String]) -> Result<Plan> {
        ctx.require(Permission::ViewFleet)?;
        let tx = self.db.public().await.during("plan a migration")?;
        let only = resolve(&tx, "tenants", named).await?;
        let plan = plan::make(&tx, &self.engine.set, only.as_deref(), ctx.now).await?;
        tx.commit().await.during("plan a migration")?;
        Ok(plan)
    }

    /// Builds a tenant from the whole set and takes it back: proves that the next set-up works.
    ///
    /// # Errors
    /// [`FleetProblem::NewTenantsBlocked`], with the file and the line; those of the rights check and of the database.
    pub async fn check_new_tenants(&self, ctx: &CallContext) -> Result<()> {
        ctx.require(Permission::MigrateFleet)?;
        self.engine.new_tenants.check(ctx.now).await
    }

    /// As [`check_new_tenants`](Self::check_new_tenants); returns the reason if no tenant can be made.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn why_no_new_tenants(&self, ctx: &CallContext) -> Result<Option<String>> {
        ctx.require(Permission::MigrateFleet)?;
        match self.engine.new_tenants.check(ctx.now).await {
            Ok(()) => Ok(None),
            Err(Error::Fleet(problem)) => Ok(Some(problem.to_string())),
            Err(error) => Err(error),
        }
    }

    /// Runs the migration on one schema and rolls it back. Returns `None` if no tenant is behind.
    ///
    /// # Errors
    /// Those of the rights check and of the database; [`Noun::Tenant`] or [`Noun::Vacancy`] not found;
    /// [`FleetProblem::Ahead`], [`FleetProblem::Diverged`]. A file that fails is part of the result.
    pub async fn rehearse(
        &self,
        ctx: &CallContext,
        target: RehearsalTarget,
    ) -> Result<Option<Rehearsal>> {
        ctx.require(Permission::MigrateFleet)?;
        self.engine.rehearse(target, ctx.now).await
    }

    /// Inserts an operation, with a row for every tenant in it, and does not run it.
    ///
    /// # Errors
    /// [`FleetProblem::Ahead`], [`FleetProblem::Diverged`], [`FleetProblem::NewTenantsBlocked`], and
    /// [`FleetProblem::Held`] or
    /// [`FleetProblem::Open`] if another one is open; [`Rule::UnknownTenant`](crate::domain::Rule::UnknownTenant).
    pub async fn start(&self, ctx: &CallContext, request: &MigrationRequest) -> Result<Record> {
        ctx.require(Permission::MigrateFleet)?;
        let during = "start a migration";
        let tx = self.db.public().await.during(during)?;
        let only = resolve(&tx, "tenants", &request.tenants).await?;
        let canary = request.canary.as_ref().map_or(&[][..], |canary| &canary.tenants);
        let canary = resolve(&tx, "canary/tenants", canary).await?.unwrap_or_default();
        plan::make(&tx, &self.engine.set, only.as_deref(), ctx.now).await?.require_fit()?;
        if let Some(open) = operations::find_open(&tx, OperationKind::Migrate).await? {
            return Err(held_or_open(open).into());
        }
        // The tenant is then built on this connection, which has read the catalogs that it needs.
        tx.commit().await.during(during)?;
        if only.is_some() {
            self.engine.new_tenants.check(ctx.now).await?;
        } else {
            self.engine.new_tenants.check_build(ctx.now).await?;
        }
        let tx = self.db.public().await.during(during)?;
        let id = Uuid::now_v7();
        let new = operations::New {
            id,
            kind: OperationKind::Migrate,
            actor: &ctx.principal.label(),
            request_id: &ctx.request_id,
            set: &self.engine.set,
            options: request.options(),
            canary: request.canary.is_some(),
            now: ctx.now,
        };
        if operations::insert(&tx, &new).await?.is_none() {
            let open = operations::find_open(&tx, OperationKind::Migrate).await?;
            // It ended between the two statements: the same call succeeds now.
            let open = open.ok_or(Error::Conflict(Conflict::Concurrent))?;
            return Err(held_or_open(open).into());
        }
        let choice = Choice {
            only,
            canary_count: request.canary.as_ref().map_or(0, |canary| i64::from(canary.count)),
            canary,
        };
        let fingerprint = self.engine.set.fingerprint();
        let count = operation_tenants::insert(&tx, id, fingerprint, &choice).await?;
        let record = operations::lookup(&tx, id).await?.ok_or(Error::NotFound(Noun::Operation))?;
        note(&tx, ctx, AuditAction::MigrationStart, &record, json!({ "tenants": count })).await?;
        tx.commit().await.during(during)?;
        Ok(record)
    }

    /// Runs an operation that is planned, paused or abandoned, until it ends or is stopped, and returns it.
    ///
    /// # Errors
    /// [`Noun::Operation`] not found, [`FleetProblem::Held`], [`FleetProblem::IllegalMove`],
    /// [`FleetProblem::OtherSet`]; those of the database, after which any process can continue it.
    pub async fn run(&self, ctx: &CallContext, id: Uuid, events: Events) -> Result<Record> {
        ctx.require(Permission::MigrateFleet)?;
        let run = self.engine.acquire(ctx, id, AcquireReason::Asked).await?;
        Arc::clone(&self.engine).run(run, events).await
    }

    /// Takes a pause back whose runner still finishes the tenants that it has begun: the runner goes on. Returns `None` if
    /// the operation is in another state.
    async fn take_back_pause(&self, ctx: &CallContext, id: Uuid) -> Result<Option<Record>> {
        let (tx, before) = self.lock(id).await?;
        if before.state != OperationState::Paused || !before.is_held {
            return Ok(None);
        }
        let state = before.state.after(Step::Acquire)?;
        operations::set_state(&tx, id, state, None, ctx.now).await?;
        let details = json!({ "from": before.state.as_str(), "asked": true });
        self.finish(tx, ctx, id, AuditAction::MigrationResume, details).await.map(Some)
    }

    /// Runs an operation as [`Fleet::run`] does, in the background; the ledger tells what becomes of it.
    ///
    /// # Errors
    /// As [`Fleet::run`], until the operation is acquired.
    pub async fn run_in_background(&self, ctx: &CallContext, id: Uuid) -> Result<Record> {
        ctx.require(Permission::MigrateFleet)?;
        if let Some(record) = self.take_back_pause(ctx, id).await? {
            return Ok(record);
        }
        let (engine, ctx) = (Arc::clone(&self.engine), ctx.clone());
        let acquiring = self.engine.runtime.spawn(async move {
            let run = engine.acquire(&ctx, id, AcquireReason::Asked).await?;
            engine.run_in_background(run);
            Ok::<(), Error>(())
        });
        acquiring.await.map_err(|panicked| Error::internal("acquire an operation", panicked))??;
        self.lookup(id).await
    }

    /// Pauses an operation: no more tenants are begun. Those that are begun are finished.
    ///
    /// # Errors
    /// [`Noun::Operation`] not found, [`FleetProblem::IllegalMove`].
    pub async fn pause(&self, ctx: &CallContext, id: Uuid) -> Result<Record> {
        ctx.require(Permission::MigrateFleet)?;
        let (tx, before) = self.lock(id).await?;
        let state = before.state.after(Step::Pause)?;
        if before.state == state {
            return Ok(before);
        }
        operations::set_state(&tx, id, state, Some(PauseReason::Asked), ctx.now).await?;
        self.finish(tx, ctx, id, AuditAction::MigrationPause, json!({})).await
    }

    /// Cancels an operation. Migrated tenants stay migrated; tenants that are begun are finished.
    ///
    /// # Errors
    /// As [`Fleet::pause`].
    pub async fn cancel(&self, ctx: &CallContext, id: Uuid) -> Result<Record> {
        ctx.require(Permission::MigrateFleet)?;
        let (tx, before) = self.lock(id).await?;
        let state = before.state.after(Step::Cancel)?;
        let is_new = before.state != state;
        if is_new {
            operations::set_state(&tx, id, state, None, ctx.now).await?;
        }
        operation_tenants::skip(&tx, id, !before.is_held, ctx.now).await?;
        if is_new {
            return self.finish(tx, ctx, id, AuditAction::MigrationCancel, json!({})).await;
        }
        let record = operations::lookup(&tx, id).await?.ok_or(Error::NotFound(Noun::Operation))?;
        tx.commit().await.during("move an operation")?;
        Ok(record)
    }

    /// Makes the failed tenants of an operation pending again, or those of them that are named, and does not run it.
    ///
    /// # Errors
    /// As [`Fleet::pause`]; [`FleetProblem::Held`] or [`FleetProblem::Open`] if another one is open;
    /// [`FleetProblem::OtherSet`], [`FleetProblem::Pruned`]; [`Rule::UnknownTenant`](crate::domain::Rule::UnknownTenant)
    /// for a named tenant that has not failed in it.
    pub async fn retry(&self, ctx: &CallContext, id: Uuid, named: &[String]) -> Result<Record> {
        ctx.require(Permission::MigrateFleet)?;
        let (tx, before) = self.lock(id).await?;
        let only = resolve(&tx, "tenants", named).await?;
        let state = before.state.after(Step::Retry)?;
        if before.kind == OperationKind::Migrate
            && before.target_fingerprint != self.engine.set.fingerprint()
        {
            return Err(FleetProblem::OtherSet.into());
        }
        if let Some(open) =
            operations::find_open(&tx, before.kind).await?.filter(|open| open.id != id)
        {
            return Err(held_or_open(open).into());
        }
        operations::set_state(&tx, id, state, None, ctx.now).await?;
        let retried = operation_tenants::retry(&tx, id, only.as_deref()).await?;
        if let Some(only) = only {
            let unknown: Vec<FieldProblem> = only
                .iter()
                .enumerate()
                .filter(|(_, tenant)| !retried.contains(*tenant))
                .map(|(at, _)| FieldProblem::new(format!("/tenants/{at}"), Rule::UnknownTenant))
                .collect();
            if !unknown.is_empty() {
                return Err(Error::Invalid(unknown));
            }
        } else if retried.len() < usize::try_from(before.counts.failed).unwrap_or(0) {
            return Err(FleetProblem::Pruned.into());
        }
        let details = json!({ "tenants": retried.len() });
        self.finish(tx, ctx, id, AuditAction::MigrationRetry, details).await
    }

    pub(super) async fn lookup(&self, id: Uuid) -> Result<Record> {
        let tx = self.db.public().await.during("read operation")?;
        operations::lookup(&tx, id).await?.ok_or(Error::NotFound(Noun::Operation))
    }

    async fn lock(&self, id: Uuid) -> Result<(PublicTx, Record)> {
        let tx = self.db.public().await.during("move an operation")?;
        let record = operations::lock(&tx, id).await?.ok_or(Error::NotFound(Noun::Operation))?;
        Ok((tx, record))
    }

    /// Writes the event of a move and commits it; returns the operation as it is then.
    async fn finish(
        &self,
        tx: PublicTx,
        ctx: &CallContext,
        id: Uuid,
        action: AuditAction,
        details: Value,
    ) -> Result<Record> {
        let record = operations::lookup(&tx, id).await?.ok_or(Error::NotFound(Noun::Operation))?;
        note(&tx, ctx, action, &record, details).await?;
        tx.commit().await.during("move an operation")?;
        Ok(record)
    }
}

/// The open operation, as the reason why another one cannot start.
pub(super) fn held_or_open(open: Record) -> FleetProblem {
    match open.holder {
        Some(holder) if open.is_held => FleetProblem::Held(holder),
        _ => FleetProblem::Open { id: open.id, state: open.state },
    }
}
