//! Owns why a run stops, and how it is told to.

use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

/// Why a run begins no more tenants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Halt {
    /// Somebody paused or cancelled the operation.
    Asked,
    /// This process stops.
    Stopping,
    /// As many failed as may.
    MaxFailures,
    /// Somebody else has the operation.
    Lost,
    /// The ledger cannot be written.
    Away(String),
}

/// The runs of this process, so that they can be told to stop.
#[derive(Default)]
pub(super) struct Runs(Mutex<Vec<watch::Sender<Option<Halt>>>>);

impl Runs {
    pub(super) fn add(&self, halt: watch::Sender<Option<Halt>>) {
        let mut runs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The receivers go with their run.
        runs.retain(|run| run.receiver_count() > 0);
        runs.push(halt);
    }

    /// Tells all of them, and waits until they have let go.
    pub(super) async fn stop(&self) {
        let runs = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for run in &runs {
            halt(run, Halt::Stopping);
        }
        for run in runs {
            run.closed().await;
        }
    }
}

/// The first reason stays.
pub(super) fn halt(sender: &watch::Sender<Option<Halt>>, why: Halt) {
    sender.send_if_modified(|halt| {
        let is_first = halt.is_none();
        if is_first {
            *halt = Some(why);
        }
        is_first
    });
}
