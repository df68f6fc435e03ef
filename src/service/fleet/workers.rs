//! The workers of a run: each takes tenants from the queue and migrates them, until the queue is empty or the run is
//! told to stop.
//!
//! A worker that has finished one tenant takes the next one itself: waking it through the loop would cost a
//! noticeable part of what a tenant takes. If a lock or a connection cannot be had, the tenant is tried again after a
//! pause, during which the worker gives its permit to another; while it is being exported, it comes after all others.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use uuid::Uuid;

use crate::domain::names::{SchemaName, Slug, TenantId};
use crate::domain::operation::OperationKind;
use crate::migrations::AppliedPrefix;
use crate::pg::control::archives;
use crate::pg::control::operation_tenants::{Claimed, End, Migrated};
use crate::pg::schema::error::ApplyError;
use crate::pg::scope::{Entry, Flush};
use crate::service::fleet::breaks::Breaks;
use crate::service::fleet::engine::Engine;
use crate::service::fleet::job::{Event, Events, Run};
use crate::service::fleet::queue::Queue;
use crate::service::fleet::recorder::Recorder;
use crate::service::fleet::retry::{TRIES, is_cancelled, is_worth_retrying, pause_after};
use crate::service::fleet::stop::{StopReason, stop};

/// The most tenants whose migrations are pipelined, without waiting for each answer: between an answer and the next
/// message the server would be idle.
const PIPELINED: u128 = 16;

/// How long a pipeline may take, so that no tenant waits long behind others while there are idle connections.
const PIPELINED_WITHIN: Duration = Duration::from_millis(40);

/// What the workers of one run share.
pub(super) struct Workers {
    pub(super) engine: Arc<Engine>,
    pub(super) operation: Uuid,
    pub(super) kind: OperationKind,
    pub(super) runner: Uuid,
    flush: Flush,
    /// When the lease ends unless it is renewed.
    lease_until: watch::Receiver<OffsetDateTime>,
    /// The prefixes of the set, by fingerprint.
    prefixes: HashMap<String, AppliedPrefix>,
    /// The schemas whose rights are not those of a new one.
    other_rights: HashSet<String>,
    pub(super) count: usize,
    pub(super) permits: Arc<Semaphore>,
    pub(super) queue: Queue,
    pub(super) recorder: Recorder,
    failures: AtomicUsize,
    max_failures: Option<usize>,
    pub(super) stop: watch::Sender<Option<StopReason>>,
    pub(super) stopped: watch::Receiver<Option<StopReason>>,
    events: Events,
}

impl Workers {
    pub(super) fn new(engine: &Arc<Engine>, run: &Run, events: Events) -> Self {
        Self {
            engine: Arc::clone(engine),
            operation: run.record.id,
            kind: run.record.kind,
            runner: run.runner,
            flush: run.flush,
            prefixes: engine.set.applied_prefixes(),
            other_rights: run.other_rights.clone(),
            count: run.workers,
            permits: Arc::new(Semaphore::new(run.workers)),
            lease_until: run.lease_until.subscribe(),
            queue: Queue::default(),
            recorder: Recorder::new(engine, run),
            failures: AtomicUsize::new(0),
            max_failures: run.max_failures,
            stop: run.stop.clone(),
            stopped: run.stopped.clone(),
            events,
        }
    }

    /// Migrates tenants from the queue until it is empty or the run stops. Returns the tenants that it took and did
    /// not begin.
    pub(super) async fn work(&self, permit: OwnedSemaphorePermit, few: usize) -> Vec<Uuid> {
        let mut permit = Some(permit);
        let mut batch_size = 1;
        let mut not_begun = Vec::new();
        while not_begun.is_empty() {
            let batch = self.queue.next(batch_size, self.count, few);
            if batch.is_empty() {
                break;
            }
            let begun = Instant::now();
            let count = batch.len();
            let left_over = self.migrate_batch(batch).await;
            batch_size =
                if left_over.is_empty() { next_batch_size(count, begun.elapsed()) } else { 1 };
            for (claimed, failed) in left_over {
                not_begun.extend(self.migrate_one(&mut permit, claimed, failed).await);
            }
        }
        not_begun
    }

