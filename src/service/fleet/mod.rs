//! Works on all tenants together: brings every schema up to date, one transaction a tenant.
//!
//! An operation stands in the ledger (`public.operations`) before anything is done, with a row for each tenant
//! that is behind. Whoever runs it holds a lease on it, which any process can see; when that runs out, any
//! process takes the operation up where it was left. A tenant's migration and its schema's history are
//! committed together, so that wherever a runner dies each tenant is migrated once or not at all. What the tenant's
//! own row and the ledger say of it is written a moment later, for many at a time, and by whoever goes on where
//! that did not come about. A tenant that fails is named and left as it was; the others go on.
//!
//! Suspended tenants are migrated, because they come back as they are. Tenants that are being deleted are not
//! begun: one that is restored is behind, and the next operation finds it.
//!
//! - [`plan`]: who is behind by what, from one query.
//! - [`rehearse`]: one schema, rolled back.
//! - [`run`]: the runner; [`workers`]: how it gets through the tenants, the next of which are in a [`queue`];
//!   [`tenant`]: what it does to each; [`records`]: writing that down; [`halt`]: why it stops.
//! - [`takeup`]: going on where a runner is gone, without being asked.
//! - [`ledger`]: what operations there are, and what became of their tenants.
//! - [`prune`]: forgetting what became of each tenant long ago.

mod migrate_one;
mod plan;
mod prune;
mod queries;
mod queue;
mod recorder;
mod recovery;
mod rehearse;
mod run;
mod stop;
mod workers;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use uuid::Uuid;

use super::audit;
use crate::auth::CallContext;
use crate::domain::error::{Error, Noun, Result};
use crate::domain::names::TenantId;
use crate::domain::operation::{FleetProblem, PauseReason, Step, Then};
use crate::domain::rule::{FieldProblem, Rule};
use crate::domain::{Clock, Permission};
use crate::migrations::MigrationSet;
use crate::pg::control::operation_tenants::{self, Choice};
use crate::pg::control::{migration_sets, operations};
use crate::pg::db::Database;
use crate::pg::error::{During, Failure};
use crate::pg::schema::error::ApplyError;
use crate::pg::{Db, PublicTx};
use crate::telemetry::Metrics;

pub use self::plan::{Behind, Plan};
pub use self::rehearse::{House, Rehearsal, Stage, Trial, TrialEnd};
use self::run::Tally;
pub use self::run::{Event, Events};
pub use crate::pg::control::operation_tenants::{End, Work};
pub use crate::pg::control::operations::{Counts, Record};
pub use crate::service::fleet::recovery::Look;
use crate::service::fleet::recovery::Why;

/// Migrates tenants.
#[derive(Clone)]
pub struct Fleet {
    /// For short statements, from the runtime that asks.
    db: Db,
    engine: Arc<Engine>,
}

/// What runs operations, one for the whole process.
pub struct Engine {
    /// Whose pools `db` are.
    runtime: Handle,
    db: Db,
    database: Database,
    set: Arc<MigrationSet>,
    clock: Clock,
    limits: Limits,
    /// The machine and the process, as others are told.
    host: String,
    pid: i32,
    tally: Tally,
    runs: stop::Runs,
    /// Held by whoever rehearses.
    rehearsing: Mutex<()>,
}

/// How much one process takes upon itself.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Tenants at the same time, where nobody says how many.
    pub workers: usize,
    /// Tenants at the same time, at most: there are so many connections.
    pub most_workers: usize,
    /// How long after its last sign of life a runner is taken for gone.
    pub lease: Duration,
    /// Whether another process may go on by itself with what this one lets go of when it stops. Not where
    /// somebody watches the run: whoever stops it means it.
    pub hands_on: bool,
}

/// What is to be migrated, and how.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// These tenants alone, by slug or id; everybody who is behind where none is named.
    pub tenants: Vec<String>,
    /// Some that come first.
    pub canary: Option<Canary>,
    /// Tenants at the same time.
    pub workers: Option<usize>,
    /// Pause as soon as so many have failed.
    pub max_failures: Option<usize>,
}

