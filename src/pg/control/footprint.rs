//! Counts what a tenant holds, for a caller who is about to delete or to purge it.

use crate::domain::error::Result;
use crate::domain::names::{SchemaName, TenantId};
use crate::pg::error::During;
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

/// Counts what a tenant holds; of its schema this reads only the catalog.
pub async fn count(tx: &PublicTx, tenant: TenantId) -> Result<Footprint> {
    let row = tx
        .query_one(
            "SELECT count(*) AS tables,
                    coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint AS bytes,
                    (SELECT count(*) FROM memberships WHERE tenant_id = $1) AS members,
                    (SELECT count(*) FROM tokens WHERE tenant_id = $1 AND revoked_at IS NULL)
                        AS tokens
               FROM pg_class c
               JOIN pg_namespace n ON n.oid = c.relnamespace
              WHERE n.nspname = $2
                AND c.relkind IN ('r', 'p', 'm')",
            &[&tenant, &SchemaName::of(tenant).to_string()],
        )
        .await
        .during("count what a tenant holds")?;
    Ok(Footprint {
        tables: row.get("tables"),
        bytes: row.get("bytes"),
        members: row.get("members"),
        tokens: row.get("tokens"),
    })
}
