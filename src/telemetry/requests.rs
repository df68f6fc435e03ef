//! The metrics of requests: how many, and how long they took.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::histogram::Histogram;

use super::catalogue::Catalogue;
use super::labels::{DurationLabels, RequestLabels};

/// Upper bounds of the histogram of durations, in seconds: from a guarded read to the longest time limit that is usual.
const BOUNDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Answered requests.
pub(super) struct RequestMetrics {
    answered: Family<RequestLabels, Counter>,
    durations: Family<DurationLabels, Histogram, Bounds>,
}

impl RequestMetrics {
    pub(super) fn register(catalogue: &mut Catalogue, time_limit: Duration) -> Self {
        Self {
            answered: catalogue.add("http_requests", "Requests answered", Family::default()),
            durations: catalogue.add(
                "http_request_duration_seconds",
                "Time to answer a request; the last bound is the time limit of one",
                Family::new_with_constructor(Bounds::up_to(time_limit)),
            ),
        }
    }

    pub(super) fn count(&self, method: &'static str, route: String, status: u16, took: Duration) {
        let status_class = match status {
            100..200 => "1xx",
            200..300 => "2xx",
            300..400 => "3xx",
            400..500 => "4xx",
            _ => "5xx",
        };
        let labels = DurationLabels { method, route, status_class };
        self.durations.get_or_create(&labels).observe(took.as_secs_f64());
        let labels = RequestLabels { method, route: labels.route, status };
        self.answered.get_or_create(&labels).inc();
    }
}

/// The upper bounds of a histogram of durations.
#[derive(Debug, Clone)]
pub(super) struct Bounds(pub(super) Arc<[f64]>);

impl Bounds {
    /// Returns the usual bounds below a limit, and the limit.
    pub(super) fn up_to(limit: Duration) -> Self {
        let limit = limit.as_secs_f64();
        let below = BOUNDS.iter().copied().filter(|bound| *bound < limit);
        Self(below.chain([limit]).collect())
    }
}

impl MetricConstructor<Histogram> for Bounds {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_bound_of_a_duration_is_the_time_limit() {
        for (limit, count, before) in [(30_u32, 14, 10.0), (20, 14, 10.0), (120, 15, 30.0)] {
            let Bounds(bounds) = Bounds::up_to(Duration::from_secs(limit.into()));
            let last: Vec<f64> = bounds.iter().rev().take(2).copied().collect();
            assert_eq!((bounds.len(), last), (count, vec![f64::from(limit), before]), "{limit} s");
        }
    }
}
