//! Statements on `public.archives`: the archives that servers keep.
//!
//! A server that writes or checks one renews a lease, by the database's clock; when the lease has ended, the server is
//! gone, and what it did counts as failed. What is deleted keeps its row for a while: by it a server knows which files it
//! may remove.

pub mod checks;

use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;

use super::background::{self, GONE, GONE_CODE, Progress, Table};
use crate::domain::error::Result;
use crate::domain::names::TenantId;
use crate::domain::page::Window;
use crate::pg::Row;
use crate::pg::error::{During, Failure};
use crate::pg::scope::PublicTx;

/// How long the row of one is kept that is deleted, failed or cancelled.
const ROW_KEPT: &str = "interval '90 days'";

/// An archive.
#[derive(Debug, Clone)]
pub struct Record {
    /// Id.
    pub id: Uuid,
    /// `export` or `upload`.
    pub kind: String,
    /// `running`, `ready`, `failed` or `cancelled`.
    pub state: String,
    /// The tenant whose data it has; unknown of an upload that has just begun.
    pub tenant: Option<TenantId>,
    /// The slug of that tenant.
    pub slug: Option<String>,
    /// The caller who asked for it.
    pub actor: String,
    /// When it was begun.
    pub created_at: OffsetDateTime,
    /// When it ended.
    pub ended_at: Option<OffsetDateTime>,
    /// When it is deleted.
    pub keep_until: Option<OffsetDateTime>,
    /// How far it is.
    pub progress: Progress,
    /// What is stored, once it is ready.
    pub content: Option<Content>,
    /// What the archive lacks, in sentences.
    pub warnings: Vec<String>,
    /// Whether a key of this installation signed it.
    pub is_trusted: Option<bool>,
    /// The last check of the stored content.
    pub check: Option<Check>,
    /// The code and the reason of a failure.
    pub error: Option<(String, String)>,
}

/// What is stored of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// The bytes.
    pub bytes: u64,
    /// The SHA-256, in hex.
    pub sha256: String,
    /// The SHA-256 of the manifest, in hex.
    pub manifest_sha256: String,
}

/// A check of the stored content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// `running`, `passed` or `failed`.
    pub state: String,
    /// When it ended.
    pub at: Option<OffsetDateTime>,
    /// Why it failed.
    pub error: Option<String>,
}

/// An archive that is begun.
pub struct NewArchive<'a> {
    /// Its id.
    pub id: Uuid,
    /// The tenant to export; none for an upload.
    pub tenant: Option<TenantId>,
    /// The caller.
    pub actor: &'a str,
    /// The id of the request.
    pub request_id: &'a str,
    /// How long its server counts as alive.
    pub lease: Duration,
    /// The time.
    pub now: OffsetDateTime,
}

/// What an archive is, once it is complete.
pub struct Ready<'a> {
    /// The tenant whose data it has.
    pub tenant: Uuid,
    /// The slug of that tenant.
    pub slug: &'a str,
    /// What was written or read.
    pub progress: Progress,
    /// What is stored.
    pub content: Content,
    /// What the archive lacks.
    pub warnings: &'a [String],
    /// Whether a key of this installation signed it.
    pub is_trusted: bool,
    /// When it is deleted.
    pub keep_until: Option<OffsetDateTime>,
}

/// Conditions on the archives to list; `None` sets no condition.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of the tenant with this id or slug.
    pub tenant: Option<String>,
    /// Of this kind.
    pub kind: Option<String>,
    /// In this state.
    pub state: Option<String>,
}

/// A check or an archive whose lease has ended counts as failed.
const COLUMNS: &str = "
    id, kind, tenant_id, slug, actor, created_at, ended_at, keep_until, table_count, tables_done, row_count, raw_bytes,
    bytes, sha256, manifest_sha256, warnings, is_trusted, checked_at,
    CASE WHEN state = 'running' AND lease_until <= now() THEN 'failed' ELSE state END AS state,
    CASE WHEN state = 'running' AND lease_until <= now() THEN $1 ELSE error_code END AS error_code,
    CASE WHEN state = 'running' AND lease_until <= now() THEN $2 ELSE error END AS error,
    CASE WHEN check_state = 'running' AND check_lease_until <= now() THEN 'failed' ELSE check_state END AS check_state,
    CASE WHEN check_state = 'running' AND check_lease_until <= now() THEN $2 ELSE check_error END AS check_error";

