//! Runs an operation: takes its lease, keeps it, lets [`super::workers`] migrate, and writes down how it ended.
//!
//! Only the holder of the lease claims, and nothing is begun in a tenant once the lease has run out, by the
//! database's own clock: a runner that was taken for gone and is not, or that slept, begins nothing more. What it
//! had begun may end. Whoever has the operation by then waits for the same tenant's lock, and finds what its
//! history says.
//!
//! What is done to a tenant is committed without waiting for the disk ([`Flush::Later`]): schema and history are
//! one transaction, so a crash of the database server takes back all of it, of the last tenants alone, and
//! whoever goes on does them again. What is written down of them afterwards is a commit that waits, and so puts
//! all before it on disk, and on a synchronous standby: a tenant or an operation that is told to be done is. It
//! is not so where a commit is that of several servers at once (Citus), which might not lose the same; nor for
//! what runs outside of a transaction, whose journal is worth more than its time, nor for what failed.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::workers::{Shared, drain};
use super::{Engine, note};
use crate::auth::CallContext;
use crate::domain::Permission;
use crate::domain::error::{Error, Noun, Result};
use crate::domain::names::{Slug, TenantId};
use crate::domain::operation::{FleetProblem, OperationState, PauseReason, Step, Then};
use crate::pg::control::operation_tenants::{self, End};
use crate::pg::control::operations::{self, Record, Runner};
use crate::pg::error::During;
use crate::pg::schema::pipeline;
use crate::pg::scope::Flush;
use crate::service::fleet::recovery::Why;
use crate::service::fleet::stop::{Halt, halt};

/// How often it is looked whether somebody has paused the operation, at least.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Something that happened during a run.
#[derive(Debug, Clone)]
pub enum Event {
    /// The run begins.
    Begun {
        /// The operation as it was taken up.
        record: Box<Record>,
        /// Tenants at the same time.
        workers: usize,
    },
    /// A tenant is tried again after a pause.
    Again {
        /// Which.
        slug: Slug,
        /// Why.
        reason: String,
    },
    /// A tenant came to its end.
    Ended {
        /// Which.
        id: TenantId,
        /// By the name people use.
        slug: Slug,
        /// How.
        end: End,
        /// How often it was begun.
        attempts: i32,
    },
}

/// Who is told of it.
pub type Events = Arc<dyn Fn(&Event) + Send + Sync>;

/// What this process has done, for the metrics.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Operations that run now.
    pub(super) running: AtomicUsize,
    /// Tenants that were migrated.
    pub(super) done: AtomicUsize,
    /// Tenants that could not be migrated.
    pub(super) failed: AtomicUsize,
    /// Tries that were made again.
    pub(super) again: AtomicUsize,
}

/// An operation that this process has taken up.
pub(super) struct Go {
    pub(super) record: Record,
    pub(super) runner: Uuid,
    pub(super) workers: usize,
    pub(super) flush: Flush,
    /// When the lease ends, unless it is made to last longer; by the database's clock.
    pub(super) lease_until: watch::Sender<OffsetDateTime>,
    pub(super) open_histories: HashSet<String>,
    pub(super) max_failures: Option<usize>,
    then: Then,
    pub(super) halt: watch::Sender<Option<Halt>>,
    pub(super) halted: watch::Receiver<Option<Halt>>,
}

impl Engine {
    /// Takes the lease of an operation, and what a runner before us left half claimed.
    pub(super) async fn take_up(&self, ctx: &CallContext, id: Uuid, why: Why) -> Result<Go> {
        ctx.require(Permission::MigrateFleet)?;
        let during = "take an operation up";
        let tx = self.db.public().await.during(during)?;
        let before = operations::lock(&tx, id).await?.ok_or(Error::NotFound(Noun::Operation))?;
        before.state.after(Step::Acquire)?;
        why.require(&tx, &before).await?;
        if before.target_fingerprint != self.set.fingerprint() {
            return Err(FleetProblem::OtherSet.into());
        }
        // Whoever goes on after a canary goes on with everybody.
        let canary_over =
            matches!(before.pause_reason, Some(PauseReason::Canary | PauseReason::CanaryFailed));
        let canary_open = before.canary_open && !canary_over;
        let runner = Runner { id: Uuid::new_v4(), host: self.host.clone(), pid: self.pid };
        let (lease, now) = (self.limits.lease, self.clock.now());
        let taken = operations::take(&tx, id, &runner, lease, canary_open, now).await?;
        let Some(lease_until) = taken else {
            let problem =
                before.holder.map_or(FleetProblem::IllegalMove(before.state), FleetProblem::Held);
            return Err(problem.into());
        };
        operation_tenants::reclaim(&tx, id, runner.id).await?;
        if before.state != OperationState::Planned {
            let details = json!({ "from": before.state.as_str(), "asked": why == Why::Asked });
            note(&tx, ctx, "migration.resume", id, details).await?;
        }
        let record = operations::lookup(&tx, id).await?.ok_or(Error::NotFound(Noun::Operation))?;
        let flush = operations::flush(&tx).await?;
        let open_histories = pipeline::histories_writable_by_others(&tx).await.during(during)?;
        tx.commit().await.during(during)?;
        let option = |name: &str| {
            record.options[name].as_u64().and_then(|number| usize::try_from(number).ok())
        };
        let workers = option("workers").unwrap_or(self.limits.workers);
        let then = record.options["canary"]["then"].as_str().and_then(|word| word.parse().ok());
        let (halt, halted) = watch::channel(None);
        self.runs.add(halt.clone());
        Ok(Go {
            workers: workers.clamp(1, self.limits.most_workers.max(1)),
            max_failures: option("max_failures"),
            flush,
            lease_until: watch::Sender::new(lease_until),
            open_histories,
            then: then.unwrap_or(Then::Pause),
            runner: runner.id,
            record,
            halt,
            halted,
        })
    }

