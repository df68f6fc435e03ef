//! Writes an archive.

use serde_json::json;
use sha2::{Digest, Sha256};
use time::format_description::well_known::Rfc3339;
use tokio::io::AsyncWrite;

use super::pack::Packer;
use super::writer::{WRITE, Writer};
use super::{Archives, OnProgress, Progress};
use crate::auth::CallContext;
use crate::auth::context::Reach;
use crate::domain::AuditAction;
use crate::domain::archive::{
    ArchiveProblem, Column, FORMAT, Header, Manifest, MemberKind, MigrationFile, PRODUCT, Rows,
    Table,
};
use crate::domain::error::{Conflict, Error, Noun, Result};
use crate::domain::names::TenantId;
use crate::migrations::Applied;
use crate::pg::During;
use crate::pg::portability::control;
use crate::pg::portability::snapshot::{self, Facts, Snapshot};
use crate::pg::portability::tables;
use crate::service::audit::note;
use crate::service::tenants::{TenantRef, locate_id};

const READ: &str = "read the tenant for an archive";

/// What an archive without members says.
const NO_MEMBERS: &str = "the members of the tenant are not in the archive";

/// An archive that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// The tenant.
    pub id: TenantId,
    /// Its slug.
    pub slug: String,
    /// The tables.
    pub tables: usize,
    /// The rows.
    pub rows: u64,
    /// The bytes of CSV.
    pub raw: u64,
    /// The bytes of the archive.
    pub bytes: u64,
    /// The SHA-256 of the manifest, in hex.
    pub manifest_sha256: String,
    /// What the archive lacks, in sentences.
    pub warnings: Vec<String>,
}

impl Archives {
    pub(super) async fn write_archive(
        &self,
        ctx: &CallContext,
        reach: &Reach,
        which: &TenantRef,
        out: &mut (dyn AsyncWrite + Unpin + Send),
        on_progress: OnProgress<'_>,
    ) -> Result<Exported> {
        let tx = self.db.public().await.during(READ)?;
        let id = locate_id(&tx, reach, which).await?;
        drop(tx); // it only read
        let snapshot = snapshot::begin(&self.db, id).await.during("begin a snapshot")?;
        let mut header = read_header(&snapshot, id).await?;
        let members = if self.has_members {
            control::members(snapshot.tx(), id).await?
        } else {
            header.warnings.push(NO_MEMBERS.to_owned());
            Vec::new()
        };
        let mut writer = Writer::new(out, made_at(&header));
        writer.level = self.level;
        let tables = &header.tables;
        writer.file(&MemberKind::Header.name(tables), &to_json(&header)?).await?;
        writer.file(&MemberKind::Members.name(tables), &to_json(&members)?).await?;
        let (packed, audit) = pack_all(&snapshot, tables, &mut writer, on_progress).await?;
        let manifest = Manifest {
            format: FORMAT,
            rows: packed.iter().map(|table| table.rows).sum(),
            bytes: packed.iter().map(|table| table.bytes).sum(),
            tables: packed,
            audit,
            sequences: snapshot.sequences().await.during("read sequences")?,
            sha256: writer.digest(),
        };
        // The snapshot ends before the rest is written.
        drop(snapshot);
        let text = to_json(&manifest)?;
        let jws = self.signing_keys.sign_archive(&text, ctx.now).await?;
        writer.file(&MemberKind::Manifest.name(tables), &text).await?;
        writer.file(&MemberKind::Signature.name(tables), jws.as_bytes()).await?;
        let exported = Exported {
            id,
            slug: header.tenant.slug.clone(),
            tables: tables.len(),
            rows: manifest.rows,
            raw: manifest.bytes,
            bytes: writer.finish().await?,
            manifest_sha256: hex::encode(Sha256::digest(&text)),
            warnings: header.warnings,
        };
        self.note_export(ctx, &exported).await?;
        Ok(exported)
    }

    async fn note_export(&self, ctx: &CallContext, exported: &Exported) -> Result<()> {
        let details = json!({
            "slug": exported.slug,
            "rows": exported.rows,
            "bytes": exported.bytes,
            "manifest_sha256": exported.manifest_sha256,
        });
        let tx = self.db.public().await.during("record an export")?;
        note(&tx, ctx, AuditAction::TenantExport, Some(exported.id), details).await?;
        tx.commit().await.during("record an export")
    }
}

