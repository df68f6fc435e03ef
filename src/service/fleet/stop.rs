//! Why a run stops, and how it is told to.

use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

/// Why a run begins no more tenants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StopReason {
    /// The operation was paused or cancelled.
    Asked,
    /// This process stops.
    Stopping,
    /// This process stops, and does not wait for the tenants that are begun: they are rolled back.
    AtOnce,
    /// As many tenants failed as were allowed to.
    MaxFailures,
    /// Another process has the operation.
    Lost,
    /// The ledger cannot be written.
    Away(String),
}

/// The runs of this process, so that they can be told to stop.
#[derive(Default)]
pub(super) struct Runs(Mutex<Vec<watch::Sender<Option<StopReason>>>>);

impl Runs {
    pub(super) fn add(&self, stop: watch::Sender<Option<StopReason>>) {
        let mut runs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A run that has ended has dropped its receivers.
        runs.retain(|run| run.receiver_count() > 0);
        runs.push(stop);
    }

    /// Stops all of them, and waits until they have released their operations.
    pub(super) async fn stop(&self) {
        let runs = self.all();
        for run in &runs {
            stop(run, StopReason::Stopping);
        }
        for run in runs {
            run.closed().await;
        }
    }

    /// As [`stop`](Self::stop), and rolls back what is begun.
    pub(super) async fn stop_at_once(&self) {
        let runs = self.all();
        for run in &runs {
            run.send_modify(|reason| {
                if matches!(reason, None | Some(StopReason::Stopping | StopReason::Asked)) {
                    *reason = Some(StopReason::AtOnce);
                }
            });
        }
        for run in runs {
            run.closed().await;
        }
    }

    fn all(&self) -> Vec<watch::Sender<Option<StopReason>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Tells a run to stop; its first reason stays.
pub(super) fn stop(sender: &watch::Sender<Option<StopReason>>, why: StopReason) {
    sender.send_if_modified(|reason| {
        let is_first = reason.is_none();
        if is_first {
            *reason = Some(why);
        }
        is_first
    });
}
