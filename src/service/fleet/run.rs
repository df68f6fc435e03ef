//! Runs an operation: takes its lease, claims tenants in batches, migrates some at a time, and stops when it
//! is told to, by whomever.
//!
//! Only the holder of the lease claims, and a tenant's row in the ledger names the runner that has it, so a
//! runner that was taken for gone and is not can commit nothing more. Where a lock or a connection could not
//! be had, a tenant is tried again after a pause, during which others take its place.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinError, JoinHandle, JoinSet};
use uuid::Uuid;

use super::takeup::Why;
use super::tenant::Job;
use super::{Engine, note};
use crate::auth::CallContext;
use crate::domain::Permission;
use crate::domain::error::{Error, Noun, Result};
use crate::domain::names::{Slug, TenantId};
use crate::domain::operation::{FleetProblem, OperationState, PauseReason, Step, Then};
use crate::pg::error::{During, Failure};
use crate::pg::migrations::MigrationError;
use crate::pg::operation_tenants::{self, End};
use crate::pg::operations::{self, Record, Runner};

/// How often a tenant is tried where the file is not to blame.
const TRIES: u32 = 6;

/// The pause after the first of these tries; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Tenants that are claimed at a time, for each that is migrated at a time: claiming is a transaction too.
const CLAIMED_AHEAD: usize = 8;

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

/// Why a run begins no more tenants.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Halt {
    /// Somebody paused or cancelled the operation.
    Asked,
    /// This process stops.
    Stopping,
    /// As many failed as may.
    MaxFailures,
    /// Somebody else has the operation.
    Lost,
    /// The ledger cannot be written.
    Away(String),
}

/// The runs of this process, so that they can be told to stop.
#[derive(Default)]
pub(super) struct Runs(Mutex<Vec<watch::Sender<Option<Halt>>>>);

impl Runs {
    fn add(&self, halt: watch::Sender<Option<Halt>>) {
        let mut runs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The receivers go with their run.
        runs.retain(|run| run.receiver_count() > 0);
        runs.push(halt);
    }

    /// Tells all of them, and waits until they have let go.
    pub(super) async fn stop(&self) {
        let runs = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for run in &runs {
            halt(run, Halt::Stopping);
        }
        for run in runs {
            run.closed().await;
        }
    }
}

/// The first reason stays.
fn halt(sender: &watch::Sender<Option<Halt>>, why: Halt) {
    sender.send_if_modified(|halt| {
        let is_first = halt.is_none();
        if is_first {
            *halt = Some(why);
        }
        is_first
    });
}

/// An operation that this process has taken up.
pub(super) struct Go {
    record: Record,
    runner: Uuid,
    workers: usize,
    max_failures: Option<usize>,
    then: Then,
    halt: watch::Sender<Option<Halt>>,
    halted: watch::Receiver<Option<Halt>>,
}

/// What the tasks of one go share.
struct Shared {
    engine: Arc<Engine>,
    operation: Uuid,
    runner: Uuid,
    permits: Arc<Semaphore>,
    failures: AtomicUsize,
    max_failures: Option<usize>,
    halt: watch::Sender<Option<Halt>>,
    halted: watch::Receiver<Option<Halt>>,
    events: Events,
}

