//! `migrate repair`: shows and does what makes the histories of tenants fit the files again.

use std::collections::BTreeMap;

use clap::Args;
use serde_json::{Value, json};

use super::progress;
use super::run::in_flags;
use crate::app::{Backend, Purpose};
use crate::cli::Program;
use crate::cli::{Exit, Failure, Output, output};
use crate::service::Fleet;
use crate::service::fleet::{Change, RepairRequest, TenantRepair, change_in_json};

/// The slugs that a line of the output names.
const NAMED: usize = 5;

pub(super) const HELP: &str = "\
Compares the history of each tenant with the files, and shows what would be changed; --yes does it. A row whose file \
was renumbered or renamed, and has the same text, is renamed without a flag. All else needs to be asked for, because \
only you know whether a tenant has what a file says. No table of a tenant is changed, and no file is run.

Each tenant is repaired in a transaction of its own, with an audit event; run it again if it was interrupted. Exits \
with 1 if a tenant still contradicts the files, with 3 if some were repaired.";

/// The flags of `migrate repair`.
#[derive(Debug, Args)]
pub(super) struct Flags {
    /// Repair only this tenant, by slug or id; can be repeated
    #[arg(long = "tenant", value_name = "TENANT")]
    tenants: Vec<String>,
    /// Record this file as applied without running it, in each tenant that lacks it; can be repeated
    #[arg(long, value_name = "VERSION", value_parser = version)]
    stamp: Vec<i32>,
    /// Delete this row; a file of that number then runs again; can be repeated
    #[arg(long, value_name = "VERSION", value_parser = version)]
    forget: Vec<i32>,
    /// Take the text that this file has now as what was applied; can be repeated
    #[arg(long, value_name = "VERSION", value_parser = version)]
    accept: Vec<i32>,
    /// Let this file, which ran half-way outside a transaction, run from its start; can be repeated
    #[arg(long, value_name = "VERSION", value_parser = version)]
    forget_statements: Vec<i32>,
    /// Do it; without, show it only
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    output: Output,
}

/// Reads `V2` or `2`.
fn version(text: &str) -> Result<i32, String> {
    let digits = text.trim_start_matches(['V', 'v']);
    let number = digits.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| "a version is the number of a file, such as V2".to_owned())
}

/// How the repair of one tenant ended.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    Planned,
    Done,
    Failed(String),
}

pub(super) async fn run(settings: &Program, flags: Flags) -> Result<Exit, Failure> {
    let request = RepairRequest {
        stamp: flags.stamp,
        forget: flags.forget,
        accept: flags.accept,
        forget_statements: flags.forget_statements,
    };
    let (tenants, yes, output) = (flags.tenants, flags.yes, flags.output);
    output::on_backend(Purpose::Operate, settings, async |backend| {
        let (fleet, ctx) = (&backend.services.fleet, backend.operator());
        require_files(fleet, &request)?;
        if yes {
            fleet.require_no_operation(&ctx).await.map_err(in_flags)?;
        }
        let planned = fleet.plan_repair(&ctx, &tenants, &request).await.map_err(in_flags)?;
        let mut ended = Vec::new();
        for one in planned {
            if !yes || !one.changes_something() {
                ended.push((one, End::Planned));
                continue;
            }
            match fleet.repair(&backend.operator(), &one, &request).await {
                Ok(done) => ended.push((done, End::Done)),
                Err(error) => ended.push((one, End::Failed(error.chain()))),
            }
        }
        let exit = exit(&ended);
        if output.json {
            progress::line(&in_json(&ended, yes));
        } else {
            output::data(&in_words(&ended, yes))?;
        }
        if yes && exit == Exit::Done && tenants.is_empty() {
            rebuild_vacancies(backend).await;
        }
        Ok(exit)
    })
    .await
}

