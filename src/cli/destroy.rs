//! `tenant delete` and `tenant purge`: show what is destroyed, ask for a confirmation, do it.

use clap::Args;
use serde_json::json;

use super::change::{Change, refused, show};
use super::{Exit, Failure, confirm, output};
use crate::app::Backend;
use crate::cli::Program;
use crate::domain::error::{Conflict, Error};
use crate::domain::names::SchemaName;
use crate::domain::purge::PurgeProblem;
use crate::domain::status::TenantStatus;
use crate::domain::tenant::TenantRecord;
use crate::service::tenants::TenantRef;
use crate::service::tenants::lifecycle::{Footprint, OnDependents};
use crate::service::tenants::registry::Expected;

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
    settings: &Program,
    command: DestructiveChange,
    step: Destructive,
) -> Result<Exit, Failure> {
    if !command.yes {
        confirm::require_terminal(step.command())?;
    }
    let named = command.change.which.read()?;
    let record = output::on_control_plane(settings, async |backend| {
        let found = named.find(backend).await?;
        let expected = if command.yes {
            command.change.expected()
        } else {
            command.change.require_revision(&found, named.as_str())?;
            ask(settings, backend, &found, step).await?
        };
        carry_out(backend, found, &expected, step, named.as_str()).await
    })
    .await?;
    if step == Destructive::Delete {
        return show(command.change.output, record);
    }
    let (id, slug) = (record.tenant.id, record.tenant.slug);
    if command.change.output.json {
        let gone = json!({ "id": id, "slug": slug, "purged": true });
        output::print(command.change.output, &gone, String::new)?;
    } else {
        output::say(&format!("tenant {slug} ({id}) is purged"));
    }
    Ok(Exit::Done)
}

/// Shows what will be destroyed and asks for a confirmation, which holds for the revision that was shown.
async fn ask(
    settings: &Program,
    backend: &Backend,
    found: &TenantRecord,
    step: Destructive,
) -> Result<Expected, Failure> {
    let id = TenantRef::Id(found.tenant.id);
    let (record, holds) =
        backend.services.lifecycle.read_footprint(&backend.operator(), &id).await?;
    let mut outside = Vec::new();
    if let Destructive::Purge(on_dependents) = step {
        outside = backend.services.lifecycle.read_dependents(&backend.operator(), &id).await?;
        if !outside.is_empty() && on_dependents == OnDependents::Stop {
            let schema = SchemaName::of(record.tenant.id).to_string();
            let problem = PurgeProblem::Dependents { schema, objects: outside };
            return Err(stopped(&problem, record.tenant.slug.as_str()));
        }
    }
    let grace = humantime::format_duration(settings.tenants.grace_period).to_string();
    let warning = warning(&record, holds, &outside, step, &grace);
    confirm::ask(&warning, record.tenant.slug.as_ref()).await?;
    Ok(Expected::OneOf(vec![record.revision]))
}

async fn carry_out(
    backend: &Backend,
    found: TenantRecord,
    expected: &Expected,
    step: Destructive,
    named: &str,
) -> Result<TenantRecord, Failure> {
    let (lifecycle, ctx) = (&backend.services.lifecycle, backend.operator());
    let id = TenantRef::Id(found.tenant.id);
    let outcome = match step {
        Destructive::Delete => lifecycle.delete(&ctx, &id, expected).await,
        Destructive::Purge(on_dependents) => {
            lifecycle.purge(&ctx, &id, expected, on_dependents).await.map(|()| found)
        }
    };
    outcome.map_err(|error| match (step, error) {
        (
            Destructive::Purge(_),
            Error::Conflict(Conflict::IllegalMove(TenantStatus::Active | TenantStatus::Suspended)),
        ) => Failure::Other(format!("tenant {named} is not deleted; delete it before purging it")),
        (_, Error::Purge(problem)) => stopped(&problem, named),
        (_, error) => refused(error, named),
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
    Failure::Other(lines.join("\n"))
}

/// Returns the text that precedes the confirmation.
fn warning(
    record: &TenantRecord,
    holds: Footprint,
    outside: &[String],
    step: Destructive,
    grace: &str,
) -> String {
    let (tenant, schema) = (&record.tenant, SchemaName::of(record.tenant.id));
    let Footprint { tables, bytes, members, tokens } = holds;
    let mut what = format!(
        "  its schema {schema} with {tables} tables, {size} on disk\n  the memberships of its users: {members}\n  its API tokens: {tokens}",
        size = size(bytes)
    );
    for object in outside {
        what.push_str("\n  outside of its schema: ");
        what.push_str(object);
    }
    match step {
        Destructive::Delete => format!(
            "Tenant {} ({:?}) will be deleted: its requests are refused, and in {grace} this is destroyed:\n{what}\n\
             Until then `rowhouse tenant restore {}` restores it.",
            tenant.slug,
            tenant.name.as_ref(),
            tenant.slug,
        ),
        Destructive::Purge(_) => format!(
            "Tenant {} ({:?}) is destroyed now and cannot be restored:\n{what}",
            tenant.slug,
            tenant.name.as_ref(),
        ),
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
