//! Deletes rows of `public.operation_tenants`, and adds them to the counts of their operation.

use time::OffsetDateTime;

use crate::pg::error::Failure;
use crate::pg::scope::PublicTx;

/// Deletes at most `limit` rows of operations that ended before `ended_before`, and adds them to the counts of their
/// operations, in one statement; returns how many. Failed tenants stay if their operation can be retried: `fingerprint`
/// is that of the set of this program. Rows that another transaction has locked are skipped.
///
/// # Errors
/// [`Failure`]; then nothing is deleted.
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
