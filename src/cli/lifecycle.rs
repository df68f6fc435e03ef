//! `tenant`: rename, settings, and the steps of a tenant's life.
//!
//! What destroys asks first ([`confirm`]). The answer is bound to what was shown: where the tenant has
//! changed while the question stood there, nothing is done.

use std::io::Read;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::failure::Arguments;
use super::tenant::{RecordView, Which, not_found};
use super::{Exit, Failure, Output, confirm, output};
use crate::app::{Backend, Purpose};
use crate::config::Settings;
use crate::domain::error::{Conflict, Error, FieldProblem};
use crate::domain::names::{SchemaName, Slug, TenantName};
use crate::domain::tenant::{TenantRecord, TenantStatus};
use crate::service::tenants::lifecycle::Belongings;
use crate::service::tenants::registry::{Changes, Expected, SETTINGS_MAX};

/// The verbs of this file.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Change the name, the slug or both; holds at once
    Rename(Rename),
    /// Print the settings as JSON, or change them by a merge patch
    Settings(SettingsOf),
    /// Make a tenant answer nothing until it is resumed, at once and in every process
    Suspend(Change),
    /// Make a suspended tenant answer again
    Resume(Change),
    /// Delete a tenant; it can be restored until the grace period ends
    ///
    /// It answers nothing from now on. When the grace period is over it is purged.
    Delete(Destruction),
    /// Bring a deleted tenant back as what it was, active or suspended
    Restore(Change),
    /// Destroy a deleted tenant now: its schema, its role, its memberships and its tokens
    ///
    /// Broken off half-way, it can be called again in the same words.
    Purge(Destruction),
}

/// Which tenant, in which state, to change.
#[derive(Debug, Args)]
pub(super) struct Change {
    #[command(flatten)]
    which: Which,
    /// Only if the tenant is still in this revision, as `tenant show --json` tells it
    #[arg(long, value_name = "NUMBER")]
    if_revision: Option<i64>,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub(super) struct Destruction {
    #[command(flatten)]
    change: Change,
    /// Do not ask; needed where there is no terminal to ask at
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
    /// The new name that people read
    #[arg(long)]
    name: Option<String>,
    /// The new unique name in addresses; the old one is free at once
    #[arg(long)]
    slug: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct SettingsOf {
    #[command(flatten)]
    change: Change,
    /// A file with a JSON merge patch (RFC 7396), or - for stdin; not an argument, since settings may hold
    /// secrets and everybody on the machine can read command lines
    #[arg(long, value_name = "FILE")]
    patch: Option<PathBuf>,
}

/// A step that loses nothing.
#[derive(Debug, Clone, Copy)]
enum Step {
    Suspend,
    Resume,
    Restore,
}

/// A step that loses something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    Delete,
    Purge,
}

pub(super) async fn run(settings: &Settings, verb: Verb) -> Result<Exit, Failure> {
    match verb {
        Verb::Rename(wish) => rename(settings, wish).await,
        Verb::Settings(wish) => settings_of(settings, wish).await,
        Verb::Suspend(change) => step(settings, change, Step::Suspend).await,
        Verb::Resume(change) => step(settings, change, Step::Resume).await,
        Verb::Restore(change) => step(settings, change, Step::Restore).await,
        Verb::Delete(wish) => lose(settings, wish, Loss::Delete).await,
        Verb::Purge(wish) => lose(settings, wish, Loss::Purge).await,
    }
}

async fn rename(settings: &Settings, wish: Rename) -> Result<Exit, Failure> {
    let NewNames { name, slug } = &wish.names;
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
    let changes = Changes { name, slug, settings: None };
    let record = update(settings, &wish.change, changes).await?;
    show(wish.change.output, record)
}

async fn settings_of(settings: &Settings, wish: SettingsOf) -> Result<Exit, Failure> {
    let record = match &wish.patch {
        Some(file) => {
            let changes = Changes { settings: Some(read_patch(file)?), ..Changes::default() };
            update(settings, &wish.change, changes).await?
        }
        None if wish.change.if_revision.is_some() => {
            return Err(Failure::usage("--if-revision is for a change: give --patch as well"));
        }
        None => {
            let named = wish.change.which.read()?;
            output::on_backend(Purpose::Operate, settings, async |backend| {
                named.find(backend).await
            })
            .await?
        }
    };
    let settings = record.settings.into_value();
    // JSON for people too: there is no other form for what we know nothing of.
    output::print(Output { json: true }, &settings, String::new)?;
    Ok(Exit::Done)
}

/// A merge patch from a file or from stdin. Reads little more than settings can have.
fn read_patch(file: &PathBuf) -> Result<Value, Failure> {
    let most = u64::try_from(2 * SETTINGS_MAX).unwrap_or(u64::MAX);
    let mut text = String::new();
    let read = if file.as_os_str() == "-" {
        std::io::stdin().lock().take(most).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(most).read_to_string(&mut text))
    };
    read.map_err(|error| Failure::usage(format!("--patch {}: {error}", file.display())))?;
    let patch: Value = serde_json::from_str(&text)
        .map_err(|error| Failure::usage(format!("--patch is no JSON: {error}")))?;
    // Null would empty all settings, and anything else is no patch of an object.
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
        let id = named.find(backend).await?.tenant.id.to_string();
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
        let id = named.find(backend).await?.tenant.id.to_string();
        let (life, ctx) = (&backend.services.lifecycle, backend.operator());
        let moved = match step {
            Step::Suspend => life.suspend(&ctx, &id, &expected).await,
            Step::Resume => life.resume(&ctx, &id, &expected).await,
            Step::Restore => life.restore(&ctx, &id, &expected).await,
        };
        moved.map_err(|error| refused(error, named.as_str()))
    })
    .await?;
    show(change.output, record)
}

