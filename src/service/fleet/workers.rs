//! Works on the tenants of an operation, some at a time: claims them in batches and begins them in order, until
//! nothing is left or it is told to stop.
//!
//! Whoever is done with one tenant begins the next by itself: to be woken for it would cost more than a part of
//! what a tenant takes. Where a lock or a connection could not be had, a tenant is tried again after a pause,
//! during which others take its place.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinError, JoinHandle, JoinSet};
use uuid::Uuid;

use super::Engine;
use super::halt::{Halt, halt};
use super::run::{Event, Events, Go};
use super::tenant::Job;
use crate::domain::error::Result;
use crate::domain::names::{SchemaName, Slug, TenantId};
use crate::pg::error::Failure;
use crate::pg::migrations::{Beginning, MigrationError};
use crate::pg::operation_tenants::{self, Claimed, End};
use crate::pg::scope::Flush;

/// How often a tenant is tried where the file is not to blame.
const TRIES: u32 = 6;

/// The pause after the first of these tries; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Tenants whose migrations are sent one behind the other, without waiting for each answer: between an answer
/// and the next message the server has nothing to do.
const TOGETHER: usize = 4;

/// What a tenant may take for that, so that none waits long behind others while there are idle connections.
const QUICK: Duration = Duration::from_millis(20);

/// Tenants that are claimed at a time, whoever works: claiming is a transaction too, and one that waits for the
/// disk.
const CLAIMED_AT_LEAST: usize = 64;

/// So many more for each that is migrated at a time.
const CLAIMED_AHEAD: usize = 4;

/// What the tasks of one go share.
pub(super) struct Shared {
    engine: Arc<Engine>,
    operation: Uuid,
    runner: Uuid,
    flush: Flush,
    /// The beginnings of the set, by their fingerprints.
    beginnings: HashMap<String, Beginning>,
    /// The schemas whose histories are to be closed.
    open_histories: HashSet<String>,
    permits: Arc<Semaphore>,
    queue: Queue,
    failures: AtomicUsize,
    max_failures: Option<usize>,
    halt: watch::Sender<Option<Halt>>,
    halted: watch::Receiver<Option<Halt>>,
    events: Events,
}

/// Works until nothing is left or somebody says stop; gives what was claimed and not begun.
///
/// Tenants are begun in order. The next ones are claimed while these are worked on.
pub(super) async fn drain(shared: &Arc<Shared>, workers: usize, canary_only: bool) -> Vec<Uuid> {
    let batch = CLAIMED_AT_LEAST + workers * CLAIMED_AHEAD;
    let mut halted = shared.halted.clone();
    let mut tasks = JoinSet::new();
    let mut claiming = None;
    let mut is_dry = false;
    let mut left = Vec::new();
    loop {
        let waiting = shared.queue.len();
        if claiming.is_none() && !is_dry && waiting <= batch / 2 {
            let shared = Arc::clone(shared);
            claiming = Some(tokio::spawn(async move { shared.claim(batch, canary_only).await }));
        }
        if claiming.is_none() && waiting == 0 && tasks.is_empty() {
            return left;
        }
        tokio::select! {
            biased;
            _ = halted.wait_for(Option::is_some) => break,
            claimed = taken(&mut claiming), if claiming.is_some() => {
                claiming = None;
                is_dry = claimed.len() < batch;
                shared.queue.extend(claimed);
            }
            Some(ended) = tasks.join_next(), if !tasks.is_empty() => shared.note_end(ended, &mut left),
            Ok(permit) = Arc::clone(&shared.permits).acquire_owned(), if waiting > 0 => {
                let shared = Arc::clone(shared);
                tasks.spawn(async move { shared.work(permit, batch / 2).await });
            }
            () = shared.queue.is_short.notified() => {}
        }
    }
    shared.queue.extend(taken(&mut claiming).await);
    left.extend(shared.queue.take_all().into_iter().map(|claimed| claimed.tenant.uuid()));
    while let Some(ended) = tasks.join_next().await {
        shared.note_end(ended, &mut left);
    }
    left
}

/// What is claimed and not begun, in order.
#[derive(Default)]
struct Queue {
    claimed: Mutex<VecDeque<Claimed>>,
    /// Told when there is little left.
    is_short: Notify,
}

impl Queue {
    fn len(&self) -> usize {
        self.lock().len()
    }

    fn extend(&self, claimed: Vec<Claimed>) {
        self.lock().extend(claimed);
    }

    /// The next ones, so many at most. Whoever leaves no more than a few says that more are wanted.
    fn next(&self, most: usize, few: usize) -> Vec<Claimed> {
        let mut claimed = self.lock();
        let count = most.min(claimed.len());
        let next = claimed.drain(..count).collect();
        if claimed.len() <= few {
            self.is_short.notify_one();
        }
        next
    }

