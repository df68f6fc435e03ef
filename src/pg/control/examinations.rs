//! Statements on `public.examinations` and `public.examination_findings`: examinations that a server runs for a caller,
//! with what they found.
//!
//! One runs at a time. A server that runs one renews a lease, by the database's clock; when the lease has ended, the
//! server is gone, and the examination counts as failed.

use std::time::Duration;

use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use super::background::GONE;
use crate::domain::error::Result;
use crate::domain::names::TenantId;
use crate::domain::page::Window;
use crate::pg::Row;
use crate::pg::error::During;
use crate::pg::scope::PublicTx;

/// How many are kept.
const KEPT: i64 = 100;

/// An examination.
#[derive(Debug, Clone)]
pub struct Record {
    /// Id.
    pub id: Uuid,
    /// `running`, `done` or `failed`.
    pub state: String,
    /// The caller who started it.
    pub actor: String,
    /// The request.
    pub options: Value,
    /// When it was started.
    pub created_at: OffsetDateTime,
    /// When it ended.
    pub ended_at: Option<OffsetDateTime>,
    /// What it counted, once it is done.
    pub counts: Option<Counts>,
    /// Why it failed.
    pub error: Option<String>,
}

/// What an examination counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Tenants that were examined.
    pub tenants: i64,
    /// Vacancies that were examined.
    pub vacancies: i64,
    /// Findings of gravity *wrong* that are not repaired.
    pub wrong: i64,
    /// Warnings that are not repaired.
    pub warnings: i64,
    /// Findings that were repaired.
    pub repaired: i64,
}

/// A finding of an examination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFinding {
    /// Its place in the report, from 0.
    pub number: i64,
    /// Its area.
    pub area: String,
    /// `wrong` or `warning`.
    pub gravity: String,
    /// The tenant or vacancy that it is about.
    pub tenant: Option<TenantId>,
    /// The tenant's slug.
    pub slug: Option<String>,
    /// What is wrong.
    pub what: String,
    /// The definition that was found.
    pub actual: Option<String>,
    /// The definition that should be there.
    pub expected: Option<String>,
    /// What to do next.
    pub next: String,
    /// Whether a repair would repair it.
    pub is_repairable: bool,
    /// `open`, `repaired` or `failed`.
    pub outcome: String,
    /// Why the repair failed.
    pub reason: Option<String>,
}

/// Conditions on the findings to list; `None` sets no condition.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of this area.
    pub area: Option<String>,
    /// Of this gravity.
    pub gravity: Option<String>,
    /// About this tenant.
    pub tenant: Option<TenantId>,
}

/// An examination whose lease has ended counts as failed.
const COLUMNS: &str = "
    id, CASE WHEN state = 'running' AND lease_until <= now() THEN 'failed' ELSE state END AS state, actor, options,
    created_at, ended_at, tenant_count, vacancy_count, wrong_count, warning_count, repaired_count,
    CASE WHEN state = 'running' AND lease_until <= now() THEN $1 ELSE error END AS error";

/// Inserts an examination that this process runs from now on, and deletes the oldest ones; returns false if another one
/// is running.
pub async fn insert(
    tx: &PublicTx,
    id: Uuid,
    actor: &str,
    options: &Value,
    lease: Duration,
    now: OffsetDateTime,
) -> Result<bool> {
    let during = "insert an examination";
    tx.execute(
        "UPDATE examinations SET state = 'failed', error = $1, ended_at = $2
          WHERE state = 'running' AND lease_until <= now()",
        &[&GONE, &now],
    )
    .await
    .during(during)?;
    let inserted = tx
        .execute(
            "INSERT INTO examinations (id, state, actor, options, lease_until, created_at)
             VALUES ($1, 'running', $2, $3, now() + $4 * interval '1 second', $5)
             ON CONFLICT (state) WHERE state = 'running' DO NOTHING",
            &[&id, &actor, options, &lease.as_secs_f64(), &now],
        )
        .await
        .during(during)?;
    tx.execute(
        "DELETE FROM examinations WHERE state <> 'running' AND id IN (
             SELECT id FROM examinations ORDER BY created_at DESC, id DESC OFFSET $1)",
        &[&KEPT],
    )
    .await
    .during(during)?;
    Ok(inserted == 1)
}

/// Renews the lease of a running examination.
pub async fn renew(tx: PublicTx, id: Uuid, lease: Duration) -> Result<()> {
    tx.query_and_commit(
        "UPDATE examinations SET lease_until = now() + $2 * interval '1 second'
          WHERE id = $1 AND state = 'running' RETURNING id",
        &[&id, &lease.as_secs_f64()],
    )
    .await
    .map(drop)
    .during("renew the lease of an examination")
}

/// Records that a running examination failed.
pub async fn fail(tx: &PublicTx, id: Uuid, error: &str, now: OffsetDateTime) -> Result<()> {
    tx.execute(
        "UPDATE examinations SET state = 'failed', error = $2, ended_at = $3
          WHERE id = $1 AND state = 'running'",
        &[&id, &error, &now],
    )
    .await
    .map(drop)
    .during("end an examination")
}