async fn lose(settings: &Settings, wish: Destruction, loss: Loss) -> Result<Exit, Failure> {
    if !wish.yes {
        confirm::require_somebody(loss.command())?;
    }
    let named = wish.change.which.read()?;
    let record = output::on_backend(Purpose::Operate, settings, async |backend| {
        let found = named.find(backend).await?;
        let expected = if wish.yes {
            wish.change.expected()
        } else {
            wish.change.require_revision(&found, named.as_str())?;
            ask(settings, backend, &found, loss).await?
        };
        carry_out(backend, found, &expected, loss, named.as_str()).await
    })
    .await?;
    if loss == Loss::Delete {
        return show(wish.change.output, record);
    }
    let (id, slug) = (record.tenant.id, record.tenant.slug);
    if wish.change.output.json {
        let gone = json!({ "id": id, "slug": slug, "purged": true });
        output::print(wish.change.output, &gone, String::new)?;
    } else {
        output::say(&format!("tenant {slug} ({id}) is gone"));
    }
    Ok(Exit::Done)
}

/// Shows what will be lost and asks; the answer holds for the revision that was shown.
async fn ask(
    settings: &Settings,
    backend: &Backend,
    found: &TenantRecord,
    loss: Loss,
) -> Result<Expected, Failure> {
    let id = found.tenant.id.to_string();
    let (record, holds) =
        backend.services.lifecycle.read_belongings(&backend.operator(), &id).await?;
    let grace = humantime::format_duration(settings.tenants.grace_period).to_string();
    confirm::ask(&warning(&record, holds, loss, &grace), record.tenant.slug.as_ref()).await?;
    Ok(Expected::OneOf(vec![record.revision]))
}

async fn carry_out(
    backend: &Backend,
    found: TenantRecord,
    expected: &Expected,
    loss: Loss,
    named: &str,
) -> Result<TenantRecord, Failure> {
    let (life, ctx) = (&backend.services.lifecycle, backend.operator());
    let id = found.tenant.id.to_string();
    let outcome = match loss {
        Loss::Delete => life.delete(&ctx, &id, expected).await,
        Loss::Purge => life.purge(&ctx, &id, expected).await.map(|()| found),
    };
    outcome.map_err(|error| match (loss, error) {
        (
            Loss::Purge,
            Error::Conflict(Conflict::IllegalMove(TenantStatus::Active | TenantStatus::Suspended)),
        ) => {
            Failure::Other(format!("tenant {named} is not deleted: delete it before you purge it"))
        }
        (_, error) => refused(error, named),
    })
}

/// What a person should know before they confirm.
fn warning(record: &TenantRecord, holds: Belongings, loss: Loss, grace: &str) -> String {
    let (tenant, schema) = (&record.tenant, SchemaName::of(record.tenant.id));
    let Belongings { tables, bytes, members, tokens } = holds;
    let what = format!(
        "  its schema {schema} with {tables} tables, {size} on disk\n  the memberships of its users: {members}\n  its API tokens: {tokens}",
        size = size(bytes)
    );
    match loss {
        Loss::Delete => format!(
            "Tenant {} ({:?}) will answer nothing from now on. In {grace} this is destroyed for good:\n{what}\n\
             Until then `rowhouse tenant restore {}` brings it back.",
            tenant.slug,
            tenant.name.as_ref(),
            tenant.slug,
        ),
        Loss::Purge => format!(
            "Tenant {} ({:?}) is destroyed now, and nothing brings it back:\n{what}",
            tenant.slug,
            tenant.name.as_ref(),
        ),
    }
}

/// Bytes for people, in whole units.
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

/// A refusal in words that name what was given.
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
        "tenant {named} has changed meanwhile: look at it again before you decide"
    ))
}

impl Change {
    /// Refuses before anybody is asked where the revision is not the one that was given.
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

impl Loss {
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
    fn a_size_is_told_in_the_unit_that_people_read() {
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
