//! `migrate`: the control plane first, then every tenant that is behind; and what others look at and do
//! meanwhile.

mod look;
mod progress;
mod run;

use clap::{Args, Subcommand};
use uuid::Uuid;

use super::{Exit, Failure, Output, lint};
use crate::config::Settings;
use crate::service::fleet::Stage;

const HELP: &str = "\
Each tenant is migrated in a transaction of its own. One that fails is left as it was and named, and the others \
go on; the exit code is then 3. What is done stands in the database: killed at any moment, the same command \
goes on where it was. Suspended tenants are migrated, tenants that are being deleted are not.

With --json there is one JSON object a line: what happens as it happens, and at the end the operation.";

/// `rowhouse migrate`, with flags or with a verb.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, after_help = HELP)]
pub(super) struct Migrate {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    wish: Flags,
}

#[derive(Debug, Args)]
#[expect(clippy::doc_markdown, reason = "clap prints these comments, and backticks with them")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag on the command line")]
struct Flags {
    /// Tell who is behind and by what, and change nothing
    #[arg(long, conflicts_with_all = ["rehearse", "retry_failed", "canary", "canary_tenants"])]
    plan: bool,
    /// Change nothing and need no database: read the tenant migrations for what a distributed engine, a
    /// rolling deploy or traffic would not survive; exits with 1 where there is anything
    #[arg(long, conflicts_with_all = ["plan", "rehearse", "retry_failed", "canary", "canary_tenants", "tenants", "workers", "max_failures"])]
    lint: bool,
    /// Try it on one tenant (the first that is behind, or the one named) and take it back
    #[arg(long, value_name = "TENANT", num_args = 0..=1, conflicts_with_all = ["retry_failed", "canary", "canary_tenants", "tenants"])]
    #[expect(clippy::option_option, reason = "how clap says: a flag with a value or without")]
    rehearse: Option<Option<String>>,
    /// Rehearse on a vacancy, which nobody uses
    #[arg(long, requires = "rehearse")]
    vacancy: bool,
    /// Migrate this tenant alone, by slug or id; repeat it for more than one
    #[arg(long = "tenant", value_name = "TENANT")]
    tenants: Vec<String>,
    /// Migrate the N oldest first, then pause until `migrate resume`
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    canary: Option<u32>,
    /// Migrate this tenant first, then pause; repeat it for more than one
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
    /// Try those again that failed in the last operation
    #[arg(long, conflicts_with_all = ["tenants", "canary", "canary_tenants", "workers", "max_failures"])]
    retry_failed: bool,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show an operation: the open one, or else the last
    Status(Which),
    /// Begin no more tenants; those that are begun come to their end
    Pause(Which),
    /// Go on with an operation that is paused, or whose process is gone
    Resume(Which),
    /// Give an operation up; what is migrated stays so
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
    let flags = migrate.wish;
    match migrate.verb {
        Some(Verb::Status(which)) => look::status(settings, which.id, which.output).await,
        Some(Verb::Pause(which)) => look::pause(settings, which.id, which.output).await,
        Some(Verb::Cancel(which)) => look::cancel(settings, which.id, which.output).await,
        Some(Verb::Resume(which)) => run::resume(settings, which.id, which.output).await,
        None if flags.lint => lint::run(settings, flags.output),
        None if flags.plan => look::plan(settings, &flags.tenants, flags.output).await,
        None => {
            if let Some(tenant) = flags.rehearse {
                let stage = match (tenant, flags.vacancy) {
                    (Some(_), true) => {
                        return Err(Failure::usage(
                            "--vacancy goes with --rehearse without a tenant",
                        ));
                    }
                    (Some(named), false) => Stage::Tenant(named),
                    (None, true) => Stage::Vacancy,
                    (None, false) => Stage::FirstBehind,
                };
                return look::rehearse(settings, stage, flags.output).await;
            }
            if flags.go_on && flags.canary.is_none() && flags.canary_tenants.is_empty() {
                return Err(Failure::usage("--go-on needs --canary or --canary-tenant"));
            }
            run::all(settings, flags).await
        }
    }
}