    /// Migrates tenants pipelined on one connection. Returns those that must be migrated step by step, with the error
    /// of the attempt if it may succeed a moment later; all of them if the run stops.
    async fn migrate_batch(&self, batch: Vec<Claimed>) -> Vec<(Claimed, Option<ApplyError>)> {
        let is_stopped = self.stopped.borrow().is_some();
        let prefixes: Vec<_> =
            batch.iter().map(|claimed| self.prefix_of(claimed).filter(|_| !is_stopped)).collect();
        let jobs: Vec<(TenantId, &AppliedPrefix)> = batch
            .iter()
            .zip(&prefixes)
            .filter_map(|(one, prefix)| Some((one.tenant, (*prefix)?)))
            .collect();
        let mut outcomes = match jobs.as_slice() {
            [] => Vec::new(),
            jobs => {
                let migrating = Box::pin(self.engine.migrate_pipelined(jobs, self.entry()));
                // What was dropped unanswered is migrated step by step, or given back.
                self.unless_at_once(migrating).await.unwrap_or_default()
            }
        }
        .into_iter();
        let mut left_over = Vec::new();
        for (one, prefix) in batch.into_iter().zip(prefixes) {
            match prefix.and_then(|_| outcomes.next()) {
                Some(Ok(Some(applied))) => self.finish(one, applied),
                // Step by step the failing file and its line are known.
                Some(Err(error)) if is_cancelled(&error) => left_over.push((one, None)),
                Some(Err(error)) => left_over.push((one, Some(error))),
                Some(Ok(None)) | None => left_over.push((one, None)),
            }
        }
        left_over
    }

    /// The prefix of the set that made a tenant, according to its row; `None` if it must be migrated step by step.
    fn prefix_of(&self, claimed: &Claimed) -> Option<&AppliedPrefix> {
        let has_others = self.other_rights.contains(SchemaName::of(claimed.tenant).as_str());
        let made_by = claimed.made_by.as_ref().filter(|_| !has_others)?;
        self.prefixes.get(made_by)
    }

    /// How a transaction in a schema begins: only while no other process can have acquired the operation.
    fn entry(&self) -> Entry {
        Entry { flush: self.flush, before: Some(*self.lease_until.borrow()) }
    }

    /// Migrates a tenant step by step, with retries; `failed` is the error of a first attempt that was made. Returns
    /// the tenant if it was not begun. Has a permit at the end, unless the run stops.
    async fn migrate_one(
        &self,
        permit: &mut Option<OwnedSemaphorePermit>,
        mut claimed: Claimed,
        mut failed: Option<ApplyError>,
    ) -> Option<Uuid> {
        let tenant = claimed.tenant;
        let mut tries = 1;
        let mut breaks = Breaks::default();
        loop {
            if permit.is_none() {
                *permit = Arc::clone(&self.permits).acquire_owned().await.ok();
            }
            if self.stopped.borrow().is_some() {
                return Some(tenant.uuid());
            }
            let (outcome, blamed) = if let Some(error) = failed.take() {
                // A pipelined attempt says nothing about the file: the connection was shared.
                (Err(error), None)
            } else {
                let migrating = Box::pin(self.engine.work_on(self.kind, tenant, self.entry()));
                let Some(outcome) = self.unless_at_once(migrating).await else {
                    return Some(tenant.uuid());
                };
                let blamed = match &outcome {
                    Err(error) => breaks.blame(&self.engine, &self.stopped, error).await,
                    Ok(_) => None,
                };
                (outcome, blamed)
            };
            let error = match outcome {
                Ok(applied) => {
                    self.finish(claimed, applied);
                    return None;
                }
                Err(error) => error,
            };
            let is_worth = blamed.is_none() && is_worth_retrying(&error);
            if is_worth && self.is_exported(tenant).await {
                self.tell_retry(
                    &claimed,
                    "it is being exported; it comes after the others".to_owned(),
                );
                claimed.attempts += 1;
                self.queue.put_aside(claimed);
                return None;
            }
            if tries < TRIES && is_worth {
                drop(permit.take());
                self.tell_retry(&claimed, error.to_string());
                self.pause(pause_after(tries)).await;
                tries += 1;
                claimed.attempts += 1;
                continue;
            }
            let Claimed { slug, attempts, .. } = claimed;
            let reason = blamed.unwrap_or_else(|| error.to_string());
            let end = self.recorder.mark_failed(tenant, attempts, reason).await;
            if let Some(end) = end {
                self.count_end(tenant, slug, end, attempts);
            }
            return None;
        }
    }

