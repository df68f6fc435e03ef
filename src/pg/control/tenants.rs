//! Statements on `public.tenants`.

use time::OffsetDateTime;

use crate::domain::error::{Conflict, Error, Result};
use crate::domain::names::{Email, Slug, TenantId, TenantName, UserId};
use crate::domain::tenant::{Tenant, TenantStatus};
use crate::migrations::MigrationSet;
use crate::pg::error::{During, Failure};
use crate::pg::scope::PublicTx;

/// The database that a new tenant's schema is made in; there is one so far.
pub(in crate::pg) const CLUSTER: &str = "default";

/// The number of the main tenant, which Databunker's clients work in when they name none.
pub const MAIN_NUMBER: i64 = 1;

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

/// What is to change of a tenant's row; what is `None` stays.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// A new slug, and with it a new name where the dialect knows one word for both.
    pub slug: Option<Slug>,
    /// A new name.
    pub name: Option<TenantName>,
    /// A new organisation.
    pub org: Option<String>,
    /// A new contact address.
    pub contact: Option<Email>,
}

/// Changes a tenant's row; tells whether there is one.
///
/// # Errors
/// [`Conflict::SlugTaken`].
pub async fn update(
    tx: &PublicTx,
    id: TenantId,
    changes: &Changes,
    now: OffsetDateTime,
) -> Result<bool> {
    let touched = tx
        .execute(
            "UPDATE tenants
                SET slug = coalesce($2, slug), name = coalesce($3, name), org = coalesce($4, org),
                    contact_email = coalesce($5, contact_email), revision = revision + 1,
                    updated_at = $6
              WHERE id = $1",
            &[&id, &changes.slug, &changes.name, &changes.org, &changes.contact, &now],
        )
        .await
        .map_err(slug_taken_or("update tenant row"))?;
    Ok(touched == 1)
}

/// Removes a tenant's row, and with it its memberships and tokens; tells whether there was one.
pub async fn delete(tx: &PublicTx, id: TenantId) -> Result<bool> {
    Ok(tx.execute("DELETE FROM tenants WHERE id = $1", &[&id]).await.during("delete tenant row")?
        == 1)
}

/// Holds a tenant's row until the transaction ends: it is not removed meanwhile, and nobody changes its members.
/// Tells whether it is there.
pub async fn hold(tx: &PublicTx, id: TenantId) -> Result<bool> {
    let row = tx
        .query_opt("SELECT id FROM tenants WHERE id = $1 FOR KEY SHARE", &[&id])
        .await
        .during("hold tenant row")?;
    Ok(row.is_some())
}

/// Reads a tenant by number.
pub async fn find_by_number(tx: &PublicTx, number: i64) -> Result<Option<Tenant>> {
    let row = tx
        .query_opt(
            "SELECT id, number, slug, name, org, status, created_at FROM tenants WHERE number = $1",
            &[&number],
        )
        .await
        .during("read tenant row")?;
    row.map(|row| from_row(&row)).transpose()
}

/// One page of all tenants by number, and how many there are.
pub async fn page(tx: &PublicTx, offset: i64, limit: i64) -> Result<(i64, Vec<Tenant>)> {
    let total = count(tx).await?;
    let rows = tx
        .query(
            "SELECT id, number, slug, name, org, status, created_at
               FROM tenants
              ORDER BY number
             OFFSET $1 LIMIT $2",
            &[&offset, &limit],
        )
        .await
        .during("list tenant rows")?;
    Ok((total, rows.iter().map(from_row).collect::<Result<_>>()?))
}

fn slug_taken_or(during: &'static str) -> impl Fn(Failure) -> Error {
    move |failure| {
        if failure.violates("tenants_slug_key") {
            Error::Conflict(Conflict::SlugTaken)
        } else if failure.violates("tenants_number_key") {
            // Only the main tenant's number is not fresh: another process makes it at the same moment.
            Error::Conflict(Conflict::Concurrent)
        } else {
            failure.during(during)
        }
    }
}

/// Reads a tenant by id.
pub async fn lookup(tx: &PublicTx, id: TenantId) -> Result<Option<Tenant>> {
    let row = tx
        .query_opt(
            "SELECT id, number, slug, name, org, status, created_at FROM tenants WHERE id = $1",
            &[&id],
        )
        .await
        .during("read tenant row")?;
    row.map(|row| from_row(&row)).transpose()
}