/// Tenants that come first.
#[derive(Debug, Clone)]
pub struct Canary {
    /// So many, the oldest ones.
    pub count: u32,
    /// And these, by slug or id.
    pub tenants: Vec<String>,
    /// What follows if they went well.
    pub then: Then,
}

impl Engine {
    /// Runs operations on `runtime`, whose pools `db` are, towards `set`.
    #[must_use]
    pub fn new(
        runtime: Handle,
        db: Db,
        database: Database,
        set: Arc<MigrationSet>,
        clock: Clock,
        limits: Limits,
        host: String,
    ) -> Self {
        let pid = i32::try_from(std::process::id()).unwrap_or(0);
        let (tally, runs, rehearsing) = (Tally::default(), stop::Runs::default(), Mutex::new(()));
        Self { runtime, db, database, set, clock, limits, host, pid, tally, runs, rehearsing }
    }

    /// Stops what this process runs, between tenants, and lets go of it; any process can take it up.
    pub async fn stop(&self) {
        self.runs.stop().await;
    }
}

impl Fleet {
    /// Asks through `db`, runs by `engine`.
    #[must_use]
    pub fn new(db: Db, engine: Arc<Engine>) -> Self {
        Self { db, engine }
    }

    /// The set that tenants are migrated to.
    #[must_use]
    pub fn set(&self) -> &MigrationSet {
        &self.engine.set
    }

    /// Stops what this process runs, between tenants, and lets go of it; any process can take it up.
    pub async fn stop(&self) {
        self.engine.stop().await;
    }

    /// Writes what this process has done so far into the metrics.
    pub fn measure(&self, metrics: &Metrics) {
        let tally = &self.engine.tally;
        metrics.set_fleet_runs(tally.running.load(Relaxed));
        metrics.set_fleet_tenants("done", tally.done.load(Relaxed));
        metrics.set_fleet_tenants("failed", tally.failed.load(Relaxed));
        metrics.set_fleet_tenants("again", tally.again.load(Relaxed));
    }

    /// Who is behind and by what, of these tenants alone where some are named.
    ///
    /// # Errors
    /// Those of the rights check and of the database; [`Rule::UnknownTenant`].
    pub async fn plan(&self, ctx: &CallContext, named: &[String]) -> Result<Plan> {
        ctx.require(Permission::MigrateFleet)?;
        let tx = self.db.public().await.during("plan a migration")?;
        let only = resolve(&tx, "tenants", named).await?;
        let plan = plan::make(&tx, &self.engine.set, only.as_deref(), ctx.now).await?;
        tx.commit().await.during("plan a migration")?;
        Ok(plan)
    }

    /// Tries the migration on one schema and takes everything back; nothing where nobody is behind.
    ///
    /// # Errors
    /// Those of the rights check and of the database; [`Noun::Tenant`] or [`Noun::Vacancy`] not found;
    /// [`FleetProblem::Ahead`], [`FleetProblem::Diverged`]. That a file fails is an answer.
    pub async fn rehearse(&self, ctx: &CallContext, stage: Stage) -> Result<Option<Rehearsal>> {
        ctx.require(Permission::MigrateFleet)?;
        self.engine.rehearse(stage, ctx.now).await
    }

