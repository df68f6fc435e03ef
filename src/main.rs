//! The program: parses the command line, starts the log, runs the command, and turns the result into an exit code.

use std::process::ExitCode;

use clap::Parser;
use rowhouse::cli::{Cli, Exit, Failure};
use rowhouse::telemetry;
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let _flush = Flush;
    let exit = run(Cli::parse()).unwrap_or_else(|failure| {
        // If stderr cannot be written, the exit code still reports the failure.
        telemetry::say(&format!("rowhouse: {failure}"));
        failure.exit()
    });
    exit.into()
}

fn run(cli: Cli) -> Result<Exit, Failure> {
    let settings = cli.settings()?;
    telemetry::start(settings.log.format, cli.log_filter(&settings))?;
    let failed = |source| Failure::Io { during: "start the threads", source };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(failed)?;
    let outcome = runtime.block_on(async {
        // At a limit on the size of files (ulimit -f) a write fails then, instead of the signal ending the process.
        let _handled = signal(SignalKind::from_raw(libc::SIGXFSZ)).map_err(failed)?;
        Box::pin(cli.run(settings)).await
    });
    // Dropping the runtime would wait for blocking work, such as a read from a terminal.
    runtime.shutdown_background();
    outcome
}

/// Writes the last lines of the log when `main` ends, also by a panic.
struct Flush;

impl Drop for Flush {
    fn drop(&mut self) {
        telemetry::flush();
    }
}
