//! Statements on `public.idempotency_keys`.
//!
//! The row of a key is also its lock. The transaction that does the work inserts the row before it and completes it
//! after it, so that no other transaction ever sees a row without an answer.

use std::time::Duration;

use futures_util::future::{join, join3};
use serde_json::Value;
use time::OffsetDateTime;
use tokio_postgres::error::SqlState;

use crate::domain::error::Result;
use crate::pg::error::{During, Failure};
use crate::pg::rules::TimeLimits;
use crate::pg::scope::PublicTx;
use crate::pg::scope::param::Param;

/// How long to wait for another transaction that has a key's row before its request counts as still running. The
/// server cannot insert a row without waiting for another transaction that inserts the same. Longer than a
/// commit and than the locks that concurrent inserts hold while a table grows.
const CLAIM_WAIT: Duration = Duration::from_millis(100);

/// A request under an idempotency key.
pub struct Request<'a> {
    /// The caller.
    pub principal: &'a str,
    /// The key.
    pub key: &'a str,
    /// SHA-256 of the request without its password.
    pub digest: &'a [u8],
    /// The slow hash of the password.
    pub secret_hash: Option<&'a str>,
}

/// What was answered to the request with a key.
pub struct Record {
    /// SHA-256 of the request without its password.
    pub request_digest: Vec<u8>,
    /// The slow hash of the password.
    pub secret_hash: Option<String>,
    /// The answer.
    pub outcome: Value,
}

/// What came of an attempt to claim a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// The key belongs to this transaction, which must complete it with [`complete`].
    Claimed,
    /// The key has an answer, which has not expired.
    Answered,
    /// Another transaction has claimed the key and is still running.
    Running,
}

/// Claims a key until `expires_at`. After [`Claim::Running`] the transaction can only be dropped.
pub async fn claim(
    tx: &PublicTx,
    request: &Request<'_>,
    now: OffsetDateTime,
    expires_at: OffsetDateTime,
    limits: &TimeLimits,
) -> Result<Claim> {
    // The answer that no other transaction sees.
    let no_outcome = Value::Null;
    let params: [&dyn Param; 7] = [
        &request.principal,
        &request.key,
        &request.digest,
        &request.secret_hash,
        &no_outcome,
        &now,
        &expires_at,
    ];
    let shorten = format!("SET LOCAL lock_timeout = {}", claim_wait(limits).as_millis());
    let restore = format!("SET LOCAL lock_timeout = {}", limits.lock.as_millis());
    // Sent together: one round trip.
    let (shortened, inserted, restored) = join3(
        tx.batch(&shorten),
        // An expired row is taken over. Waits for a transaction that inserts, changes or deletes the row.
        tx.execute(
            "INSERT INTO idempotency_keys
                 (principal, key, request_digest, secret_hash, outcome, created_at, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7)
             ON CONFLICT (principal, key) DO UPDATE
                SET request_digest = excluded.request_digest, secret_hash = excluded.secret_hash,
                    outcome = excluded.outcome, created_at = excluded.created_at,
                    expires_at = excluded.expires_at
              WHERE idempotency_keys.expires_at <= $6",
            &params,
        ),
        tx.batch(&restore),
    )
    .await;
    shortened.during("claim idempotency key")?;
    match inserted {
        Ok(0) => Ok(Claim::Answered),
        Ok(_) => restored.map(|()| Claim::Claimed).during("claim idempotency key"),
        Err(failure) if is_held(&failure) => Ok(Claim::Running),
        Err(failure) => Err(failure.during("claim idempotency key")),
    }
}

/// The wait for a key's row: not longer than for any other row. A limit of zero is none.
fn claim_wait(limits: &TimeLimits) -> Duration {
    if limits.lock.is_zero() { CLAIM_WAIT } else { limits.lock.min(CLAIM_WAIT) }
}

fn is_held(failure: &Failure) -> bool {
    failure.sqlstate() == Some(&SqlState::LOCK_NOT_AVAILABLE)
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
        request_digest: row.get("request_digest"),
        secret_hash: row.get("secret_hash"),
        outcome: row.get("outcome"),
    }))
}

/// Completes the key that this transaction has claimed with the answer, and deletes keys that have expired, in one round
/// trip.
pub async fn complete(
    tx: &PublicTx,
    principal: &str,
    key: &str,
    outcome: &Value,
    now: OffsetDateTime,
) -> Result<()> {
    let (completed, deleted) = join(
        complete_alone(tx, principal, key, outcome),
        // Those that another transaction is deleting or taking over are left to it.
        tx.execute(
            "DELETE FROM idempotency_keys
              WHERE (principal, key) IN (SELECT principal, key
                                           FROM idempotency_keys
                                          WHERE expires_at <= $1
                                            FOR UPDATE SKIP LOCKED)",
            &[&now],
        ),
    )
    .await;
    completed?;
    deleted.during("delete expired idempotency keys").map(drop)
}

/// Completes the key that this transaction has claimed with the answer, in a transaction that sees one moment of the database:
/// that could not delete keys which another one has deleted since.
pub async fn complete_alone(
    tx: &PublicTx,
    principal: &str,
    key: &str,
    outcome: &Value,
) -> Result<()> {
    let sql = "UPDATE idempotency_keys SET outcome = $3 WHERE principal = $1 AND key = $2";
    let completed = tx.execute(sql, &[&principal, &key, outcome]).await;
    if completed.during("complete idempotency key")? != 1 {
        return Err(Failure::RowCount.during("complete idempotency key"));
    }
    Ok(())
}
