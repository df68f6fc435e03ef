//! Statements on `public.unlocks`.

use time::OffsetDateTime;

use crate::domain::error::Result;
use crate::pg::error::During;
use crate::pg::scope::PublicTx;

/// Inserts an unlock and deletes the expired ones.
pub async fn insert(
    tx: &PublicTx,
    digest: &[u8],
    holder: &str,
    now: OffsetDateTime,
    expires_at: OffsetDateTime,
) -> Result<()> {
    tx.execute("DELETE FROM unlocks WHERE expires_at <= $1", &[&now])
        .await
        .during("delete expired unlocks")?;
    tx.execute(
        "INSERT INTO unlocks (digest, holder, expires_at) VALUES ($1, $2, $3)",
        &[&digest, &holder, &expires_at],
    )
    .await
    .during("insert unlock row")?;
    Ok(())
}

/// Returns whether an unlock was issued to `holder` and has not expired.
pub async fn is_valid(
    tx: PublicTx,
    digest: &[u8],
    holder: &str,
    now: OffsetDateTime,
) -> Result<bool> {
    let rows = tx
        .query_and_commit(
            "SELECT 1 FROM unlocks WHERE digest = $1 AND holder = $2 AND expires_at > $3",
            &[&digest, &holder, &now],
        )
        .await
        .during("read unlock row")?;
    Ok(!rows.is_empty())
}
