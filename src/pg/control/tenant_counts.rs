//! The statement on `public.tenants` that counts all tenants, for the metrics.

use crate::domain::error::Result;
use crate::domain::status::TenantStatus;
use crate::migrations::MigrationSet;
use crate::pg::error::During;
use crate::pg::scope::PublicTx;

/// How many tenants there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantCounts {
    /// By status; each status is there.
    pub by_status: Vec<(&'static str, i64)>,
    /// Those that are not being deleted and lack files of a set. A tenant with more files than the set lacks none.
    pub behind: i64,
}

/// Counts the tenants, and those that are behind a set.
pub async fn count(tx: PublicTx, set: &MigrationSet) -> Result<TenantCounts> {
    let rows = tx
        .query_and_commit(
            "SELECT status, count(*) AS count,
                    count(*) FILTER (WHERE status <> 'deleting' AND migrations_version <= $1
                                       AND migrations_fingerprint <> $2) AS behind
               FROM tenants GROUP BY status",
            &[&set.version(), &set.fingerprint()],
        )
        .await
        .during("count tenants")?;
    let count_of = |status: &str| {
        let row = rows.iter().find(|row| row.get::<_, String>("status") == status);
        row.map_or(0, |row| row.get("count"))
    };
    let by_status = TenantStatus::WORDS.iter().map(|status| (*status, count_of(status)));
    Ok(TenantCounts {
        by_status: by_status.collect(),
        behind: rows.iter().map(|row| row.get::<_, i64>("behind")).sum(),
    })
}