    /// Writes an operation down, with a row for every tenant in it; nobody runs it yet.
    ///
    /// # Errors
    /// [`FleetProblem::Ahead`], [`FleetProblem::Diverged`], and [`FleetProblem::Held`] or
    /// [`FleetProblem::Open`] where there is one already; [`Rule::UnknownTenant`].
    pub async fn start(&self, ctx: &CallContext, wish: &Wish) -> Result<Record> {
        ctx.require(Permission::MigrateFleet)?;
        let tx = self.db.public().await.during("start a migration")?;
        let only = resolve(&tx, "tenants", &wish.tenants).await?;
        let canary = wish.canary.as_ref().map_or(&[][..], |canary| &canary.tenants);
        let canary = resolve(&tx, "canary/tenants", canary).await?.unwrap_or_default();
        plan::make(&tx, &self.engine.set, only.as_deref(), ctx.now).await?.require_fit()?;
        let id = Uuid::now_v7();
        let new = operations::New {
            id,
            actor: &ctx.principal.label(),
            request_id: &ctx.request_id,
            set: &self.engine.set,
            options: options(wish),
            canary: wish.canary.is_some(),
            now: ctx.now,
        };
        if operations::insert(&tx, &new).await?.is_none() {
            let open = operations::find_open(&tx).await?;
            // Ended between the two looks: the same call works now.
            let open = open.ok_or(Error::Conflict(crate::domain::error::Conflict::Concurrent))?;
            return Err(held_or_open(open).into());
        }
        let choice = Choice {
            only,
            canary_count: wish.canary.as_ref().map_or(0, |canary| i64::from(canary.count)),
            canary,
        };
        let fingerprint = self.engine.set.fingerprint();
        let count = operation_tenants::insert(&tx, id, fingerprint, &choice).await?;
        note(&tx, ctx, "migration.start", id, json!({ "tenants": count })).await?;
        let record = operations::lookup(&tx, id).await?.ok_or(Error::NotFound(Noun::Operation))?;
        tx.commit().await.during("start a migration")?;
        Ok(record)
    }

    /// Runs an operation that is planned, paused, or was left by somebody who is gone, until it ends or is
    /// stopped by anybody; tells what became of it.
    ///
    /// # Errors
    /// [`Noun::Operation`] not found, [`FleetProblem::Held`], [`FleetProblem::IllegalMove`],
    /// [`FleetProblem::OtherSet`]; those of the database, after which any process can take it up.
    pub async fn run(&self, ctx: &CallContext, id: Uuid, events: Events) -> Result<Record> {
        ctx.require(Permission::MigrateFleet)?;
        let go = self.engine.take_up(ctx, id, Why::Asked).await?;
        Arc::clone(&self.engine).work(go, events).await
    }

    /// As [`Fleet::run`], behind the caller's back: what becomes of it is in the ledger.
    ///
    /// # Errors
    /// As [`Fleet::run`], as far as taking it up.
    pub async fn run_in_background(&self, ctx: &CallContext, id: Uuid) -> Result<Record> {
        ctx.require(Permission::MigrateFleet)?;
        let (engine, ctx) = (Arc::clone(&self.engine), ctx.clone());
        let taking = self.engine.runtime.spawn(async move {
            let go = engine.take_up(&ctx, id, Why::Asked).await?;
            engine.work_in_background(go);
            Ok::<(), Error>(())
        });
        taking.await.map_err(|panicked| Error::internal("take an operation up", panicked))??;
        self.lookup(id).await
    }

    /// Begins no more tenants of an operation. Those that are begun come to their end.
    ///
    /// # Errors
    /// [`Noun::Operation`] not found, [`FleetProblem::IllegalMove`].
    pub async fn pause(&self, ctx: &CallContext, id: Uuid) -> Result<Record> {
        ctx.require(Permission::MigrateFleet)?;
        let (tx, before) = self.lock(id).await?;
        let state = before.state.after(Step::Pause)?;
        if before.state != state {
            operations::set_state(&tx, id, state, Some(PauseReason::Asked), ctx.now).await?;
            note(&tx, ctx, "migration.pause", id, json!({})).await?;
        }
        self.finish(tx, id).await
    }

    /// Gives an operation up. What is migrated stays so; tenants that are begun come to their end.
    ///
    /// # Errors
    /// As [`Fleet::pause`].
    pub async fn cancel(&self, ctx: &CallContext, id: Uuid) -> Result<Record> {
        ctx.require(Permission::MigrateFleet)?;
        let (tx, before) = self.lock(id).await?;
        let state = before.state.after(Step::Cancel)?;
        if before.state != state {
            operations::set_state(&tx, id, state, None, ctx.now).await?;
            note(&tx, ctx, "migration.cancel", id, json!({})).await?;
        }
        operation_tenants::skip(&tx, id, !before.is_held, ctx.now).await?;
        self.finish(tx, id).await
    }

