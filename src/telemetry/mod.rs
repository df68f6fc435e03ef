//! Owns the log's format and the metrics, and keeps secrets and personal data out of both.
//!
//! A log line is one sentence with dotted fields (`tenant.id`, `request.id`, `duration_ms`); an error is logged once,
//! where it is answered. No line and no label holds a password, token, e-mail address, body, path or query; a client's
//! network address is logged only if a limit refuses it. Lines and labels have the pattern of a route: a path can hold
//! an address, and labels come from fixed sets, so that they are bounded.
//!
//! Logging never waits and never fails: what stderr does not take is dropped and counted.

mod catalogue;
mod connection_waits;
mod exposition;
mod jobs;
mod labels;
mod measurements;
mod metrics;
#[cfg(feature = "otlp")]
mod otlp;
mod panics;
mod process;
mod request;
mod requests;
mod stderr;
mod trace;
mod uncommitted;

use std::sync::OnceLock;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt, reload};

pub use connection_waits::ConnectionWaits;
pub use exposition::Exposition;
pub use jobs::JobOutcome;
pub use measurements::{INTERVAL as MEASUREMENT_INTERVAL, Measurements, Series};
pub use metrics::Metrics;
#[cfg(feature = "otlp")]
pub use otlp::set_parent;
pub use prometheus_client::registry::Registry;
pub use request::{answering, current_request_id, note_caller, note_tenant};
pub use stderr::{dropped_lines, say, write_all};
pub use trace::TraceParent;
pub use uncommitted::{note_dropped_write, watch_writes};

/// The filter is not a list of `target=level`.
#[derive(Debug, thiserror::Error)]
#[error("log.filter: {0}")]
pub struct BadFilter(String);

/// The level of the driver. At `debug` it logs each statement with its parameters, including addresses, digests and
/// password hashes; at `info` it repeats every notice of the server, which is noise to an operator.
const DRIVER_LEVEL: &str = "tokio_postgres=warn";

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, strum::EnumString, strum::VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum Format {
    /// Text for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The filter of the logger of this process, to be replaced.
static FILTER: OnceLock<reload::Handle<EnvFilter, tracing_subscriber::Registry>> = OnceLock::new();

/// Starts logging to stderr, also of panics; stdout is for data. A logger that is already set stays. Spans are exported to
/// the collector, if there is one and this program was built with the feature `otlp`.
///
/// # Errors
/// [`BadFilter`].
pub fn start(format: Format, filter: &str, collector: Option<&str>) -> Result<(), BadFilter> {
    start_with(format, filter, || stderr::Stderr, collector)?;
    panics::log();
    Ok(())
}

/// Starts logging to `writer`; for tests that read the log.
///
/// # Errors
/// [`BadFilter`].
pub fn start_on<W>(format: Format, filter: &str, writer: W) -> Result<(), BadFilter>
where
    W: for<'a> fmt::MakeWriter<'a> + Send + Sync + 'static,
{
    start_with(format, filter, writer, None)
}

/// Waits until what was logged and exported so far is written, but not for long.
pub fn flush() {
    #[cfg(feature = "otlp")]
    otlp::flush();
    stderr::flush();
}

#[cfg_attr(not(feature = "otlp"), expect(unused_variables, reason = "nothing is exported"))]
fn start_with<W>(
    format: Format,
    filter: &str,
    writer: W,
    collector: Option<&str>,
) -> Result<(), BadFilter>
where
    W: for<'a> fmt::MakeWriter<'a> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(read_filter(filter)?);
    // The internal errors are those of the writer, which would be printed to stderr in its place.
    let lines = fmt::layer().with_writer(writer).log_internal_errors(false);
    let lines = match format {
        // A request has one span, which the list of all spans would repeat.
        Format::Json => lines.json().flatten_event(true).with_span_list(false).boxed(),
        Format::Text => {
            let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
            lines.with_ansi(ansi).with_target(false).boxed()
        }
    };
    let logger = tracing_subscriber::registry().with(filter).with(lines);
    #[cfg(feature = "otlp")]
    let logger = logger.with(collector.and_then(otlp::layer));
    // After a second start, as in tests, the first logger stays.
    if logger.try_init().is_ok() {
        let _ = FILTER.set(handle);
    }
    Ok(())
}

/// Replaces the filter of the log, once it is known to be valid.
///
/// # Errors
/// [`BadFilter`].
pub fn set_filter(filter: &str) -> Result<(), BadFilter> {
    let filter = read_filter(filter)?;
    match FILTER.get() {
        Some(handle) => handle.reload(filter).map_err(|error| BadFilter(error.to_string())),
        None => Ok(()),
    }
}

/// Checks a filter.
///
/// # Errors
/// [`BadFilter`].
pub fn check_filter(filter: &str) -> Result<(), BadFilter> {
    read_filter(filter).map(drop)
}

fn read_filter(filter: &str) -> Result<EnvFilter, BadFilter> {
    let filter = EnvFilter::try_new(filter).map_err(|error| BadFilter(error.to_string()))?;
    let driver = DRIVER_LEVEL.parse().map_err(|_unparsed| BadFilter(DRIVER_LEVEL.to_owned()))?;
    Ok(filter.add_directive(driver))
}