/// Inserts an archive that this process writes from now on; returns false if an export of the tenant is running, or the
/// tenant is gone.
pub async fn insert(tx: &PublicTx, new: &NewArchive<'_>) -> Result<bool> {
    fail_abandoned(tx, new.now).await?;
    let sql = "INSERT INTO archives (id, kind, state, tenant_id, slug, actor, request_id, lease_until, created_at)
               SELECT $1::uuid, CASE WHEN $2::uuid IS NULL THEN 'upload' ELSE 'export' END, 'running', $2, t.slug, $3::text,
                      $4::text, now() + $5 * interval '1 second', $6::timestamptz
                 FROM (SELECT) one
                 LEFT JOIN tenants t ON t.id = $2
               ON CONFLICT (tenant_id) WHERE kind = 'export' AND state = 'running' DO NOTHING";
    let lease = new.lease.as_secs_f64();
    let params: [&dyn crate::pg::Param; 6] =
        [&new.id, &new.tenant, &new.actor, &new.request_id, &lease, &new.now];
    Ok(tx.execute(sql, &params).await.during("insert an archive")? == 1)
}

/// Records that those failed whose server is gone.
pub async fn fail_abandoned(tx: &PublicTx, now: OffsetDateTime) -> Result<u64> {
    let checks = "UPDATE archives SET check_state = 'failed', check_error = $1, checked_at = $2
                   WHERE check_state = 'running' AND check_lease_until <= now()";
    tx.execute(checks, &[&GONE, &now]).await.during("fail abandoned checks")?;
    background::fail_abandoned(tx, Table::Archives, now).await
}

/// Records that a running archive is complete; returns false if it runs no longer.
pub async fn finish(
    tx: &PublicTx,
    id: Uuid,
    ready: &Ready<'_>,
    now: OffsetDateTime,
) -> Result<bool> {
    let sql = "UPDATE archives
                  SET state = 'ready', ended_at = $2, keep_until = $3, tenant_id = $4, slug = $5, table_count = $6,
                      tables_done = $7, row_count = $8, raw_bytes = $9, bytes = $10, sha256 = $11,
                      manifest_sha256 = $12, warnings = $13, is_trusted = $14
                WHERE id = $1 AND state = 'running'";
    let Progress { tables, tables_done, rows, raw_bytes } = ready.progress;
    let Content { bytes, sha256, manifest_sha256 } = &ready.content;
    let (bytes, warnings) = (whole(*bytes), ready.warnings.to_vec());
    let params: [&dyn crate::pg::Param; 14] = [
        &id,
        &now,
        &ready.keep_until,
        &ready.tenant,
        &ready.slug,
        &tables,
        &tables_done,
        &rows,
        &raw_bytes,
        &bytes,
        sha256,
        manifest_sha256,
        &warnings,
        &ready.is_trusted,
    ];
    Ok(tx.execute(sql, &params).await.during("end an archive")? == 1)
}

/// Deletes the row of an upload that was refused.
pub async fn forget(tx: &PublicTx, id: Uuid) -> Result<()> {
    let sql = "DELETE FROM archives WHERE id = $1 AND kind = 'upload' AND state = 'failed'";
    tx.execute(sql, &[&id]).await.during("delete an archive").map(drop)
}

/// Marks an archive that does not run as deleted; returns false if it runs.
pub async fn delete(tx: &PublicTx, id: Uuid, now: OffsetDateTime) -> Result<bool> {
    let sql = "UPDATE archives SET state = 'deleted', ended_at = $2, keep_until = NULL
                WHERE id = $1 AND NOT (state = 'running' AND lease_until > now())";
    Ok(tx.execute(sql, &[&id, &now]).await.during("delete an archive")? == 1)
}

/// Reads an archive. `tenants` limits the search to exports of these.
pub async fn lookup(
    tx: &PublicTx,
    id: Uuid,
    tenants: Option<&[TenantId]>,
) -> Result<Option<Record>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM archives
          WHERE id = $3 AND state <> 'deleted'
            AND ($4::uuid[] IS NULL OR (kind = 'export' AND tenant_id = ANY ($4)))"
    );
    let tenants = ids(tenants);
    let row = tx.query_opt(&sql, &[&GONE_CODE, &GONE, &id, &tenants]).await;
    Ok(row.during("read an archive")?.as_ref().map(Record::from))
}

