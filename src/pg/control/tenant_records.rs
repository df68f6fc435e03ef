//! Statements on the whole row of `public.tenants`: what the control plane lists, changes with a revision
//! and moves through its life. What the rest of the house asks of a tenant is in [`crate::pg::control::tenants`].

use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::error::{Conflict, Error, Result};
use crate::domain::names::{ExternalId, Slug, TenantId, TenantName};
use crate::domain::page::Window;
use crate::domain::profile::Document;
use crate::domain::tenant::{Tenant, TenantRecord, TenantStatus};
use crate::pg::error::{During, Failure};
use crate::pg::scope::PublicTx;

/// The columns of a record, in the order that [`from_row`] reads them.
const COLUMNS: &str = "id, number, slug, name, org, status, created_at, external_id, settings, revision, \
                       updated_at, purge_after, restore_to, purge_started_at";

/// Which tenants are listed; what is `None` is not asked.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// In this status.
    pub status: Option<TenantStatus>,
    /// With exactly this slug.
    pub slug: Option<String>,
    /// With exactly this name.
    pub name: Option<String>,
    /// Made at this time or later.
    pub created_after: Option<OffsetDateTime>,
    /// Made before this time.
    pub created_before: Option<OffsetDateTime>,
    /// With this text in the name or the slug, whatever its case.
    pub q: Option<String>,
}

/// One part of the tenants, oldest first, of these ids alone where ids are given.
///
/// The statement is planned with its values, so that what is not asked costs nothing; the order comes from
/// `tenants_created_at_idx`, and reading ends with the last row of the page.
pub async fn list(
    tx: &PublicTx,
    only: Option<&[TenantId]>,
    filter: &Filter,
    window: &Window,
) -> Result<Vec<TenantRecord>> {
    let only: Option<Vec<Uuid>> = only.map(|ids| ids.iter().map(|id| id.uuid()).collect());
    let sql = format!(
        "SELECT {COLUMNS}
           FROM tenants
          WHERE ($1::uuid[] IS NULL OR id = ANY ($1))
            AND ($2::timestamptz IS NULL OR (created_at, id) > ($2, $3))
            AND ($4::text IS NULL OR status = $4)
            AND ($5::text IS NULL OR slug = $5)
            AND ($6::text IS NULL OR name = $6)
            AND ($7::timestamptz IS NULL OR created_at >= $7)
            AND ($8::timestamptz IS NULL OR created_at < $8)
            AND ($9::text IS NULL OR strpos(lower(name), lower($9)) > 0 OR strpos(slug, lower($9)) > 0)
          ORDER BY created_at, id
          LIMIT $10"
    );
    let rows = tx
        .query(
            &sql,
            &[
                &only,
                &window.after.map(|cursor| cursor.at),
                &window.after.map(|cursor| cursor.id),
                &filter.status.map(TenantStatus::as_str),
                &filter.slug,
                &filter.name,
                &filter.created_after,
                &filter.created_before,
                &filter.q,
                &window.rows_to_read(),
            ],
        )
        .await
        .during("list tenant records")?;
    rows.iter().map(from_row).collect()
}

/// Reads a record by id.
pub async fn lookup(tx: &PublicTx, id: TenantId) -> Result<Option<TenantRecord>> {
    let row = tx
        .query_opt(&format!("SELECT {COLUMNS} FROM tenants WHERE id = $1"), &[&id])
        .await
        .during("read tenant record")?;
    row.as_ref().map(from_row).transpose()
}

/// Reads a record by slug.
pub async fn find_by_slug(tx: &PublicTx, slug: &Slug) -> Result<Option<TenantRecord>> {
    let row = tx
        .query_opt(&format!("SELECT {COLUMNS} FROM tenants WHERE slug = $1"), &[slug])
        .await
        .during("read tenant record")?;
    row.as_ref().map(from_row).transpose()
}

/// Reads a record by its maker's own id.
pub async fn find_by_external_id(
    tx: &PublicTx,
    external_id: &ExternalId,
) -> Result<Option<TenantRecord>> {
    let row = tx
        .query_opt(&format!("SELECT {COLUMNS} FROM tenants WHERE external_id = $1"), &[external_id])
        .await
        .during("read tenant record")?;
    row.as_ref().map(from_row).transpose()
}

