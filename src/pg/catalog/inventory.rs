//! Which schemas and roles there are, and whose they are.

use crate::domain::names::{Slug, TenantId};
use crate::pg::error::Failure;
use crate::pg::scope::PublicTx;

/// What schemas and roles of tenants are called: as [`SchemaName`](crate::domain::SchemaName) makes them.
const NAMED_BY_US: &str = "'^tenant_[0-9a-f]{32}$'";

/// A tenant, or a schema that is named like one.
#[derive(Debug, Clone)]
pub struct House {
    /// Whose it is, or would be by its name.
    pub id: TenantId,
    /// Who knows of it.
    pub holder: Holder,
    /// Whether there is a schema.
    pub has_schema: bool,
}

/// Who knows of a schema.
#[derive(Debug, Clone)]
pub enum Holder {
    /// A tenant.
    Tenant(Recorded),
    /// The stock of schemas that are built ahead.
    Vacancy {
        /// Whether it is whole and kept apart as tenants are now, so that it can be compared with one.
        is_ready: bool,
    },
    /// Nobody: an orphan.
    Nobody,
}

/// What the tenant's row says.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The name that people use.
    pub slug: Slug,
    /// The version of its schema.
    pub version: i32,
    /// The digest of the set that it was migrated with.
    pub fingerprint: String,
    /// Whether its purge has begun, so that a part of the schema may be gone.
    pub is_purging: bool,
}

/// All tenants, vacancies and schemas named like either, or these alone; in the order of their ids, which is
/// that of their making. `with_roles` tells whether tenants have roles of their own. One statement, and so one moment: a tenant's row and its schema come and go together.
///
/// # Errors
/// [`Failure`].
pub async fn list(
    tx: &PublicTx,
    only: Option<&[TenantId]>,
    with_roles: bool,
) -> Result<Vec<House>, Failure> {
    let only: Option<Vec<String>> =
        only.map(|ids| ids.iter().map(|id| id.uuid().to_string()).collect());
    let sql = format!(
        "WITH held AS ({held}), schema AS MATERIALIZED (
             SELECT substr(nspname, 8)::uuid AS id
               FROM pg_catalog.pg_namespace
              WHERE nspname ~ {NAMED_BY_US}
         )
         SELECT coalesce(h.id, s.id) AS id, h.id IS NOT NULL AS is_held, h.slug, h.version, h.fingerprint,
                h.is_purging, s.id IS NOT NULL AS has_schema
           FROM held h
           FULL JOIN schema s ON s.id = h.id
          WHERE $1::text[] IS NULL OR coalesce(h.id, s.id) = ANY ($1::uuid[])
          ORDER BY 1",
        held = held(tx, with_roles).await?,
    );
    let rows = tx.query(&sql, &[&only]).await?;
    Ok(rows
        .iter()
        .map(|row| {
            let holder = match (row.get("is_held"), row.get::<_, Option<Slug>>("slug")) {
                (true, Some(slug)) => Holder::Tenant(Recorded {
                    slug,
                    version: row.get("version"),
                    fingerprint: row.get("fingerprint"),
                    is_purging: row.get("is_purging"),
                }),
                (true, None) => Holder::Vacancy { is_ready: !row.get::<_, bool>("is_purging") },
                (false, _) => Holder::Nobody,
            };
            House { id: row.get("id"), holder, has_schema: row.get("has_schema") }
        })
        .collect())
}

/// The roles that are named like a tenant's and are nobody's: there is no such tenant or vacancy, no such
/// schema, and no right in another database of the server.
///
/// # Errors
/// [`Failure`].
pub async fn orphan_roles(tx: &PublicTx) -> Result<Vec<TenantId>, Failure> {
    let sql = format!(
        "WITH held AS ({held}), role AS MATERIALIZED (
             SELECT oid, rolname, substr(rolname, 8)::uuid AS id
               FROM pg_catalog.pg_roles
              WHERE rolname ~ {NAMED_BY_US}
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
        held = held(tx, true).await?,
    );
    Ok(tx.query(&sql, &[]).await?.iter().map(|row| row.get("id")).collect())
}

/// A query that names everybody who may have a schema: `id, slug, version, fingerprint, is_purging`. A vacancy
/// has an id, and is purging where it cannot be compared: not yet or no longer whole, or kept apart in another
/// way than tenants are now. A control plane that knows no vacancies has no table of them.
async fn held(tx: &PublicTx, with_roles: bool) -> Result<String, Failure> {
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
        sql.push_str(if with_roles { "true" } else { "false" });
        sql.push_str(
            " FROM vacancies v WHERE NOT EXISTS (SELECT FROM tenants t WHERE t.id = v.id)",
        );
    }
    Ok(sql)
}
