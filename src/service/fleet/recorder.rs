//! Writes down which tenants were migrated, many at a time: in their own rows and in the ledger.
//!
//! It comes after their migrations are committed, and its own commit waits for the disk, so what is written down is
//! true and stays so. What a runner who dies had not written down, the schemas' own histories say: whoever goes
//! on finds nothing left to apply, and writes it down then.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::pg::control::operation_tenants::{self, Migrated};
use crate::pg::error::Failure;
use crate::service::fleet::stop::{Halt, halt};
use crate::service::fleet::workers::{Shared, TRIES};

/// So many are written down at once, where they come fast.
const MANY: usize = 32;

/// How often it is tried to write down a tenant whose row somebody holds, each time as long as a lock may be waited
/// for.
const TRIES_OF_HELD: u32 = 20;

/// What is migrated and not written down.
#[derive(Default)]
pub(super) struct Records {
    migrated: Mutex<Vec<Migrated>>,
    /// Those whose rows somebody holds, and how often each was tried.
    held: Mutex<Vec<(Migrated, u32)>>,
    /// Whether even few are to be written down now.
    is_time: AtomicBool,
}

impl Records {
    pub(super) fn push(&self, one: Migrated) {
        lock(&self.migrated).push(one);
    }

    pub(super) fn any(&self) -> bool {
        !lock(&self.migrated).is_empty() || !lock(&self.held).is_empty()
    }

    pub(super) fn call_due(&self) {
        self.is_time.store(true, Ordering::Relaxed);
    }

    /// Whether there is something to write down, and enough of it or time for it.
    pub(super) fn is_due(&self) -> bool {
        lock(&self.migrated).len() >= MANY || (self.is_time.load(Ordering::Relaxed) && self.any())
    }

    fn take(&self) -> (Vec<Migrated>, Vec<(Migrated, u32)>) {
        self.is_time.store(false, Ordering::Relaxed);
        (std::mem::take(&mut lock(&self.migrated)), std::mem::take(&mut lock(&self.held)))
    }
}

fn lock<T>(list: &Mutex<Vec<T>>) -> MutexGuard<'_, Vec<T>> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Writes down what was migrated up to now, but for tenants whose rows somebody holds: those are tried again
    /// the next time, and hold nobody up.
    pub(super) async fn record(&self) {
        let (some, held) = self.records.take();
        match self.try_to_record(&some).await {
            Ok(()) => {}
            Err(failure) if failure.is_retryable() => {
                for one in some {
                    self.record_one(one, 1).await;
                }
            }
            Err(failure) => self.insist_on(&some, failure).await,
        }
        for (one, tries) in held {
            self.record_one(one, tries + 1).await;
        }
    }

    /// Writes one down that may be held, for the so manieth time. Held for too long it is given up, and found
    /// migrated by whoever tries it again.
    async fn record_one(&self, one: Migrated, tries: u32) {
        let some = std::slice::from_ref(&one);
        match self.try_to_record(some).await {
            Ok(()) => {}
            Err(failure) if !failure.is_retryable() => self.insist_on(some, failure).await,
            Err(_held) if tries < TRIES_OF_HELD => lock(&self.records.held).push((one, tries)),
            Err(_held) => {
                let reason = "it was migrated, and could not be written down: its row is held";
                tracing::warn!(tenant.id = %one.tenant, reason, "could not note a tenant's migration");
                let _end = self.give_up(one.tenant, one.attempts, reason.to_owned()).await;
            }
        }
    }

    /// Tries again what failed because the database was away; if it stays away, that ends the run.
    async fn insist_on(&self, some: &[Migrated], failure: Failure) {
        let _done = self.insist(failure, TRIES - 1, || self.try_to_record(some)).await;
    }

    async fn try_to_record(&self, some: &[Migrated]) -> Result<(), Failure> {
        if some.is_empty() {
            return Ok(());
        }
        let tx = self.engine.db.public().await?;
        let (operation, runner, set) = (self.operation, self.runner, &self.engine.set);
        if !operation_tenants::record(tx, operation, runner, set, some).await? {
            halt(&self.halt, Halt::Lost);
        }
        Ok(())
    }
}