/// Reads a record and holds it until the transaction ends: whoever else wants to change it waits.
pub async fn lock(tx: &PublicTx, id: TenantId) -> Result<Option<TenantRecord>> {
    let row = tx
        .query_opt(&format!("SELECT {COLUMNS} FROM tenants WHERE id = $1 FOR UPDATE"), &[&id])
        .await
        .during("lock tenant record")?;
    row.as_ref().map(from_row).transpose()
}

/// Writes what a person changes.
///
/// # Errors
/// [`Conflict::SlugTaken`].
pub async fn update(
    tx: &PublicTx,
    id: TenantId,
    slug: &Slug,
    name: &TenantName,
    settings: &Document,
    now: OffsetDateTime,
) -> Result<()> {
    let touched = tx
        .execute(
            "UPDATE tenants
                SET slug = $2, name = $3, settings = $4, revision = revision + 1, updated_at = $5
              WHERE id = $1",
            &[&id, slug, name, settings, &now],
        )
        .await
        .map_err(|failure| {
            if failure.violates("tenants_slug_key") {
                Error::Conflict(Conflict::SlugTaken)
            } else {
                failure.during("update tenant record")
            }
        })?;
    one(touched, "update tenant record")
}

/// Writes where a tenant is in its life.
pub async fn set_status(
    tx: &PublicTx,
    id: TenantId,
    status: TenantStatus,
    purge_after: Option<OffsetDateTime>,
    restore_to: Option<TenantStatus>,
    now: OffsetDateTime,
) -> Result<()> {
    let touched = tx
        .execute(
            "UPDATE tenants
                SET status = $2, purge_after = $3, restore_to = $4, revision = revision + 1,
                    updated_at = $5
              WHERE id = $1",
            &[&id, &status.as_str(), &purge_after, &restore_to.map(TenantStatus::as_str), &now],
        )
        .await
        .during("set tenant status")?;
    one(touched, "set tenant status")
}

/// Notes that a purge has begun. The revision stays, so that a purge which broke off can be asked for
/// again in the same words.
pub async fn start_purge(tx: &PublicTx, id: TenantId, now: OffsetDateTime) -> Result<()> {
    let touched = tx
        .execute(
            "UPDATE tenants SET purge_started_at = coalesce(purge_started_at, $2) WHERE id = $1",
            &[&id, &now],
        )
        .await
        .during("begin the purge of a tenant")?;
    one(touched, "begin the purge of a tenant")
}

/// The deleted tenants whose grace period is over or whose purge broke off, longest due first.
pub async fn list_due(tx: &PublicTx, now: OffsetDateTime, limit: i64) -> Result<Vec<TenantId>> {
    let rows = tx
        .query(
            "SELECT id
               FROM tenants
              WHERE status = 'deleting' AND (purge_after <= $1 OR purge_started_at IS NOT NULL)
              ORDER BY purge_after, id
              LIMIT $2",
            &[&now, &limit],
        )
        .await
        .during("list due purges")?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

fn one(touched: u64, during: &'static str) -> Result<()> {
    if touched == 1 { Ok(()) } else { Err(Failure::RowCount.during(during)) }
}

fn from_row(row: &crate::pg::Row) -> Result<TenantRecord> {
    let status = |text: &str| {
        text.parse::<TenantStatus>().map_err(|e| Error::internal("read tenant record", e))
    };
    Ok(TenantRecord {
        tenant: Tenant {
            id: row.get(0),
            number: row.get(1),
            slug: row.get(2),
            name: row.get(3),
            org: row.get(4),
            status: status(row.get(5))?,
            created_at: row.get(6),
        },
        external_id: row.get(7),
        settings: Document::stored(row.get::<_, Value>(8)),
        revision: row.get(9),
        updated_at: row.get(10),
        purge_after: row.get(11),
        restore_to: row.get::<_, Option<&str>>(12).map(status).transpose()?,
        purge_started_at: row.get(13),
    })
}
