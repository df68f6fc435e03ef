//! Runs an operation: acquires its lease, renews it, lets [`super::drain`] migrate tenants, and records how the run
//! ended.
//!
//! Only the process that has the lease claims tenants, and nothing is begun in a tenant once the lease has expired by
//! the database's own clock: a runner that was thought dead, or whose machine slept, begins nothing more. What it had
//! begun may end. The process that has the operation by then waits for the lock of the same tenant, and reads in the
//! schema's history what was applied.
//!
//! What is done to a tenant is committed without waiting for the disk ([`Flush::Later`]): schema and history are one
//! transaction, so a crash of the database server loses both, for the last tenants only, and the next runner migrates
//! them again. The record that follows is a commit that waits, so it puts everything before it on disk, and on a
//! synchronous standby: a tenant or an operation that is reported as done is durable. There are two exceptions that
//! wait at once: a commit that spans several servers (Citus), which after a crash might not all lose the same, and a
//! file that runs outside of a transaction, whose journal is worth more than the time. A failure is recorded at once.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::auth::CallContext;
use crate::domain::error::{Error, Noun, Result};
use crate::domain::operation::{
    FleetProblem, OperationKind, OperationState, PauseReason, Step, Then,
};
use crate::domain::{AuditAction, Permission};
use crate::pg::PublicTx;
use crate::pg::control::operation_tenants;
use crate::pg::control::operations::{self, Record, Runner};
use crate::pg::error::During;
use crate::pg::schema::pipeline;
use crate::pg::scope::Flush;
use crate::service::fleet::audit::{note, note_outcome};
use crate::service::fleet::drain::drain;
use crate::service::fleet::engine::Engine;
use crate::service::fleet::job::{Event, Events, Run};
use crate::service::fleet::retry::{TRIES, retry};
use crate::service::fleet::stop::{StopReason, stop};
use crate::service::fleet::workers::Workers;

/// How often the heartbeat checks, at least, whether the operation was paused or cancelled.
const HEARTBEAT_AT_LEAST_EVERY: Duration = Duration::from_secs(1);

/// Why an operation is acquired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AcquireReason {
    /// A caller asked to run it.
    Asked,
    /// It was found abandoned.
    Recovery,
}

impl AcquireReason {
    /// Refuses if the reason does not hold, or no longer. The caller has locked the operation's row.
    async fn require(self, tx: &PublicTx, before: &Record) -> Result<()> {
        match self {
            Self::Recovery if !operations::is_abandoned(tx, before.id).await? => {
                Err(FleetProblem::IllegalMove(before.state).into())
            }
            Self::Asked | Self::Recovery => Ok(()),
        }
    }
}

impl Engine {
    /// Acquires the lease of an operation, and reclaims the tenants that an earlier runner had claimed.
    pub(super) async fn acquire(
        &self,
        ctx: &CallContext,
        id: Uuid,
        why: AcquireReason,
    ) -> Result<Run> {
        ctx.require(Permission::MigrateFleet)?;
        let during = "acquire an operation";
        let tx = self.db.public().await.during(during)?;
        let before = operations::lock(&tx, id).await?.ok_or(Error::NotFound(Noun::Operation))?;
        before.state.after(Step::Acquire)?;
        why.require(&tx, &before).await?;
        if before.kind == OperationKind::Migrate
            && before.target_fingerprint != self.set.fingerprint()
        {
            return Err(FleetProblem::OtherSet.into());
        }
        // To resume after a canary means to continue with all tenants.
        let canary_over =
            matches!(before.pause_reason, Some(PauseReason::Canary | PauseReason::CanaryFailed));
        let canary_open = before.canary_open && !canary_over;
        let runner = Runner { id: Uuid::new_v4(), host: self.host.clone(), pid: self.pid };
        let (lease, now) = (self.limits.lease, self.clock.now());
        let acquired = operations::acquire(&tx, id, &runner, lease, canary_open, now).await?;
        let Some(lease_until) = acquired else {
            let problem =
                before.holder.map_or(FleetProblem::IllegalMove(before.state), FleetProblem::Held);
            return Err(problem.into());
        };
        operation_tenants::reclaim(&tx, id, runner.id).await?;
        let record = operations::lookup(&tx, id).await?.ok_or(Error::NotFound(Noun::Operation))?;
        if before.state != OperationState::Planned {
            let asked = why == AcquireReason::Asked;
            let details = json!({ "from": before.state.as_str(), "asked": asked });
            note(&tx, ctx, AuditAction::MigrationResume, &record, details).await?;
        }
        // A commit that spans nodes waits for the disk: each has a log of its own, and after a crash they might not all
        // lose the same.
        let is_spread = self.db.rules().engine.has_nodes();
        let flush = if is_spread { Flush::Now } else { Flush::Later };
        let other_rights =
            pipeline::schemas_with_other_rights(&tx, self.db.rules()).await.during(during)?;
        tx.commit().await.during(during)?;
        let option = |name: &str| {
            record.options[name].as_u64().and_then(|number| usize::try_from(number).ok())
        };
        let workers = option("workers").unwrap_or(self.limits.workers);
        let then = record.options["canary"]["then"].as_str().and_then(|word| word.parse().ok());
        let (stop, stopped) = watch::channel(None);
        self.runs.add(stop.clone());
        Ok(Run {
            workers: workers.clamp(1, self.limits.max_workers.max(1)),
            max_failures: option("max_failures"),
            flush,
            lease_until: watch::Sender::new(lease_until),
            other_rights,
            then: then.unwrap_or(Then::Pause),
            runner: runner.id,
            record,
            stop,
            stopped,
        })
    }

