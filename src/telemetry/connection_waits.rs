//! How long requests wait for a database connection. The pools observe it, so it exists before the other metrics.

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
pub struct ConnectionWaits(Family<HoldingLabels, Histogram, fn() -> Histogram>);

impl Default for ConnectionWaits {
    fn default() -> Self {
        let waits = Self(Family::new_with_constructor(|| Histogram::new(BOUNDS)));
        for holds_some in [false, true] {
            drop(waits.0.get_or_create(&labels(holds_some)));
        }
        waits
    }
}

impl ConnectionWaits {
    /// Adds a wait.
    pub fn observe(&self, holds_some: bool, wait: Duration) {
        self.0.get_or_create(&labels(holds_some)).observe(wait.as_secs_f64());
    }

    pub(super) fn register(&self, catalogue: &mut Catalogue) {
        catalogue.add(
            "rowhouse_db_connection_wait_seconds",
            "Time that tenants' requests waited for a connection, by whether the tenant held others: none, some",
            self.0.clone(),
        );
    }
}

const fn labels(holds_some: bool) -> HoldingLabels {
    HoldingLabels { holding: if holds_some { "some" } else { "none" } }
}
