//! `tenant adopt`: schemas that another tool made become tenants, one or many.

mod list;

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::admin::NewAdminFlags;
use super::failure::Arguments;
use super::{Exit, Failure, Output, output};
use crate::app::Purpose;
use crate::cli::Program;
use crate::domain::error::{Error, Noun};
use crate::domain::names::{Slug, TenantName};
use crate::service::provisioning::ProvisionTenant;
use crate::service::provisioning::adopt::{AdoptSchema, Adopted, NotAdopted};

/// Examples for its help.
pub(super) const HELP: &str = "\
Examples:
  rowhouse tenant adopt --schema acme --slug acme --dry-run
  rowhouse tenant adopt --schema acme --slug acme --stamp V12 --admin-email ada@acme.com
  rowhouse tenant adopt --from-file tenants.csv --keep-extra";

#[derive(Debug, Args)]
pub(super) struct Adopt {
    /// The schema, which is renamed to that of the new tenant
    #[arg(long, value_name = "NAME", required_unless_present = "from_file", requires = "slug")]
    schema: Option<String>,
    /// The unique name of the tenant in URLs: lower-case letters, digits and hyphens
    #[arg(long, requires = "schema")]
    slug: Option<String>,
    /// The display name; without it, the slug
    #[arg(long, requires = "schema")]
    name: Option<String>,
    /// The admin's e-mail address; without it, the tenant has no admin. An account must have it, unless the names of a new
    /// one are given
    #[arg(long, value_name = "EMAIL", requires = "schema")]
    admin_email: Option<String>,
    #[command(flatten)]
    new_admin: NewAdminFlags,
    /// Adopt many: a file with a line each, `schema,slug[,name[,admin-email]]`, or - for stdin
    #[arg(long, value_name = "FILE", conflicts_with = "schema")]
    from_file: Option<PathBuf>,
    /// The version of the migrations that the schema has; without it, the newest that it equals
    #[arg(long, value_name = "VERSION", value_parser = version)]
    stamp: Option<i32>,
    /// Adopt a schema with tables, views, functions or indexes that no migration makes; they stay
    #[arg(long)]
    keep_extra: bool,
    /// Do everything and roll it back
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: Output,
}

/// The outcome of one schema, as programs read it.
#[derive(Debug, Serialize)]
struct View {
    schema: String,
    slug: String,
    adopted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<i32>,
    /// The files that are still to be applied.
    pending: Vec<String>,
    /// Whether it had a history of these migrations.
    had_history: bool,
    /// The objects that no migration makes.
    kept: Vec<String>,
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    dry_run: bool,
}

/// Parses a version, with or without the V of a file's name.
fn version(given: &str) -> Result<i32, String> {
    let number = given.trim_start_matches(['V', 'v']);
    match number.parse() {
        Ok(version) if version >= 0 => Ok(version),
        _ => Err("a version is the number of a file, such as V12".to_owned()),
    }
}

pub(super) async fn run(settings: &Program, flags: Adopt) -> Result<Exit, Failure> {
    let is_single = flags.from_file.is_none();
    let commands = commands(&flags).await?;
    let bar = progress(&flags, commands.len());
    let mut views = Vec::new();
    let many = (!is_single && !flags.output.json).then_some(commands.len());
    let done = output::on_backend(Purpose::Operate, settings, async |backend| {
        let ctx = backend.operator();
        let mut on_each = |command: &AdoptSchema, outcome: Result<Adopted, NotAdopted>| {
            let view = View::of(command, outcome);
            if let Some(total) = many {
                let line = format!("[{}/{total}] {}", views.len() + 1, view.line());
                if bar.is_hidden() { output::say(&line) } else { bar.println(line) }
            }
            bar.inc(1);
            views.push(view);
        };
        Ok(backend.services.provisioning.adopt(&ctx, &commands, &mut on_each).await)
    })
    .await?;
    bar.finish_and_clear();
    if is_single {
        done?;
        return views.into_iter().next().map_or(Ok(Exit::Failed), |view| single(&flags, view));
    }
    let adopted = views.iter().filter(|view| view.adopted).count();
    let summary = if flags.dry_run { "would be adopted" } else { "adopted" };
    output::print(flags.output, &views, || format!("{adopted} of {} {summary}", commands.len()))?;
    // After the list: it says what was adopted before the database was lost.
    done?;
    Ok(match adopted {
        all if all == commands.len() => Exit::Done,
        0 => Exit::Failed,
        _ => Exit::Partly,
    })
}

