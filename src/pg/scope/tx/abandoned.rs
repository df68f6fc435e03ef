//! What happens to the connection of a transaction that is dropped without a commit.

use std::time::Duration;

use futures_util::FutureExt;

use super::Tx;
use crate::pg::connect::cancelling::Cancelling;
use crate::pg::error::server_message;
use crate::telemetry::note_dropped_write;

/// How long a cancel request waits if the server has not yet confirmed the preamble. A request that overtook
/// `BEGIN` would cancel it, and the query after it would run outside the transaction.
const CANCEL_GRACE: Duration = Duration::from_millis(100);

impl Drop for Tx {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        if !*self.preamble_sent.get_mut() || *self.committed.get_mut() {
            return; // nothing was sent, or it is committed
        }
        if *self.wrote.get_mut() && !*self.failed.get_mut() {
            note_dropped_write();
        }
        if *self.connection_ended.get_mut() {
            // Checked out again before the pool sees that it is closed, it would fail an unrelated request.
            drop(connection.discard());
            return;
        }
        if *self.in_flight.get_mut() == 0 && *self.runs_files.get_mut() {
            drop(connection.discard());
            return;
        }
        if *self.in_flight.get_mut() == 0 {
            // Polled once, so that it is queued before anything that the next user of the connection sends.
            let _ = connection.batch_execute("ROLLBACK").now_or_never();
            return;
        }
        let discarded = connection.discard();
        if !self.may_cancel {
            return; // the server sees that its client is gone, or statement_timeout ends the query
        }
        // Without a runtime that could send the request, statement_timeout ends the query.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let cancel = discarded.cancel_token();
        let (tls, wait_timeout) = (self.place.beside.tls.clone(), self.wait_timeout);
        let accepted = *self.preamble_accepted.get_mut();
        let cancelling = Cancelling::begin();
        runtime.spawn(async move {
            if !accepted {
                tokio::time::sleep(CANCEL_GRACE).await;
            }
            match tokio::time::timeout(wait_timeout, cancel.cancel_query(tls)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    let error = server_message(&error);
                    tracing::debug!(error, "failed to cancel an abandoned query");
                }
                Err(_elapsed) => {
                    tracing::debug!("failed to cancel an abandoned query in time");
                }
            }
            drop(discarded);
            drop(cancelling);
        });
    }
}
