//! Statements on `public.tenants`.
//!
//! A row is read as a [`Tenant`] or, with everything that the control plane keeps, as a [`TenantRecord`].
//! Both read columns by name, through one [`from_row`]. Requests read a [`Tenant`], because a record's settings
//! may take 64 KB.

mod records;

use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::error::{Conflict, Error, Result};
use crate::domain::json::Value;
use crate::domain::names::{Email, ExternalId, Slug, TenantId, UserId};
use crate::domain::profile::Document;
use crate::domain::status::TenantStatus;
use crate::domain::tenant::{Tenant, TenantRecord};
use crate::migrations::MigrationSet;
use crate::pg::error::{During, Failure};
use crate::pg::scope::PublicTx;
use crate::pg::{Param, Row};

pub use self::records::{Filter, Order, list_records};

/// The database in which a new tenant's schema is created; there is one so far.
pub(in crate::pg) const CLUSTER: &str = "default";

/// The number of the main tenant, in which Databunker's clients work when they name none.
pub const MAIN_NUMBER: i64 = 1;

/// The columns of a [`Tenant`], of the table `tenants` under the name `t`.
pub(in crate::pg) const COLUMNS: &str = "t.id, t.number, t.slug, t.name, t.org, t.status, t.created_at, t.closed_until > now() AS is_closed";

/// The columns that a [`TenantRecord`] has beside [`COLUMNS`].
const RECORD_COLUMNS: &str = "t.contact_email, t.external_id, t.settings, t.revision, t.updated_at, \
                              t.purge_after, t.restore_to, t.purge_started_at, t.expires_at, \
                              t.migrations_version, t.migrations_fingerprint";

/// Writes a new tenant's row.
///
/// # Errors
/// [`Conflict::SlugTaken`].
pub async fn insert(
    tx: &PublicTx,
    tenant: &Tenant,
    contact: Option<&Email>,
    set: &MigrationSet,
) -> Result<()> {
    tx.execute(
        "INSERT INTO tenants
             (id, number, slug, name, org, contact_email, status, cluster, migrations_version,
              migrations_fingerprint, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11)",
        &[
            &tenant.id,
            &tenant.number,
            &tenant.slug,
            &tenant.name,
            &tenant.org,
            &contact.cloned(),
            &tenant.status.as_str(),
            &CLUSTER,
            &set.version(),
            &set.fingerprint(),
            &tenant.created_at,
        ],
    )
    .await
    .map(|_| ())
    .map_err(slug_taken_or("insert tenant row"))
}

/// Reads a tenant by id.
pub async fn lookup(tx: &PublicTx, id: TenantId) -> Result<Option<Tenant>> {
    find(tx, "t.id = $1", &id).await
}

/// Reads a tenant by slug.
pub async fn find_by_slug(tx: &PublicTx, slug: &Slug) -> Result<Option<Tenant>> {
    find(tx, "t.slug = $1", slug).await
}

/// Reads a tenant by number.
pub async fn find_by_number(tx: &PublicTx, number: i64) -> Result<Option<Tenant>> {
    find(tx, "t.number = $1", &number).await
}

/// Reads a tenant and its settings by id, for a request that enters it.
pub async fn find_with_settings(tx: &PublicTx, id: TenantId) -> Result<Option<(Tenant, Value)>> {
    find_to_enter(tx, "t.id = $1", &id).await
}

/// Reads a tenant and its settings by slug, for a request that enters it.
pub async fn find_by_slug_with_settings(
    tx: &PublicTx,
    slug: &Slug,
) -> Result<Option<(Tenant, Value)>> {
    find_to_enter(tx, "t.slug = $1", slug).await
}

async fn find_to_enter(
    tx: &PublicTx,
    condition: &str,
    value: &dyn Param,
) -> Result<Option<(Tenant, Value)>> {
    let sql = format!("SELECT {COLUMNS}, t.settings FROM tenants t WHERE {condition}");
    let row = tx.query_opt(&sql, &[value]).await.during("read tenant row")?;
    row.as_ref().map(|row| Ok((from_row(row)?, row.get("settings")))).transpose()
}

