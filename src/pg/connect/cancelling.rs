//! Counts the cancel requests that are being sent for statements whose caller is gone, so that a process which ends does
//! not leave such a statement running.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

static PENDING: AtomicUsize = AtomicUsize::new(0);

const POLL: Duration = Duration::from_millis(10);

/// A cancel request that is being sent, until it is dropped.
pub(in crate::pg) struct Cancelling(());

impl Cancelling {
    pub(in crate::pg) fn begin() -> Self {
        PENDING.fetch_add(1, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for Cancelling {
    fn drop(&mut self) {
        PENDING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Waits until no cancel request of this process is being sent, but no longer than this.
pub async fn settle(within: Duration) {
    let settled = async {
        while PENDING.load(Ordering::Relaxed) > 0 {
            tokio::time::sleep(POLL).await;
        }
    };
    let _ = tokio::time::timeout(within, settled).await;
}
