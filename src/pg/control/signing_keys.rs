//! Statements on `public.signing_keys`.

use time::OffsetDateTime;

use crate::domain::error::Result;
use crate::pg::error::During;
use crate::pg::locks;
use crate::pg::scope::PublicTx;

/// A key as it is stored. Held for the moment between the table and `auth`, never printed.
pub struct StoredKey {
    /// Names it in a token's header.
    pub kid: String,
    /// PKCS#8.
    pub private_key: Vec<u8>,
}

/// All keys, newest first.
pub async fn list(tx: &PublicTx) -> Result<Vec<StoredKey>> {
    let rows = tx
        .query("SELECT kid, private_key FROM signing_keys ORDER BY created_at DESC, kid", &[])
        .await
        .during("read signing keys")?;
    Ok(rows
        .iter()
        .map(|row| StoredKey { kid: row.get("kid"), private_key: row.get("private_key") })
        .collect())
}

/// Keeps other processes from making a first key at the same moment, until the transaction ends.
pub async fn lock(tx: &PublicTx) -> Result<()> {
    locks::lock(tx, "rowhouse signing keys").await.during("lock signing keys")
}

/// Writes a new key's row.
pub async fn insert(tx: &PublicTx, key: &StoredKey, now: OffsetDateTime) -> Result<()> {
    tx.execute(
        "INSERT INTO signing_keys (kid, private_key, created_at) VALUES ($1, $2, $3)",
        &[&key.kid, &key.private_key, &now],
    )
    .await
    .during("insert signing key")?;
    Ok(())
}