    /// Runs it on a task of its own.
    pub(super) fn run_in_background(self: &Arc<Self>, run: Run) {
        let engine = Arc::clone(self);
        let id = run.record.id;
        self.runtime.spawn(async move {
            match engine.run(run, Arc::new(|_event| {})).await {
                Ok(record) => {
                    tracing::info!(operation.id = %id, state = %record.state, "a fleet migration stopped");
                }
                Err(error) => {
                    tracing::warn!(operation.id = %id, error = %error.chain(), "a fleet migration was interrupted");
                }
            }
        });
    }

    /// Runs it until it ends or is stopped.
    pub(super) async fn run(self: Arc<Self>, run: Run, events: Events) -> Result<Record> {
        let _counted = Counted::new(&self);
        let (id, runner) = (run.record.id, run.runner);
        events(&Event::Started { record: Box::new(run.record.clone()), workers: run.workers });
        let signals = (run.lease_until.clone(), run.stop.clone());
        let heartbeat = tokio::spawn(heartbeat(Arc::clone(&self), id, runner, signals));
        let _heartbeat = AbortOnDrop(heartbeat);
        let workers = Arc::new(Workers::new(&self, &run, events));
        let mut canary_open = run.record.canary_open;
        loop {
            let not_begun = drain(&workers, canary_open).await;
            match self.conclude(&run, not_begun, canary_open).await? {
                Conclusion::Ended(record) => return Ok(*record),
                Conclusion::CanaryOver => canary_open = false,
                Conclusion::TakenBack => {
                    run.stop.send_if_modified(|reason| {
                        let is_pause = *reason == Some(StopReason::Asked);
                        if is_pause {
                            *reason = None;
                        }
                        is_pause
                    });
                }
            }
        }
    }

    /// Records why no more tenants are begun; tries again if the database is away for a moment.
    async fn conclude(
        &self,
        run: &Run,
        not_begun: Vec<Uuid>,
        canary_open: bool,
    ) -> Result<Conclusion> {
        let why = run.stopped.borrow().clone();
        // A process that stops waits for nothing; a later run continues.
        let may_wait = matches!(why, None | Some(StopReason::MaxFailures));
        let most = if may_wait { TRIES } else { 1 };
        retry(most, Error::is_away, || {
            self.try_to_conclude(run, why.as_ref(), not_begun.clone(), canary_open)
        })
        .await
    }