    /// Whether an export of the tenant is running, which holds the locks of its tables.
    async fn is_exported(&self, tenant: TenantId) -> bool {
        let exporting = async {
            let tx = self.engine.db.public().await?;
            archives::exporting(&tx, &[tenant]).await
        };
        exporting.await.is_ok_and(|exporting| !exporting.is_empty())
    }

    fn tell_retry(&self, claimed: &Claimed, reason: String) {
        self.engine.tally.again.fetch_add(1, Ordering::Relaxed);
        (self.events)(&Event::Retrying { slug: claimed.slug.clone(), reason });
    }

    /// Counts a tenant as migrated, and passes it to the recorder. If the answer to an earlier attempt was lost, that
    /// attempt applied the files that this one found applied.
    fn finish(&self, claimed: Claimed, mut applied: Vec<String>) {
        if applied.is_empty() && claimed.attempts > 1 {
            let made_by = claimed.made_by.as_deref().unwrap_or_default();
            applied = self.engine.set.names_after(made_by);
        }
        let Claimed { tenant, slug, attempts, made_by } = claimed;
        let ended_at = self.engine.clock.now();
        let end = End::Done(applied.clone());
        self.recorder.push(Migrated { tenant, made_by, attempts, applied, ended_at });
        self.count_end(tenant, slug, end, attempts);
    }

    /// Runs work on a tenant, unless the run is told not to wait for it: then drops it, which rolls it back.
    async fn unless_at_once<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut stopped = self.stopped.clone();
        tokio::select! {
            biased;
            _ = stopped.wait_for(|reason| *reason == Some(StopReason::AtOnce)) => None,
            done = work => Some(done),
        }
    }

    /// Waits, but not longer than until the run is told to stop.
    async fn pause(&self, pause: Duration) {
        let mut stopped = self.stopped.clone();
        let _ = tokio::time::timeout(pause, stopped.wait_for(Option::is_some)).await;
    }

    fn count_end(&self, id: TenantId, slug: Slug, end: End, attempts: i32) {
        match &end {
            End::Done(_) => {
                self.engine.tally.done.fetch_add(1, Ordering::Relaxed);
            }
            End::Failed(reason) => {
                tracing::warn!(tenant.id = %id, tenant.slug = %slug, reason, "failed to migrate a tenant");
                self.engine.tally.failed.fetch_add(1, Ordering::Relaxed);
                let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
                if self.max_failures.is_some_and(|most| failures >= most) {
                    stop(&self.stop, StopReason::MaxFailures);
                }
            }
            End::Skipped(_) => {}
        }
        (self.events)(&Event::Ended { id, slug, end, attempts });
    }
}

/// How many tenants to pipeline next if `count` of them took this long.
fn next_batch_size(count: usize, took: Duration) -> usize {
    let count = u128::try_from(count).unwrap_or(u128::MAX);
    let many = count * PIPELINED_WITHIN.as_nanos() / took.as_nanos().max(1);
    usize::try_from(many.clamp(1, PIPELINED)).unwrap_or(1)
}