async fn find(tx: &PublicTx, condition: &str, value: &dyn Param) -> Result<Option<Tenant>> {
    let sql = format!("SELECT {COLUMNS} FROM tenants t WHERE {condition}");
    let row = tx.query_opt(&sql, &[value]).await.during("read tenant row")?;
    row.as_ref().map(from_row).transpose()
}

/// Reads a record by id.
pub async fn lookup_record(tx: &PublicTx, id: TenantId) -> Result<Option<TenantRecord>> {
    find_record(tx, "t.id = $1", &id).await
}

/// Reads a tenant by the id that the caller's own system gave it.
pub async fn find_by_external_id(
    tx: &PublicTx,
    external_id: &ExternalId,
) -> Result<Option<Tenant>> {
    find(tx, "t.external_id = $1", external_id).await
}

/// Reads a record and locks its row until the transaction ends, so that other changes of it wait.
pub async fn lock_record(tx: &PublicTx, id: TenantId) -> Result<Option<TenantRecord>> {
    find_record(tx, "t.id = $1 FOR UPDATE", &id).await
}

async fn find_record(
    tx: &PublicTx,
    condition: &str,
    value: &dyn Param,
) -> Result<Option<TenantRecord>> {
    let sql = format!("SELECT {COLUMNS}, {RECORD_COLUMNS} FROM tenants t WHERE {condition}");
    let row = tx.query_opt(&sql, &[value]).await.during("read tenant record")?;
    row.as_ref().map(record_from_row).transpose()
}

/// Reads all tenants except the main one, or only those with the given ids, oldest first. The main tenant serves
/// Databunker's clients that name no tenant; it belongs to no customer.
pub async fn list(tx: &PublicTx, only: Option<&[TenantId]>) -> Result<Vec<Tenant>> {
    let sql = format!(
        "SELECT {COLUMNS}
           FROM tenants t
          WHERE t.number <> $2 AND ($1::uuid[] IS NULL OR t.id = ANY ($1))
          ORDER BY t.created_at, t.id"
    );
    let rows = tx.query(&sql, &[&uuids(only), &MAIN_NUMBER]).await.during("list tenant rows")?;
    rows.iter().map(from_row).collect()
}

/// Reads all tenants, the main one included, by number.
pub async fn list_everywhere(tx: &PublicTx) -> Result<Vec<Tenant>> {
    let sql = format!("SELECT {COLUMNS} FROM tenants t ORDER BY t.number");
    let rows = tx.query(&sql, &[]).await.during("list tenant rows")?;
    rows.iter().map(from_row).collect()
}

/// Reads the active tenants of which a user is a member, oldest first.
pub async fn list_of_user(tx: &PublicTx, user: UserId) -> Result<Vec<Tenant>> {
    let sql = format!(
        "SELECT {COLUMNS}
           FROM tenants t
           JOIN memberships m ON m.tenant_id = t.id
          WHERE m.user_id = $1 AND t.status = 'active'
          ORDER BY t.created_at, t.id"
    );
    let rows = tx.query(&sql, &[&user]).await.during("list tenant rows of a user")?;
    rows.iter().map(from_row).collect()
}

/// Reads a page of all tenants by number, and counts all tenants.
pub async fn page(tx: &PublicTx, offset: i64, limit: i64) -> Result<(i64, Vec<Tenant>)> {
    let total = count(tx).await?;
    let sql = format!("SELECT {COLUMNS} FROM tenants t ORDER BY t.number OFFSET $1 LIMIT $2");
    let rows = tx.query(&sql, &[&offset, &limit]).await.during("list tenant rows")?;
    Ok((total, rows.iter().map(from_row).collect::<Result<_>>()?))
}

