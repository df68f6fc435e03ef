//! Counts what a tenant holds, for a caller who is about to delete or to purge it.

use crate::domain::error::Result;
use crate::domain::names::{SchemaName, TenantId};
use crate::pg::error::During;
use crate::pg::rules::engine::Engine;
use crate::pg::scope::PublicTx;

/// How much a tenant holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// Tables in its schema, the migrations' history table included.
    pub tables: i64,
    /// Size of these tables and their indexes on disk, in bytes.
    pub bytes: i64,
    /// Users who are members.
    pub members: i64,
    /// API tokens that work only in it and are not revoked.
    pub tokens: i64,
}

/// The size of a table with its indexes.
const SIZE: &str = "pg_total_relation_size(c.oid)";

/// As [`SIZE`], on a cluster: the coordinator has an empty table for one that is on a node. What is on a node that is
/// away is not counted.
const SIZE_ON_NODES: &str =
    "CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_dist_partition d WHERE d.logicalrelid = c.oid)
                                  THEN coalesce(citus_total_relation_size(c.oid, false), 0)
                                  ELSE pg_total_relation_size(c.oid) END";

/// Counts what a tenant holds; of its schema this reads only the catalog.
pub async fn count(tx: &PublicTx, tenant: TenantId, engine: Engine) -> Result<Footprint> {
    let size = if engine.has_nodes() { SIZE_ON_NODES } else { SIZE };
    let sql = format!(
        "SELECT count(*) AS tables,
                    coalesce(sum({size}), 0)::bigint AS bytes,
                    (SELECT count(*) FROM memberships WHERE tenant_id = $1) AS members,
                    (SELECT count(*) FROM tokens WHERE tenant_id = $1 AND revoked_at IS NULL)
                        AS tokens
               FROM pg_catalog.pg_namespace n
               -- `pg_class` has no index by schema; `pg_depend` has one by what is depended on.
               JOIN pg_catalog.pg_depend d
                 ON d.refclassid = 'pg_catalog.pg_namespace'::regclass AND d.refobjid = n.oid
                AND d.classid = 'pg_catalog.pg_class'::regclass
               JOIN pg_catalog.pg_class c ON c.oid = d.objid
              WHERE n.nspname = $2
                AND c.relkind IN ('r', 'p', 'm')"
    );
    let row = tx
        .query_one(&sql, &[&tenant, &SchemaName::of(tenant).to_string()])
        .await
        .during("count what a tenant holds")?;
    Ok(Footprint {
        tables: row.get("tables"),
        bytes: row.get("bytes"),
        members: row.get("members"),
        tokens: row.get("tokens"),
    })
}
