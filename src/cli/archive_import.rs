//! `tenant import` of an archive: makes a tenant of it, or puts it in place of what a tenant has.

use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use indicatif::HumanBytes;
use serde::{Deserialize, Serialize};
use strum::VariantNames;
use time::OffsetDateTime;
use uuid::Uuid;

use super::archive::{bar, show};
use super::control::{Target, Uses, on_control, open};
use super::failure::Arguments;
use super::tenant::tenant_ref;
use super::{Exit, Failure, Output, files, output};
use crate::cli::Program;
use crate::domain::names::{ExternalId, Slug, TenantName};
use crate::service::archives::{
    ImportCommand, ImportInto, ImportTenant, Imported, ImportedInto, MemberPolicy, NewId,
};

/// The most bytes of a key set.
const KEY_SET_MAX: usize = 1 << 20;

/// How a tenant is made of an archive.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command")]
pub(super) struct ImportFlags {
    /// The file is an archive of `tenant export`: make one tenant of it, with this slug
    #[arg(long, group = "made", conflicts_with_all = ["resume", "restore"])]
    slug: Option<String>,
    /// The file is an archive of `tenant export`: put it in place of what this tenant has, which is kept as a suspended
    /// tenant for the grace period
    #[arg(long, group = "made", value_name = "TENANT", conflicts_with_all = ["resume", "restore"])]
    into: Option<String>,
    /// Archive: the display name of the tenant; without it, that of the archive's tenant
    #[arg(long, requires = "slug", conflicts_with = "into")]
    name: Option<String>,
    /// Archive: the id of the tenant in your own system
    #[arg(long, value_name = "ID", requires = "slug", conflicts_with = "into")]
    external_id: Option<String>,
    /// Say what would be done, and change nothing; of an archive, do all of it and roll it back
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Archive: keep the id and the external id of its tenant
    #[arg(long, requires = "slug", conflicts_with = "into")]
    same_id: bool,
    /// Archive: make accounts with the same addresses members (match), create missing ones without a password (create),
    /// or neither (none)
    #[arg(long, value_name = "HOW", requires = "slug", conflicts_with = "into", default_value = "match",
          value_parser = PossibleValuesParser::new(MemberPolicy::VARIANTS).try_map(|word| word.parse::<MemberPolicy>()))]
    members: MemberPolicy,
    /// Archive: do not store this table, which no migration makes; repeat it for more than one
    #[arg(long, value_name = "TABLE", requires = "made")]
    leave_out: Vec<String>,
    /// Archive: trust the keys in this file, as another installation publishes them at /.well-known/jwks.json
    #[arg(long, value_name = "JWKS", requires = "made")]
    trust: Option<PathBuf>,
    /// Archive through a server: keep what was sent in the server's store, which deletes it otherwise
    #[arg(long, requires = "made")]
    keep_upload: bool,
    /// Archive: make the tenant suspended
    #[arg(long, requires = "slug", conflicts_with = "into")]
    suspended: bool,
}

/// An import, as programs read it.
#[derive(Debug, Serialize, Deserialize)]
struct ImportView {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    slug: String,
    tables: usize,
    rows: u64,
    version: i32,
    /// The files that were applied to the imported rows.
    migrated: Vec<String>,
    members: usize,
    created: usize,
    /// Members without an account here.
    skipped: Vec<String>,
    warnings: Vec<String>,
    manifest_sha256: String,
    /// The tenant that keeps what was there before.
    #[serde(skip_serializing_if = "Option::is_none")]
    kept: Option<KeptView>,
    dry_run: bool,
}

/// A tenant that keeps what another one had.
#[derive(Debug, Serialize, Deserialize)]
struct KeptView {
    id: Uuid,
    slug: String,
    status: String,
    #[serde(with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
}

impl ImportFlags {
    /// Whether the file is an archive.
    pub(super) const fn is_archive(&self) -> bool {
        self.slug.is_some() || self.into.is_some()
    }
}

/// Makes a tenant of an archive in the store, or puts it in place of what a tenant has.
pub(super) async fn import_stored(
    target: &Target,
    archive: Uuid,
    flags: ImportFlags,
    form: Output,
) -> Result<Exit, Failure> {
    let command = read_command(&flags)?;
    let bar = bar(form);
    let report = on_control(target, Uses::NewTenants, async |control| {
        control.import_archive(archive, &command, &|progress| show(&bar, progress)).await
    })
    .await?;
    bar.finish_and_clear();
    ImportView::of_report(report, flags.dry_run)?.print(form)
}

/// Sends an archive to a server, makes a tenant of it or puts it in place of what a tenant has, and deletes what was sent.
pub(super) async fn import_through_server(
    target: &Target,
    file: &Path,
    flags: ImportFlags,
    form: Output,
) -> Result<Exit, Failure> {
    let command = read_command(&flags)?;
    let bar = bar(form);
    let (report, upload) = on_control(target, Uses::NewTenants, async |control| {
        let sending = bar.clone();
        let on_bytes = move |bytes| sending.set_message(format!("sent {}", HumanBytes(bytes)));
        let upload = control.upload_archive(file, on_bytes).await?;
        let upload = upload.ok_or_else(|| Failure::Other("no server was named".to_owned()))?.id;
        let on_progress = |progress| show(&bar, progress);
        let imported = control.import_archive(upload, &command, &on_progress).await;
        if !flags.keep_upload
            && let Err(failure) = control.delete_archive(upload).await
        {
            output::say(&format!("archive {upload} stays in the store of the server: {failure}"));
        }
        Ok((imported?, upload))
    })
    .await?;
    bar.finish_and_clear();
    if flags.keep_upload && !form.json {
        output::say(&format!("archive {upload} stays in the store of the server"));
    }
    ImportView::of_report(report, flags.dry_run)?.print(form)
}

