//! Counts what a tenant holds, for whoever is about to destroy it.

use crate::domain::error::Result;
use crate::domain::names::{SchemaName, TenantId};
use crate::pg::error::During;
use crate::pg::scope::PublicTx;

/// What a tenant holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Belongings {
    /// Tables in its schema, our own history table among them.
    pub tables: i64,
    /// What these take on disk with their indexes, in bytes.
    pub bytes: i64,
    /// Users who belong to it.
    pub members: i64,
    /// API tokens that work in it alone and are not revoked.
    pub tokens: i64,
}

/// Counts what a tenant holds; of its schema this reads the catalog alone.
pub async fn count(tx: &PublicTx, tenant: TenantId) -> Result<Belongings> {
    let row = tx
        .query_one(
            "SELECT count(*),
                    coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint,
                    (SELECT count(*) FROM memberships WHERE tenant_id = $1),
                    (SELECT count(*) FROM tokens WHERE tenant_id = $1 AND revoked_at IS NULL)
               FROM pg_class c
               JOIN pg_namespace n ON n.oid = c.relnamespace
              WHERE n.nspname = $2
                AND c.relkind IN ('r', 'p', 'm')",
            &[&tenant, &SchemaName::of(tenant).to_string()],
        )
        .await
        .during("count what a tenant holds")?;
    Ok(Belongings {
        tables: row.get(0),
        bytes: row.get(1),
        members: row.get(2),
        tokens: row.get(3),
    })
}