    fn take_all(&self) -> VecDeque<Claimed> {
        std::mem::take(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Claimed>> {
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is being claimed, once it is. A claim that failed has said so.
async fn taken(claiming: &mut Option<JoinHandle<Vec<Claimed>>>) -> Vec<Claimed> {
    match claiming {
        Some(task) => task.await.unwrap_or_default(),
        None => Vec::new(),
    }
}

impl Shared {
    pub(super) fn new(engine: &Arc<Engine>, go: &Go, events: Events) -> Self {
        Self {
            engine: Arc::clone(engine),
            operation: go.record.id,
            runner: go.runner,
            flush: go.flush,
            beginnings: engine.set.beginnings(),
            open_histories: go.open_histories.clone(),
            permits: Arc::new(Semaphore::new(go.workers)),
            queue: Queue::default(),
            failures: AtomicUsize::new(0),
            max_failures: go.max_failures,
            halt: go.halt.clone(),
            halted: go.halted.clone(),
            events,
        }
    }

    /// Claims some tenants; none where there are no more, or the ledger cannot be written.
    async fn claim(&self, batch: usize, canary_only: bool) -> Vec<Claimed> {
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
            let some = self.queue.next(together, few);
            if some.is_empty() {
                break;
            }
            let begun = Instant::now();
            let count = u32::try_from(some.len()).unwrap_or(u32::MAX);
            let left_over = self.see_to_all(some).await;
            let is_quick = left_over.is_empty() && begun.elapsed() < QUICK * count;
            together = if is_quick { TOGETHER } else { 1 };
            for (claimed, tried) in left_over {
                left.extend(self.see_to(&mut permit, claimed, tried).await);
            }
        }
        left
    }

    /// Migrates some tenants on one connection; gives those that are to be looked at more closely, with what
    /// stood in the way where it may go well a moment later. All of them, where nothing more is to be begun.
    async fn see_to_all(&self, some: Vec<Claimed>) -> Vec<(Claimed, Option<MigrationError>)> {
        let is_halted = self.halted.borrow().is_some();
        let beginnings: Vec<_> =
            some.iter().map(|claimed| self.beginning(claimed).filter(|_| !is_halted)).collect();
        let jobs: Vec<(Job, &Beginning)> = some
            .iter()
            .zip(&beginnings)
            .filter_map(|(one, beginning)| {
                Some((self.job(one.tenant, one.attempts), (*beginning)?))
            })
            .collect();
        let mut outcomes = match jobs.as_slice() {
            [] => Vec::new(),
            jobs => Box::pin(self.engine.migrate_at_once(jobs)).await,
        }
        .into_iter();
        let mut left_over = Vec::new();
        for (one, beginning) in some.into_iter().zip(beginnings) {
            match beginning.and_then(|_| outcomes.next()) {
                Some(Ok(Some(applied))) => {
                    self.count_end(one.tenant, one.slug, End::Done(applied), one.attempts);
                }
                Some(Err(error)) => left_over.push((one, Some(error))),
                Some(Ok(None)) | None => left_over.push((one, None)),
            }
        }
        left_over
    }

    /// What made a tenant, as far as is known; nothing where it wants a closer look in any case.
    fn beginning(&self, claimed: &Claimed) -> Option<&Beginning> {
        let is_open = self.open_histories.contains(SchemaName::of(claimed.tenant).as_str());
        let made_by = claimed.made_by.as_ref().filter(|_| !is_open)?;
        self.beginnings.get(made_by)
    }

    fn job(&self, tenant: TenantId, attempts: i32) -> Job {
        let (operation, runner, flush) = (self.operation, self.runner, self.flush);
        Job { operation, runner, tenant, attempts, flush }
    }

    /// Migrates a tenant, if need be after some tries, the first of which was made where an error of it is given;
    /// gives the tenant back where it was not begun. Holds a permit when it ends, unless nothing more is to be
    /// begun.
    async fn see_to(
        &self,
        permit: &mut Option<OwnedSemaphorePermit>,
        claimed: Claimed,
        mut interrupted: Option<MigrationError>,
    ) -> Option<Uuid> {
        let Claimed { tenant, slug, attempts: claimed, .. } = claimed;
        let mut tries = 1;
        loop {
            if permit.is_none() {
                *permit = Arc::clone(&self.permits).acquire_owned().await.ok();
            }
            if self.halted.borrow().is_some() {
                return Some(tenant.uuid());
            }
            let attempts = claimed + i32::try_from(tries).unwrap_or(i32::MAX) - 1;
            let job = self.job(tenant, attempts);
            let outcome = match interrupted.take() {
                Some(error) => Err(error),
                None => Box::pin(self.engine.migrate(job)).await,
            };
            let error = match outcome {
                Ok(applied) => {
                    self.count_end(tenant, slug, End::Done(applied), attempts);
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
                Ok(end) => self.count_end(tenant, slug, end, attempts),
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
