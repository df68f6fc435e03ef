//! `tenant`: rename, settings, and the steps of a tenant's lifecycle.
//!
//! Delete and purge ask for a confirmation first ([`confirm`]). It holds for the revision that was shown: if the tenant
//! has changed meanwhile, nothing is done.

use std::io::Read;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::failure::Arguments;
use super::tenant::{RecordView, Which, not_found};
use super::{Exit, Failure, Output, confirm, output};
use crate::app::{Backend, Purpose};
use crate::config::Settings;
use crate::domain::error::{Conflict, Error};
use crate::domain::names::{SchemaName, Slug, TenantName};
use crate::domain::rule::FieldProblem;
use crate::domain::status::TenantStatus;
use crate::domain::tenant::TenantRecord;
use crate::service::tenants::TenantRef;
use crate::service::tenants::lifecycle::Footprint;
use crate::service::tenants::registry::{Changes, Expected, SETTINGS_MAX};

/// The verbs of this file.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Change the name, the slug or both, with immediate effect
    Rename(Rename),
    /// Print the settings as JSON, or change them with a merge patch
    Settings(SettingsOf),
    /// Refuse all requests of a tenant until it is resumed, in every server process at once
    Suspend(Change),
    /// Resume a suspended tenant
    Resume(Change),
    /// Delete a tenant; it can be restored until the grace period ends
    ///
    /// All its requests are refused. It is purged when the grace period ends.
    Delete(DestructiveChange),
    /// Restore a deleted tenant to its previous status, active or suspended
    Restore(Change),
    /// Purge a deleted tenant now: drop its schema and role, delete its memberships and tokens
    ///
    /// If it is interrupted, run it again with the same arguments.
    Purge(DestructiveChange),
}

/// The tenant to change, and its expected revision.
#[derive(Debug, Args)]
pub(super) struct Change {
    #[command(flatten)]
    which: Which,
    /// Only if the tenant still has this revision, as `tenant show --json` prints it
    #[arg(long, value_name = "NUMBER")]
    if_revision: Option<i64>,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub(super) struct DestructiveChange {
    #[command(flatten)]
    change: Change,
    /// Do not ask for a confirmation; required without a terminal
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Args)]
pub(super) struct Rename {
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    names: NewNames,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct NewNames {
    /// The new display name
    #[arg(long)]
    name: Option<String>,
    /// The new unique name in URLs; the old one is available again at once
    #[arg(long)]
    slug: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct SettingsOf {
    #[command(flatten)]
    change: Change,
    /// A file with a JSON merge patch (RFC 7396), or - for stdin; not an argument, because settings can contain
    /// secrets and every user of the machine can read command lines
    #[arg(long, value_name = "FILE")]
    patch: Option<PathBuf>,
}

/// A step that destroys no data.
#[derive(Debug, Clone, Copy)]
enum Step {
    Suspend,
    Resume,
    Restore,
}

/// A step that destroys data, at once or after the grace period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Destructive {
    Delete,
    Purge,
}

pub(super) async fn run(settings: &Settings, verb: Verb) -> Result<Exit, Failure> {
    match verb {
        Verb::Rename(command) => rename(settings, command).await,
        Verb::Settings(command) => settings_of(settings, command).await,
        Verb::Suspend(change) => step(settings, change, Step::Suspend).await,
        Verb::Resume(change) => step(settings, change, Step::Resume).await,
        Verb::Restore(change) => step(settings, change, Step::Restore).await,
        Verb::Delete(command) => destroy(settings, command, Destructive::Delete).await,
        Verb::Purge(command) => destroy(settings, command, Destructive::Purge).await,
    }
}

async fn rename(settings: &Settings, command: Rename) -> Result<Exit, Failure> {
    let NewNames { name, slug } = &command.names;
    let mut arguments = Arguments::default();
    let name = name.as_deref().map(|name| arguments.read("--name", name, TenantName::parse));
    let slug = slug.as_deref().map(|slug| arguments.read("--slug", slug, Slug::parse));
    let names = || {
        Some((
            name.map_or(Some(None), |name| name.map(Some))?,
            slug.map_or(Some(None), |slug| slug.map(Some))?,
        ))
    };
    let (name, slug) = arguments.finish(names())?;
    let changes = Changes { slug, name, ..Changes::default() };
    let record = update(settings, &command.change, changes).await?;
    show(command.change.output, record)
}

async fn settings_of(settings: &Settings, command: SettingsOf) -> Result<Exit, Failure> {
    let record = match &command.patch {
        Some(file) => {
            let changes = Changes { settings: Some(read_patch(file)?), ..Changes::default() };
            update(settings, &command.change, changes).await?
        }
        None if command.change.if_revision.is_some() => {
            return Err(Failure::usage("--if-revision requires --patch"));
        }
        None => {
            let named = command.change.which.read()?;
            output::on_backend(Purpose::Operate, settings, async |backend| {
                named.find(backend).await
            })
            .await?
        }
    };
    let settings = record.settings.into_value();
    // JSON for people too, because the application defines the form of its settings.
    output::print(Output { json: true }, &settings, String::new)?;
    Ok(Exit::Done)
}

/// Reads a merge patch from a file or from stdin, up to twice the maximum size of settings.
fn read_patch(file: &PathBuf) -> Result<Value, Failure> {
    let most = u64::try_from(2 * SETTINGS_MAX).unwrap_or(u64::MAX);
    let mut text = String::new();
    let read = if file.as_os_str() == "-" {
        std::io::stdin().lock().take(most).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(most).read_to_string(&mut text))
    };
    read.map_err(|error| Failure::usage(format!("--patch {}: {error}", file.display())))?;
    crate::domain::json::check(text.as_bytes())
        .map_err(|excess| Failure::usage(format!("--patch {excess}")))?;
    let patch: Value = serde_json::from_str(&text)
        .map_err(|error| Failure::usage(format!("--patch is not JSON: {error}")))?;
    // Null would remove all settings; another type is not a patch of an object.
    if patch.is_object() {
        Ok(patch)
    } else {
        Err(Failure::usage("--patch must be a JSON object; a member that is null is removed"))
    }
}

