//! Notices that a request has dropped a transaction that wrote, without a commit.

use std::cell::Cell;

tokio::task_local! {
    static DROPPED: Cell<bool>;
}

/// Records that such a transaction is dropped.
pub fn note_dropped_write() {
    // Outside of a request it is of no interest.
    let _ = DROPPED.try_with(|dropped| dropped.set(true));
}

/// Runs a request; returns its result and whether it has dropped such a transaction.
pub async fn watch_writes<F: Future>(request: F) -> (F::Output, bool) {
    let watched = async {
        let output = request.await;
        (output, DROPPED.with(Cell::get))
    };
    DROPPED.scope(Cell::new(false), watched).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_that_drops_a_write_is_told_from_others() {
        note_dropped_write();
        assert!(!watch_writes(async {}).await.1);
        assert!(watch_writes(async { note_dropped_write() }).await.1);
        assert!(!watch_writes(async {}).await.1);
    }
}
