//! How the verbs that change a tenant take and show it, and word a refusal.

use clap::Args;

use super::control::{RecordView, not_found};
use super::failure::sentence;
use super::tenant::Which;
use super::{Exit, Failure, Output, output};
use crate::domain::error::Error;
use crate::domain::rule::FieldProblem;

/// The tenant to change, and its expected revision.
#[derive(Debug, Args)]
pub(super) struct Change {
    #[command(flatten)]
    pub(super) which: Which,
    /// Only if the tenant still has this revision, as `tenant show --json` prints it
    #[arg(long, value_name = "NUMBER")]
    pub(super) if_revision: Option<i64>,
    #[command(flatten)]
    pub(super) output: Output,
}

pub(super) fn show(output: Output, view: &RecordView) -> Result<Exit, Failure> {
    output::print(output, view, || view.table())?;
    Ok(Exit::Done)
}

/// Names the tenant and the fields in a failure.
pub(super) fn refused(failure: Failure, named: &str) -> Failure {
    match failure {
        Failure::Service(Error::Invalid(problems)) => {
            let word =
                |problem: FieldProblem| format!("{} {}", problem.field, sentence(problem.rule));
            Failure::Usage(problems.into_iter().map(word).collect())
        }
        failure if failure.code() == "precondition_failed" => changed(named),
        failure => not_found(failure, named),
    }
}

fn changed(named: &str) -> Failure {
    Failure::Worded {
        exit: Exit::Conflict,
        code: "precondition_failed".to_owned(),
        message: format!(
            "tenant {named} has changed meanwhile; review it and run the command again"
        ),
    }
}

impl Change {
    /// Fails if the tenant does not have the given revision; runs before the confirmation.
    pub(super) fn require_revision(&self, found: &RecordView, named: &str) -> Result<(), Failure> {
        match self.if_revision {
            Some(revision) if revision != found.revision => Err(changed(named)),
            _ => Ok(()),
        }
    }
}
