//! The measurements of the server that answers, over the last hour.

use actix_web::get;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::ToSchema;

use super::Answer;
use super::call::Call;
use super::responses::{Forbidden, Unexpected};
use crate::domain::Permission;
use crate::http::Mount;
use crate::http::responses::ViewFleet;
use crate::service::overview::Process;
use crate::telemetry::{MEASUREMENT_INTERVAL, Measurements};

pub(super) fn mount(routes: &mut Mount<'_>) {
    routes.service(read);
}

/// The measurements of one server over about an hour. Each server of an installation has its own.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Measurements)]
pub(super) struct MeasurementsAnswer {
    /// The machine of the server.
    host: String,
    /// The process.
    pid: u32,
    /// The time between two measurements, at least.
    interval_seconds: u64,
    /// How many database connections the process may open.
    connections_max: i64,
    /// When each measurement was taken, the oldest first; empty in the first seconds of a process.
    #[schema(value_type = Vec<OffsetDateTime>)]
    times: Vec<String>,
    /// The series, always the same ones.
    series: Vec<SeriesAnswer>,
}

/// A series of measurements.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MeasurementSeries)]
pub(super) struct SeriesAnswer {
    /// `requests_succeeded` (statuses below 400), `requests_refused` (4xx), `requests_failed` (5xx), `duration_p50` and
    /// `duration_p95` of requests, `setups_with_vacancy` and `setups_without_vacancy`, `connections_in_use`,
    /// `connection_waits` of 10 ms or longer, password `hashes_waiting`, requests that a limit refused (`limited`), and
    /// `tenants_migrated` by fleet migrations.
    name: &'static str,
    /// What is counted: `per_second`, `milliseconds` or `number`.
    #[schema(pattern = "^(per_second|milliseconds|number)$")]
    unit: &'static str,
    /// A value for each time; null where there was nothing to measure, as the duration of no request.
    values: Vec<Option<f64>>,
}

/// Returns the measurements of the server that answers: its requests, connections, set-ups and migrations in the last
/// hour, every ten seconds.
#[utoipa::path(tag = "control", operation_id = "getMeasurements", security(("bearer" = [])),
    params(("If-None-Match" = Option<String>, Header, description = "The ETag of an earlier answer")),
    responses(
        (status = 200, description = "The measurements, with an ETag", body = MeasurementsAnswer),
        (status = 304, description = "There is no other measurement than when the answer had the ETag in If-None-Match"),
        Unexpected, Forbidden<ViewFleet>,
    )
)]
#[get("/control/v1/measurements")]
async fn read(call: Call) -> Answer {
    call.ctx.require(Permission::ViewFleet)?;
    call.nothing_else()?;
    let overview = &call.services().overview;
    let (process, measured) = overview.measurements(&call.ctx, &call.site().metrics)?;
    call.unless_known(&MeasurementsAnswer::of(process, measured))
}

impl MeasurementsAnswer {
    fn of(process: Process, measured: Measurements) -> Self {
        let series = measured.series.into_iter();
        Self {
            host: process.host,
            pid: process.pid,
            interval_seconds: MEASUREMENT_INTERVAL.as_secs(),
            connections_max: measured.connections_max,
            times: measured.times.into_iter().map(text).collect(),
            series: series
                .map(|(series, values)| SeriesAnswer {
                    name: series.name,
                    unit: series.unit,
                    values,
                })
                .collect(),
        }
    }
}

/// Writes a time, to the second.
fn text(at: OffsetDateTime) -> String {
    at.replace_nanosecond(0).unwrap_or(at).format(&Rfc3339).unwrap_or_default()
}
