//! Drops vacancies, few tables a transaction.

use crate::domain::error::Result;
use crate::domain::names::{SchemaName, TenantId};
use crate::pg::control::vacancies;
use crate::pg::{During, PublicTx, schema};

/// Drops some tables of a vacancy, or what is left of it, and commits; true if nothing is left. The caller has the lock on
/// the stock.
pub(in crate::service) async fn drop_piece(tx: PublicTx, id: TenantId) -> Result<bool> {
    let schema = SchemaName::of(id);
    let some = schema::drop_some(&tx, &schema, &[]).await.during("drop tables of a vacancy")?;
    if !some {
        schema::drop(&tx, &schema, &[]).await.during("drop a vacancy")?;
        vacancies::delete(&tx, id).await?;
    }
    tx.commit().await.during("drop a vacancy")?;
    Ok(!some)
}
