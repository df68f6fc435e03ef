//! Owns the log's format and the metrics, and keeps secrets and personal data out of both.
//!
//! A log line is one sentence with dotted fields (`tenant.id`, `request.id`, `duration_ms`); an error is logged once,
//! where it is answered. No line and no label holds a password, token, e-mail address, body, path or query; a client's
//! network address is logged only if a limit refuses it. Lines and labels have the pattern of a route: a path can hold
//! an address, and labels come from fixed sets, so that they are bounded.
//!
//! Logging never waits and never fails: what stderr does not take is dropped and counted.

mod connection_waits;
mod labels;
mod metrics;
mod panics;
mod stderr;
mod uncommitted;

use tracing_subscriber::EnvFilter;

pub use connection_waits::ConnectionWaits;
pub use metrics::{JobOutcome, Metrics};
pub use prometheus_client::registry::Registry;
pub use stderr::{dropped_lines, flush, say, write_all};
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

/// Starts logging to stderr, also of panics; stdout is for data. A logger that is already set stays.
///
/// # Errors
/// [`BadFilter`].
pub fn start(format: Format, filter: &str) -> Result<(), BadFilter> {
    start_on(format, filter, || stderr::Stderr)?;
    panics::log();
    Ok(())
}

/// Starts logging to `writer`; for tests that read the log.
///
/// # Errors
/// [`BadFilter`].
pub fn start_on<W>(format: Format, filter: &str, writer: W) -> Result<(), BadFilter>
where
    W: for<'a> tracing_subscriber::fmt::MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(filter).map_err(|error| BadFilter(error.to_string()))?;
    let driver = DRIVER_LEVEL.parse().map_err(|_unparsed| BadFilter(DRIVER_LEVEL.to_owned()))?;
    let filter = filter.add_directive(driver);
    // The internal errors are those of the writer, which would be printed to stderr in its place.
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .log_internal_errors(false);
    // After a second start, as in tests, the first logger stays.
    let _ = match format {
        Format::Json => builder.json().flatten_event(true).try_init(),
        Format::Text => {
            let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
            builder.with_ansi(ansi).with_target(false).try_init()
        }
    };
    Ok(())
}
