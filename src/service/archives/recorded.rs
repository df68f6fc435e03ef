//! Imports that are recorded: the transaction that makes the tenant also ends the import, so that a server that dies leaves
//! both or neither.

use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::{Archives, Imported};
use crate::domain::archive::ArchiveProblem;
use crate::domain::error::Result;
use crate::domain::tenant::TenantRecord;
use crate::pg::PublicTx;
use crate::pg::control::background::Progress;
use crate::pg::control::imports;

impl Archives {
    /// Ends the import with this id when a tenant is made.
    #[must_use]
    pub(in crate::service) const fn recording(mut self, import: Uuid) -> Self {
        self.import = Some(import);
        self
    }

    /// Ends the recorded import, if there is one, in the transaction that makes its tenant.
    pub(super) async fn record(
        &self,
        tx: &PublicTx,
        imported: &Imported,
        now: time::OffsetDateTime,
    ) -> Result<()> {
        self.end(tx, imported, &report(imported, false), now).await
    }

    /// Ends the recorded import, if there is one, in the transaction that puts what was imported in place of what the first
    /// tenant had; the second one keeps that.
    pub(super) async fn record_swap(
        &self,
        tx: &PublicTx,
        imported: &Imported,
        [tenant, kept]: [&TenantRecord; 2],
        now: time::OffsetDateTime,
    ) -> Result<()> {
        let mut report = report(imported, false);
        report["id"] = json!(tenant.tenant.id);
        report["slug"] = json!(tenant.tenant.slug);
        report["kept"] = json!({
            "id": kept.tenant.id,
            "slug": kept.tenant.slug,
            "status": kept.tenant.status.as_str(),
            "expires_at": kept.expires_at.and_then(|at| at.format(&Rfc3339).ok()),
        });
        self.end(tx, imported, &report, now).await
    }

    async fn end(
        &self,
        tx: &PublicTx,
        imported: &Imported,
        report: &Value,
        now: time::OffsetDateTime,
    ) -> Result<()> {
        let Some(import) = self.import else { return Ok(()) };
        if imports::finish(tx, import, progress(imported), report, now).await? {
            return Ok(());
        }
        Err(ArchiveProblem::NotReady("cancelled".to_owned()).into())
    }
}

/// How far an import is that is done.
pub(in crate::service) fn progress(imported: &Imported) -> Progress {
    let whole = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let tables = i64::try_from(imported.tables).unwrap_or(i64::MAX);
    let (rows, raw_bytes) = (whole(imported.rows), whole(imported.raw));
    Progress { tables: Some(tables), tables_done: tables, rows, raw_bytes }
}

/// What was imported, as it is stored. A dry run makes no tenant that lasts.
pub(in crate::service) fn report(imported: &Imported, is_dry_run: bool) -> Value {
    json!({
        "id": (!is_dry_run).then_some(imported.id),
        "slug": imported.slug,
        "tables": imported.tables,
        "rows": imported.rows,
        "version": imported.version,
        "migrated": imported.migrated,
        "members": imported.members,
        "created": imported.created,
        "skipped": imported.skipped,
        "warnings": imported.warnings,
        "manifest_sha256": imported.manifest_sha256,
    })
}
