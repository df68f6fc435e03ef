//! `tenant export`: the data of one tenant to a file, a pipe or the store.

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use clap::Args;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use serde::Serialize;
use uuid::Uuid;

use super::archive_file::{Partial, is_stdout, open_stdout, output_file, save};
use super::control::{ArchiveView, Named, Target, Uses, on_control};
use super::tenant::{Which, tenant_ref};
use super::{Exit, Failure, Output, output};
use crate::app::Purpose;
use crate::service::archives::{Exported, Progress};
use crate::service::tenants::TenantRef;

pub(super) const EXPORT_HELP: &str = "\
The archive is a tar file of JSON and of CSV that zstd has packed, written from one snapshot: `tar xf` and `zstd -d` open \
it without this program. It has no password, token or key.

Examples:
  rowhouse tenant export acme
  rowhouse tenant export acme --to-store
  rowhouse tenant export acme -o - | ssh backup 'cat > acme.rowhouse.tar'
  rowhouse tenant import acme.rowhouse.tar --slug acme-copy --dry-run";

/// Which tenant to export, and where to.
#[derive(Debug, Args)]
pub(super) struct Export {
    #[command(flatten)]
    which: Which,
    /// The file to write, or - for stdout; without it, SLUG.rowhouse.tar in this folder
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write to the store of the server (archives.store), from where `rowhouse archive fetch` takes it
    #[arg(long, conflicts_with = "output")]
    to_store: bool,
    /// Leave out the addresses, names and roles of the members
    #[arg(long)]
    without_members: bool,
    #[command(flatten)]
    form: Output,
}

/// An export, as programs read it.
#[derive(Debug, Serialize)]
struct ExportView {
    id: String,
    slug: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    /// The archive in the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    archive: Option<Uuid>,
    tables: usize,
    rows: u64,
    bytes: u64,
    manifest_sha256: String,
    warnings: Vec<String>,
}

/// Writes the data of a tenant.
pub(super) async fn export(target: &Target, flags: Export) -> Result<Exit, Failure> {
    let named = flags.which.read()?;
    let to_stdout = is_stdout(flags.output.as_deref())?;
    let settings = match target {
        Target::Database(settings) if !flags.to_store => settings,
        _ => return export_to_store(target, &named, &flags, to_stdout).await,
    };
    let which = match named {
        Named::Tenant(given) => tenant_ref(&given)?,
        Named::ExternalId(id) => TenantRef::ExternalId(id),
    };
    let bar = bar(flags.form);
    let (exported, file) = output::on_backend(Purpose::Operate, settings, async |backend| {
        let ctx = backend.operator();
        let archives = backend.services.archives.clone().with_members(!flags.without_members);
        let on_progress = |progress| show(&bar, progress);
        if to_stdout {
            let mut out = open_stdout()?;
            let exported = archives.export(&ctx, &which, &mut out, &on_progress).await?;
            return Ok((exported, None));
        }
        let file = if let Some(file) = &flags.output {
            file.clone()
        } else {
            let tenant = backend.services.tenants.read(&ctx, &which).await?;
            PathBuf::from(format!("{}.rowhouse.tar", tenant.slug))
        };
        let part = Partial::create(&file).await?;
        let mut out = part.open().await?;
        let exported = archives.export(&ctx, &which, &mut out, &on_progress).await?;
        part.finish(out, &file).await?;
        Ok((exported, Some(file)))
    })
    .await?;
    bar.finish_and_clear();
    ExportView::of(exported, file).print(flags.form, to_stdout)
}

/// Exports a tenant to the store, and fetches the archive from there unless it is to stay.
async fn export_to_store(
    target: &Target,
    which: &Named,
    flags: &Export,
    to_stdout: bool,
) -> Result<Exit, Failure> {
    let bar = bar(flags.form);
    let (view, file) = on_control(target, Uses::ControlPlane, async |control| {
        let on_progress = |progress| show(&bar, progress);
        let view = control.export_to_store(which, !flags.without_members, &on_progress).await?;
        if flags.to_store {
            return Ok((view, None));
        }
        if to_stdout {
            control.fetch_archive(&view, &mut open_stdout()?).await?;
            return Ok((view, None));
        }
        let file = output_file(flags.output.as_deref(), &view);
        save(control, &view, &file).await?;
        Ok((view, Some(file)))
    })
    .await?;
    bar.finish_and_clear();
    ExportView::stored(view, file).print(flags.form, to_stdout)
}

pub(super) fn bar(form: Output) -> ProgressBar {
    let is_shown = !form.json && io::stderr().is_terminal();
    let bar = if is_shown { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
        bar.set_style(style);
    }
    bar
}

pub(super) fn show(bar: &ProgressBar, progress: Progress) {
    let Progress { tables, of, rows, bytes } = progress;
    let elapsed = bar.elapsed().as_secs().max(1);
    let pace = HumanBytes(bytes / elapsed);
    bar.set_message(format!("tables {tables}/{of}  {rows} rows  {}  {pace}/s", HumanBytes(bytes)));
}

impl ExportView {
    fn of(exported: Exported, file: Option<PathBuf>) -> Self {
        Self {
            id: exported.id.to_string(),
            slug: exported.slug,
            file: file.map(|file| file.display().to_string()),
            archive: None,
            tables: exported.tables,
            rows: exported.rows,
            bytes: exported.bytes,
            manifest_sha256: exported.manifest_sha256,
            warnings: exported.warnings,
        }
    }

    fn stored(view: ArchiveView, file: Option<PathBuf>) -> Self {
        let Progress { of: tables, rows, .. } = view.progress.as_progress();
        Self {
            id: view.tenant_id.map(|id| id.to_string()).unwrap_or_default(),
            slug: view.slug.unwrap_or_default(),
            file: file.map(|file| file.display().to_string()),
            archive: Some(view.id),
            tables,
            rows,
            bytes: view.bytes.unwrap_or_default(),
            manifest_sha256: view.manifest_sha256.unwrap_or_default(),
            warnings: view.warnings,
        }
    }

    fn print(&self, form: Output, to_stdout: bool) -> Result<Exit, Failure> {
        if to_stdout {
            output::say(&self.line());
        } else {
            output::print(form, self, || self.line())?;
        }
        if !form.json {
            for warning in &self.warnings {
                output::say(&format!("warning: {warning}"));
            }
        }
        Ok(Exit::Done)
    }

    fn line(&self) -> String {
        let Self { slug, tables, rows, bytes, .. } = self;
        let file = match (&self.file, &self.archive) {
            (Some(file), _) => file.clone(),
            (None, Some(archive)) => format!("archive {archive}"),
            (None, None) => "stdout".to_owned(),
        };
        format!("wrote tenant {slug} to {file}: {rows} rows of {tables} tables in {bytes} bytes")
    }
}
