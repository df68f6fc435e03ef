//! Writes down which tenants were migrated, many at a time: in their own rows and in the ledger.
//!
//! It comes after their migrations are committed, and its own commit waits for the disk, so what is written down is
//! true and stays so. What a runner who dies had not written down, the schemas' own histories say: whoever goes
//! on finds nothing left to apply, and writes it down then.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::halt::{Halt, halt};
use super::workers::{Shared, TRIES, may_pass, pause_after};
use crate::pg::error::Failure;
use crate::pg::operation_tenants::{self, Migrated};

/// So many are written down at once, where they come fast.
const MANY: usize = 32;

/// What is migrated and not written down.
#[derive(Default)]
pub(super) struct Records {
    migrated: Mutex<Vec<Migrated>>,
    /// Whether even few are to be written down now.
    is_time: AtomicBool,
}

impl Records {
    pub(super) fn push(&self, one: Migrated) {
        self.lock().push(one);
    }

    pub(super) fn call_due(&self) {
        self.is_time.store(true, Ordering::Relaxed);
    }

    /// Whether there is something to write down, and enough of it or time for it.
    pub(super) fn is_due(&self) -> bool {
        let count = self.lock().len();
        count >= MANY || (count > 0 && self.is_time.load(Ordering::Relaxed))
    }

    fn take(&self) -> Vec<Migrated> {
        self.is_time.store(false, Ordering::Relaxed);
        std::mem::take(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Migrated>> {
        self.migrated.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Writes down what was migrated up to now. Where one of them stands in the way, by a row that somebody holds,
    /// the others are written down without it.
    pub(super) async fn record(&self) {
        let some = self.records.take();
        if some.is_empty() {
            return;
        }
        let Err(failure) = self.try_to_record(&some).await else { return };
        if !failure.is_retryable() || some.len() == 1 {
            return self.insist(&some, failure).await;
        }
        let mut held = Vec::new();
        for one in some {
            match self.try_to_record(std::slice::from_ref(&one)).await {
                Ok(()) => {}
                Err(failure) => held.push((one, failure)),
            }
        }
        for (one, failure) in held {
            self.insist(std::slice::from_ref(&one), failure).await;
        }
    }

    /// Tries again what failed. A single row that somebody holds all the while is given up, and found migrated when
    /// it is tried again; anything else that cannot be written down ends the run.
    async fn insist(&self, some: &[Migrated], mut failure: Failure) {
        for tries in 1..TRIES {
            if !may_pass(&failure) {
                break;
            }
            tokio::time::sleep(pause_after(tries)).await;
            match self.try_to_record(some).await {
                Ok(()) => return,
                Err(again) => failure = again,
            }
        }
        if let ([one], true) = (some, failure.is_retryable()) {
            let reason = "it was migrated, and could not be written down: its row is held";
            tracing::warn!(tenant.id = %one.tenant, reason, "could not note a tenant's migration");
            let (key, reason) = (self.key(one.tenant), reason.to_owned());
            match self.engine.give_up(&key, one.attempts, reason).await {
                Ok(_end) => return,
                Err(again) => failure = again,
            }
        }
        halt(&self.halt, Halt::Away(failure.to_string()));
    }

    async fn try_to_record(&self, some: &[Migrated]) -> Result<(), Failure> {
        let tx = self.engine.db.public().await?;
        let (operation, runner, set) = (self.operation, self.runner, &self.engine.set);
        if !operation_tenants::record(tx, operation, runner, set, some).await? {
            halt(&self.halt, Halt::Lost);
        }
        Ok(())
    }
}
