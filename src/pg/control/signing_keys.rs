//! Statements on `public.signing_keys`.

use time::OffsetDateTime;

use crate::domain::error::Result;
use crate::pg::error::During;
use crate::pg::locks::{self, Lock};
use crate::pg::scope::PublicTx;

/// A signing key as it is stored. Has no `Debug`, so that it is never printed.
pub struct StoredKey {
    /// The key id, which a token's header names.
    pub kid: String,
    /// The private key in PKCS#8.
    pub private_key: Vec<u8>,
}

/// Lists all keys, newest first.
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

/// Prevents other processes from creating a first key at the same time, until the transaction ends.
pub async fn lock(tx: &PublicTx) -> Result<()> {
    locks::lock(tx, Lock::SigningKeys).await.during("lock signing keys")
}

/// Inserts a key.
pub async fn insert(tx: &PublicTx, key: &StoredKey, now: OffsetDateTime) -> Result<()> {
    tx.execute(
        "INSERT INTO signing_keys (kid, private_key, created_at) VALUES ($1, $2, $3)",
        &[&key.kid, &key.private_key, &now],
    )
    .await
    .during("insert signing key")?;
    Ok(())
}