/// Reads a tenant by slug.
pub async fn find_by_slug(tx: &PublicTx, slug: &Slug) -> Result<Option<Tenant>> {
    let row = tx
        .query_opt(
            "SELECT id, number, slug, name, org, status, created_at FROM tenants WHERE slug = $1",
            &[slug],
        )
        .await
        .during("read tenant row")?;
    row.map(|row| from_row(&row)).transpose()
}

/// Reads all tenants but the main one, oldest first, or of these ids alone. The main tenant is where
/// Databunker's clients work when they name none; it is nobody's customer.
pub async fn list(tx: &PublicTx, only: Option<&[TenantId]>) -> Result<Vec<Tenant>> {
    let only: Option<Vec<uuid::Uuid>> = only.map(|ids| ids.iter().map(|id| id.uuid()).collect());
    let rows = tx
        .query(
            "SELECT id, number, slug, name, org, status, created_at
               FROM tenants
              WHERE number <> $2 AND ($1::uuid[] IS NULL OR id = ANY ($1))
              ORDER BY created_at, id",
            &[&only, &MAIN_NUMBER],
        )
        .await
        .during("list tenant rows")?;
    rows.iter().map(from_row).collect()
}

/// Reads all tenants, the main one too, by number.
pub async fn list_everywhere(tx: &PublicTx) -> Result<Vec<Tenant>> {
    let rows = tx
        .query(
            "SELECT id, number, slug, name, org, status, created_at FROM tenants ORDER BY number",
            &[],
        )
        .await
        .during("list tenant rows")?;
    rows.iter().map(from_row).collect()
}

/// Reads the active tenants that a user is a member of, oldest first.
pub async fn list_of_user(tx: &PublicTx, user: UserId) -> Result<Vec<Tenant>> {
    let rows = tx
        .query(
            "SELECT t.id, t.number, t.slug, t.name, t.org, t.status, t.created_at
               FROM tenants t
               JOIN memberships m ON m.tenant_id = t.id
              WHERE m.user_id = $1 AND t.status = 'active'
              ORDER BY t.created_at, t.id",
            &[&user],
        )
        .await
        .during("list tenant rows of a user")?;
    rows.iter().map(from_row).collect()
}

/// Whether a tenant is there, and not being deleted.
///
/// # Errors
/// [`Failure`].
pub async fn is_kept(tx: &PublicTx, id: TenantId) -> Result<bool, Failure> {
    let sql = "SELECT EXISTS (SELECT FROM tenants WHERE id = $1 AND status <> 'deleting')";
    Ok(tx.query_one(sql, &[&id]).await?.get(0))
}

/// Remembers what a tenant's schema turned out to be migrated to.
pub async fn set_migrated(
    tx: &PublicTx,
    id: TenantId,
    set: &MigrationSet,
    now: OffsetDateTime,
) -> Result<()> {
    let touched = tx
        .execute(
            "UPDATE tenants
                SET migrations_version = $2, migrations_fingerprint = $3, revision = revision + 1,
                    updated_at = $4
              WHERE id = $1 AND purge_started_at IS NULL",
            &[&id, &set.version(), &set.fingerprint(), &now],
        )
        .await
        .during("record the migration of a tenant")?;
    if touched == 1 {
        Ok(())
    } else {
        Err(Failure::RowCount.during("record the migration of a tenant"))
    }
}

/// How many tenants there are.
pub async fn count(tx: &PublicTx) -> Result<i64> {
    Ok(tx.query_one("SELECT count(*) FROM tenants", &[]).await.during("count tenants")?.get(0))
}

fn from_row(row: &crate::pg::Row) -> Result<Tenant> {
    from_row_at(row, 0)
}

/// Reads a tenant off a row that holds `id, number, slug, name, org, status, created_at` from there on.
pub(in crate::pg) fn from_row_at(row: &crate::pg::Row, first: usize) -> Result<Tenant> {
    let status: &str = row.get(first + 5);
    let status: TenantStatus = status.parse().map_err(|e| Error::internal("read tenant row", e))?;
    Ok(Tenant {
        id: row.get(first),
        number: row.get(first + 1),
        slug: row.get(first + 2),
        name: row.get(first + 3),
        org: row.get(first + 4),
        status,
        created_at: row.get(first + 6),
    })
}
