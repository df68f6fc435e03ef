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
    /// The private key in PKCS#8, encrypted with a secret outside of the database.
    pub private_key: Vec<u8>,
    /// The fingerprint of that secret; `None` if the private key is in clear, as earlier versions stored it.
    pub wrapped_by: Option<String>,
    /// When it was created.
    pub created_at: OffsetDateTime,
    /// When it begins to sign.
    pub signs_from: OffsetDateTime,
    /// When it stops to verify; `None` if no other key succeeds it yet.
    pub verifies_until: Option<OffsetDateTime>,
    /// The longest lifetime of an access token of all servers that sign with it, in seconds.
    pub token_lifetime_seconds: i64,
}

/// Lists all keys, in the order in which they sign.
pub async fn list(tx: &PublicTx) -> Result<Vec<StoredKey>> {
    let rows = tx
        .query(
            "SELECT kid, private_key, wrapped_by, created_at, signs_from, verifies_until, token_lifetime_seconds
               FROM signing_keys ORDER BY signs_from, kid",
            &[],
        )
        .await
        .during("read signing keys")?;
    Ok(rows
        .iter()
        .map(|row| StoredKey {
            kid: row.get("kid"),
            private_key: row.get("private_key"),
            wrapped_by: row.get("wrapped_by"),
            created_at: row.get("created_at"),
            signs_from: row.get("signs_from"),
            verifies_until: row.get("verifies_until"),
            token_lifetime_seconds: row.get("token_lifetime_seconds"),
        })
        .collect())
}

/// Prevents other processes from changing the keys, until the transaction ends. They can still be read.
pub async fn lock(tx: &PublicTx) -> Result<()> {
    locks::lock(tx, Lock::SigningKeys).await.during("lock signing keys")
}

/// Inserts a key.
pub async fn insert(tx: &PublicTx, key: &StoredKey) -> Result<()> {
    tx.execute(
        "INSERT INTO signing_keys
             (kid, private_key, wrapped_by, created_at, signs_from, verifies_until, token_lifetime_seconds)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        &[
            &key.kid,
            &key.private_key,
            &key.wrapped_by,
            &key.created_at,
            &key.signs_from,
            &key.verifies_until,
            &key.token_lifetime_seconds,
        ],
    )
    .await
    .during("insert signing key")?;
    Ok(())
}

/// Replaces a private key in clear by the encrypted one.
pub async fn wrap(tx: &PublicTx, kid: &str, private_key: &[u8], wrapped_by: &str) -> Result<()> {
    tx.execute(
        "UPDATE signing_keys SET private_key = $2, wrapped_by = $3 WHERE kid = $1",
        &[&kid, &private_key, &wrapped_by],
    )
    .await
    .during("wrap signing key")?;
    Ok(())
}

/// Sets when a key signs and verifies to the times that it has here.
pub async fn set_term(tx: &PublicTx, key: &StoredKey) -> Result<()> {
    tx.execute(
        "UPDATE signing_keys SET signs_from = $2, verifies_until = $3 WHERE kid = $1",
        &[&key.kid, &key.signs_from, &key.verifies_until],
    )
    .await
    .during("write the times of a signing key")?;
    Ok(())
}

/// Records that a server signs tokens of this lifetime with the keys that have not ended. A shorter lifetime than the
/// recorded one changes nothing.
pub async fn raise_token_lifetime(tx: &PublicTx, seconds: i64, now: OffsetDateTime) -> Result<()> {
    tx.execute(
        "UPDATE signing_keys SET token_lifetime_seconds = $1
          WHERE token_lifetime_seconds < $1 AND (verifies_until IS NULL OR verifies_until > $2)",
        &[&seconds, &now],
    )
    .await
    .during("record the lifetime of access tokens")?;
    Ok(())
}

/// Deletes the keys that ended before this time, and returns their ids.
pub async fn delete_ended(tx: &PublicTx, before: OffsetDateTime) -> Result<Vec<String>> {
    let rows = tx
        .query("DELETE FROM signing_keys WHERE verifies_until < $1 RETURNING kid", &[&before])
        .await
        .during("delete old signing keys")?;
    Ok(rows.iter().map(|row| row.get("kid")).collect())
}
