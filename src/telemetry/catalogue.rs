//! The registry of the metrics, and the names under which they are exposed.

use std::fmt::Write as _;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Metric, Registry};

use super::exposition::{Exposition, in_text_format};

/// The metrics of a process, each with its name.
#[derive(Default)]
pub(super) struct Catalogue {
    registry: Registry,
    names: Vec<String>,
}

impl Catalogue {
    /// Begins with the metrics that an application registers, which are not among the names.
    pub(super) fn with(own: &[fn(&mut Registry)]) -> Self {
        let mut catalogue = Self::default();
        for register in own {
            register(&mut catalogue.registry);
        }
        catalogue
    }

    /// Adds a metric, and returns it. The name of a counter is given without `_total`, which every encoder adds.
    pub(super) fn add<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        debug_assert!(!name.ends_with("_total"), "{name} would be exposed as {name}_total");
        let suffix = match metric.metric_type() {
            MetricType::Counter => "_total",
            _ => "",
        };
        self.names.push(format!("{name}{suffix}"));
        self.registry.register(name, help, metric.clone());
        metric
    }

    /// Returns the names of all metrics as Prometheus stores them, also of those that have no series yet. A histogram has
    /// its series below its name, with `_bucket`, `_sum` and `_count`.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// Returns all metrics as text.
    pub(super) fn render(&self, exposition: Exposition) -> String {
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            let _ = write!(text, "# the metrics could not be written");
        }
        match exposition {
            Exposition::OpenMetrics => text,
            Exposition::Text => in_text_format(&text),
        }
    }
}
