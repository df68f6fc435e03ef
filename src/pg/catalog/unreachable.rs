//! Finds tenants that cannot be entered, as after a restore of the database without the roles, which belong to the server.

use crate::domain::names::TenantId;
use crate::pg::error::Failure;
use crate::pg::rules::{Isolation, RUNTIME_LOGIN};
use crate::pg::scope::PublicTx;

/// The tenants that lack their schema, and those whose role is missing or cannot be used by the runtime login; the oldest
/// first. A purge that runs takes both away.
const UNREACHABLE: &str = "
    SELECT slug, id, lacks_schema
      FROM (SELECT t.slug, t.created_at, t.id, n.oid IS NULL AS lacks_schema,
                   $1 AND NOT EXISTS (
                       SELECT FROM pg_catalog.pg_auth_members m
                        WHERE m.roleid = r.oid
                          AND m.member = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = $2)) AS lacks_role
              FROM public.tenants t
              LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = 'tenant_' || replace(t.id::text, '-', '')
              LEFT JOIN pg_catalog.pg_roles r ON r.rolname = 'tenant_' || replace(t.id::text, '-', '')
             WHERE t.purge_started_at IS NULL) AS tenant
     WHERE lacks_schema OR lacks_role
     ORDER BY created_at, id";

/// A tenant that cannot be entered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreachable {
    /// The tenant.
    pub id: TenantId,
    /// Its slug.
    pub slug: String,
    /// Whether it has no schema. Otherwise it has no role that the server can use.
    pub lacks_schema: bool,
}

/// Lists the tenants that cannot be entered.
///
/// # Errors
/// [`Failure`].
pub async fn list_unreachable(
    tx: &PublicTx,
    isolation: Isolation,
) -> Result<Vec<Unreachable>, Failure> {
    super::set_catalog_wide_limits(tx).await?;
    let by_role = isolation == Isolation::Role;
    let rows = tx.query(UNREACHABLE, &[&by_role, &RUNTIME_LOGIN]).await?;
    let unreachable = rows.iter().map(|row| Unreachable {
        id: row.get("id"),
        slug: row.get("slug"),
        lacks_schema: row.get("lacks_schema"),
    });
    Ok(unreachable.collect())
}
