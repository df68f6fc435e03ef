//! What one process knows of the chain of audit events: how far it is sealed, and who waits for the next seal.
//!
//! The task that seals tells it here, and readers of the feed wait for it here, without a connection. Must not know: the
//! database, rights.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// The state, shared by the services of all runtimes of a process.
#[derive(Clone, Default)]
pub struct Sealing(Arc<Shared>);

#[derive(Default)]
struct Shared {
    seen: watch::Sender<Seen>,
    /// The time of the oldest unsealed event, as this process last saw.
    unsealed_since: Mutex<Option<Instant>>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Seen {
    /// Number of events in the chain.
    head: i64,
    /// Whether the process stops.
    is_stopping: bool,
}

/// A reader that waits for the next seal.
pub(super) struct Waiter(watch::Receiver<Seen>);

impl Sealing {
    /// Records how far the chain is sealed, and how old the oldest unsealed event is.
    pub(super) fn saw(&self, head: i64, oldest_seconds: Option<f64>) {
        let since = oldest_seconds.map(|seconds| {
            // A server whose clock is ahead writes events of the future.
            let age = Duration::try_from_secs_f64(seconds).unwrap_or_default();
            let now = Instant::now();
            now.checked_sub(age).unwrap_or(now)
        });
        *self.0.unsealed_since.lock().unwrap_or_else(PoisonError::into_inner) = since;
        self.moved_to(head);
    }

    /// Records how far the chain is sealed, and wakes those who wait.
    pub(super) fn moved_to(&self, head: i64) {
        self.0.seen.send_if_modified(|seen| {
            let is_new = seen.head != head;
            seen.head = head;
            is_new
        });
    }

    /// Ends all waits, now and from now on.
    pub(super) fn stop(&self) {
        self.0.seen.send_modify(|seen| seen.is_stopping = true);
    }

    /// Whether a reader waits.
    pub(super) fn is_awaited(&self) -> bool {
        self.0.seen.receiver_count() > 0
    }

    /// Begins to wait for the next seal after now.
    pub(super) fn wait(&self) -> Waiter {
        Waiter(self.0.seen.subscribe())
    }

    /// Returns the age of the oldest unsealed event; zero if all are sealed.
    pub(super) fn unsealed_age(&self) -> Duration {
        let since = self.0.unsealed_since.lock().unwrap_or_else(PoisonError::into_inner);
        since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

impl Waiter {
    /// Forgets the seals until now: they are read next.
    pub(super) fn mark(&mut self) {
        self.0.borrow_and_update();
    }

    /// Returns true when something was sealed since the last mark, and false when the deadline has passed or the process
    /// stops.
    pub(super) async fn is_sealed_before(&mut self, deadline: Instant) -> bool {
        if self.0.borrow().is_stopping {
            return false;
        }
        let changed = tokio::time::timeout_at(deadline, self.0.changed()).await;
        matches!(changed, Ok(Ok(()))) && !self.0.borrow().is_stopping
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_waiter_is_woken_by_a_seal_and_by_a_stop_and_by_nothing_else() {
        let sealing = Sealing::default();
        sealing.saw(3, None);
        let mut waiter = sealing.wait();
        assert!(sealing.is_awaited());
        let soon = || Instant::now() + Duration::from_secs(5);
        sealing.saw(3, None);
        assert!(!waiter.is_sealed_before(soon()).await, "nothing was sealed");
        sealing.moved_to(4);
        assert!(waiter.is_sealed_before(soon()).await);
        // What was sealed between the mark and the wait is not missed.
        waiter.mark();
        sealing.moved_to(5);
        assert!(waiter.is_sealed_before(soon()).await);
        sealing.stop();
        assert!(!waiter.is_sealed_before(soon()).await);
        let mut late = sealing.wait();
        assert!(!late.is_sealed_before(soon()).await, "a stopping process makes nothing wait");
        drop((waiter, late));
        assert!(!sealing.is_awaited());
    }

    #[test]
    fn the_age_grows_until_all_is_sealed() {
        let sealing = Sealing::default();
        assert_eq!(sealing.unsealed_age(), Duration::ZERO);
        sealing.saw(0, Some(30.0));
        assert!(sealing.unsealed_age() >= Duration::from_secs(30));
        sealing.saw(0, Some(-30.0));
        assert!(
            sealing.unsealed_age() < Duration::from_secs(30),
            "an event of the future has no age"
        );
        sealing.saw(1, None);
        assert_eq!(sealing.unsealed_age(), Duration::ZERO);
    }
}
