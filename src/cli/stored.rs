//! `archive`: list, show, fetch, verify and delete the archives that the server keeps, and list their imports.

use std::path::PathBuf;

use clap::Subcommand;
use clap::builder::PossibleValuesParser;
use uuid::Uuid;

use super::archive_file::{is_stdout, open_stdout, output_file, save};
use super::control::{ArchiveView, ImportView, Target, Uses, on_control};
use super::failure::Arguments;
use super::{Exit, Failure, Output, output};
use crate::domain::names::Slug;
use crate::service::stored_archives::{Filter, IMPORT_STATES, ImportFilter, KINDS, STATES};

pub(super) const HELP: &str = "\
An archive is exported to the store by `rowhouse tenant export --to-store` or by the control API, or uploaded. The store is \
the folder archives.store; on a database it must be the one that its servers have.

Examples:
  rowhouse tenant export acme --to-store
  rowhouse archive list --tenant acme --state ready
  rowhouse archive fetch 0195a5b2-5c1e-7d3f-8a4b-1c2d3e4f5a6b -o acme.rowhouse.tar";

/// The verbs of this file.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List the archives, newest first
    List(List),
    /// Show an archive: its state, how far it is, its digest
    Show(One),
    /// Write an archive to a file, or with -o - to a pipe
    Fetch {
        #[command(flatten)]
        one: One,
        /// The file to write, or - for stdout; without it, SLUG.rowhouse.tar in this folder
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Read a stored archive again, and check its form, its digests and its signature; exits with 1 if it is damaged
    Verify(One),
    /// Delete an archive
    Delete(One),
    /// List the imports of archives, newest first
    Imports(Imports),
}

/// Which archives to list.
#[derive(Debug, clap::Args)]
pub(super) struct List {
    /// Only archives of this tenant, by slug or id
    #[arg(long)]
    tenant: Option<String>,
    /// Only archives of this kind
    #[arg(long, value_name = "KIND", value_parser = PossibleValuesParser::new(KINDS))]
    kind: Option<String>,
    /// Only archives in this state
    #[arg(long, value_name = "STATE", value_parser = PossibleValuesParser::new(STATES))]
    state: Option<String>,
    /// How many archives at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    #[command(flatten)]
    form: Output,
}

/// Which imports to list.
#[derive(Debug, clap::Args)]
pub(super) struct Imports {
    /// Only imports of the archive with this id
    #[arg(long, value_name = "ID")]
    archive: Option<Uuid>,
    /// Only imports of a tenant with this slug
    #[arg(long)]
    slug: Option<String>,
    /// Only imports in this state
    #[arg(long, value_name = "STATE", value_parser = PossibleValuesParser::new(IMPORT_STATES))]
    state: Option<String>,
    /// How many imports at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    #[command(flatten)]
    form: Output,
}

/// An archive.
#[derive(Debug, clap::Args)]
pub(super) struct One {
    /// The id of the archive
    id: Uuid,
    #[command(flatten)]
    form: Output,
}

pub(super) async fn run(target: &Target, verb: Verb) -> Result<Exit, Failure> {
    match verb {
        Verb::List(flags) => list(target, flags).await,
        Verb::Imports(flags) => imports(target, flags).await,
        Verb::Show(One { id, form }) => {
            let view =
                on_control(target, Uses::ControlPlane, async |control| control.archive(id).await);
            let view = view.await?;
            output::print(form, &view, || view.text())?;
            Ok(Exit::Done)
        }
        Verb::Fetch { one, output } => fetch(target, one, output).await,
        Verb::Verify(One { id, form }) => verify(target, id, form).await,
        Verb::Delete(One { id, form }) => {
            on_control(target, Uses::ControlPlane, async |control| {
                control.delete_archive(id).await
            })
            .await?;
            if !form.json {
                output::say(&format!("deleted archive {id}"));
            }
            Ok(Exit::Done)
        }
    }
}

async fn list(target: &Target, flags: List) -> Result<Exit, Failure> {
    let List { tenant, kind, state, limit, form } = flags;
    let filter = Filter { tenant, kind, state };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let (views, is_cut) = on_control(target, Uses::ControlPlane, async |control| {
        control.list_archives(filter, limit).await
    })
    .await?;
    let row = |view: &ArchiveView| {
        vec![
            view.id.to_string(),
            view.kind.clone(),
            view.state.clone(),
            view.slug.clone().unwrap_or_else(|| "-".to_owned()),
            view.bytes.map_or_else(|| "-".to_owned(), |bytes| bytes.to_string()),
            output::time(view.created_at),
            view.keep_until.map_or_else(|| "-".to_owned(), output::time),
        ]
    };
    let header = ["ID", "KIND", "STATE", "TENANT", "BYTES", "CREATED AT", "KEPT UNTIL"];
    output::print_list(form, &views, &header, row, "no archives")?;
    say_cut(is_cut, limit, form);
    Ok(Exit::Done)
}