/// Reads the deleted tenants whose grace period is over or whose purge was interrupted, longest due first; none of
/// `excluded`.
pub async fn list_due(
    tx: &PublicTx,
    now: OffsetDateTime,
    excluded: &[TenantId],
    limit: i64,
) -> Result<Vec<TenantId>> {
    let is_due = "status = 'deleting' AND (purge_after <= $1 OR purge_started_at IS NOT NULL)";
    list_ids(tx, is_due, "purge_after", (now, excluded, limit)).await.during("list due purges")
}

/// Reads the tenants that have ended and whose purge is not due yet, longest ended first; none of `excluded`.
pub async fn list_ended(
    tx: &PublicTx,
    now: OffsetDateTime,
    excluded: &[TenantId],
    limit: i64,
) -> Result<Vec<TenantId>> {
    let has_ended = "expires_at <= $1
                 AND (status <> 'deleting' OR (purge_after > $1 AND purge_started_at IS NULL))";
    list_ids(tx, has_ended, "expires_at", (now, excluded, limit)).await.during("list ended tenants")
}

/// Reads the ids of tenants for which a condition on the time `$1` holds, by a column.
async fn list_ids(
    tx: &PublicTx,
    condition: &str,
    column: &str,
    (now, excluded, limit): (OffsetDateTime, &[TenantId], i64),
) -> Result<Vec<TenantId>, Failure> {
    let excluded: Vec<Uuid> = excluded.iter().map(|id| id.uuid()).collect();
    let sql = format!(
        "SELECT id
           FROM tenants
          WHERE {condition} AND id <> ALL ($3)
          ORDER BY {column}, id
          LIMIT $2"
    );
    let rows = tx.query(&sql, &[&now, &limit, &excluded]).await?;
    Ok(rows.iter().map(|row| row.get("id")).collect())
}

/// Whether a tenant is there and its purge has not begun.
pub async fn is_whole(tx: &PublicTx, id: TenantId) -> Result<bool> {
    let sql = "SELECT FROM tenants WHERE id = $1 AND purge_started_at IS NULL";
    Ok(tx.query_opt(sql, &[&id]).await.during("read tenant row")?.is_some())
}

/// Counts all tenants.
pub async fn count(tx: &PublicTx) -> Result<i64> {
    let row = tx.query_one("SELECT count(*) AS total FROM tenants", &[]).await;
    Ok(row.during("count tenants")?.get("total"))
}

/// Returns whether a tenant exists and is not being deleted.
///
/// # Errors
/// [`Failure`].
pub async fn is_kept(tx: &PublicTx, id: TenantId) -> Result<bool, Failure> {
    let sql =
        "SELECT EXISTS (SELECT FROM tenants WHERE id = $1 AND status <> 'deleting') AS is_kept";
    Ok(tx.query_one(sql, &[&id]).await?.get("is_kept"))
}

/// Locks a tenant's row until the transaction ends, so that it is not removed and its members do not change.
/// Returns whether the tenant exists.
pub async fn hold(tx: &PublicTx, id: TenantId) -> Result<bool> {
    let sql = "SELECT id FROM tenants WHERE id = $1 FOR KEY SHARE";
    Ok(tx.query_opt(sql, &[&id]).await.during("lock tenant row")?.is_some())
}

/// Writes the slug, name, organisation, contact, settings and end of a record, and raises its revision.
///
/// # Errors
/// [`Conflict::SlugTaken`].
pub async fn update(tx: &PublicTx, record: &TenantRecord, now: OffsetDateTime) -> Result<()> {
    let tenant = &record.tenant;
    let touched = tx
        .execute(
            "UPDATE tenants
                SET slug = $2, name = $3, org = $4, contact_email = $5, settings = $6,
                    expires_at = $7, revision = revision + 1, updated_at = $8
              WHERE id = $1",
            &[
                &tenant.id,
                &tenant.slug,
                &tenant.name,
                &tenant.org,
                &record.contact,
                &record.settings,
                &record.expires_at,
                &now,
            ],
        )
        .await
        .map_err(slug_taken_or("update tenant row"))?;
    require_one(touched, "update tenant row")
}

