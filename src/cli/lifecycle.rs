//! `tenant`: rename, settings, and the steps of a tenant's lifecycle.
//!
//! Delete and purge ([`super::destroy`]) ask for a confirmation first ([`super::confirm`]). It holds for the revision that
//! was shown: if the tenant has changed meanwhile, nothing is done.

use std::io::Read;
use std::path::PathBuf;

use crate::domain::json::Value;
use clap::{Args, Subcommand};

use super::change::{Change, refused, show};
use super::destroy::{Destructive, DestructiveChange, Purge, destroy};
use super::failure::Arguments;
use super::{Exit, Failure, Output, output};
use crate::cli::Program;
use crate::domain::names::{Slug, TenantName};
use crate::domain::tenant::TenantRecord;
use crate::service::tenants::TenantRef;
use crate::service::tenants::lifecycle::OnDependents;
use crate::service::tenants::registry::{Changes, SETTINGS_MAX};

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
    /// What is outside of its schema and depends on it, or belongs to its role, stops the purge before anything is
    /// dropped. If it is interrupted, run it again with the same arguments.
    Purge(Purge),
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

pub(super) async fn run(settings: &Program, verb: Verb) -> Result<Exit, Failure> {
    match verb {
        Verb::Rename(command) => rename(settings, command).await,
        Verb::Settings(command) => settings_of(settings, command).await,
        Verb::Suspend(change) => step(settings, change, Step::Suspend).await,
        Verb::Resume(change) => step(settings, change, Step::Resume).await,
        Verb::Restore(change) => step(settings, change, Step::Restore).await,
        Verb::Delete(command) => destroy(settings, command, Destructive::Delete).await,
        Verb::Purge(Purge { command, cascade }) => {
            let on_dependents = if cascade { OnDependents::Cascade } else { OnDependents::Stop };
            destroy(settings, command, Destructive::Purge(on_dependents)).await
        }
    }
}

async fn rename(settings: &Program, command: Rename) -> Result<Exit, Failure> {
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

async fn settings_of(settings: &Program, command: SettingsOf) -> Result<Exit, Failure> {
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
            output::on_control_plane(settings, async |backend| named.find(backend).await).await?
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
    let patch = Value::parse(text.as_bytes())
        .map_err(|error| Failure::usage(format!("--patch is not JSON: {error}")))?;
    // Null would remove all settings; another type is not a patch of an object.
    if patch.is_object() {
        Ok(patch)
    } else {
        Err(Failure::usage("--patch must be a JSON object; a member that is null is removed"))
    }
}

async fn update(
    settings: &Program,
    change: &Change,
    changes: Changes,
) -> Result<TenantRecord, Failure> {
    let named = change.which.read()?;
    output::on_control_plane(settings, async |backend| {
        let id = TenantRef::Id(named.find(backend).await?.tenant.id);
        let registry = &backend.services.registry;
        let updated = registry.update(&backend.operator(), &id, &change.expected(), changes).await;
        updated.map_err(|error| refused(error, named.as_str()))
    })
    .await
}

async fn step(settings: &Program, change: Change, step: Step) -> Result<Exit, Failure> {
    let named = change.which.read()?;
    let expected = change.expected();
    let record = output::on_control_plane(settings, async |backend| {
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
