//! `tenant`: rename, settings, extend, and the steps of a tenant's lifecycle.
//!
//! Delete and purge ([`super::destroy`]) ask for a confirmation first ([`super::confirm`]). It holds for the revision that
//! was shown: if the tenant has changed meanwhile, nothing is done.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::change::{Change, refused, show};
use super::control::{RecordView, Step, Target, Uses, on_control};
use super::destroy::{Destructive, DestructiveChange, Purge, destroy};
use super::end::EndFlags;
use super::failure::Arguments;
use super::files;
use super::{Exit, Failure, Output, output};
use crate::domain::EndChange;
use crate::domain::json::Value;
use crate::domain::names::{Slug, TenantName};
use crate::service::tenants::lifecycle::OnDependents;
use crate::service::tenants::registry::{Changes, SETTINGS_MAX};

/// The verbs of this file.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Change the name, the slug or both, with immediate effect
    Rename(Rename),
    /// Print the settings as JSON, or change them with a merge patch
    Settings(SettingsOf),
    /// Move the end of a tenant that was made with one, or remove it
    Extend(Extend),
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

#[derive(Debug, Args)]
pub(super) struct Extend {
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    end: EndFlags,
    /// Remove the end: the tenant stays
    #[arg(long, conflicts_with_all = ["expires_in", "expires_at", "add_expiry"])]
    never: bool,
    /// Give an end to a tenant that was made without one; its data is destroyed then
    #[arg(long)]
    add_expiry: bool,
}

pub(super) async fn run(target: &Target, verb: Verb) -> Result<Exit, Failure> {
    match verb {
        Verb::Rename(command) => rename(target, command).await,
        Verb::Settings(command) => settings_of(target, command).await,
        Verb::Extend(command) => extend(target, command).await,
        Verb::Suspend(change) => step(target, change, Step::Suspend).await,
        Verb::Resume(change) => step(target, change, Step::Resume).await,
        Verb::Restore(change) => step(target, change, Step::Restore).await,
        Verb::Delete(command) => destroy(target, command, Destructive::Delete).await,
        Verb::Purge(Purge { command, cascade }) => {
            let on_dependents = if cascade { OnDependents::Cascade } else { OnDependents::Stop };
            destroy(target, command, Destructive::Purge(on_dependents)).await
        }
    }
}

async fn rename(target: &Target, command: Rename) -> Result<Exit, Failure> {
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
    let view = update(target, &command.change, changes).await?;
    show(command.change.output, &view)
}

async fn settings_of(target: &Target, command: SettingsOf) -> Result<Exit, Failure> {
    let view = match &command.patch {
        Some(file) => {
            let changes = Changes { settings: Some(read_patch(file)?), ..Changes::default() };
            update(target, &command.change, changes).await?
        }
        None if command.change.if_revision.is_some() => {
            return Err(Failure::usage("--if-revision requires --patch"));
        }
        None => {
            let named = command.change.which.read()?;
            on_control(target, Uses::ControlPlane, async |control| {
                control.find_tenant(&named).await
            })
            .await?
        }
    };
    // JSON for people too, because the application defines the form of its settings.
    output::print(Output { json: true }, &view.settings, String::new)?;
    Ok(Exit::Done)
}

async fn extend(target: &Target, command: Extend) -> Result<Exit, Failure> {
    let end = match command.end.read()? {
        _ if command.never => EndChange::Remove,
        Some(end) if command.add_expiry => EndChange::Give(end),
        Some(end) => EndChange::Move(end),
        None => return Err(Failure::usage("pass --expires-in, --expires-at or --never")),
    };
    let changes = Changes { end: Some(end), ..Changes::default() };
    let view = update(target, &command.change, changes).await?;
    show(command.change.output, &view)
}

/// Reads a merge patch from a file or from stdin, up to twice the maximum size of settings.
fn read_patch(file: &Path) -> Result<Value, Failure> {
    let patch = files::read_json("--patch", file, 2 * SETTINGS_MAX)?;
    // Null would remove all settings; another type is not a patch of an object.
    if patch.is_object() {
        Ok(patch)
    } else {
        Err(Failure::usage("--patch must be a JSON object; a member that is null is removed"))
    }
}

async fn update(target: &Target, change: &Change, changes: Changes) -> Result<RecordView, Failure> {
    let named = change.which.read()?;
    on_control(target, Uses::ControlPlane, async |control| {
        let found = control.find_tenant(&named).await?;
        let updated = control.change_tenant(found.id, change.if_revision, changes).await;
        updated.map_err(|failure| refused(failure, named.as_str()))
    })
    .await
}

async fn step(target: &Target, change: Change, step: Step) -> Result<Exit, Failure> {
    let named = change.which.read()?;
    let view = on_control(target, Uses::ControlPlane, async |control| {
        let found = control.find_tenant(&named).await?;
        let moved = control.move_tenant(found.id, change.if_revision, step).await;
        moved.map_err(|failure| refused(failure, named.as_str()))
    })
    .await?;
    show(change.output, &view)
}