    #[expect(clippy::too_many_lines, reason = "a flat list of what may follow")]
    async fn try_to_conclude(
        &self,
        run: &Run,
        why: Option<&StopReason>,
        not_begun: Vec<Uuid>,
        canary_open: bool,
    ) -> Result<Conclusion> {
        let during = "end a run";
        let (id, runner) = (run.record.id, run.runner);
        match why {
            Some(StopReason::Away(reason)) => {
                return Err(Error::unavailable(during, reason.clone()));
            }
            Some(StopReason::Lost) => return Err(self.lost_to(id).await?.into()),
            Some(
                StopReason::Asked
                | StopReason::Stopping
                | StopReason::AtOnce
                | StopReason::MaxFailures,
            )
            | None => {}
        }
        let tx = self.db.public().await.during(during)?;
        let now = self.clock.now();
        let record = operations::lock(&tx, id).await?.ok_or(Error::NotFound(Noun::Operation))?;
        operation_tenants::give_back(&tx, id, runner, not_begun).await?;
        // The pause was taken back before the tenants that were begun had ended.
        if why == Some(&StopReason::Asked) && record.state == OperationState::Running {
            tx.commit().await.during(during)?;
            return Ok(Conclusion::TakenBack);
        }
        let mut continues = false;
        let mut outcome = None;
        // It may have been paused or cancelled since the last heartbeat.
        let is_stopping = matches!(why, Some(StopReason::Stopping | StopReason::AtOnce));
        if record.state == OperationState::Running && !is_stopping {
            let some_failed = record.counts.failed > 0;
            let canary_failed = canary_open && operation_tenants::canary_failed(&tx, id).await?;
            let pause = match why {
                Some(StopReason::MaxFailures) => Some(PauseReason::MaxFailures),
                _ if !canary_open => None,
                _ if canary_failed => Some(PauseReason::CanaryFailed),
                _ if record.counts.pending == 0 => None,
                _ if run.then == Then::Continue => {
                    continues = true;
                    None
                }
                _ => Some(PauseReason::Canary),
            };
            if continues {
                operations::close_canary(&tx, id).await?;
            } else if let Some(reason) = pause {
                let state = record.state.after(Step::Pause)?;
                operations::set_state(&tx, id, state, Some(reason), now).await?;
                outcome = Some(AuditAction::MigrationPause);
            } else {
                let state = record.state.after(Step::End { some_failed })?;
                operations::set_state(&tx, id, state, None, now).await?;
                outcome = Some(AuditAction::MigrationFinish);
            }
        }
        if !continues {
            operations::release(&tx, id, runner, self.limits.allow_recovery).await?;
        }
        let record = operations::lookup(&tx, id).await?.ok_or(Error::NotFound(Noun::Operation))?;
        if let Some(action) = outcome {
            note_outcome(&tx, &self.clock, action, &record).await?;
        }
        tx.commit().await.during(during)?;
        Ok(if continues { Conclusion::CanaryOver } else { Conclusion::Ended(Box::new(record)) })
    }

    async fn lost_to(&self, id: Uuid) -> Result<FleetProblem> {
        let tx = self.db.public().await.during("read operation")?;
        let record = operations::lookup(&tx, id).await?.ok_or(Error::NotFound(Noun::Operation))?;
        Ok(record.holder.map_or(FleetProblem::IllegalMove(record.state), FleetProblem::Held))
    }
}

/// Why a run began no more tenants, and what follows.
enum Conclusion {
    /// It has ended, and released its operation.
    Ended(Box<Record>),
    /// The canary is over, and the rest follows.
    CanaryOver,
    /// The pause was taken back, and the run goes on.
    TakenBack,
}

/// Counts a run until it is dropped.
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

/// Renews the lease, and checks whether the operation was paused or cancelled. If the ledger cannot be reached this
/// tries again; if the lease expires meanwhile, another process may acquire the operation, and the next heartbeat
/// shows it.
async fn heartbeat(
    engine: Arc<Engine>,
    id: Uuid,
    runner: Uuid,
    (lease_until, stop_run): (watch::Sender<OffsetDateTime>, watch::Sender<Option<StopReason>>),
) {
    let lease = engine.limits.lease;
    let mut ticks = tokio::time::interval((lease / 4).min(HEARTBEAT_AT_LEAST_EVERY));
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
            Ok(Some(_)) => stop(&stop_run, StopReason::Asked),
            Ok(None) => stop(&stop_run, StopReason::Lost),
            Err(failure) => {
                tracing::warn!(operation.id = %id, error = %failure, "could not renew the lease of a fleet migration");
            }
        }
    }
}