    /// Runs it on, behind the caller's back.
    pub(super) fn work_in_background(self: &Arc<Self>, go: Go) {
        let engine = Arc::clone(self);
        let id = go.record.id;
        self.runtime.spawn(async move {
            match engine.work(go, Arc::new(|_event| {})).await {
                Ok(record) => {
                    tracing::info!(operation.id = %id, state = %record.state, "a fleet migration stopped");
                }
                Err(error) => {
                    tracing::warn!(operation.id = %id, error = %error.chain(), "a fleet migration broke off");
                }
            }
        });
    }

    /// Runs it until it ends or is stopped.
    pub(super) async fn work(self: Arc<Self>, go: Go, events: Events) -> Result<Record> {
        let _counted = Counted::new(&self);
        let (id, runner) = (go.record.id, go.runner);
        events(&Event::Begun { record: Box::new(go.record.clone()), workers: go.workers });
        let keep = (go.lease_until.clone(), go.halt.clone());
        let heart = tokio::spawn(beat(Arc::clone(&self), id, runner, keep));
        let _heart = AbortOnDrop(heart);
        let shared = Arc::new(Shared::new(&self, &go, events));
        let mut canary_open = go.record.canary_open;
        loop {
            let left = drain(&shared, canary_open).await;
            match self.conclude(&go, left, canary_open).await? {
                Some(record) => return Ok(record),
                None => canary_open = false,
            }
        }
    }

    /// Writes down why nothing more is begun. `None` where the canary is over and the rest follows.
    async fn conclude(
        &self,
        go: &Go,
        left: Vec<Uuid>,
        canary_open: bool,
    ) -> Result<Option<Record>> {
        let during = "end a run";
        let (id, runner) = (go.record.id, go.runner);
        let why = go.halted.borrow().clone();
        match &why {
            Some(Halt::Away(reason)) => return Err(Error::unavailable(during, reason.clone())),
            Some(Halt::Lost) => return Err(self.lost_to(id).await?.into()),
            Some(Halt::Asked | Halt::Stopping | Halt::MaxFailures) | None => {}
        }
        let tx = self.db.public().await.during(during)?;
        let now = self.clock.now();
        let record = operations::lock(&tx, id).await?.ok_or(Error::NotFound(Noun::Operation))?;
        operation_tenants::give_back(&tx, id, runner, left).await?;
        let mut goes_on = false;
        // Somebody may have moved it since the last look.
        if record.state == OperationState::Running && why != Some(Halt::Stopping) {
            let some_failed = record.counts.failed > 0;
            let failed_first = canary_open && operation_tenants::canary_failed(&tx, id).await?;
            let pause = match why {
                Some(Halt::MaxFailures) => Some(PauseReason::MaxFailures),
                _ if !canary_open => None,
                _ if failed_first => Some(PauseReason::CanaryFailed),
                _ if record.counts.pending == 0 => None,
                _ if go.then == Then::Continue => {
                    goes_on = true;
                    None
                }
                _ => Some(PauseReason::Canary),
            };
            if goes_on {
                operations::close_canary(&tx, id).await?;
            } else if let Some(reason) = pause {
                let state = record.state.after(Step::Pause)?;
                operations::set_state(&tx, id, state, Some(reason), now).await?;
            } else {
                let state = record.state.after(Step::End { some_failed })?;
                operations::set_state(&tx, id, state, None, now).await?;
            }
        }
        if !goes_on {
            operations::release(&tx, id, runner, self.limits.hands_on).await?;
        }
        let record = operations::lookup(&tx, id).await?.ok_or(Error::NotFound(Noun::Operation))?;
        tx.commit().await.during(during)?;
        Ok((!goes_on).then_some(record))
    }

    async fn lost_to(&self, id: Uuid) -> Result<FleetProblem> {
        let tx = self.db.public().await.during("read operation")?;
        let record = operations::lookup(&tx, id).await?.ok_or(Error::NotFound(Noun::Operation))?;
        Ok(record.holder.map_or(FleetProblem::IllegalMove(record.state), FleetProblem::Held))
    }
}

/// Counts a run as long as it lives.
struct Counted<'a>(&'a Engine);

impl<'a> Counted<'a> {
    fn new(engine: &'a Engine) -> Self {
        engine.tally.running.fetch_add(1, Ordering::Relaxed);
        Self(engine)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.tally.running.fetch_sub(1, Ordering::Relaxed);
    }
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Keeps the lease, and looks whether somebody has moved the operation. A ledger that cannot be reached is
/// asked again; the lease running out meanwhile is for whoever takes the operation up, and shows then.
async fn beat(
    engine: Arc<Engine>,
    id: Uuid,
    runner: Uuid,
    (lease_until, stop): (watch::Sender<OffsetDateTime>, watch::Sender<Option<Halt>>),
) {
    let lease = engine.limits.lease;
    let mut ticks = tokio::time::interval((lease / 4).min(LOOK_EVERY));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let renewed = async {
            let tx = engine.db.public().await?;
            operations::renew(tx, id, runner, lease).await
        };
        match renewed.await {
            Ok(Some((OperationState::Running, until))) => {
                lease_until.send_replace(until);
            }
            Ok(Some(_)) => halt(&stop, Halt::Asked),
            Ok(None) => halt(&stop, Halt::Lost),
            Err(failure) => {
                tracing::warn!(operation.id = %id, error = %failure, "could not renew the lease of a fleet migration");
            }
        }
    }
}
