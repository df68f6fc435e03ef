//! What happens when the server has no connection left for one of our pools.
//!
//! The server's limit can be below the budget of this process, or other servers use it up. Then the pool waits for one of
//! its own connections, and tries now and then to open another. Meanwhile the other pools of this process close those of
//! theirs that are not in use: which pool has a connection must not depend on which one was first.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// How long a pool does not try to open a connection that the server refused for lack of room.
pub(super) const RETRY_AFTER: Duration = Duration::from_millis(250);

/// How long a connection is unused before it is closed for a pool that has others.
const UNUSED_FOR: Duration = Duration::from_secs(1);

/// The interval at which a shortage that goes on is logged.
const WARN_INTERVAL: Duration = Duration::from_mins(1);

/// The pools of this process that need a connection which the server does not give.
#[derive(Clone, Default)]
pub(in crate::pg) struct Shortage(Arc<Shared>);

#[derive(Default)]
struct Shared {
    reported: Notify,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// How long a connection must be unused to be closed for the pools that reported.
    unused_for: Option<Duration>,
    warned_at: Option<Instant>,
}

impl Shortage {
    /// Reports that the server refused a connection to a pool with this number of others.
    pub(super) fn report(&self, open: usize) {
        let unused_for = if open == 0 { Duration::ZERO } else { UNUSED_FOR };
        let mut state = self.state();
        state.unused_for = Some(state.unused_for.map_or(unused_for, |other| other.min(unused_for)));
        let (now, last) = (Instant::now(), state.warned_at);
        if last.is_none_or(|last| now.duration_since(last) >= WARN_INTERVAL) {
            state.warned_at = Some(now);
            drop(state);
            tracing::warn!(
                open,
                "the server has no connection left; requests wait for one of this process's own"
            );
        }
        self.0.reported.notify_one();
    }

    /// Waits for a report.
    pub(in crate::pg) async fn reported(&self) {
        self.0.reported.notified().await;
    }

    /// Returns how long a connection must be unused to be closed for the pools that have reported since the last call;
    /// none if none has.
    pub(in crate::pg) fn take(&self) -> Option<Duration> {
        self.state().unused_for.take()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
