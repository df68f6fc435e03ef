//! How long requests wait for a database connection. The pools observe it, so it exists before the other metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use super::catalogue::Catalogue;
use super::labels::HoldingLabels;

/// Upper bounds of the histogram, in seconds: from no wait to the longest one by default.
const BOUNDS: [f64; 9] = [0.001, 0.0025, 0.01, 0.05, 0.1, 0.25, 1.0, 2.5, 5.0];

/// The time from the request of a connection until it was given or refused, by whether the tenant held others when it
/// asked. A tenant that holds none should not wait, whatever other tenants do.
#[derive(Clone)]
pub struct ConnectionWaits {
    durations: Family<HoldingLabels, Histogram, fn() -> Histogram>,
    /// The two histograms of the family, which every checkout of a connection would look up.
    of_none: Histogram,
    of_some: Histogram,
    noticeable: Arc<AtomicU64>,
}

/// What counts as a wait in the measurements: less is the switch to another task.
const NOTICEABLE: Duration = Duration::from_millis(10);

impl Default for ConnectionWaits {
    fn default() -> Self {
        let new: fn() -> Histogram = || Histogram::new(BOUNDS);
        let durations = Family::new_with_constructor(new);
        let [of_none, of_some] = ["none", "some"]
            .map(|holding| durations.get_or_create_owned(&HoldingLabels { holding }));
        Self { durations, of_none, of_some, noticeable: Arc::default() }
    }
}

impl ConnectionWaits {
    /// Adds a wait.
    pub fn observe(&self, holds_some: bool, wait: Duration) {
        let histogram = if holds_some { &self.of_some } else { &self.of_none };
        histogram.observe(wait.as_secs_f64());
        if wait >= NOTICEABLE {
            self.noticeable.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns how many waits took 10 ms or longer.
    pub(super) fn noticeable(&self) -> u64 {
        self.noticeable.load(Ordering::Relaxed)
    }

    pub(super) fn register(&self, catalogue: &mut Catalogue) {
        catalogue.add(
            "rowhouse_db_connection_wait_seconds",
            "Time that tenants' requests waited for a connection, by whether the tenant held others: none, some",
            self.durations.clone(),
        );
    }
}
