//! The job that measures this process, for the charts.

use std::sync::Arc;

use super::{Job, Next};
use crate::service::Services;
use crate::telemetry::{MEASUREMENT_INTERVAL, Metrics};

/// Takes a measurement of the load of this process. It reads only its memory.
pub(super) fn take(services: &Services, metrics: &Arc<Metrics>) -> Job {
    let service = (services.clone(), Arc::clone(metrics));
    Job::new(
        "take_measurements",
        MEASUREMENT_INTERVAL,
        &service,
        |(services, metrics), ctx| async move {
            services.health.measure(&metrics);
            services.vacancies.measure(&metrics, ctx.now);
            services.fleet.measure(&metrics);
            metrics.take_measurement(ctx.now);
            Ok(Next::AfterInterval)
        },
    )
}