impl Engine {
    /// Takes the lease of an operation, and what a runner before us left half claimed.
    pub(super) async fn take_up(&self, ctx: &CallContext, id: Uuid, why: Why) -> Result<Go> {
        ctx.require(Permission::MigrateFleet)?;
        let during = "take an operation up";
        let tx = self.db.public().await.during(during)?;
        let before = operations::lock(&tx, id).await?.ok_or(Error::NotFound(Noun::Operation))?;
        before.state.after(Step::TakeUp)?;
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
        if !operations::take(&tx, id, &runner, lease, canary_open, now).await? {
            let problem =
                before.holder.map_or(FleetProblem::IllegalMove(before.state), FleetProblem::Held);
            return Err(problem.into());
        }
        operation_tenants::reclaim(&tx, id, runner.id).await?;
        if before.state != OperationState::Planned {
            let details = json!({ "from": before.state.as_str(), "asked": why == Why::Asked });
            note(&tx, ctx, "migration.resume", id, details).await?;
        }
        let record = operations::lookup(&tx, id).await?.ok_or(Error::NotFound(Noun::Operation))?;
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
        let heart = tokio::spawn(beat(Arc::clone(&self), id, runner, go.halt.clone()));
        let _heart = AbortOnDrop(heart);
        let shared = Arc::new(Shared {
            engine: Arc::clone(&self),
            operation: id,
            runner,
            permits: Arc::new(Semaphore::new(go.workers)),
            failures: AtomicUsize::new(0),
            max_failures: go.max_failures,
            halt: go.halt.clone(),
            halted: go.halted.clone(),
            events,
        });
        let mut canary_open = go.record.canary_open;
        loop {
            let left = drain(&shared, go.workers, canary_open).await;
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
async fn beat(engine: Arc<Engine>, id: Uuid, runner: Uuid, stop: watch::Sender<Option<Halt>>) {
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
            Ok(Some(OperationState::Running)) => {}
            Ok(Some(_)) => halt(&stop, Halt::Asked),
            Ok(None) => halt(&stop, Halt::Lost),
            Err(failure) => {
                tracing::warn!(operation.id = %id, error = %failure, "could not renew the lease of a fleet migration");
            }
        }
    }
}

/// Works until nothing is left or somebody says stop; gives what was claimed and not begun.
///
/// Tenants are begun in order. The next ones are claimed while these are worked on.
async fn drain(shared: &Arc<Shared>, workers: usize, canary_only: bool) -> Vec<Uuid> {
    let batch = workers * CLAIMED_AHEAD;
    let mut halted = shared.halted.clone();
    let mut tasks = JoinSet::new();
    let mut queue = VecDeque::new();
    let mut claiming = None;
    let mut is_dry = false;
    let mut left = Vec::new();
    loop {
        if claiming.is_none() && !is_dry && queue.len() <= batch / 2 {
            let shared = Arc::clone(shared);
            claiming = Some(tokio::spawn(async move { shared.claim(batch, canary_only).await }));
        }
        if claiming.is_none() && queue.is_empty() && tasks.is_empty() {
            return left;
        }
        tokio::select! {
            biased;
            _ = halted.wait_for(Option::is_some) => break,
            claimed = taken(&mut claiming), if claiming.is_some() => {
                claiming = None;
                is_dry = claimed.len() < batch;
                queue.extend(claimed);
            }
            Some(ended) = tasks.join_next(), if !tasks.is_empty() => shared.note_end(ended, &mut left),
            Ok(permit) = Arc::clone(&shared.permits).acquire_owned(), if !queue.is_empty() => {
                if let Some((tenant, slug, attempts)) = queue.pop_front() {
                    let shared = Arc::clone(shared);
                    tasks.spawn(async move { shared.see_to(permit, tenant, slug, attempts).await });
                }
            }
        }
    }
    queue.extend(taken(&mut claiming).await);
    left.extend(queue.into_iter().map(|(tenant, ..)| tenant.uuid()));
    while let Some(ended) = tasks.join_next().await {
        shared.note_end(ended, &mut left);
    }
    left
}

type Claimed = Vec<(TenantId, Slug, i32)>;

/// What is being claimed, once it is. A claim that failed has said so.
async fn taken(claiming: &mut Option<JoinHandle<Claimed>>) -> Claimed {
    match claiming {
        Some(task) => task.await.unwrap_or_default(),
        None => Vec::new(),
    }
}

impl Shared {
    /// Claims some tenants; none where there are no more, or the ledger cannot be written.
    async fn claim(&self, batch: usize, canary_only: bool) -> Claimed {
        let mut tries = 0;
        loop {
            let claimed = async {
                let tx = self.engine.db.public().await?;
                let limit = i64::try_from(batch).unwrap_or(i64::MAX);
                let (operation, runner) = (self.operation, self.runner);
                let now = self.engine.clock.now();
                operation_tenants::claim(tx, operation, runner, canary_only, limit, now).await
            };
            match claimed.await {
                Ok(claimed) => return claimed,
                Err(failure) if tries < TRIES && may_pass(&failure) => {
                    tries += 1;
                    tokio::time::sleep(pause_after(tries)).await;
                }
                Err(failure) => {
                    halt(&self.halt, Halt::Away(failure.to_string()));
                    return Vec::new();
                }
            }
        }
    }

