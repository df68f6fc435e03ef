//! How the verbs that change a tenant take and show it, and word a refusal.

use clap::Args;

use super::failure::sentence;
use super::tenant::{RecordView, Which, not_found};
use super::{Exit, Failure, Output, output};
use crate::domain::error::Error;
use crate::domain::rule::FieldProblem;
use crate::domain::tenant::TenantRecord;
use crate::service::tenants::registry::Expected;

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

pub(super) fn show(output: Output, record: TenantRecord) -> Result<Exit, Failure> {
    let view = RecordView::from(record);
    output::print(output, &view, || view.table())?;
    Ok(Exit::Done)
}

/// Names the tenant and the fields in an error.
pub(super) fn refused(error: Error, named: &str) -> Failure {
    match error {
        Error::Invalid(problems) => {
            let word =
                |problem: FieldProblem| format!("{} {}", problem.field, sentence(problem.rule));
            Failure::Usage(problems.into_iter().map(word).collect())
        }
        Error::Precondition(_) => changed(named),
        error => not_found(error, named),
    }
}

fn changed(named: &str) -> Failure {
    Failure::Other(format!(
        "tenant {named} has changed meanwhile; review it and run the command again"
    ))
}

impl Change {
    /// Fails if the tenant does not have the given revision; runs before the confirmation.
    pub(super) fn require_revision(
        &self,
        found: &TenantRecord,
        named: &str,
    ) -> Result<(), Failure> {
        match self.if_revision {
            Some(revision) if revision != found.revision => Err(changed(named)),
            _ => Ok(()),
        }
    }

    pub(super) fn expected(&self) -> Expected {
        self.if_revision.map_or(Expected::Any, |revision| Expected::OneOf(vec![revision]))
    }
}
