//! Statements on `public.imports`: imports of stored archives that a server runs in the background. Names are qualified: the
//! transaction of an import ends one.
//!
//! A server that runs one renews a lease, by the database's clock; when the lease has ended, the server is gone, and the
//! import has failed and left nothing: its transaction has made the tenant and ended the import, or neither.

use std::time::Duration;

use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use super::background::{self, GONE, GONE_CODE, Progress, Table};
use crate::domain::error::Result;
use crate::domain::page::Window;
use crate::pg::Row;
use crate::pg::error::During;
use crate::pg::scope::PublicTx;

/// An import.
#[derive(Debug, Clone)]
pub struct Record {
    /// Id.
    pub id: Uuid,
    /// The archive.
    pub archive: Uuid,
    /// `running`, `done`, `failed` or `cancelled`.
    pub state: String,
    /// The slug of the tenant.
    pub slug: String,
    /// Whether everything is rolled back at the end.
    pub is_dry_run: bool,
    /// The caller who asked for it.
    pub actor: String,
    /// When it was begun.
    pub created_at: OffsetDateTime,
    /// When it ended.
    pub ended_at: Option<OffsetDateTime>,
    /// How far it is.
    pub progress: Progress,
    /// What was imported, or would be.
    pub report: Option<Value>,
    /// The code and the reason of a failure.
    pub error: Option<(String, String)>,
}

/// An import that is begun.
pub struct NewImport<'a> {
    /// Its id.
    pub id: Uuid,
    /// The archive.
    pub archive: Uuid,
    /// The slug of the tenant.
    pub slug: &'a str,
    /// Whether everything is rolled back at the end.
    pub is_dry_run: bool,
    /// The caller.
    pub actor: &'a str,
    /// The id of the request.
    pub request_id: &'a str,
    /// How long its server counts as alive.
    pub lease: Duration,
    /// The time.
    pub now: OffsetDateTime,
}

/// Conditions on the imports to list; `None` sets no condition.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of this archive.
    pub archive: Option<Uuid>,
    /// Of tenants with this slug.
    pub slug: Option<String>,
    /// In this state.
    pub state: Option<String>,
}

/// An import whose lease has ended counts as failed.
const COLUMNS: &str = "
    id, archive_id, slug, dry_run, actor, created_at, ended_at, table_count, tables_done, row_count, raw_bytes, report,
    CASE WHEN state = 'running' AND lease_until <= now() THEN 'failed' ELSE state END AS state,
    CASE WHEN state = 'running' AND lease_until <= now() THEN $1 ELSE error_code END AS error_code,
    CASE WHEN state = 'running' AND lease_until <= now() THEN $2 ELSE error END AS error";

/// Inserts an import that this process runs from now on.
pub async fn insert(tx: &PublicTx, new: &NewImport<'_>) -> Result<()> {
    let sql = "INSERT INTO public.imports
                   (id, archive_id, state, slug, dry_run, actor, request_id, lease_until, created_at)
               VALUES ($1, $2, 'running', $3, $4, $5, $6, now() + $7 * interval '1 second', $8)";
    let lease = new.lease.as_secs_f64();
    let params: [&dyn crate::pg::Param; 8] = [
        &new.id,
        &new.archive,
        &new.slug,
        &new.is_dry_run,
        &new.actor,
        &new.request_id,
        &lease,
        &new.now,
    ];
    tx.execute(sql, &params).await.during("insert an import").map(drop)
}

/// Records that those failed whose server is gone, and deletes the rows of old ones.
pub async fn sweep(tx: &PublicTx, now: OffsetDateTime) -> Result<()> {
    background::fail_abandoned(tx, Table::Imports, now).await?;
    let sql = "DELETE FROM public.imports WHERE state <> 'running' AND ended_at <= $1 - interval '90 days'";
    tx.execute(sql, &[&now]).await.during("sweep imports").map(drop)
}

/// Records that a running import is done; returns false if it runs no longer.
pub async fn finish(
    tx: &PublicTx,
    id: Uuid,
    progress: Progress,
    report: &Value,
    now: OffsetDateTime,
) -> Result<bool> {
    let sql = "UPDATE public.imports
                  SET state = 'done', ended_at = $2, report = $3, table_count = $4, tables_done = $5, row_count = $6,
                      raw_bytes = $7
                WHERE id = $1 AND state = 'running'";
    let Progress { tables, tables_done, rows, raw_bytes } = progress;
    let params: [&dyn crate::pg::Param; 7] =
        [&id, &now, report, &tables, &tables_done, &rows, &raw_bytes];
    Ok(tx.execute(sql, &params).await.during("end an import")? == 1)
}

/// Reads an import.
pub async fn lookup(tx: &PublicTx, id: Uuid) -> Result<Option<Record>> {
    let sql = format!("SELECT {COLUMNS} FROM public.imports WHERE id = $3");
    let row = tx.query_opt(&sql, &[&GONE_CODE, &GONE, &id]).await.during("read an import")?;
    Ok(row.as_ref().map(Record::from))
}

/// Lists a page of the imports, newest first.
pub async fn list(tx: &PublicTx, filter: &Filter, window: &Window) -> Result<Vec<Record>> {
    let sql = format!(
        "SELECT * FROM (SELECT {COLUMNS} FROM public.imports
                         WHERE ($3::uuid IS NULL OR archive_id = $3)
                           AND ($4::text IS NULL OR slug = $4)
                           AND ($6::timestamptz IS NULL OR (created_at, id) < ($6, $7))) found
          WHERE $5::text IS NULL OR state = $5
          ORDER BY created_at DESC, id DESC
          LIMIT $8"
    );
    let (at, after) = window.position();
    let Filter { archive, slug, state } = filter;
    let rows_to_read = window.rows_to_read();
    let params: [&dyn crate::pg::Param; 8] =
        [&GONE_CODE, &GONE, archive, slug, state, &at, &after, &rows_to_read];
    let rows = tx.query(&sql, &params).await.during("list imports")?;
    Ok(rows.iter().map(Record::from).collect())
}

impl From<&Row> for Record {
    fn from(row: &Row) -> Self {
        let code: Option<String> = row.get("error_code");
        Self {
            id: row.get("id"),
            archive: row.get("archive_id"),
            state: row.get("state"),
            slug: row.get("slug"),
            is_dry_run: row.get("dry_run"),
            actor: row.get("actor"),
            created_at: row.get("created_at"),
            ended_at: row.get("ended_at"),
            progress: Progress {
                tables: row.get("table_count"),
                tables_done: row.get("tables_done"),
                rows: row.get("row_count"),
                raw_bytes: row.get("raw_bytes"),
            },
            report: row.get("report"),
            error: code
                .map(|code| (code, row.get::<_, Option<String>>("error").unwrap_or_default())),
        }
    }
}
