//! Statements on `public.tenants` for the repair of migration histories.

use uuid::Uuid;

use crate::domain::error::Result;
use crate::domain::names::{Slug, TenantId};
use crate::pg::Row;
use crate::pg::error::During;
use crate::pg::scope::PublicTx;

/// A tenant whose history is to be repaired.
#[derive(Debug, Clone)]
pub struct Repairable {
    /// Its id.
    pub id: TenantId,
    /// Its slug.
    pub slug: Slug,
}

/// Lists the tenants whose histories can be repaired, oldest first; only those in `only` if it is given. One whose
/// purge has begun is left out.
pub async fn list_repairable(tx: &PublicTx, only: Option<&[Uuid]>) -> Result<Vec<Repairable>> {
    let only: Option<Vec<Uuid>> = only.map(<[Uuid]>::to_vec);
    let sql = "SELECT id, slug FROM tenants
                WHERE purge_started_at IS NULL AND ($1::uuid[] IS NULL OR id = ANY ($1))
                ORDER BY created_at, id";
    let rows = tx.query(sql, &[&only]).await.during("list tenants to repair")?;
    let one = |row: &Row| Repairable { id: row.get("id"), slug: row.get("slug") };
    Ok(rows.iter().map(one).collect())
}

/// Locks the row of a tenant whose history can be repaired, for the rest of the transaction; false if there is none.
pub async fn lock_repairable(tx: &PublicTx, id: TenantId) -> Result<bool> {
    let sql = "SELECT id FROM tenants WHERE id = $1 AND purge_started_at IS NULL FOR UPDATE";
    Ok(tx.query_opt(sql, &[&id]).await.during("lock tenant row")?.is_some())
}
