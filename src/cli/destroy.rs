//! `tenant delete` and `tenant purge`: show what is destroyed, ask for a confirmation, do it.

use clap::Args;
use serde_json::json;

use super::change::{Change, refused, show};
use super::control::{Control, RecordView, Step, Target, Uses, on_control};
use super::{Exit, Failure, confirm, output};
use crate::domain::error::Error;
use crate::domain::names::TenantId;
use crate::domain::purge::PurgeProblem;
use crate::service::tenants::TenantRef;
use crate::service::tenants::lifecycle::{Footprint, OnDependents};

#[derive(Debug, Args)]
pub(super) struct DestructiveChange {
    #[command(flatten)]
    change: Change,
    /// Do not ask for a confirmation; required without a terminal
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Args)]
pub(super) struct Purge {
    #[command(flatten)]
    pub(super) command: DestructiveChange,
    /// Also drop what is outside of its schema and depends on it, or belongs to its role: views, foreign keys, functions
    #[arg(long)]
    pub(super) cascade: bool,
}

/// A step that destroys data, at once or after the grace period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Destructive {
    Delete,
    Purge(OnDependents),
}

pub(super) async fn destroy(
    target: &Target,
    command: DestructiveChange,
    step: Destructive,
) -> Result<Exit, Failure> {
    if !command.yes {
        confirm::require_terminal(step.command())?;
    }
    let named = command.change.which.read()?;
    let view = on_control(target, Uses::ControlPlane, async |control| {
        let found = control.find_tenant(&named).await?;
        let revision = if command.yes {
            command.change.if_revision
        } else {
            command.change.require_revision(&found, named.as_str())?;
            Some(ask(target, control, &found, step).await?)
        };
        carry_out(control, found, revision, step, named.as_str()).await
    })
    .await?;
    if step == Destructive::Delete {
        return show(command.change.output, &view);
    }
    let (id, slug) = (view.id, view.slug);
    if command.change.output.json {
        let gone = json!({ "id": id, "slug": slug, "purged": true });
        output::print(command.change.output, &gone, String::new)?;
    } else {
        output::say(&format!("tenant {slug} ({id}) is purged"));
    }
    Ok(Exit::Done)
}

/// Shows what will be destroyed and asks for a confirmation. Returns the revision that was shown, for which it holds.
async fn ask(
    target: &Target,
    control: &Control,
    found: &RecordView,
    step: Destructive,
) -> Result<i64, Failure> {
    let (mut outside, mut what) = (Vec::new(), "  all its data".to_owned());
    if let Control::Database(backend) = control {
        let id = TenantRef::Id(TenantId::new(found.id));
        let (lifecycle, ctx) = (&backend.services.lifecycle, backend.operator());
        let (_, holds) = lifecycle.read_footprint(&ctx, &id).await?;
        if let Destructive::Purge(on_dependents) = step {
            outside = lifecycle.read_dependents(&ctx, &id).await?;
            if !outside.is_empty() && on_dependents == OnDependents::Stop {
                let schema = found.schema.clone();
                let problem = PurgeProblem::Dependents { schema, objects: outside };
                return Err(stopped(&problem, &found.slug));
            }
        }
        what = contents(found, holds);
    }
    for object in outside {
        what.push_str("\n  outside of its schema: ");
        what.push_str(&object);
    }
    let grace = match target {
        Target::Database(settings) => {
            let grace = humantime::format_duration(settings.tenants.grace_period);
            format!("in {grace}")
        }
        Target::Server(_) => "after the grace period of the server".to_owned(),
    };
    confirm::ask(&warning(found, &what, step, &grace), &found.slug).await?;
    Ok(found.revision)
}

async fn carry_out(
    control: &Control,
    found: RecordView,
    revision: Option<i64>,
    step: Destructive,
    named: &str,
) -> Result<RecordView, Failure> {
    let outcome = match step {
        Destructive::Delete => control.move_tenant(found.id, revision, Step::Delete).await,
        Destructive::Purge(on_dependents) => {
            control.purge_tenant(found.id, revision, on_dependents).await.map(|()| found)
        }
    };
    outcome.map_err(|failure| match failure {
        Failure::Service(Error::Purge(problem)) => stopped(&problem, named),
        failure if step != Destructive::Delete && failure.code() == "illegal_move" => {
            failure.worded(format!("tenant {named} is not deleted; delete it before purging it"))
        }
        failure => refused(failure, named),
    })
}

/// Lists what stops a purge, one a line, and what can be done about it.
fn stopped(problem: &PurgeProblem, named: &str) -> Failure {
    let mut lines = vec![format!("tenant {named} is not purged")];
    lines.extend(problem.lines().into_iter().map(|line| format!("  {line}")));
    lines.push(match problem {
        PurgeProblem::Dependents { .. } => {
            "Drop or change it and purge the tenant again, or pass --cascade to drop it too."
                .to_owned()
        }
        PurgeProblem::RoleInUse { .. } | PurgeProblem::NotPermitted { .. } => {
            "Then purge the tenant again.".to_owned()
        }
    });
    let (exit, code) = (Exit::Failed, problem.code().to_owned());
    Failure::Worded { exit, code, message: lines.join("\n") }
}

/// Returns what a tenant holds, for the text that precedes the confirmation.
fn contents(found: &RecordView, holds: Footprint) -> String {
    let Footprint { tables, bytes, members, tokens } = holds;
    format!(
        "  its schema {schema} with {tables} tables, {size} on disk\n  the memberships of its users: {members}\n  its API tokens: {tokens}",
        schema = found.schema,
        size = size(bytes)
    )
}

/// Returns the text that precedes the confirmation.
fn warning(found: &RecordView, what: &str, step: Destructive, grace: &str) -> String {
    let RecordView { slug, name, .. } = found;
    match step {
        Destructive::Delete => format!(
            "Tenant {slug} ({name:?}) will be deleted: its requests are refused, and {grace} this is destroyed:\n{what}\n\
             Until then `rowhouse tenant restore {slug}` restores it."
        ),
        Destructive::Purge(_) => {
            format!("Tenant {slug} ({name:?}) is destroyed now and cannot be restored:\n{what}")
        }
    }
}

/// Formats a size for people, in whole units.
fn size(bytes: i64) -> String {
    const UNITS: [&str; 5] = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let (mut amount, mut unit) = (bytes, 0);
    while amount >= 10 * 1024 && unit + 1 < UNITS.len() {
        amount /= 1024;
        unit += 1;
    }
    format!("{amount} {}", UNITS[unit])
}

impl Destructive {
    const fn command(self) -> &'static str {
        match self {
            Self::Delete => "tenant delete",
            Self::Purge(_) => "tenant purge",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_formatted_in_the_largest_readable_unit() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (10_239, "10239 bytes"),
            (10_240, "10 KiB"),
            (200 * 1024, "200 KiB"),
            (50 << 20, "50 MiB"),
            (9_000 << 30, "9000 GiB"),
            (i64::MAX, "8388607 TiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
