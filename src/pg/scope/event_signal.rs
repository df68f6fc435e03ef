//! Tells a task of this process that audit events were written, so that it need not ask the database all the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// The signal of one process. What is raised while nothing waits is kept for the next wait; several raises are one.
#[derive(Clone, Default)]
pub struct EventSignal(Arc<Notify>);

impl EventSignal {
    /// Raises the signal.
    pub fn raise(&self) {
        self.0.notify_one();
    }

    /// Waits until the signal was raised since the last wait.
    pub async fn raised(&self) {
        self.0.notified().await;
    }
}

/// Raises the signal when a transaction ends in which events were written. Whether it was committed does not matter: who
/// waits looks into the database.
pub(super) struct RaiseAtEnd {
    signal: EventSignal,
    has_events: AtomicBool,
}

impl RaiseAtEnd {
    pub(super) const fn new(signal: EventSignal) -> Self {
        Self { signal, has_events: AtomicBool::new(false) }
    }

    /// Records that the transaction writes an event.
    pub(super) fn note(&self) {
        self.has_events.store(true, Ordering::Relaxed);
    }
}

impl Drop for RaiseAtEnd {
    fn drop(&mut self) {
        if *self.has_events.get_mut() {
            self.signal.raise();
        }
    }
}