/// Vacancies may have been made from the files that do not fit. Servers do this later too.
async fn rebuild_vacancies(backend: &Backend) {
    if let Err(error) = backend.services.vacancies.rebuild_stale(&backend.operator()).await {
        output::say(&format!("vacancies: left to the servers: {}", error.chain()));
    }
}

fn require_files(fleet: &Fleet, request: &RepairRequest) -> Result<(), Failure> {
    let history = fleet.set().history();
    let missing = |flag: &str, versions: &[i32]| {
        let missing =
            versions.iter().filter(|version| history.iter().all(|file| file.version != **version));
        missing.map(|version| format!("{flag} V{version}: no file has this number")).collect()
    };
    let mut problems: Vec<String> = missing("--stamp", &request.stamp);
    problems.extend::<Vec<String>>(missing("--accept", &request.accept));
    if problems.is_empty() { Ok(()) } else { Err(Failure::Usage(problems)) }
}

fn exit(ended: &[(TenantRepair, End)]) -> Exit {
    let is_wrong = |(one, end): &(TenantRepair, End)| {
        !one.problems.is_empty() || matches!(end, End::Failed(_))
    };
    match (ended.iter().any(is_wrong), ended.iter().any(|(_, end)| *end == End::Done)) {
        (false, _) => Exit::Done,
        (true, true) => Exit::Partly,
        (true, false) => Exit::Failed,
    }
}

fn in_json(ended: &[(TenantRepair, End)], yes: bool) -> Value {
    let tenant = |(one, end): &(TenantRepair, End)| {
        let (state, error) = match end {
            End::Planned if one.changes_something() => ("planned", None),
            End::Planned => ("unchanged", None),
            End::Done => ("repaired", None),
            End::Failed(error) => ("failed", Some(error)),
        };
        json!({
            "id": one.id.to_string(), "slug": one.slug.as_str(), "state": state,
            "changes": one.changes.iter().map(change_in_json).collect::<Vec<_>>(),
            "statements": one.statements, "problems": one.problems, "error": error,
        })
    };
    json!({ "applied": yes, "tenants": ended.iter().map(tenant).collect::<Vec<_>>() })
}

/// One line for each change and problem, with the tenants that have it.
fn in_words(ended: &[(TenantRepair, End)], yes: bool) -> String {
    let mut lines: BTreeMap<(u8, String), Vec<&str>> = BTreeMap::new();
    for (one, end) in ended {
        let mut add = |rank: u8, line: String| {
            lines.entry((rank, line)).or_default().push(one.slug.as_str());
        };
        match end {
            End::Failed(error) => add(2, format!("not repaired: {error}")),
            End::Planned | End::Done => {
                for change in &one.changes {
                    add(0, words(change));
                }
                for version in &one.statements {
                    add(0, format!("V{version} will run from its first statement"));
                }
                for problem in &one.problems {
                    add(1, format!("not repaired: {problem}"));
                }
            }
        }
    }
    if lines.is_empty() {
        return "tenants: all histories fit the files".to_owned();
    }
    let mut text: Vec<String> = lines
        .into_iter()
        .map(|((_, line), slugs)| {
            let count = slugs.len();
            let mut named = slugs.into_iter().take(NAMED).collect::<Vec<_>>().join(", ");
            if count > NAMED {
                named = format!("{named} and {} more", count - NAMED);
            }
            format!("{line} ({named})")
        })
        .collect();
    if !yes && ended.iter().any(|(one, _)| one.changes_something()) {
        text.push("nothing was changed; --yes does it".to_owned());
    }
    text.join("\n")
}

fn words(change: &Change) -> String {
    match change {
        Change::Rename { from, to } => {
            format!("{} becomes {}, which has its text", from.file(), to.file())
        }
        Change::Accept { from, to } => {
            format!("{} is recorded with the text that {} has now", from.file(), to.file())
        }
        Change::Stamp(file) => format!("{} is recorded as applied and not run", file.file()),
        Change::Forget(row) => format!("{} is deleted from the history", row.file()),
    }
}