    fn note_end(&self, ended: Result<Option<Uuid>, JoinError>, left: &mut Vec<Uuid>) {
        match ended {
            Ok(not_begun) => left.extend(not_begun),
            // A bug of ours: the row stays with this runner, and the next one takes it back.
            Err(panicked) => halt(&self.halt, Halt::Away(panicked.to_string())),
        }
    }

    /// Migrates a tenant, if need be after some tries; gives it back where it was not begun.
    async fn see_to(
        &self,
        permit: OwnedSemaphorePermit,
        tenant: TenantId,
        slug: Slug,
        claimed: i32,
    ) -> Option<Uuid> {
        let mut permit = Some(permit);
        let mut tries = 1;
        loop {
            if permit.is_none() {
                permit = Arc::clone(&self.permits).acquire_owned().await.ok();
            }
            if self.halted.borrow().is_some() {
                return Some(tenant.uuid());
            }
            let attempts = claimed + i32::try_from(tries).unwrap_or(i32::MAX) - 1;
            let (operation, runner) = (self.operation, self.runner);
            let job = Job { operation, runner, tenant, attempts };
            let error = match Box::pin(self.engine.migrate(job)).await {
                Ok(applied) => {
                    self.engine.tally.done.fetch_add(1, Ordering::Relaxed);
                    self.tell(tenant, slug, End::Done(applied), attempts);
                    return None;
                }
                Err(error) => error,
            };
            if tries < TRIES && is_worth_another_try(&error) {
                drop(permit.take());
                self.engine.tally.again.fetch_add(1, Ordering::Relaxed);
                (self.events)(&Event::Again { slug: slug.clone(), reason: error.to_string() });
                self.rest(pause_after(tries)).await;
                tries += 1;
                continue;
            }
            match self.engine.give_up(job, &error).await {
                Ok(end) => self.count_failure(tenant, slug, end, attempts),
                Err(Failure::RowCount) => halt(&self.halt, Halt::Lost),
                Err(failure) => halt(&self.halt, Halt::Away(failure.to_string())),
            }
            return None;
        }
    }

    /// A pause that ends early where nothing more is to be begun.
    async fn rest(&self, pause: Duration) {
        let mut halted = self.halted.clone();
        let _ = tokio::time::timeout(pause, halted.wait_for(Option::is_some)).await;
    }

    fn count_failure(&self, tenant: TenantId, slug: Slug, end: End, attempts: i32) {
        if let End::Failed(reason) = &end {
            tracing::warn!(tenant.id = %tenant, tenant.slug = %slug, reason, "failed to migrate a tenant");
            self.engine.tally.failed.fetch_add(1, Ordering::Relaxed);
            let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
            if self.max_failures.is_some_and(|most| failures >= most) {
                halt(&self.halt, Halt::MaxFailures);
            }
        }
        self.tell(tenant, slug, end, attempts);
    }

    fn tell(&self, id: TenantId, slug: Slug, end: End, attempts: i32) {
        (self.events)(&Event::Ended { id, slug, end, attempts });
    }
}

/// Twice as long each time, and not at the same moment as everybody else's.
fn pause_after(tries: u32) -> Duration {
    let pause = FIRST_PAUSE * 2_u32.saturating_pow(tries.saturating_sub(1));
    let draw = Uuid::new_v4().into_bytes().first().copied().unwrap_or(0);
    pause + pause * u32::from(draw) / 512
}

fn is_worth_another_try(error: &MigrationError) -> bool {
    match error {
        MigrationError::Interrupted { failure, .. } | MigrationError::Database(failure) => {
            may_pass(failure)
        }
        _ => false,
    }
}

/// Whether the same may go well a moment later: a lock that was not given, a connection that broke.
fn may_pass(failure: &Failure) -> bool {
    failure.is_retryable() || failure.is_away()
}