/// Says that a list has more rows than were printed.
fn say_cut(is_cut: bool, limit: usize, form: Output) {
    if is_cut && !form.json {
        output::say(&format!("there are more than {limit}; --limit lists them"));
    }
}

async fn imports(target: &Target, flags: Imports) -> Result<Exit, Failure> {
    let Imports { archive, slug, state, limit, form } = flags;
    let mut arguments = Arguments::default();
    let slug = slug
        .map(|slug| arguments.read("--slug", &slug, Slug::parse))
        .map_or(Some(None), |slug| slug.map(Some));
    let slug = arguments.finish(slug)?.map(|slug| slug.to_string());
    let filter = ImportFilter { archive, slug, state };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let (views, is_cut) = on_control(target, Uses::ControlPlane, async |control| {
        control.list_imports(filter, limit).await
    })
    .await?;
    let row = |view: &ImportView| {
        vec![
            view.id.to_string(),
            view.archive_id.to_string(),
            view.state.clone(),
            view.slug.clone(),
            if view.dry_run { "yes" } else { "no" }.to_owned(),
            view.progress.rows.to_string(),
            output::time(view.created_at),
            view.error.as_ref().map_or_else(|| "-".to_owned(), |error| error.code.clone()),
        ]
    };
    let header = ["ID", "ARCHIVE", "STATE", "TENANT", "DRY RUN", "ROWS", "CREATED AT", "ERROR"];
    output::print_list(form, &views, &header, row, "no imports")?;
    say_cut(is_cut, limit, form);
    Ok(Exit::Done)
}

async fn fetch(target: &Target, one: One, file: Option<PathBuf>) -> Result<Exit, Failure> {
    let One { id, form } = one;
    let to_stdout = is_stdout(file.as_deref())?;
    let (view, file) = on_control(target, Uses::ControlPlane, async |control| {
        let view = control.archive(id).await?;
        if to_stdout {
            control.fetch_archive(&view, &mut open_stdout()?).await?;
            return Ok((view, None));
        }
        let file = output_file(file.as_deref(), &view);
        save(control, &view, &file).await?;
        Ok((view, Some(file)))
    })
    .await?;
    if let Some(file) = file {
        let line = || format!("wrote archive {id} to {}", file.display());
        output::print(form, &view, line)?;
    }
    Ok(Exit::Done)
}

async fn verify(target: &Target, id: Uuid, form: Output) -> Result<Exit, Failure> {
    let view =
        on_control(target, Uses::ControlPlane, async |control| control.verify_archive(id).await)
            .await?;
    let why_not = view.check.as_ref().filter(|check| check.state != "passed");
    let why_not = why_not.map(|check| check.error.clone().unwrap_or_default());
    output::print(form, &view, || match &why_not {
        None => format!("archive {id} is what was stored, and what its manifest says"),
        Some(why) => format!("archive {id} did not pass: {why}"),
    })?;
    Ok(if why_not.is_none() { Exit::Done } else { Exit::Failed })
}

impl ArchiveView {
    /// Returns the name of a file for the content.
    pub(super) fn file_name(&self) -> String {
        // The slug of an upload is what its header says.
        let is_plain =
            |slug: &&String| slug.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let slug = self.slug.as_ref().filter(is_plain);
        format!("{}.rowhouse.tar", slug.cloned().unwrap_or_else(|| self.id.to_string()))
    }

    fn text(&self) -> String {
        let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let tables = match self.progress.of {
            Some(of) => format!("{} of {of}", self.progress.tables),
            None => self.progress.tables.to_string(),
        };
        let mut rows = vec![
            ("id", self.id.to_string()),
            ("kind", self.kind.clone()),
            ("state", self.state.clone()),
            ("tenant", or_none(&self.slug)),
            ("actor", self.actor.clone()),
            ("created at", output::time(self.created_at)),
            ("kept until", self.keep_until.map_or_else(|| "-".to_owned(), output::time)),
            ("tables", tables),
            ("rows", self.progress.rows.to_string()),
            ("bytes", self.bytes.map_or_else(|| "-".to_owned(), |bytes| bytes.to_string())),
            ("sha256", or_none(&self.sha256)),
            ("manifest sha256", or_none(&self.manifest_sha256)),
        ];
        rows.extend(self.trusted.map(|trusted| ("trusted", trusted.to_string())));
        rows.extend(self.check.as_ref().map(|check| ("check", check.state.clone())));
        rows.extend(self.error.as_ref().map(|error| ("error", error.message.clone())));
        rows.extend(self.warnings.iter().map(|warning| ("warning", warning.clone())));
        output::table(None, rows.into_iter().map(|(key, value)| vec![key.to_owned(), value]))
    }
}
