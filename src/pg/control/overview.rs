//! Counts over all tenants, in one statement.

use time::OffsetDateTime;

use crate::domain::error::Result;
use crate::pg::error::During;
use crate::pg::scope::PublicTx;

/// The numbers of tenants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TenantCounts {
    /// All of them.
    pub total: i64,
    /// Active ones.
    pub active: i64,
    /// Suspended ones.
    pub suspended: i64,
    /// Those that are being deleted.
    pub deleting: i64,
    /// Those that were made in the last 24 hours.
    pub created_last_day: i64,
    /// Those that were made in the last 7 days.
    pub created_last_week: i64,
    /// Those that are not being deleted and whose migrations are not the given ones.
    pub other_migrations: i64,
    /// When the next grace period ends.
    pub next_purge_at: Option<OffsetDateTime>,
}

/// Counts the tenants. `fingerprint` is that of this program's migrations.
pub async fn count_tenants(
    tx: &PublicTx,
    fingerprint: &str,
    now: OffsetDateTime,
) -> Result<TenantCounts> {
    let row = tx
        .query_one(
            "SELECT count(*) AS total,
                    count(*) FILTER (WHERE status = 'active') AS active,
                    count(*) FILTER (WHERE status = 'suspended') AS suspended,
                    count(*) FILTER (WHERE status = 'deleting') AS deleting,
                    count(*) FILTER (WHERE created_at > $2 - interval '1 day') AS created_last_day,
                    count(*) FILTER (WHERE created_at > $2 - interval '7 days') AS created_last_week,
                    count(*) FILTER (WHERE status <> 'deleting' AND migrations_fingerprint <> $1)
                        AS other_migrations,
                    min(purge_after) FILTER (WHERE status = 'deleting') AS next_purge_at
               FROM tenants",
            &[&fingerprint, &now],
        )
        .await
        .during("count tenants")?;
    Ok(TenantCounts {
        total: row.get("total"),
        active: row.get("active"),
        suspended: row.get("suspended"),
        deleting: row.get("deleting"),
        created_last_day: row.get("created_last_day"),
        created_last_week: row.get("created_last_week"),
        other_migrations: row.get("other_migrations"),
        next_purge_at: row.get("next_purge_at"),
    })
}
