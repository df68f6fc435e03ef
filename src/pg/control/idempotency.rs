//! Statements on `public.idempotency_keys`.

use futures_util::future::join;
use serde_json::Value;
use time::OffsetDateTime;

use crate::domain::error::Result;
use crate::pg::error::During;
use crate::pg::locks;
use crate::pg::scope::PublicTx;
use crate::pg::scope::param::Param;

/// A request and its answer under an idempotency key.
pub struct Record {
    /// The caller.
    pub principal: String,
    /// The key.
    pub key: String,
    /// SHA-256 of the request without its password.
    pub request_digest: Vec<u8>,
    /// The slow hash of the password.
    pub secret_hash: Option<String>,
    /// The answer.
    pub outcome: Value,
}

/// Locks the key until the transaction ends; false if a request with it is still running.
pub async fn try_lock(tx: &PublicTx, principal: &str, key: &str) -> Result<bool> {
    locks::try_lock(tx, &format!("idempotency {principal} {key}"))
        .await
        .during("lock idempotency key")
}

/// Finds the answer under a key, unless it has expired.
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

/// Inserts an answer and deletes expired ones, in one round trip.
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
    let (deleted, inserted) = join(
        tx.execute("DELETE FROM idempotency_keys WHERE expires_at <= $1", &[&now]),
        tx.execute(
            "INSERT INTO idempotency_keys
                 (principal, key, request_digest, secret_hash, outcome, created_at, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
            &params,
        ),
    )
    .await;
    deleted.during("delete expired idempotency keys")?;
    inserted.during("insert idempotency key")?;
    Ok(())
}
