//! The program: parses the command line, starts the log, runs the command, and turns the result into an exit code.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use rowhouse::cli::{Cli, Exit, Failure};
use rowhouse::telemetry;

fn main() -> ExitCode {
    let exit = run(Cli::parse()).unwrap_or_else(|failure| {
        // If stderr is closed, the exit code still reports the failure.
        let _ = writeln!(std::io::stderr().lock(), "rowhouse: {failure}");
        failure.exit()
    });
    exit.into()
}

fn run(cli: Cli) -> Result<Exit, Failure> {
    let settings = cli.settings()?;
    telemetry::start(settings.log.format, cli.log_filter(&settings))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|source| Failure::Io { during: "start the threads", source })?;
    let outcome = runtime.block_on(cli.run(settings));
    // Dropping the runtime would wait for blocking work, such as a read from a terminal.
    runtime.shutdown_background();
    outcome
}
