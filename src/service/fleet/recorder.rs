//! Records which tenants were migrated, many at a time: in their own rows and in the ledger.
//!
//! A record comes after the migrations are committed, and its own commit waits for the disk, so what is recorded is
//! durable. If a runner dies before it has recorded a migration, the schema's own history has it: the next runner
//! finds nothing left to apply, and records it then.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use uuid::Uuid;

use crate::domain::names::TenantId;
use crate::domain::operation::WorkState;
use crate::pg::control::operation_tenants::{self, End, Key, Migrated};
use crate::pg::control::tenants;
use crate::pg::error::Failure;
use crate::service::fleet::engine::Engine;
use crate::service::fleet::job::Run;
use crate::service::fleet::retry::{TRIES, is_transient, retry};
use crate::service::fleet::stop::{StopReason, stop};

/// As many are recorded in one transaction while tenants are migrated quickly.
const BATCH: usize = 32;

/// How often to try to record a tenant whose row another transaction has locked, each time as long as the lock
/// timeout.
const TRIES_IF_LOCKED: u32 = 20;

/// Records the tenants of one run.
pub(super) struct Recorder {
    engine: Arc<Engine>,
    operation: Uuid,
    runner: Uuid,
    stop: watch::Sender<Option<StopReason>>,
    /// Migrated and not recorded.
    pending: Mutex<Vec<Migrated>>,
    /// Migrated, with a row that another transaction has locked, and how often each was tried.
    locked: Mutex<Vec<(Migrated, u32)>>,
    /// Whether to record even a few now.
    is_time: AtomicBool,
}

impl Recorder {
    pub(super) fn new(engine: &Arc<Engine>, run: &Run) -> Self {
        Self {
            engine: Arc::clone(engine),
            operation: run.record.id,
            runner: run.runner,
            stop: run.stop.clone(),
            pending: Mutex::default(),
            locked: Mutex::default(),
            is_time: AtomicBool::new(false),
        }
    }

    /// Adds a migrated tenant, to be recorded later.
    pub(super) fn push(&self, one: Migrated) {
        lock(&self.pending).push(one);
    }

    /// Whether anything is left to record.
    pub(super) fn is_behind(&self) -> bool {
        !lock(&self.pending).is_empty() || !lock(&self.locked).is_empty()
    }

    /// Makes even a few due.
    pub(super) fn call_due(&self) {
        self.is_time.store(true, Ordering::Relaxed);
    }

    /// Whether there is a full batch to record, or anything at all when it is time.
    pub(super) fn is_due(&self) -> bool {
        lock(&self.pending).len() >= BATCH
            || (self.is_time.load(Ordering::Relaxed) && self.is_behind())
    }

    /// Records what was migrated so far, except tenants whose rows are locked: those are tried again the next time,
    /// and delay no other.
    pub(super) async fn record(&self) {
        self.is_time.store(false, Ordering::Relaxed);
        let batch = std::mem::take(&mut *lock(&self.pending));
        let locked = std::mem::take(&mut *lock(&self.locked));
        match self.try_to_record(&batch).await {
            Ok(()) => {}
            Err(failure) if failure.is_retryable() => {
                for one in batch {
                    self.record_one(one, 1).await;
                }
            }
            Err(failure) => stop(&self.stop, StopReason::Away(failure.to_string())),
        }
        for (one, tries) in locked {
            self.record_one(one, tries + 1).await;
        }
    }

    /// Records a tenant whose row may be locked; `tries` counts the attempts, this one included. If the row stays
    /// locked for too long the tenant is marked as failed; a retry of the operation finds it migrated.
    async fn record_one(&self, one: Migrated, tries: u32) {
        let batch = std::slice::from_ref(&one);
        match self.try_to_record(batch).await {
            Ok(()) => {}
            Err(failure) if !failure.is_retryable() => {
                stop(&self.stop, StopReason::Away(failure.to_string()));
            }
            Err(_locked) if tries < TRIES_IF_LOCKED => lock(&self.locked).push((one, tries)),
            Err(_locked) => {
                let reason = "it was migrated and could not be recorded: its row is locked";
                tracing::warn!(tenant.id = %one.tenant, reason, "could not record a tenant's migration");
                let _end = self.mark_failed(one.tenant, one.attempts, reason.to_owned()).await;
            }
        }
    }

    /// Records tenants, in more than one attempt if the database is away. A locked row is left to the caller.
    async fn try_to_record(&self, batch: &[Migrated]) -> Result<(), Failure> {
        if batch.is_empty() {
            return Ok(());
        }
        let (operation, runner, set) = (self.operation, self.runner, &self.engine.set);
        let may_pass = |failure: &Failure| is_transient(failure) && !failure.is_retryable();
        let recorded = retry(TRIES, may_pass, || async {
            let tx = self.engine.db.public().await?;
            operation_tenants::record(tx, operation, runner, set, batch).await
        });
        if !recorded.await? {
            stop(&self.stop, StopReason::Lost);
        }
        Ok(())
    }

    /// Records that a tenant was not migrated, and returns how it ended. If that cannot be written, the run stops.
    pub(super) async fn mark_failed(
        &self,
        tenant: TenantId,
        attempts: i32,
        reason: String,
    ) -> Option<End> {
        let mark = || self.try_to_mark_failed(tenant, attempts, reason.clone());
        // Also where the database answers: a pool can hold connections that a crash has ended.
        let why = match retry(TRIES, is_transient, mark).await {
            Ok(end) => return Some(end),
            Err(Failure::RowCount) => StopReason::Lost,
            Err(failure) => StopReason::Away(failure.to_string()),
        };
        stop(&self.stop, why);
        None
    }

    /// Records that a tenant was not migrated. One that is deleted or being deleted counts as skipped.
    async fn try_to_mark_failed(
        &self,
        tenant: TenantId,
        attempts: i32,
        reason: String,
    ) -> Result<End, Failure> {
        let key = Key { operation: self.operation, runner: self.runner, tenant };
        let tx = self.engine.db.public().await?;
        let (state, end, reason): (_, fn(String) -> End, _) =
            if tenants::is_kept(&tx, tenant).await? {
                (WorkState::Failed, End::Failed, reason)
            } else {
                let reason = "the tenant is being deleted, or gone".to_owned();
                (WorkState::Skipped, End::Skipped, reason)
            };
        let now = self.engine.clock.now();
        operation_tenants::mark_failed(&tx, &key, attempts, state, &reason, now).await?;
        tx.commit().await?;
        Ok(end(reason))
    }
}

fn lock<T>(list: &Mutex<Vec<T>>) -> MutexGuard<'_, Vec<T>> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}