/// Packs the rows of all tables, and the audit events.
async fn pack_all(
    snapshot: &Snapshot,
    tables: &[Table],
    writer: &mut Writer<'_>,
    on_progress: OnProgress<'_>,
) -> Result<(Vec<Rows>, Rows)> {
    let mut progress = Progress { of: tables.len(), ..Progress::default() };
    let mut done = Vec::with_capacity(tables.len());
    for (at, table) in snapshot.tables.iter().enumerate() {
        let which = (at, table_part as fn(usize, usize) -> MemberKind);
        let mut packer =
            Packer::new(writer, tables, which, &table.name, &mut progress, on_progress)?;
        snapshot.copy_out(table, &mut packer).await.during("read a table for an archive")??;
        done.push(packer.finish().await?);
        progress.tables += 1;
        on_progress(progress);
    }
    let mut beside = Progress::default();
    let which = (0, audit_part as fn(usize, usize) -> MemberKind);
    let mut packer = Packer::new(writer, tables, which, AUDIT, &mut beside, &|_| ())?;
    snapshot.copy_audit(&mut packer).await.during("read the audit events for an archive")??;
    Ok((done, packer.finish().await?))
}

/// The name of the audit events in the manifest.
pub(super) const AUDIT: &str = "audit";

pub(super) const fn table_part(table: usize, part: usize) -> MemberKind {
    MemberKind::Rows { table, part }
}

pub(super) const fn audit_part(_table: usize, part: usize) -> MemberKind {
    MemberKind::Audit { part }
}

async fn read_header(snapshot: &Snapshot, id: TenantId) -> Result<Header> {
    let facts = snapshot.facts().await.during(READ)?;
    if facts.encoding != "UTF8" {
        return Err(ArchiveProblem::Encoding(facts.encoding).into());
    }
    let tenant = control::tenant(snapshot.tx(), id).await?.ok_or(Error::NotFound(Noun::Tenant))?;
    let history = snapshot.history().await.during(READ)?;
    if history.is_empty() && snapshot.tables.is_empty() {
        // Its schema is gone, or a purge has dropped most of it.
        return Err(Error::Conflict(Conflict::PurgeStarted));
    }
    let file = |applied: Applied| {
        let Applied { version, name, checksum } = applied;
        MigrationFile { version, name, checksum }
    };
    Ok(Header {
        format: FORMAT,
        product: PRODUCT.to_owned(),
        program: env!("CARGO_PKG_VERSION").to_owned(),
        made_at: facts.at.format(&Rfc3339).unwrap_or_default(),
        warnings: warnings(&facts),
        server_version: facts.server_version,
        tenant,
        migrations: history.into_iter().map(file).collect(),
        extensions: facts.extensions,
        tables: snapshot.tables.iter().map(table_entry).collect(),
    })
}

/// Returns what an archive says of a table.
pub(super) fn table_entry(table: &tables::Table) -> Table {
    let column =
        |column: &tables::Column| Column { name: column.name.clone(), kind: column.kind.clone() };
    Table {
        name: table.name.clone(),
        estimate: table.estimate,
        columns: table.columns.iter().map(column).collect(),
    }
}

fn warnings(facts: &Facts) -> Vec<String> {
    let objects = facts.large_objects.iter().map(|column| {
        format!("{column} may point at large objects, which the archive does not have")
    });
    let foreign = facts
        .foreign_tables
        .iter()
        .map(|table| format!("the rows of the foreign table {table} are not in the archive"));
    objects.chain(foreign).collect()
}

/// The time of the files in the archive.
fn made_at(header: &Header) -> u64 {
    let at = time::OffsetDateTime::parse(&header.made_at, &Rfc3339);
    at.ok().and_then(|at| u64::try_from(at.unix_timestamp()).ok()).unwrap_or_default()
}

fn to_json(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|e| Error::internal(WRITE, e))?;
    text.push(b'\n');
    Ok(text)
}
