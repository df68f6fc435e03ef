//! Works on the tenants of an operation, some at a time: claims them in batches and begins them in order, until
//! nothing is left or it is told to stop. What is migrated is written down in batches too ([`crate::service::fleet::recorder`]).
//!
//! Whoever is done with one tenant begins the next by itself: to be woken for it would cost more than a part of
//! what a tenant takes. Where a lock or a connection could not be had, a tenant is tried again after a pause,
//! during which others take its place.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;
use uuid::Uuid;

use super::Engine;
use super::queue::Queue;
use super::run::{Event, Events, Go};
use crate::domain::names::{SchemaName, Slug, TenantId};
use crate::migrations::AppliedPrefix;
use crate::pg::control::operation_tenants::{self, Claimed, End, Key, Migrated};
use crate::pg::error::Failure;
use crate::pg::schema::error::ApplyError;
use crate::pg::scope::{Entry, Flush};
use crate::service::fleet::recorder::Records;
use crate::service::fleet::stop::{Halt, halt};

/// How often a tenant is tried where the file is not to blame.
pub(super) const TRIES: u32 = 6;

/// The pause after the first of these tries; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Tenants, at most, whose migrations are sent one behind the other, without waiting for each answer: between an
/// answer and the next message the server has nothing to do.
const TOGETHER: u128 = 16;

/// What those may take together, so that none waits long behind others while there are idle connections.
const TOGETHER_WITHIN: Duration = Duration::from_millis(40);

/// How long what was migrated may stand unwritten where little is.
const RECORDED_EVERY: Duration = Duration::from_millis(100);

/// Tenants that are claimed at a time, whoever works: claiming is a transaction too, and one that waits for the
/// disk.
const CLAIMED_AT_LEAST: usize = 64;

/// So many more for each that is migrated at a time.
const CLAIMED_AHEAD: usize = 16;

/// What the tasks of one go share.
pub(super) struct Shared {
    pub(super) engine: Arc<Engine>,
    pub(super) operation: Uuid,
    pub(super) runner: Uuid,
    flush: Flush,
    /// When the lease ends, unless it is made to last longer.
    lease_until: watch::Receiver<OffsetDateTime>,
    /// The beginnings of the set, by their fingerprints.
    beginnings: HashMap<String, AppliedPrefix>,
    /// The schemas whose histories are to be closed.
    open_histories: HashSet<String>,
    workers: usize,
    permits: Arc<Semaphore>,
    queue: Queue,
    pub(super) records: Records,
    failures: AtomicUsize,
    max_failures: Option<usize>,
    pub(super) halt: watch::Sender<Option<Halt>>,
    halted: watch::Receiver<Option<Halt>>,
    events: Events,
}

