//! `migrate`: migrates the control plane first, then every tenant that is behind; shows, pauses, resumes and cancels
//! operations.

mod flags;
mod progress;
mod repair;
mod run;
mod server;
mod show;

use clap::{Args, Subcommand};
use uuid::Uuid;

use self::flags::Flags;
use super::control::{Steering, Target};
use super::{Exit, Failure, Output, lint};
use crate::cli::Program;

const HELP: &str = "\
Each tenant is migrated in a transaction of its own. One that fails is left as it was and named, the others are \
migrated, and the exit code is 3. Progress is kept in the database: if the command is killed, the same command \
continues where it was. Suspended tenants are migrated, tenants that are being deleted are not.

With --json, each line is a JSON object: events as they happen, and the operation at the end.";

/// `rowhouse migrate`, with flags or with a verb.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, after_help = HELP)]
pub(super) struct Migrate {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show an operation: the open one, or else the newest
    Status(Which),
    /// Begin no more tenants; those that are begun are finished
    Pause(Which),
    /// Continue an operation that is paused or whose process is gone
    Resume(Which),
    /// Cancel an operation; migrated tenants stay migrated
    Cancel(Which),
    /// Make the histories of tenants fit the files again: show how, and do it with --yes
    #[command(after_help = repair::HELP)]
    Repair(repair::Flags),
}

#[derive(Debug, Args)]
struct Which {
    /// The operation's id
    id: Option<Uuid>,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn run(target: &Target, migrate: Migrate) -> Result<Exit, Failure> {
    let flags = migrate.flags;
    match migrate.verb {
        Some(Verb::Status(which)) => show::status(target, which.id, which.output).await,
        Some(Verb::Pause(which)) => {
            show::steer(target, which.id, Steering::Pause, which.output).await
        }
        Some(Verb::Cancel(which)) => {
            show::steer(target, which.id, Steering::Cancel, which.output).await
        }
        Some(Verb::Resume(which)) => match target {
            Target::Server(_) => server::resume(target, which.id, which.output).await,
            Target::Database(settings) => run::resume(settings, which.id, which.output).await,
        },
        Some(Verb::Repair(flags)) => repair::run(target.database("migrate repair")?, flags).await,
        None if flags.rehearse.is_some() => show::rehearse(target, flags).await,
        None if flags.lint => lint::run(target.database("migrate --lint")?, flags.output),
        None => match target {
            Target::Server(_) => server::all(target, flags).await,
            Target::Database(settings) => on_database(settings, flags).await,
        },
    }
}

async fn on_database(settings: &Program, flags: Flags) -> Result<Exit, Failure> {
    if flags.plan {
        return show::plan(settings, &flags.tenants, flags.output).await;
    }
    flags.check()?;
    run::all(settings, flags).await
}
