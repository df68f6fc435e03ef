//! The pool of the owner's connections in one runtime, for the control plane.
//!
//! Its requests belong to no tenant, so they are served in the order in which they came. They are short: the rows of one
//! tenant's requests are locked in transactions of a few statements, and a request that waits for a lock is ended after
//! `lock_timeout`. The connections of tenants are others ([`affinity`](super::affinity)), so neither kind of work can take
//! the connections of the other.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Pool;

use super::affinity::CheckedOut;
use super::checkout::check_out;
use super::permits::{Permits, Request};
use super::shortage::Shortage;
use super::{PoolStatus, Purpose};
use crate::pg::error::Failure;
use crate::pg::rules::Fairness;

/// The connections of the owner in one runtime.
#[derive(Clone)]
pub(in crate::pg) struct ControlPool {
    pool: Pool,
    permits: Arc<Permits>,
    wait: Duration,
    shortage: Shortage,
}

impl ControlPool {
    /// Wraps a pool of this size, whose callers wait this long for a connection.
    pub(in crate::pg) fn new(pool: Pool, size: usize, wait: Duration, shortage: Shortage) -> Self {
        let permits = Permits::new(size, Fairness::default());
        Self { pool, permits, wait, shortage }
    }

    /// Checks out a connection.
    ///
    /// # Errors
    /// [`Failure::NoConnection`] if none is free in time, [`Failure::Pool`] if a new one cannot be opened.
    pub(in crate::pg) async fn take(&self) -> Result<CheckedOut, Failure> {
        let mut request = Request::new(None, self.wait);
        let (open, choose) = (|| self.pool.status().size, |permit| (permit, self.pool.clone()));
        let taken = check_out(&self.permits, &mut request, &self.shortage, open, choose).await;
        taken.map(|(permit, object)| CheckedOut::with_permit(object, permit))
    }

    /// Closes idle connections that were not used for this long, while more than `keep` are open. Returns how many.
    pub(in crate::pg) fn close_idle(&self, unused_for: Duration, keep: usize) -> usize {
        let mut open = self.pool.status().size;
        // The one that was used last is the last in the list.
        let removed = self.pool.retain(|_, metrics| {
            let stays = open <= keep || metrics.last_used() < unused_for;
            open -= usize::from(!stays);
            stays
        });
        removed.removed.len()
    }

    /// Closes every idle connection now, and each busy one when it is released.
    pub(in crate::pg) fn close(&self) {
        self.permits.close();
        self.pool.close();
    }

    /// Counts the connections by state.
    pub(in crate::pg) fn status(&self) -> PoolStatus {
        let status = self.pool.status();
        PoolStatus {
            purpose: Purpose::Control,
            budget: status.max_size,
            open: status.size,
            idle: status.available,
            waiting: self.permits.waiting(),
        }
    }
}
