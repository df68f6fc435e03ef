//! Statements on `public.idempotency_keys`.

use futures_util::future::join;
use serde_json::Value;
use time::OffsetDateTime;

use crate::domain::error::Result;
use crate::pg::error::During;
use crate::pg::locks;
use crate::pg::scope::PublicTx;
use crate::pg::scope::param::Param;

/// What was asked and answered under a key.
pub struct Record {
    /// Who asked.
    pub principal: String,
    /// The key.
    pub key: String,
    /// SHA-256 of the request without its password.
    pub request_digest: Vec<u8>,
    /// The password by its slow hash.
    pub secret_hash: Option<String>,
    /// The answer.
    pub outcome: Value,
}

/// Holds the key until the transaction ends; false where a request with it is still running.
pub async fn try_lock(tx: &PublicTx, principal: &str, key: &str) -> Result<bool> {
    locks::try_lock(tx, &format!("idempotency {principal} {key}"))
        .await
        .during("lock idempotency key")
}

/// Finds what was answered under a key, unless it has run out.
pub async fn find(
    tx: &PublicTx,
    principal: &str,
    key: &str,
    now: OffsetDateTime,
) -> Result<Option<Record>> {
    let row = tx
        .query_opt(
            "SELECT request_digest, secret_hash, outcome
               FROM idempotency_keys
              WHERE principal = $1 AND key = $2 AND expires_at > $3",
            &[&principal, &key, &now],
        )
        .await
        .during("read idempotency key")?;
    Ok(row.map(|row| Record {
        principal: principal.to_owned(),
        key: key.to_owned(),
        request_digest: row.get("request_digest"),
        secret_hash: row.get("secret_hash"),
        outcome: row.get("outcome"),
    }))
}

/// Writes what was answered, and forgets what has run out. The two share a round trip.
pub async fn insert(
    tx: &PublicTx,
    record: &Record,
    now: OffsetDateTime,
    expires_at: OffsetDateTime,
) -> Result<()> {
    let params: [&dyn Param; 7] = [
        &record.principal,
        &record.key,
        &record.request_digest,
        &record.secret_hash,
        &record.outcome,
        &now,
        &expires_at,
    ];
    let (forgotten, written) = join(
        tx.execute("DELETE FROM idempotency_keys WHERE expires_at <= $1", &[&now]),
        tx.execute(
            "INSERT INTO idempotency_keys
                 (principal, key, request_digest, secret_hash, outcome, created_at, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
            &params,
        ),
    )
    .await;
    forgotten.during("forget old idempotency keys")?;
    written.during("insert idempotency key")?;
    Ok(())
}
