//! `migrate`: migrates the control plane first, then every tenant that is behind; shows, pauses, resumes and cancels
//! operations.

mod progress;
mod run;
mod show;

use clap::{Args, Subcommand};
use uuid::Uuid;

use super::{Exit, Failure, Output, lint};
use crate::config::Settings;
use crate::service::fleet::RehearsalTarget;

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

#[derive(Debug, Args)]
#[expect(clippy::doc_markdown, reason = "clap prints these comments, and backticks with them")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag on the command line")]
struct Flags {
    /// Show which tenants are behind and by what, and change nothing
    #[arg(long, conflicts_with_all = ["rehearse", "retry_failed", "canary", "canary_tenants"])]
    plan: bool,
    /// Check the tenant migrations, without a database, for statements that a distributed engine, a rolling
    /// deployment or traffic would not survive; exits with 1 if there are any
    #[arg(long, conflicts_with_all = ["plan", "rehearse", "retry_failed", "canary", "canary_tenants", "tenants", "workers", "max_failures"])]
    lint: bool,
    /// Rehearse on one tenant (the first that is behind, or the one named) and roll it back
    #[arg(long, value_name = "TENANT", num_args = 0..=1, conflicts_with_all = ["retry_failed", "canary", "canary_tenants", "tenants"])]
    #[expect(clippy::option_option, reason = "how clap represents a flag with an optional value")]
    rehearse: Option<Option<String>>,
    /// Rehearse on a vacancy, which has no users
    #[arg(long, requires = "rehearse")]
    vacancy: bool,
    /// Migrate only this tenant, by slug or id; can be repeated
    #[arg(long = "tenant", value_name = "TENANT")]
    tenants: Vec<String>,
    /// Migrate the N oldest first, then pause until `migrate resume`
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    canary: Option<u32>,
    /// Migrate this tenant first, then pause; can be repeated
    #[arg(long = "canary-tenant", value_name = "TENANT")]
    canary_tenants: Vec<String>,
    /// Do not pause after a canary that went well
    #[arg(long)]
    go_on: bool,
    /// Tenants at the same time [env: ROWHOUSE_FLEET__WORKERS]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    workers: Option<u32>,
    /// Pause as soon as N tenants have failed
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_failures: Option<u32>,
    /// Try the tenants again that failed in the last operation
    #[arg(long, conflicts_with_all = ["tenants", "canary", "canary_tenants", "workers", "max_failures"])]
    retry_failed: bool,
    #[command(flatten)]
    output: Output,
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
}

#[derive(Debug, Args)]
struct Which {
    /// The operation's id
    id: Option<Uuid>,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn run(settings: &Settings, migrate: Migrate) -> Result<Exit, Failure> {
    let flags = migrate.flags;
    match migrate.verb {
        Some(Verb::Status(which)) => show::status(settings, which.id, which.output).await,
        Some(Verb::Pause(which)) => show::pause(settings, which.id, which.output).await,
        Some(Verb::Cancel(which)) => show::cancel(settings, which.id, which.output).await,
        Some(Verb::Resume(which)) => run::resume(settings, which.id, which.output).await,
        None if flags.lint => lint::run(settings, flags.output),
        None if flags.plan => show::plan(settings, &flags.tenants, flags.output).await,
        None => {
            if let Some(tenant) = flags.rehearse {
                let target = match (tenant, flags.vacancy) {
                    (Some(_), true) => {
                        return Err(Failure::usage(
                            "--vacancy goes with --rehearse without a tenant",
                        ));
                    }
                    (Some(named), false) => RehearsalTarget::Tenant(named),
                    (None, true) => RehearsalTarget::Vacancy,
                    (None, false) => RehearsalTarget::FirstBehind,
                };
                return show::rehearse(settings, target, flags.output).await;
            }
            if flags.go_on && flags.canary.is_none() && flags.canary_tenants.is_empty() {
                return Err(Failure::usage("--go-on needs --canary or --canary-tenant"));
            }
            run::all(settings, flags).await
        }
    }
}