/// Makes a tenant of an archive, or puts it in place of what a tenant has, on a database.
pub(super) async fn import(
    settings: &Program,
    file: &Path,
    flags: ImportFlags,
    form: Output,
) -> Result<Exit, Failure> {
    if flags.keep_upload {
        return Err(Failure::usage("--keep-upload goes with --server"));
    }
    let command = read_command(&flags)?;
    let bar = bar(form);
    let view = output::on_isolated_backend(settings, async |backend| {
        let ctx = backend.operator();
        let (mut input, _size) = open(file).await?;
        let (archives, on_progress) = (&backend.services.archives, |progress| show(&bar, progress));
        Ok(match &command {
            ImportCommand::Tenant(import) => {
                let imported = archives.import(&ctx, import, &mut *input, &on_progress).await?;
                ImportView::of(imported, flags.dry_run)
            }
            ImportCommand::Into(into) => {
                let made = archives.import_into(&ctx, into, &mut *input, &on_progress).await?;
                ImportView::replaced(made)
            }
        })
    })
    .await?;
    bar.finish_and_clear();
    view.print(form)
}

fn read_command(flags: &ImportFlags) -> Result<ImportCommand, Failure> {
    let trust = flags.trust.as_deref();
    let trust = trust.map(|file| files::read_text("--trust", file, KEY_SET_MAX)).transpose()?;
    let (leave_out, dry_run) = (flags.leave_out.clone(), flags.dry_run);
    if let Some(into) = &flags.into {
        let tenant = tenant_ref(into)?;
        return Ok(ImportCommand::Into(ImportInto { tenant, leave_out, trust, dry_run }));
    }
    let mut arguments = Arguments::default();
    let slug = flags.slug.as_deref().unwrap_or_default();
    let slug = arguments.read("--slug", slug, Slug::parse);
    let name = flags.name.as_deref();
    let name = name.map(|name| arguments.read("--name", name, TenantName::parse));
    let external_id = flags.external_id.as_deref();
    let external_id = external_id.map(|id| arguments.read("--external-id", id, ExternalId::parse));
    Ok(ImportCommand::Tenant(ImportTenant {
        slug: arguments.finish(slug)?,
        name: name.flatten(),
        external_id: external_id.flatten(),
        id: if flags.same_id { NewId::Same } else { NewId::New },
        members: flags.members,
        suspended: flags.suspended,
        leave_out,
        trust,
        dry_run,
    }))
}

impl ImportView {
    fn of(imported: Imported, dry_run: bool) -> Self {
        Self {
            // A dry run makes none that lasts.
            id: (!dry_run).then(|| imported.id.to_string()),
            slug: imported.slug.to_string(),
            tables: imported.tables,
            rows: imported.rows,
            version: imported.version,
            migrated: imported.migrated,
            members: imported.members,
            created: imported.created,
            skipped: imported.skipped,
            warnings: imported.warnings,
            manifest_sha256: imported.manifest_sha256,
            kept: None,
            dry_run,
        }
    }

    /// Reads the report of an import of a stored archive.
    fn of_report(mut report: serde_json::Value, dry_run: bool) -> Result<Self, Failure> {
        report["dry_run"] = dry_run.into();
        serde_json::from_value(report)
            .map_err(|error| Failure::Other(format!("the report cannot be read: {error}")))
    }

    fn replaced(made: ImportedInto) -> Self {
        let view = Self::of(made.imported, made.swapped.is_none());
        let kept = made.swapped.as_ref().map(|swapped| KeptView {
            id: swapped.with.tenant.id.uuid(),
            slug: swapped.with.tenant.slug.to_string(),
            status: swapped.with.tenant.status.as_str().to_owned(),
            expires_at: swapped.with.expires_at,
        });
        let id = made.swapped.map(|swapped| swapped.tenant.tenant.id.to_string());
        Self { id, slug: made.slug.to_string(), kept, ..view }
    }

    fn print(&self, form: Output) -> Result<Exit, Failure> {
        output::print(form, self, || self.line())?;
        if !form.json {
            for address in &self.skipped {
                let line = format!("no account here has the proven address {address}; invite it");
                output::say(&line);
            }
            for warning in &self.warnings {
                output::say(&format!("warning: {warning}"));
            }
        }
        Ok(Exit::Done)
    }

    fn line(&self) -> String {
        let Self { slug, rows, tables, version, members, .. } = self;
        let migrated = match self.migrated.as_slice() {
            [] => String::new(),
            files => format!(", after {}", files.join(", ")),
        };
        let what = format!(
            "{rows} rows of {tables} tables, version {version}{migrated}, {members} members"
        );
        if let Some(kept) = &self.kept {
            let until = kept.expires_at.map(output::time).unwrap_or_default();
            let kept = &kept.slug;
            return format!(
                "tenant {slug} has what was imported: {what}; what it had is in {kept} until {until}"
            );
        }
        match &self.id {
            Some(id) => format!("imported tenant {slug} ({id}): {what}"),
            None => format!("tenant {slug} would be imported: {what}; nothing was changed"),
        }
    }
}
