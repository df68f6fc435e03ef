//! What happens when the server has no connection left for one of our pools.
//!
//! The server's limit can be below the budget of this process, or other servers use it up. Then the pool waits for one of
//! its own connections, and tries now and then to open another. Meanwhile the other pools of this process close those of
//! theirs that are not in use: which pool has a connection must not depend on which one was first.
//!
//! A process that found at its start that the server gives fewer than the budget leaves two. So does one that was refused a
//! connection, as beside other servers: it closes two and keeps to that number for a moment, so that there is room for a
//! command of the operator, which needs two connections. It does not go below one connection for each pool.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::pg::connect::open::OpenCount;

/// How long a pool does not try to open a connection that the server refused for lack of room.
pub(super) const RETRY_AFTER: Duration = Duration::from_millis(250);

/// How many connections this process leaves that the server gave.
const LEFT: usize = 2;

/// How long it keeps to so many less.
const KEPT_FOR: Duration = Duration::from_secs(2);

/// How long a connection is unused before it is closed for a pool that has others.
const UNUSED_FOR: Duration = Duration::from_secs(1);

/// The interval at which a shortage that goes on is logged.
const WARN_INTERVAL: Duration = Duration::from_mins(1);

/// The pools of this process that need a connection which the server does not give.
#[derive(Clone, Default)]
pub(in crate::pg) struct Shortage(Arc<Shared>);

/// Closes the connections of all pools of this process that were not used for this long.
type Closer = Box<dyn Fn(Duration) + Send + Sync>;

#[derive(Default)]
struct Shared {
    closer: OnceLock<Closer>,
    count: OpenCount,
    /// The number of pools, each of which needs one connection.
    pools: AtomicUsize,
    /// The number of connections to close when they are given back.
    to_close: AtomicUsize,
    /// The number of connections beyond which none is opened; 0 if it is not known that the server gives fewer than the
    /// budget.
    most: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    warned_at: Option<Instant>,
    ceiling: Option<Ceiling>,
}

/// The number of connections that this process keeps to since the server refused another.
#[derive(Clone, Copy)]
struct Ceiling {
    connections: usize,
    until: Instant,
}

impl Shortage {
    /// Returns the count of the connections that it decides about.
    pub(in crate::pg) fn count(&self) -> &OpenCount {
        &self.0.count
    }

    /// Sets what closes the connections that are not in use.
    pub(in crate::pg) fn closed_by(&self, closer: impl Fn(Duration) + Send + Sync + 'static) {
        // There is one database, and it sets this once.
        let _ = self.0.closer.set(Box::new(closer));
    }

    /// Notes that there are more pools.
    pub(in crate::pg) fn add_pools(&self, pools: usize) {
        self.0.pools.fetch_add(pools, Ordering::Relaxed);
    }

    /// Has this process open no more connections than this, but one for each pool.
    pub(in crate::pg) fn keep_to(&self, most: usize) {
        self.0.most.store(most.max(1), Ordering::Relaxed);
    }

    /// Whether a pool may open a connection now.
    pub(super) fn may_open(&self) -> bool {
        let (open, now) = (self.0.count.get(), Instant::now());
        let pools = self.0.pools.load(Ordering::Relaxed);
        let most = self.0.most.load(Ordering::Relaxed);
        if most > 0 && open >= most.max(pools) {
            return false;
        }
        let ceiling = self.state().ceiling.filter(|ceiling| now < ceiling.until);
        ceiling.is_none_or(|ceiling| open < ceiling.connections)
    }

    /// Notes that the server refused a connection.
    pub(super) fn refused(&self) {
        let (open, pools) = (self.0.count.get(), self.0.pools.load(Ordering::Relaxed));
        let mut state = self.state();
        let connections = match state.ceiling {
            // The room that was left is used by another. Leaving more each time would end with none.
            Some(last) if last.connections == open => open,
            _ => open.saturating_sub(LEFT).max(pools),
        };
        state.ceiling = Some(Ceiling { connections, until: Instant::now() + KEPT_FOR });
        self.0.to_close.store(open.saturating_sub(connections), Ordering::Relaxed);
    }

    /// Whether a connection that was given back is to be closed, so that there is room on the server. True once for each
    /// connection that is to be closed.
    pub(super) fn takes_one(&self) -> bool {
        let left = |count: usize| count.checked_sub(1);
        self.0.to_close.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left).is_ok()
    }

    /// Reports that a pool with this number of connections needs another: closes those that are not in use.
    pub(super) fn report(&self, open: usize) {
        if let Some(close) = self.0.closer.get() {
            close(if open == 0 { Duration::ZERO } else { UNUSED_FOR });
        }
        let mut state = self.state();
        let (now, last) = (Instant::now(), state.warned_at);
        if last.is_none_or(|last| now.duration_since(last) >= WARN_INTERVAL) {
            state.warned_at = Some(now);
            drop(state);
            tracing::warn!(
                open,
                "the server has no connection left; requests wait for one of this process's own"
            );
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(open: usize, pools: usize) -> (Shortage, Vec<crate::pg::connect::open::Counted>) {
        let shortage = Shortage::default();
        shortage.add_pools(pools);
        let counted = (0..open).map(|_| shortage.count().begin()).collect();
        (shortage, counted)
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_was_refused_a_connection_closes_two_and_leaves_that_room_for_a_moment()
    {
        let (shortage, mut open) = with(11, 6);
        assert!(shortage.may_open() && !shortage.takes_one());
        shortage.refused();
        assert!(!shortage.may_open());
        assert_eq!([(); 3].map(|()| shortage.takes_one()), [true, true, false]);
        open.truncate(9);
        assert!(!shortage.may_open(), "those are for others");
        open.pop();
        assert!(shortage.may_open());
        open.push(shortage.count().begin());
        tokio::time::advance(KEPT_FOR).await;
        assert!(shortage.may_open(), "the server may have more by now");
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_whose_room_is_used_by_another_leaves_no_more() {
        let (shortage, mut open) = with(11, 6);
        shortage.refused();
        assert!(shortage.takes_one() && shortage.takes_one());
        open.truncate(9);
        for _ in 0..5 {
            tokio::time::advance(KEPT_FOR).await;
            shortage.refused();
            assert!(!shortage.takes_one());
        }
        // It had the room for itself again.
        open.push(shortage.count().begin());
        shortage.refused();
        assert!(shortage.takes_one());
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_knows_what_the_server_gives_keeps_to_it_also_before_it_was_refused() {
        let (shortage, mut open) = with(9, 6);
        shortage.keep_to(10);
        assert!(shortage.may_open());
        open.push(shortage.count().begin());
        assert!(!shortage.may_open());
        tokio::time::advance(KEPT_FOR * 10).await;
        assert!(!shortage.may_open());
        let (few, _open) = with(2, 3);
        few.keep_to(1);
        assert!(few.may_open(), "each pool may have one");
    }

    #[tokio::test(start_paused = true)]
    async fn each_pool_may_have_one_connection() {
        let (shortage, mut open) = with(2, 3);
        shortage.refused();
        assert!(shortage.may_open() && !shortage.takes_one());
        open.push(shortage.count().begin());
        assert!(!shortage.may_open());
    }
}
