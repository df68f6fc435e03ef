//! Lists the tenants' schemas and roles with their owners.

use crate::domain::names::{Slug, TenantId};
use crate::pg::error::Failure;
use crate::pg::rules::Isolation;
use crate::pg::scope::PublicTx;

/// The pattern of the names of tenants' schemas and roles, as [`SchemaName`](crate::domain::SchemaName) builds them.
const TENANT_NAME_PATTERN: &str = "'^tenant_[0-9a-f]{32}$'";

/// The schema of a tenant or vacancy, or an orphan with such a name.
#[derive(Debug, Clone)]
pub struct TenantSchema {
    /// The tenant's or vacancy's id, which the schema's name contains.
    pub id: TenantId,
    /// The tenant or vacancy that it belongs to.
    pub owner: SchemaOwner,
    /// Whether the schema exists.
    pub has_schema: bool,
}

/// What a schema belongs to.
#[derive(Debug, Clone)]
pub enum SchemaOwner {
    /// A tenant.
    Tenant(Recorded),
    /// A vacancy: a schema that was built in advance.
    Vacancy {
        /// Whether it is complete and has the current isolation mode, so that it can be compared with a tenant's.
        is_ready: bool,
    },
    /// Neither: an orphan.
    None,
}

/// The tenant's row.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The tenant's slug.
    pub slug: Slug,
    /// The recorded version of its schema.
    pub version: i32,
    /// The fingerprint of the set that it was migrated with.
    pub fingerprint: String,
    /// Whether its purge has started, so that parts of the schema may be dropped.
    pub is_purging: bool,
}

/// Lists all tenants, vacancies and orphaned schemas, or only those with these ids, in the order of their ids, which
/// is that of their creation. One statement, and so one snapshot: a tenant's row and its schema are created and
/// dropped together.
///
/// # Errors
/// [`Failure`].
pub async fn list(
    tx: &PublicTx,
    only: Option<&[TenantId]>,
    isolation: Isolation,
) -> Result<Vec<TenantSchema>, Failure> {
    let only: Option<Vec<String>> =
        only.map(|ids| ids.iter().map(|id| id.uuid().to_string()).collect());
    let sql = format!(
        "WITH held AS ({held}), schema AS MATERIALIZED (
             SELECT substr(nspname, 8)::uuid AS id
               FROM pg_catalog.pg_namespace
              WHERE nspname ~ {TENANT_NAME_PATTERN}
         )
         SELECT coalesce(h.id, s.id) AS id, h.id IS NOT NULL AS is_held, h.slug, h.version, h.fingerprint,
                h.is_purging, s.id IS NOT NULL AS has_schema
           FROM held h
           FULL JOIN schema s ON s.id = h.id
          WHERE $1::text[] IS NULL OR coalesce(h.id, s.id) = ANY ($1::uuid[])
          ORDER BY 1",
        held = owners_query(tx, isolation).await?,
    );
    let rows = tx.query(&sql, &[&only]).await?;
    Ok(rows
        .iter()
        .map(|row| {
            let owner = match (row.get("is_held"), row.get::<_, Option<Slug>>("slug")) {
                (true, Some(slug)) => SchemaOwner::Tenant(Recorded {
                    slug,
                    version: row.get("version"),
                    fingerprint: row.get("fingerprint"),
                    is_purging: row.get("is_purging"),
                }),
                (true, None) => {
                    SchemaOwner::Vacancy { is_ready: !row.get::<_, bool>("is_purging") }
                }
                (false, _) => SchemaOwner::None,
            };
            TenantSchema { id: row.get("id"), owner, has_schema: row.get("has_schema") }
        })
        .collect())
}

/// Lists the orphaned roles: named like a tenant's, but with no tenant, vacancy or schema of that id, and without
/// privileges in another database of the server.
///
/// # Errors
/// [`Failure`].
pub async fn orphan_roles(tx: &PublicTx) -> Result<Vec<TenantId>, Failure> {
    let sql = format!(
        "WITH held AS ({held}), role AS MATERIALIZED (
             SELECT oid, rolname, substr(rolname, 8)::uuid AS id
               FROM pg_catalog.pg_roles
              WHERE rolname ~ {TENANT_NAME_PATTERN}
         )
         SELECT r.id
           FROM role r
          WHERE NOT EXISTS (SELECT FROM held h WHERE h.id = r.id)
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_namespace n WHERE n.nspname = r.rolname)
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_shdepend d
                             WHERE d.refclassid = 'pg_catalog.pg_authid'::regclass AND d.refobjid = r.oid
                               AND d.dbid NOT IN (0, (SELECT oid FROM pg_catalog.pg_database
                                                       WHERE datname = current_database())))
          ORDER BY 1",
        held = owners_query(tx, Isolation::Role).await?,
    );
    Ok(tx.query(&sql, &[]).await?.iter().map(|row| row.get("id")).collect())
}

/// Builds a query for all tenants and vacancies: `id, slug, version, fingerprint, is_purging`. A vacancy only has an
/// id; `is_purging` is true for it if it cannot be compared: it is incomplete, or it has another isolation mode than
/// the current one. An older control plane has no table of vacancies.
async fn owners_query(tx: &PublicTx, isolation: Isolation) -> Result<String, Failure> {
    let there =
        tx.query_one("SELECT to_regclass('public.vacancies') IS NOT NULL AS is_there", &[]).await?;
    let mut sql =
        "SELECT id, slug, migrations_version AS version, migrations_fingerprint AS fingerprint,
                          purge_started_at IS NOT NULL AS is_purging
                     FROM tenants"
            .to_owned();
    if there.get("is_there") {
        sql.push_str(
            " UNION ALL
             SELECT v.id, NULL, NULL, NULL, v.state <> 'ready' OR (v.isolation = 'role') <> ",
        );
        sql.push_str(if isolation == Isolation::Role { "true" } else { "false" });
        sql.push_str(
            " FROM vacancies v WHERE NOT EXISTS (SELECT FROM tenants t WHERE t.id = v.id)",
        );
    }
    Ok(sql)
}
