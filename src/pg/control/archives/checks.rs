//! The checks of stored archives: whether the content is what was stored.

use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::error::Result;
use crate::pg::error::During;
use crate::pg::scope::PublicTx;

/// Begins a check of a stored archive; returns false if one is running, or the archive is not ready.
pub async fn begin(tx: &PublicTx, id: Uuid, lease: Duration) -> Result<bool> {
    let sql = "UPDATE archives
                  SET check_state = 'running', check_lease_until = now() + $2 * interval '1 second', checked_at = NULL,
                      check_error = NULL
                WHERE id = $1 AND state = 'ready'
                  AND (check_state IS DISTINCT FROM 'running' OR check_lease_until <= now())";
    let lease = lease.as_secs_f64();
    Ok(tx.execute(sql, &[&id, &lease]).await.during("begin the check of an archive")? == 1)
}

/// Renews the lease of a check; returns false if the archive is no longer checked.
pub async fn renew(tx: PublicTx, id: Uuid, lease: Duration) -> Result<bool> {
    let sql = "UPDATE archives SET check_lease_until = now() + $2 * interval '1 second'
                WHERE id = $1 AND state = 'ready' AND check_state = 'running' RETURNING id";
    let rows = tx.query_and_commit(sql, &[&id, &lease.as_secs_f64()]).await;
    Ok(!rows.during("renew the lease of a check")?.is_empty())
}

/// Records how a check ended; without a reason it has passed.
pub async fn end(
    tx: &PublicTx,
    id: Uuid,
    why_not: Option<&str>,
    now: OffsetDateTime,
) -> Result<()> {
    let sql = "UPDATE archives
                  SET check_state = CASE WHEN $2::text IS NULL THEN 'passed' ELSE 'failed' END, check_error = $2,
                      checked_at = $3
                WHERE id = $1 AND check_state = 'running'";
    tx.execute(sql, &[&id, &why_not, &now]).await.during("end the check of an archive").map(drop)
}