/// Lists a page of the archives, newest first. `tenants` limits it to exports of these.
pub async fn list(
    tx: &PublicTx,
    filter: &Filter,
    tenants: Option<&[TenantId]>,
    window: &Window,
) -> Result<Vec<Record>> {
    let sql = format!(
        "SELECT * FROM (SELECT {COLUMNS} FROM archives
                         WHERE state <> 'deleted'
                           AND ($3::uuid[] IS NULL OR (kind = 'export' AND tenant_id = ANY ($3)))
                           AND ($4::text IS NULL OR tenant_id::text = $4 OR slug = $4)
                           AND ($5::text IS NULL OR kind = $5)
                           AND ($7::timestamptz IS NULL OR (created_at, id) < ($7, $8))) found
          WHERE $6::text IS NULL OR state = $6
          ORDER BY created_at DESC, id DESC
          LIMIT $9"
    );
    let tenants = ids(tenants);
    let (at, after) = window.position();
    let Filter { tenant, kind, state } = filter;
    let rows_to_read = window.rows_to_read();
    let params: [&dyn crate::pg::Param; 9] =
        [&GONE_CODE, &GONE, &tenants, tenant, kind, state, &at, &after, &rows_to_read];
    let rows = tx.query(&sql, &params).await.during("list archives")?;
    Ok(rows.iter().map(Record::from).collect())
}

/// Returns those of the tenants that are being exported to a store.
///
/// # Errors
/// [`Failure`].
pub async fn exporting(tx: &PublicTx, tenants: &[TenantId]) -> Result<Vec<TenantId>, Failure> {
    let sql = "SELECT tenant_id FROM archives
                WHERE tenant_id = ANY ($1) AND kind = 'export' AND state = 'running' AND lease_until > now()";
    let rows = tx.query(sql, &[&ids(Some(tenants))]).await?;
    Ok(rows.iter().map(|row| row.get("tenant_id")).collect())
}

/// Returns the bytes of all archives that are stored.
pub async fn stored_bytes(tx: &PublicTx) -> Result<u64> {
    let sql = "SELECT coalesce(sum(bytes), 0)::bigint AS bytes FROM archives WHERE state = 'ready'";
    let row = tx.query_one(sql, &[]).await.during("add the sizes of archives up")?;
    Ok(unsigned(row.get("bytes")))
}

/// Returns the ready archives whose time is over.
pub async fn expired(tx: &PublicTx, now: OffsetDateTime) -> Result<Vec<Record>> {
    let sql = format!("SELECT {COLUMNS} FROM archives WHERE state = 'ready' AND keep_until <= $3");
    let rows = tx.query(&sql, &[&GONE_CODE, &GONE, &now]).await;
    Ok(rows.during("look for expired archives")?.iter().map(Record::from).collect())
}

/// Returns those of the ids whose content is not needed. An id without a row is none: it may belong to another database.
pub async fn not_needed(tx: &PublicTx, ids: &[Uuid]) -> Result<Vec<Uuid>> {
    let sql = "SELECT id FROM archives WHERE id = ANY ($1) AND state IN ('failed', 'cancelled', 'deleted')";
    let rows = tx.query(sql, &[&ids.to_vec()]).await.during("look for leftovers of archives")?;
    Ok(rows.iter().map(|row| row.get("id")).collect())
}

/// Deletes the rows of archives that ended long ago and are not stored.
pub async fn prune(tx: &PublicTx, now: OffsetDateTime) -> Result<()> {
    let sql = format!(
        "DELETE FROM archives WHERE state IN ('failed', 'cancelled', 'deleted') AND ended_at <= $1 - {ROW_KEPT}"
    );
    tx.execute(&sql, &[&now]).await.during("delete old archives").map(drop)
}

fn ids(tenants: Option<&[TenantId]>) -> Option<Vec<Uuid>> {
    tenants.map(|tenants| tenants.iter().map(|tenant| tenant.uuid()).collect())
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

impl From<&Row> for Record {
    fn from(row: &Row) -> Self {
        let content = || {
            Some(Content {
                bytes: unsigned(row.get::<_, Option<i64>>("bytes")?),
                sha256: row.get::<_, Option<String>>("sha256")?,
                manifest_sha256: row.get::<_, Option<String>>("manifest_sha256")?,
            })
        };
        let check =
            |state| Check { state, at: row.get("checked_at"), error: row.get("check_error") };
        let code: Option<String> = row.get("error_code");
        Self {
            id: row.get("id"),
            kind: row.get("kind"),
            state: row.get("state"),
            tenant: row.get::<_, Option<Uuid>>("tenant_id").map(TenantId::new),
            slug: row.get("slug"),
            actor: row.get("actor"),
            created_at: row.get("created_at"),
            ended_at: row.get("ended_at"),
            keep_until: row.get("keep_until"),
            progress: Progress {
                tables: row.get("table_count"),
                tables_done: row.get("tables_done"),
                rows: row.get("row_count"),
                raw_bytes: row.get("raw_bytes"),
            },
            content: content(),
            warnings: row.get("warnings"),
            is_trusted: row.get("is_trusted"),
            check: row.get::<_, Option<String>>("check_state").map(check),
            error: code
                .map(|code| (code, row.get::<_, Option<String>>("error").unwrap_or_default())),
        }
    }
}