/// Prints the outcome of the only schema.
fn single(flags: &Adopt, view: View) -> Result<Exit, Failure> {
    if !view.adopted && !flags.output.json {
        let reason = view.reason.unwrap_or_default();
        return Err(Failure::Other(format!("schema {} is not adopted: {reason}", view.schema)));
    }
    output::print(flags.output, &view, || view.line())?;
    if !flags.output.json {
        for kept in &view.kept {
            output::say(&format!("no migration makes it, and it stays: {kept}"));
        }
        for warning in &view.warnings {
            output::say(&format!("warning: {warning}, and the schema has another name now"));
        }
        if !view.pending.is_empty() {
            output::say(&format!(
                "run `rowhouse migrate`: {} files are to be applied",
                view.pending.len()
            ));
        }
    }
    Ok(if view.adopted { Exit::Done } else { Exit::Failed })
}

fn progress(flags: &Adopt, total: usize) -> ProgressBar {
    let is_shown =
        flags.from_file.is_some() && !flags.output.json && std::io::stderr().is_terminal();
    let bar = if is_shown { ProgressBar::new(total as u64) } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} schemas, {eta} left") {
        bar.set_style(style);
    }
    bar
}

/// Reads the arguments, and the password of an admin who may be new.
async fn commands(flags: &Adopt) -> Result<Vec<AdoptSchema>, Failure> {
    let with_flags = |command: AdoptSchema| AdoptSchema {
        stamp: flags.stamp,
        keep_extra: flags.keep_extra,
        dry_run: flags.dry_run,
        ..command
    };
    if let Some(file) = &flags.from_file {
        return Ok(list::read(file)?.into_iter().map(with_flags).collect());
    }
    let (Some(schema), Some(slug)) = (&flags.schema, &flags.slug) else {
        return Err(Failure::usage("pass --schema and --slug, or --from-file"));
    };
    let mut arguments = Arguments::default();
    let name = flags.name.as_ref().unwrap_or(slug);
    let name = arguments.read("--name", name, TenantName::parse);
    let slug = arguments.read("--slug", slug, Slug::parse);
    let admin = flags.new_admin.read(&mut arguments, flags.admin_email.as_deref());
    let read = || Some((name?, slug?, admin?));
    let (name, slug, admin) = arguments.finish(read())?;
    let admin = admin.with_password(flags.new_admin.admin_password_stdin).await?;
    let tenant = ProvisionTenant::new(name, slug, admin);
    Ok(vec![with_flags(AdoptSchema::new(schema.clone(), tenant))])
}

impl View {
    fn of(command: &AdoptSchema, outcome: Result<Adopted, NotAdopted>) -> Self {
        let view = Self {
            schema: command.schema.clone(),
            slug: command.tenant.slug.to_string(),
            adopted: outcome.is_ok(),
            id: None,
            version: None,
            pending: Vec::new(),
            had_history: false,
            kept: Vec::new(),
            warnings: Vec::new(),
            reason: None,
            dry_run: command.dry_run,
        };
        match outcome {
            Ok(made) => Self {
                // A dry run makes none that lasts.
                id: (!command.dry_run).then(|| made.tenant.id.to_string()),
                version: Some(made.version),
                pending: made.pending,
                had_history: made.had_history,
                kept: made.kept,
                warnings: made.warnings,
                ..view
            },
            Err(NotAdopted::Failed(Error::NotFound(Noun::User))) => {
                let email = command.tenant.admin.email().map_or("", |email| email.as_str());
                let reason = format!(
                    "no account has the address {email}; create it with --admin-first-name and --admin-last-name, or \
                     adopt the schema without an admin and invite the address"
                );
                Self { reason: Some(reason), ..view }
            }
            Err(refused) => Self { reason: Some(refused.to_string()), ..view },
        }
    }

    /// The outcome for people: one line, or more where reasons are listed.
    fn line(&self) -> String {
        let Self { schema, slug, .. } = self;
        if let Some(reason) = &self.reason {
            return format!("{schema}: not adopted: {reason}");
        }
        let version = self.version.unwrap_or_default();
        let history = if self.had_history { ", with its own history" } else { "" };
        let extra = match self.kept.len() {
            0 => String::new(),
            count => format!(", {count} objects beside the migrations"),
        };
        match &self.id {
            Some(id) => {
                format!(
                    "{schema}: adopted as tenant {slug} ({id}) at version {version}{history}{extra}"
                )
            }
            None => format!(
                "{schema}: would be adopted as tenant {slug} at version {version}{history}{extra}; nothing was changed"
            ),
        }
    }
}
