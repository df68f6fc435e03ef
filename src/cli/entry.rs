//! Runs a program: parses the command line, starts the log, runs the command, and turns the result into an exit code.

use std::process::ExitCode;
use std::sync::Arc;

use clap::{ArgMatches, CommandFactory, FromArgMatches, Subcommand};
use futures_util::future::LocalBoxFuture;
use tokio::signal::unix::{SignalKind, signal};

use super::program::Program;
use super::setting_flags::SettingFlags;
use super::{Cli, Exit, Failure, output};
use crate::app::{Context, Options, Purpose};
use crate::config::Settings;
use crate::domain::Error;
use crate::telemetry;

/// The names and the texts of a program.
#[derive(Clone)]
pub struct Grammar {
    /// The name of the program.
    pub name: &'static str,
    /// Its version; ours if it has none.
    pub version: Option<&'static str>,
    /// What it is, in one line.
    pub about: Option<&'static str>,
    /// Its own commands.
    pub commands: Vec<OwnCommands>,
}

/// Runs a command of an application.
type RunOwn = Arc<dyn Fn(&ArgMatches, Context) -> LocalBoxFuture<'static, Result<(), Error>>>;

/// A set of commands of an application.
#[derive(Clone)]
pub struct OwnCommands {
    augment: fn(clap::Command) -> clap::Command,
    has: fn(&str) -> bool,
    run: RunOwn,
}

impl OwnCommands {
    /// The commands of this type, which `run` runs.
    #[must_use]
    pub fn of<C: Subcommand + 'static>(
        run: impl Fn(C, Context) -> LocalBoxFuture<'static, Result<(), Error>> + 'static,
    ) -> Self {
        Self {
            augment: C::augment_subcommands,
            has: C::has_subcommand,
            run: Arc::new(move |matches, context| match C::from_arg_matches(matches) {
                Ok(command) => run(command, context),
                Err(error) => error.exit(),
            }),
        }
    }
}

/// Runs the program as the command line of the process says, until it ends.
#[must_use]
pub fn main(program: &Grammar, options: Options) -> ExitCode {
    let _flush = Flush;
    let exit = start(program, options).unwrap_or_else(|failure| {
        // If stderr cannot be written, the exit code still reports the failure.
        if wants_json() {
            telemetry::say(&failure.to_json());
        } else {
            telemetry::say(&format!("{}: {failure}", program.name));
        }
        failure.exit()
    });
    exit.into()
}

/// Whether failures are printed as JSON. Asked of the arguments and not of the command: an invalid command is no command.
fn wants_json() -> bool {
    std::env::args_os().take_while(|argument| argument != "--").any(|argument| argument == "--json")
}

fn start(program: &Grammar, options: Options) -> Result<Exit, Failure> {
    let grammar = grammar(program)?;
    let matches = match grammar.clone().try_get_matches() {
        Ok(matches) => matches,
        Err(error) if error.use_stderr() && wants_json() => {
            return Err(Failure::usage(error.render().to_string().trim()));
        }
        Err(error) => error.exit(),
    };
    let own = matches.subcommand().and_then(|(verb, _)| {
        program.commands.iter().find(|commands| (commands.has)(verb)).cloned()
    });
    if let Some(commands) = own {
        return run_own(&matches, &commands, options);
    }
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let (settings, connection) = cli.prepare(options.own_settings())?;
    let collector = settings.log.otlp_endpoint.as_deref();
    telemetry::start(settings.log.format, cli.log_filter(&settings), collector)?;
    block_on(Box::pin(cli.run(Program { settings, options }, connection, grammar)))
}

/// Returns the grammar of the command line of a program.
///
/// # Errors
/// If a command of the application has the name of one of ours.
fn grammar(program: &Grammar) -> Result<clap::Command, Failure> {
    let ours = Cli::command();
    for commands in &program.commands {
        if let Some(taken) = ours.get_subcommands().find(|verb| (commands.has)(verb.get_name())) {
            let taken = taken.get_name();
            return Err(Failure::usage(format!(
                "the application's command {taken} has the name of one of ours; rename it"
            )));
        }
    }
    let mut grammar = ours.name(program.name).bin_name(program.name);
    if let Some(version) = program.version {
        grammar = grammar.version(version);
    }
    if let Some(about) = program.about {
        grammar = grammar.about(about).long_about(None);
    }
    Ok(program.commands.iter().fold(grammar, |grammar, commands| (commands.augment)(grammar)))
}

/// Runs a command of the application.
fn run_own(
    matches: &ArgMatches,
    commands: &OwnCommands,
    options: Options,
) -> Result<Exit, Failure> {
    let flags = SettingFlags::from_arg_matches(matches).unwrap_or_else(|error| error.exit());
    let settings = Settings::load(&flags.overrides(options.own_settings()))?;
    telemetry::start(settings.log.format, settings.log.filter_of_commands(), None)?;
    let program = Program { settings, options };
    block_on(async {
        output::on_backend(Purpose::Operate, &program, async |backend| {
            Ok((commands.run)(matches, backend.context()).await?)
        })
        .await?;
        Ok(Exit::Done)
    })
}

/// Runs a command on a runtime of its own.
fn block_on(command: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let failed = |source| Failure::Io { during: "start the threads", source };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(failed)?;
    let outcome = runtime.block_on(async {
        // At a limit on the size of files (ulimit -f) a write fails then, instead of the signal ending the process.
        let _handled = signal(SignalKind::from_raw(libc::SIGXFSZ)).map_err(failed)?;
        command.await
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
