//! The tenants that are claimed and not begun.
//!
//! A tenant whose tables an export has locked is put aside until the export has ended: it comes after all others, and no
//! attempt of it keeps other requests waiting behind its lock.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::domain::names::TenantId;
use crate::pg::control::operation_tenants::Claimed;

/// The tenants that are claimed and not begun, in order.
#[derive(Default)]
pub(super) struct Queue {
    claimed: Mutex<VecDeque<Claimed>>,
    /// Those that wait for the end of an export.
    aside: Mutex<Vec<Claimed>>,
    /// Notified when few are left.
    pub(super) is_short: Notify,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    pub(super) fn extend(&self, claimed: Vec<Claimed>) {
        self.lock().extend(claimed);
    }

    /// Takes the next ones: at most `most`, and no more than the share of one of `workers`. Notifies `is_short` if no
    /// more than `few` are left.
    pub(super) fn next(&self, most: usize, workers: usize, few: usize) -> Vec<Claimed> {
        let mut claimed = self.lock();
        let count = most.min(claimed.len().div_ceil(workers.max(1)));
        let next = claimed.drain(..count).collect();
        if claimed.len() <= few {
            self.is_short.notify_one();
        }
        next
    }

    pub(super) fn take_all(&self) -> Vec<Claimed> {
        let mut all: Vec<_> = std::mem::take(&mut *self.lock()).into();
        all.append(&mut self.lock_aside());
        all
    }

    /// Puts a tenant aside that is being exported.
    pub(super) fn put_aside(&self, claimed: Claimed) {
        self.lock_aside().push(claimed);
    }

    /// Returns the tenants that were put aside.
    pub(super) fn aside(&self) -> Vec<TenantId> {
        self.lock_aside().iter().map(|claimed| claimed.tenant).collect()
    }

    /// Puts those that were put aside at the end of the queue, unless they are among these.
    pub(super) fn take_back(&self, exporting: &[TenantId]) {
        let mut aside = self.lock_aside();
        let (waiting, ready) = std::mem::take(&mut *aside)
            .into_iter()
            .partition(|claimed| exporting.contains(&claimed.tenant));
        *aside = waiting;
        self.extend(ready);
    }

    fn lock_aside(&self) -> MutexGuard<'_, Vec<Claimed>> {
        self.aside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Claimed>> {
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
