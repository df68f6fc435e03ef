//! The tenants that are claimed and not begun.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::pg::control::operation_tenants::Claimed;

/// The tenants that are claimed and not begun, in order.
#[derive(Default)]
pub(super) struct Queue {
    claimed: Mutex<VecDeque<Claimed>>,
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

    pub(super) fn take_all(&self) -> VecDeque<Claimed> {
        std::mem::take(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Claimed>> {
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