async fn update(
    settings: &Settings,
    change: &Change,
    changes: Changes,
) -> Result<TenantRecord, Failure> {
    let named = change.which.read()?;
    output::on_backend(Purpose::Operate, settings, async |backend| {
        let id = TenantRef::Id(named.find(backend).await?.tenant.id);
        let registry = &backend.services.registry;
        let updated = registry.update(&backend.operator(), &id, &change.expected(), changes).await;
        updated.map_err(|error| refused(error, named.as_str()))
    })
    .await
}

async fn step(settings: &Settings, change: Change, step: Step) -> Result<Exit, Failure> {
    let named = change.which.read()?;
    let expected = change.expected();
    let record = output::on_backend(Purpose::Operate, settings, async |backend| {
        let id = TenantRef::Id(named.find(backend).await?.tenant.id);
        let (lifecycle, ctx) = (&backend.services.lifecycle, backend.operator());
        let moved = match step {
            Step::Suspend => lifecycle.suspend(&ctx, &id, &expected).await,
            Step::Resume => lifecycle.resume(&ctx, &id, &expected).await,
            Step::Restore => lifecycle.restore(&ctx, &id, &expected).await,
        };
        moved.map_err(|error| refused(error, named.as_str()))
    })
    .await?;
    show(change.output, record)
}

async fn destroy(
    settings: &Settings,
    command: DestructiveChange,
    step: Destructive,
) -> Result<Exit, Failure> {
    if !command.yes {
        confirm::require_terminal(step.command())?;
    }
    let named = command.change.which.read()?;
    let record = output::on_backend(Purpose::Operate, settings, async |backend| {
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
    settings: &Settings,
    backend: &Backend,
    found: &TenantRecord,
    step: Destructive,
) -> Result<Expected, Failure> {
    let id = TenantRef::Id(found.tenant.id);
    let (record, holds) =
        backend.services.lifecycle.read_footprint(&backend.operator(), &id).await?;
    let grace = humantime::format_duration(settings.tenants.grace_period).to_string();
    confirm::ask(&warning(&record, holds, step, &grace), record.tenant.slug.as_ref()).await?;
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
        Destructive::Purge => lifecycle.purge(&ctx, &id, expected).await.map(|()| found),
    };
    outcome.map_err(|error| match (step, error) {
        (
            Destructive::Purge,
            Error::Conflict(Conflict::IllegalMove(TenantStatus::Active | TenantStatus::Suspended)),
        ) => Failure::Other(format!("tenant {named} is not deleted; delete it before purging it")),
        (_, error) => refused(error, named),
    })
}

/// Returns the text that precedes the confirmation.
fn warning(record: &TenantRecord, holds: Footprint, step: Destructive, grace: &str) -> String {
    let (tenant, schema) = (&record.tenant, SchemaName::of(record.tenant.id));
    let Footprint { tables, bytes, members, tokens } = holds;
    let what = format!(
        "  its schema {schema} with {tables} tables, {size} on disk\n  the memberships of its users: {members}\n  its API tokens: {tokens}",
        size = size(bytes)
    );
    match step {
        Destructive::Delete => format!(
            "Tenant {} ({:?}) will be deleted: its requests are refused, and in {grace} this is destroyed:\n{what}\n\
             Until then `rowhouse tenant restore {}` restores it.",
            tenant.slug,
            tenant.name.as_ref(),
            tenant.slug,
        ),
        Destructive::Purge => format!(
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

fn show(output: Output, record: TenantRecord) -> Result<Exit, Failure> {
    let view = RecordView::from(record);
    output::print(output, &view, || view.table())?;
    Ok(Exit::Done)
}

/// Names the tenant and the fields in an error.
fn refused(error: Error, named: &str) -> Failure {
    match error {
        Error::Invalid(problems) => {
            let word = |problem: FieldProblem| {
                format!("{} {}", problem.field, super::failure::sentence(problem.rule))
            };
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
    fn require_revision(&self, found: &TenantRecord, named: &str) -> Result<(), Failure> {
        match self.if_revision {
            Some(revision) if revision != found.revision => Err(changed(named)),
            _ => Ok(()),
        }
    }

    fn expected(&self) -> Expected {
        self.if_revision.map_or(Expected::Any, |revision| Expected::OneOf(vec![revision]))
    }
}

impl Destructive {
    const fn command(self) -> &'static str {
        match self {
            Self::Delete => "tenant delete",
            Self::Purge => "tenant purge",
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
