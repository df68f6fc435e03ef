//! The statement on `public.tenants` that tells which tenants are active.

use uuid::Uuid;

use crate::domain::error::Result;
use crate::domain::names::TenantId;
use crate::pg::error::During;
use crate::pg::scope::PublicTx;

/// Returns those of the given tenants that are active.
pub async fn list_active(tx: &PublicTx, ids: &[TenantId]) -> Result<Vec<TenantId>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let rows = tx
        .query(
            "SELECT id FROM tenants WHERE id = ANY ($1) AND status = 'active' ORDER BY id",
            &[&ids],
        )
        .await
        .during("list active tenants")?;
    Ok(rows.iter().map(|row| row.get("id")).collect())
}