    /// Puts the tenants that failed back among those that are to be tried; nobody runs it yet.
    ///
    /// # Errors
    /// As [`Fleet::pause`]; [`FleetProblem::Held`] or [`FleetProblem::Open`] where another one is open;
    /// [`FleetProblem::OtherSet`], [`FleetProblem::Pruned`].
    pub async fn retry(&self, ctx: &CallContext, id: Uuid) -> Result<Record> {
        ctx.require(Permission::MigrateFleet)?;
        let (tx, before) = self.lock(id).await?;
        let state = before.state.after(Step::Retry)?;
        if before.target_fingerprint != self.engine.set.fingerprint() {
            return Err(FleetProblem::OtherSet.into());
        }
        if let Some(open) = operations::find_open(&tx).await?.filter(|open| open.id != id) {
            return Err(held_or_open(open).into());
        }
        operations::set_state(&tx, id, state, None, ctx.now).await?;
        let count = operation_tenants::retry(&tx, id).await?;
        if count < u64::try_from(before.counts.failed).unwrap_or(0) {
            return Err(FleetProblem::Pruned.into());
        }
        note(&tx, ctx, "migration.retry", id, json!({ "tenants": count })).await?;
        self.finish(tx, id).await
    }

    async fn lookup(&self, id: Uuid) -> Result<Record> {
        let tx = self.db.public().await.during("read operation")?;
        operations::lookup(&tx, id).await?.ok_or(Error::NotFound(Noun::Operation))
    }

    async fn lock(&self, id: Uuid) -> Result<(PublicTx, Record)> {
        let tx = self.db.public().await.during("move an operation")?;
        let record = operations::lock(&tx, id).await?.ok_or(Error::NotFound(Noun::Operation))?;
        Ok((tx, record))
    }

    async fn finish(&self, tx: PublicTx, id: Uuid) -> Result<Record> {
        let record = operations::lookup(&tx, id).await?.ok_or(Error::NotFound(Noun::Operation))?;
        tx.commit().await.during("move an operation")?;
        Ok(record)
    }
}

/// Who stands in the way.
fn held_or_open(open: Record) -> FleetProblem {
    match open.holder {
        Some(holder) if open.is_held => FleetProblem::Held(holder),
        _ => FleetProblem::Open { id: open.id, state: open.state },
    }
}

fn options(wish: &Wish) -> Value {
    let canary = wish.canary.as_ref().map(|canary| {
        json!({
            "count": canary.count, "tenants": canary.tenants, "then": canary.then.as_str(),
        })
    });
    json!({
        "tenants": wish.tenants, "canary": canary, "workers": wish.workers,
        "max_failures": wish.max_failures,
    })
}

/// The ids of tenants that somebody named; none where nobody was named.
async fn resolve(tx: &PublicTx, field: &str, named: &[String]) -> Result<Option<Vec<Uuid>>> {
    if named.is_empty() {
        return Ok(None);
    }
    let found = migration_sets::resolve(tx, named).await?;
    let unknown: Vec<FieldProblem> = named
        .iter()
        .enumerate()
        .filter(|(_, name)| !found.contains_key(*name))
        .map(|(at, _)| FieldProblem::new(format!("/{field}/{at}"), Rule::UnknownTenant))
        .collect();
    if unknown.is_empty() {
        Ok(Some(found.into_values().collect()))
    } else {
        Err(Error::Invalid(unknown))
    }
}

async fn note(
    tx: &PublicTx,
    ctx: &CallContext,
    action: &'static str,
    operation: Uuid,
    mut details: Value,
) -> Result<()> {
    details["operation"] = json!(operation);
    audit::note(tx, ctx, action, None::<TenantId>, details).await
}

/// Sorts a failed migration by remedy: the database's own failures keep their kind.
pub(super) fn to_error(during: &'static str, error: ApplyError) -> Error {
    match error {
        ApplyError::Database(failure @ (Failure::Pool(_) | Failure::Postgres(_)))
        | ApplyError::Interrupted { failure, .. } => failure.during(during),
        other => Error::internal(during, other),
    }
}