/// Records what a running examination found. The findings are an array of objects with the columns' names.
pub async fn finish(
    tx: &PublicTx,
    id: Uuid,
    counts: &Counts,
    findings: &Value,
    now: OffsetDateTime,
) -> Result<()> {
    let during = "end an examination";
    let ended = tx
        .execute(
            "UPDATE examinations
                SET state = 'done', ended_at = $2, tenant_count = $3, vacancy_count = $4, wrong_count = $5,
                    warning_count = $6, repaired_count = $7
              WHERE id = $1 AND state = 'running'",
            &[
                &id,
                &now,
                &counts.tenants,
                &counts.vacancies,
                &counts.wrong,
                &counts.warnings,
                &counts.repaired,
            ],
        )
        .await
        .during(during)?;
    if ended == 0 {
        return Ok(());
    }
    tx.execute(
        "INSERT INTO examination_findings
             (examination_id, number, area, gravity, tenant_id, slug, what, actual, expected, next, repairable,
              outcome, reason)
         SELECT $1, number, area, gravity, tenant_id, slug, what, actual, expected, next, repairable, outcome, reason
           FROM jsonb_to_recordset($2) AS f (number bigint, area text, gravity text, tenant_id uuid, slug text,
                what text, actual text, expected text, next text, repairable boolean, outcome text, reason text)",
        &[&id, findings],
    )
    .await
    .map(drop)
    .during(during)
}

/// Reads an examination.
pub async fn lookup(tx: &PublicTx, id: Uuid) -> Result<Option<Record>> {
    let sql = format!("SELECT {COLUMNS} FROM examinations WHERE id = $2");
    let row = tx.query_opt(&sql, &[&GONE, &id]).await.during("read an examination")?;
    Ok(row.as_ref().map(Record::from))
}

/// Reads the newest examination that is done and had no tenants named.
pub async fn find_last(tx: &PublicTx) -> Result<Option<Record>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM examinations
          WHERE state = 'done' AND options->'tenants' = '[]'
          ORDER BY created_at DESC, id DESC LIMIT 1"
    );
    let row = tx.query_opt(&sql, &[&GONE]).await.during("read the last examination")?;
    Ok(row.as_ref().map(Record::from))
}

/// Lists a page of the examinations, newest first.
pub async fn list(tx: &PublicTx, window: &Window) -> Result<Vec<Record>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM examinations
          WHERE $2::timestamptz IS NULL OR (created_at, id) < ($2, $3)
          ORDER BY created_at DESC, id DESC
          LIMIT $4"
    );
    let (at, after) = window.position();
    let rows = tx.query(&sql, &[&GONE, &at, &after, &window.rows_to_read()]).await;
    Ok(rows.during("list examinations")?.iter().map(Record::from).collect())
}

/// Lists findings of an examination in the order of its report, from after a number.
pub async fn findings(
    tx: &PublicTx,
    id: Uuid,
    filter: &Filter,
    after: Option<i64>,
    limit: i64,
) -> Result<Vec<StoredFinding>> {
    let rows = tx
        .query(
            "SELECT number, area, gravity, tenant_id, slug, what, actual, expected, next, repairable, outcome, reason
               FROM examination_findings
              WHERE examination_id = $1
                AND number > coalesce($2, -1)
                AND ($3::text IS NULL OR area = $3)
                AND ($4::text IS NULL OR gravity = $4)
                AND ($6::uuid IS NULL OR tenant_id = $6)
              ORDER BY number
              LIMIT $5",
            &[&id, &after, &filter.area, &filter.gravity, &limit, &filter.tenant],
        )
        .await
        .during("list findings")?;
    Ok(rows.iter().map(StoredFinding::from).collect())
}

impl From<&Row> for Record {
    fn from(row: &Row) -> Self {
        let counts = || {
            Some(Counts {
                tenants: row.get::<_, Option<i64>>("tenant_count")?,
                vacancies: row.get::<_, Option<i64>>("vacancy_count")?,
                wrong: row.get::<_, Option<i64>>("wrong_count")?,
                warnings: row.get::<_, Option<i64>>("warning_count")?,
                repaired: row.get::<_, Option<i64>>("repaired_count")?,
            })
        };
        Self {
            id: row.get("id"),
            state: row.get("state"),
            actor: row.get("actor"),
            options: row.get("options"),
            created_at: row.get("created_at"),
            ended_at: row.get("ended_at"),
            counts: counts(),
            error: row.get("error"),
        }
    }
}

impl From<&Row> for StoredFinding {
    fn from(row: &Row) -> Self {
        Self {
            number: row.get("number"),
            area: row.get("area"),
            gravity: row.get("gravity"),
            tenant: row.get("tenant_id"),
            slug: row.get("slug"),
            what: row.get("what"),
            actual: row.get("actual"),
            expected: row.get("expected"),
            next: row.get("next"),
            is_repairable: row.get("repairable"),
            outcome: row.get("outcome"),
            reason: row.get("reason"),
        }
    }
}