/// Works until nothing is left or somebody says stop; gives what was claimed and not begun.
///
/// Tenants are begun in order. The next ones are claimed, and the last ones written down, while these are worked
/// on. When it returns, all is written down that was migrated.
pub(super) async fn drain(shared: &Arc<Shared>, canary_only: bool) -> Vec<Uuid> {
    let batch = CLAIMED_AT_LEAST + shared.workers * CLAIMED_AHEAD;
    let mut halted = shared.halted.clone();
    let mut tasks = JoinSet::new();
    let mut claiming = None;
    let mut recording: Option<JoinHandle<()>> = None;
    let mut ticks = tokio::time::interval(RECORDED_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_dry = false;
    let mut left = Vec::new();
    loop {
        let waiting = shared.queue.len();
        if claiming.is_none() && !is_dry && waiting <= batch / 2 {
            let shared = Arc::clone(shared);
            claiming = Some(tokio::spawn(async move { shared.claim(batch, canary_only).await }));
        }
        if recording.is_none() && shared.records.is_due() {
            let shared = Arc::clone(shared);
            recording = Some(tokio::spawn(async move { shared.record().await }));
        }
        if claiming.is_none() && waiting == 0 && tasks.is_empty() {
            break;
        }
        tokio::select! {
            biased;
            _ = halted.wait_for(Option::is_some) => break,
            claimed = taken(&mut claiming), if claiming.is_some() => {
                claiming = None;
                is_dry = claimed.len() < batch;
                shared.queue.extend(claimed);
            }
            () = over(&mut recording), if recording.is_some() => recording = None,
            Some(ended) = tasks.join_next(), if !tasks.is_empty() => shared.note_end(ended, &mut left),
            Ok(permit) = Arc::clone(&shared.permits).acquire_owned(), if waiting > 0 => {
                let shared = Arc::clone(shared);
                tasks.spawn(async move { shared.work(permit, batch / 2).await });
            }
            () = shared.queue.is_short.notified() => {}
            _ = ticks.tick() => shared.records.call_due(),
        }
    }
    shared.queue.extend(taken(&mut claiming).await);
    left.extend(shared.queue.take_all().into_iter().map(|claimed| claimed.tenant.uuid()));
    // Before what is still running, which may take long.
    over(&mut recording).await;
    Box::pin(shared.record()).await;
    while let Some(ended) = tasks.join_next().await {
        shared.note_end(ended, &mut left);
    }
    Box::pin(shared.record()).await;
    while shared.records.any() {
        ticks.tick().await;
        Box::pin(shared.record()).await;
    }
    left
}

/// What is being claimed, once it is. A claim that failed has said so.
async fn taken(claiming: &mut Option<JoinHandle<Vec<Claimed>>>) -> Vec<Claimed> {
    match claiming {
        Some(task) => task.await.unwrap_or_default(),
        None => Vec::new(),
    }
}

async fn over(recording: &mut Option<JoinHandle<()>>) {
    if let Some(task) = recording {
        // What it had is then left to whoever goes on, as after a crash.
        if let Err(panicked) = task.await {
            tracing::error!(error = %panicked, "a bug: could not write down which tenants were migrated");
        }
    }
}

impl Shared {
    pub(super) fn new(engine: &Arc<Engine>, go: &Go, events: Events) -> Self {
        Self {
            engine: Arc::clone(engine),
            operation: go.record.id,
            runner: go.runner,
            flush: go.flush,
            beginnings: engine.set.applied_prefixes(),
            open_histories: go.open_histories.clone(),
            workers: go.workers,
            permits: Arc::new(Semaphore::new(go.workers)),
            lease_until: go.lease_until.subscribe(),
            queue: Queue::default(),
            records: Records::default(),
            failures: AtomicUsize::new(0),
            max_failures: go.max_failures,
            halt: go.halt.clone(),
            halted: go.halted.clone(),
            events,
        }
    }

    /// Claims some tenants; none where there are no more, or the ledger cannot be written.
    async fn claim(&self, batch: usize, canary_only: bool) -> Vec<Claimed> {
        let limit = i64::try_from(batch).unwrap_or(i64::MAX);
        let claim = || async {
            let tx = self.engine.db.public().await?;
            let (operation, runner, now) = (self.operation, self.runner, self.engine.clock.now());
            operation_tenants::claim(tx, operation, runner, canary_only, limit, now).await
        };
        match claim().await {
            Ok(claimed) => claimed,
            Err(failure) => self.insist(failure, TRIES, claim).await.unwrap_or_default(),
        }
    }

    /// Tries again, so many times at most, what failed for a reason that may pass. What the ledger does not take for
    /// all that ends the run.
    pub(super) async fn insist<T, F>(
        &self,
        mut failure: Failure,
        most: u32,
        work: impl Fn() -> F,
    ) -> Option<T>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        for tries in 1..=most {
            if !may_pass(&failure) {
                break;
            }
            tokio::time::sleep(pause_after(tries)).await;
            match work().await {
                Ok(done) => return Some(done),
                Err(again) => failure = again,
            }
        }
        halt(&self.halt, Halt::Away(failure.to_string()));
        None
    }

    fn note_end(&self, ended: Result<Vec<Uuid>, JoinError>, left: &mut Vec<Uuid>) {
        match ended {
            Ok(not_begun) => left.extend(not_begun),
            // A bug of ours: the row stays with this runner, and the next one takes it back.
            Err(panicked) => halt(&self.halt, Halt::Away(panicked.to_string())),
        }
    }

    /// Migrates one tenant after the other, until none is waiting or nothing more is to be begun; gives back what
    /// it took and did not begin.
    async fn work(&self, permit: OwnedSemaphorePermit, few: usize) -> Vec<Uuid> {
        let mut permit = Some(permit);
        let mut together = 1;
        let mut left = Vec::new();
        while left.is_empty() {
            let some = self.queue.next(together, self.workers, few);
            if some.is_empty() {
                break;
            }
            let begun = Instant::now();
            let count = some.len();
            let left_over = self.see_to_all(some).await;
            together = if left_over.is_empty() { as_many(count, begun.elapsed()) } else { 1 };
            for (claimed, tried) in left_over {
                left.extend(self.see_to(&mut permit, claimed, tried).await);
            }
        }
        left
    }

    /// Migrates some tenants on one connection; gives those that are to be looked at more closely, with what
    /// stood in the way where it may go well a moment later. All of them, where nothing more is to be begun.
    async fn see_to_all(&self, some: Vec<Claimed>) -> Vec<(Claimed, Option<ApplyError>)> {
        let is_halted = self.halted.borrow().is_some();
        let beginnings: Vec<_> =
            some.iter().map(|claimed| self.beginning(claimed).filter(|_| !is_halted)).collect();
        let jobs: Vec<(TenantId, &AppliedPrefix)> = some
            .iter()
            .zip(&beginnings)
            .filter_map(|(one, beginning)| Some((one.tenant, (*beginning)?)))
            .collect();
        let mut outcomes = match jobs.as_slice() {
            [] => Vec::new(),
            jobs => Box::pin(self.engine.migrate_at_once(jobs, self.entry())).await,
        }
        .into_iter();
        let mut left_over = Vec::new();
        for (one, beginning) in some.into_iter().zip(beginnings) {
            match beginning.and_then(|_| outcomes.next()) {
                Some(Ok(Some(applied))) => self.migrated(one, applied),
                Some(Err(error)) => left_over.push((one, Some(error))),
                Some(Ok(None)) | None => left_over.push((one, None)),
            }
        }
        left_over
    }

    /// What made a tenant, as far as is known; nothing where it wants a closer look in any case.
    fn beginning(&self, claimed: &Claimed) -> Option<&AppliedPrefix> {
        let is_open = self.open_histories.contains(SchemaName::of(claimed.tenant).as_str());
        let made_by = claimed.made_by.as_ref().filter(|_| !is_open)?;
        self.beginnings.get(made_by)
    }

    /// How what is done to a tenant begins: as long as nobody else may take the operation up.
    fn entry(&self) -> Entry {
        Entry { flush: self.flush, before: Some(*self.lease_until.borrow()) }
    }

    /// Migrates a tenant, if need be after some tries, the first of which was made where an error of it is given;
    /// gives the tenant back where it was not begun. Holds a permit when it ends, unless nothing more is to be
    /// begun.
    async fn see_to(
        &self,
        permit: &mut Option<OwnedSemaphorePermit>,
        mut claimed: Claimed,
        mut interrupted: Option<ApplyError>,
    ) -> Option<Uuid> {
        let tenant = claimed.tenant;
        let mut tries = 1;
        loop {
            if permit.is_none() {
                *permit = Arc::clone(&self.permits).acquire_owned().await.ok();
            }
            if self.halted.borrow().is_some() {
                return Some(tenant.uuid());
            }
            let outcome = match interrupted.take() {
                Some(error) => Err(error),
                None => Box::pin(self.engine.migrate(tenant, self.entry())).await,
            };
            let error = match outcome {
                Ok(applied) => {
                    self.migrated(claimed, applied);
                    return None;
                }
                Err(error) => error,
            };
            if tries < TRIES && is_worth_another_try(&error) {
                drop(permit.take());
                self.engine.tally.again.fetch_add(1, Ordering::Relaxed);
                (self.events)(&Event::Again {
                    slug: claimed.slug.clone(),
                    reason: error.to_string(),
                });
                self.rest(pause_after(tries)).await;
                tries += 1;
                claimed.attempts += 1;
                continue;
            }
            let Claimed { slug, attempts, .. } = claimed;
            if let Some(end) = self.give_up(tenant, attempts, error.to_string()).await {
                self.count_end(tenant, slug, end, attempts);
            }
            return None;
        }
    }

    /// Writes down that a tenant was not migrated, and tells how it ended. Where that cannot be written the run ends.
    pub(super) async fn give_up(
        &self,
        tenant: TenantId,
        attempts: i32,
        reason: String,
    ) -> Option<End> {
        let key = Key { operation: self.operation, runner: self.runner, tenant };
        let why = match self.engine.give_up(&key, attempts, reason).await {
            Ok(end) => return Some(end),
            Err(Failure::RowCount) => Halt::Lost,
            Err(failure) => Halt::Away(failure.to_string()),
        };
        halt(&self.halt, why);
        None
    }

    /// Counts a tenant as migrated, and remembers to write it down. Where an earlier try was not heard to its end, it
    /// was that one which applied what this one found applied.
    fn migrated(&self, claimed: Claimed, mut applied: Vec<String>) {
        if applied.is_empty() && claimed.attempts > 1 {
            let made_by = claimed.made_by.as_deref().unwrap_or_default();
            applied = self.engine.set.names_after(made_by);
        }
        let Claimed { tenant, slug, attempts, made_by } = claimed;
        let ended_at = self.engine.clock.now();
        let end = End::Done(applied.clone());
        self.records.push(Migrated { tenant, made_by, attempts, applied, ended_at });
        self.count_end(tenant, slug, end, attempts);
    }

    /// A pause that ends early where nothing more is to be begun.
    async fn rest(&self, pause: Duration) {
        let mut halted = self.halted.clone();
        let _ = tokio::time::timeout(pause, halted.wait_for(Option::is_some)).await;
    }

    fn count_end(&self, tenant: TenantId, slug: Slug, end: End, attempts: i32) {
        match &end {
            End::Done(_) => {
                self.engine.tally.done.fetch_add(1, Ordering::Relaxed);
            }
            End::Failed(reason) => {
                tracing::warn!(tenant.id = %tenant, tenant.slug = %slug, reason, "failed to migrate a tenant");
                self.engine.tally.failed.fetch_add(1, Ordering::Relaxed);
                let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
                if self.max_failures.is_some_and(|most| failures >= most) {
                    halt(&self.halt, Halt::MaxFailures);
                }
            }
            End::Skipped(_) => {}
        }
        self.tell(tenant, slug, end, attempts);
    }

    fn tell(&self, id: TenantId, slug: Slug, end: End, attempts: i32) {
        (self.events)(&Event::Ended { id, slug, end, attempts });
    }
}

/// How many may be sent together where so many took so long.
fn as_many(count: usize, took: Duration) -> usize {
    let count = u128::try_from(count).unwrap_or(u128::MAX);
    let many = count * TOGETHER_WITHIN.as_nanos() / took.as_nanos().max(1);
    usize::try_from(many.clamp(1, TOGETHER)).unwrap_or(1)
}

/// Twice as long each time, and not at the same moment as everybody else's.
fn pause_after(tries: u32) -> Duration {
    let pause = FIRST_PAUSE * 2_u32.saturating_pow(tries.saturating_sub(1));
    let draw = Uuid::new_v4().into_bytes().first().copied().unwrap_or(0);
    pause + pause * u32::from(draw) / 512
}

fn is_worth_another_try(error: &ApplyError) -> bool {
    match error {
        ApplyError::Interrupted { failure, .. } | ApplyError::Database(failure) => {
            may_pass(failure)
        }
        _ => false,
    }
}

/// Whether the same may go well a moment later: a lock that was not given, a connection that broke, a lease that
/// was not made to last longer in time.
fn may_pass(failure: &Failure) -> bool {
    failure.is_retryable() || failure.is_unavailable() || matches!(failure, Failure::Late)
}
