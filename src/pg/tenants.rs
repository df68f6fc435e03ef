//! Statements on `public.tenants`.

use time::OffsetDateTime;

use super::error::{During, Failure};
use super::migrations::MigrationSet;
use super::scope::PublicTx;
use crate::domain::error::{Conflict, Error, Result};
use crate::domain::names::{Slug, TenantId, UserId};
use crate::domain::tenant::{Tenant, TenantStatus};

/// The database that a new tenant's schema is made in; there is one so far.
const CLUSTER: &str = "default";

/// Writes a new tenant's row.
///
/// # Errors
/// [`Conflict::SlugTaken`].
pub async fn insert(tx: &PublicTx, tenant: &Tenant, set: &MigrationSet) -> Result<()> {
    tx.execute(
        "INSERT INTO tenants
             (id, slug, name, status, cluster, migrations_version, migrations_fingerprint, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)",
        &[
            &tenant.id,
            &tenant.slug,
            &tenant.name,
            &tenant.status.as_str(),
            &CLUSTER,
            &set.version(),
            &set.fingerprint(),
            &tenant.created_at,
        ],
    )
    .await
    .map(|_| ())
    .map_err(|failure| {
        if failure.violates("tenants_slug_key") {
            Error::Conflict(Conflict::SlugTaken)
        } else {
            failure.during("insert tenant row")
        }
    })
}

/// Reads a tenant by id.
pub async fn lookup(tx: &PublicTx, id: TenantId) -> Result<Option<Tenant>> {
    let row = tx
        .query_opt("SELECT id, slug, name, status, created_at FROM tenants WHERE id = $1", &[&id])
        .await
        .during("read tenant row")?;
    row.map(|row| from_row(&row)).transpose()
}

/// Reads a tenant by slug.
pub async fn find_by_slug(tx: &PublicTx, slug: &Slug) -> Result<Option<Tenant>> {
    let row = tx
        .query_opt(
            "SELECT id, slug, name, status, created_at FROM tenants WHERE slug = $1",
            &[slug],
        )
        .await
        .during("read tenant row")?;
    row.map(|row| from_row(&row)).transpose()
}

/// Reads all tenants, oldest first, or of these ids alone.
pub async fn list(tx: &PublicTx, only: Option<&[TenantId]>) -> Result<Vec<Tenant>> {
    let only: Option<Vec<uuid::Uuid>> = only.map(|ids| ids.iter().map(|id| id.uuid()).collect());
    let rows = tx
        .query(
            "SELECT id, slug, name, status, created_at
               FROM tenants
              WHERE $1::uuid[] IS NULL OR id = ANY ($1)
              ORDER BY created_at, id",
            &[&only],
        )
        .await
        .during("list tenant rows")?;
    rows.iter().map(from_row).collect()
}

/// Reads the active tenants that a user is a member of, oldest first.
pub async fn list_of_user(tx: &PublicTx, user: UserId) -> Result<Vec<Tenant>> {
    let rows = tx
        .query(
            "SELECT t.id, t.slug, t.name, t.status, t.created_at
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

/// The tenants whose schema was not made by this set of migrations, oldest first.
pub async fn list_behind(tx: &PublicTx, set: &MigrationSet) -> Result<Vec<Tenant>> {
    let rows = tx
        .query(
            "SELECT id, slug, name, status, created_at
               FROM tenants
              WHERE migrations_fingerprint <> $1
              ORDER BY created_at, id",
            &[&set.fingerprint()],
        )
        .await
        .during("list tenants that are behind")?;
    rows.iter().map(from_row).collect()
}

/// Remembers what a tenant's schema was migrated to.
pub async fn set_migrated(
    tx: &PublicTx,
    id: TenantId,
    set: &MigrationSet,
    now: OffsetDateTime,
) -> Result<()> {
    let touched = tx
        .execute(
            "UPDATE tenants
                SET migrations_version = $2, migrations_fingerprint = $3, updated_at = $4
              WHERE id = $1",
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

fn from_row(row: &super::Row) -> Result<Tenant> {
    let status: &str = row.get(3);
    let status: TenantStatus = status.parse().map_err(|e| Error::internal("read tenant row", e))?;
    Ok(Tenant {
        id: row.get(0),
        slug: row.get(1),
        name: row.get(2),
        status,
        created_at: row.get(4),
    })
}