/// Writes a tenant's status, and for a deletion when the purge is due and which status a restoration gives.
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
    require_one(touched, "set tenant status")
}

/// Records that a purge has begun. The revision stays, so that an interrupted purge can be requested again with
/// the same precondition.
pub async fn start_purge(tx: &PublicTx, id: TenantId, now: OffsetDateTime) -> Result<()> {
    let touched = tx
        .execute(
            "UPDATE tenants SET purge_started_at = coalesce(purge_started_at, $2) WHERE id = $1",
            &[&id, &now],
        )
        .await
        .during("begin the purge of a tenant")?;
    require_one(touched, "begin the purge of a tenant")
}

/// Records the version to which a tenant's schema is migrated, and the fingerprint of its files.
pub async fn set_migrated(
    tx: &PublicTx,
    id: TenantId,
    version: i32,
    fingerprint: &str,
    now: OffsetDateTime,
) -> Result<()> {
    let touched = tx
        .execute(
            "UPDATE tenants
                SET migrations_version = $2, migrations_fingerprint = $3, revision = revision + 1,
                    updated_at = $4
              WHERE id = $1 AND purge_started_at IS NULL",
            &[&id, &version, &fingerprint, &now],
        )
        .await
        .during("record the migration of a tenant")?;
    require_one(touched, "record the migration of a tenant")
}

/// Deletes a tenant's row, and with it its memberships and tokens. Returns whether the row existed.
pub async fn delete(tx: &PublicTx, id: TenantId) -> Result<bool> {
    Ok(tx.execute("DELETE FROM tenants WHERE id = $1", &[&id]).await.during("delete tenant row")?
        == 1)
}

fn require_one(touched: u64, during: &'static str) -> Result<()> {
    if touched == 1 { Ok(()) } else { Err(Failure::RowCount.during(during)) }
}

fn slug_taken_or(during: &'static str) -> impl Fn(Failure) -> Error {
    move |failure| {
        if failure.violates("tenants_slug_key") {
            Error::Conflict(Conflict::SlugTaken)
        } else if failure.violates("tenants_number_key") {
            // Only the main tenant's number is fixed: another process creates it at the same moment.
            Error::Conflict(Conflict::Concurrent)
        } else {
            failure.during(during)
        }
    }
}

fn uuids(ids: Option<&[TenantId]>) -> Option<Vec<Uuid>> {
    ids.map(|ids| ids.iter().map(|id| id.uuid()).collect())
}

/// Reads a tenant from a row that holds [`COLUMNS`].
pub(in crate::pg) fn from_row(row: &Row) -> Result<Tenant> {
    Ok(Tenant {
        id: row.get("id"),
        number: row.get("number"),
        slug: row.get("slug"),
        name: row.get("name"),
        org: row.get("org"),
        status: status(row.get("status"))?,
        created_at: row.get("created_at"),
        is_closed: row.get::<_, Option<bool>>("is_closed").unwrap_or_default(),
    })
}

fn record_from_row(row: &Row) -> Result<TenantRecord> {
    Ok(TenantRecord {
        tenant: from_row(row)?,
        contact: row.get("contact_email"),
        external_id: row.get("external_id"),
        settings: Document::stored(row.get::<_, Value>("settings")),
        revision: row.get("revision"),
        updated_at: row.get("updated_at"),
        purge_after: row.get("purge_after"),
        restore_to: row.get::<_, Option<&str>>("restore_to").map(status).transpose()?,
        purge_started_at: row.get("purge_started_at"),
        expires_at: row.get("expires_at"),
        migrations_version: row.get("migrations_version"),
        migrations_fingerprint: row.get("migrations_fingerprint"),
    })
}

fn status(text: &str) -> Result<TenantStatus> {
    text.parse().map_err(|e| Error::internal("read tenant row", e))
}
