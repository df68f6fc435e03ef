//! The metrics of background jobs.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::catalogue::Catalogue;
use super::labels::{JobLabels, JobRunLabels};

/// The outcome of a run of a background job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum JobOutcome {
    /// It did its work, or had none to do.
    Done,
    /// It returned an error.
    Failed,
    /// It panicked.
    Panicked,
}

/// Background jobs.
pub(super) struct JobMetrics {
    runs: Family<JobRunLabels, Counter>,
    last_success: Family<JobLabels, Gauge<f64, AtomicU64>>,
}

impl JobMetrics {
    pub(super) fn register(catalogue: &mut Catalogue) -> Self {
        Self {
            runs: catalogue.add(
                "rowhouse_job_runs",
                "Runs of background jobs by outcome: done, failed, panicked",
                Family::default(),
            ),
            last_success: catalogue.add(
                "rowhouse_job_last_success_timestamp_seconds",
                "When a background job last succeeded, in seconds since 1970",
                Family::default(),
            ),
        }
    }

    pub(super) fn count_run(&self, job: &'static str, outcome: JobOutcome) {
        let outcome = outcome.into();
        self.runs.get_or_create(&JobRunLabels { job, outcome }).inc();
    }

    pub(super) fn set_success(&self, job: &'static str, unix_seconds: f64) {
        self.last_success.get_or_create(&JobLabels { job }).set(unix_seconds);
    }
}
