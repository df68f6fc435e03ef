//! Forgets rows of `public.operation_tenants`, and counts them into their operation first.

use time::OffsetDateTime;

use crate::pg::error::Failure;
use crate::pg::scope::PublicTx;

/// Removes at most `limit` rows of operations that ended before, and adds them to what their operations say of
/// themselves, in one statement; tells how many. What failed stays where it can be tried again: `fingerprint`
/// is of the set that this program migrates to. What somebody else is at is passed over.
///
/// # Errors
/// [`Failure`], and nothing is removed.
pub async fn prune(
    tx: PublicTx,
    ended_before: OffsetDateTime,
    fingerprint: &str,
    limit: i64,
) -> Result<i64, Failure> {
    let sql = "
        WITH old AS (
             SELECT t.operation_id, t.tenant_id
               FROM operations o
               JOIN operation_tenants t ON t.operation_id = o.id
              WHERE o.state IN ('done', 'failed', 'cancelled') AND o.ended_at < $1
                AND (t.state <> 'failed' OR o.state <> 'failed' OR o.target_fingerprint <> $2)
              ORDER BY o.created_at, t.operation_id, t.tenant_id
              LIMIT $3
                FOR UPDATE OF o, t SKIP LOCKED),
             gone AS (
             DELETE FROM operation_tenants t
              USING old
              WHERE t.operation_id = old.operation_id AND t.tenant_id = old.tenant_id
          RETURNING t.operation_id, t.state),
             counts AS (
             SELECT operation_id,
                    count(*) FILTER (WHERE state = 'done') AS done,
                    count(*) FILTER (WHERE state = 'failed') AS failed,
                    count(*) FILTER (WHERE state NOT IN ('done', 'failed')) AS skipped
               FROM gone
              GROUP BY operation_id),
             noted AS (
             UPDATE operations o
                SET pruned_done_count = o.pruned_done_count + c.done,
                    pruned_failed_count = o.pruned_failed_count + c.failed,
                    pruned_skipped_count = o.pruned_skipped_count + c.skipped
               FROM counts c
              WHERE o.id = c.operation_id)
        SELECT count(*) AS total FROM gone";
    let rows = tx.query_and_commit(sql, &[&ended_before, &fingerprint, &limit]).await?;
    Ok(rows.first().map_or(0, |row| row.get("total")))
}
