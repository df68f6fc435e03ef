//! Statements on `public.operation_tenants`: one row for each tenant of an operation.

pub mod prune;

use std::collections::HashSet;

use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::error::{Error, Result};
use crate::domain::names::{Slug, TenantId};
use crate::domain::operation::WorkState;
use crate::domain::page::Window;
use crate::migrations::MigrationSet;
use crate::pg::Row;
use crate::pg::error::{During, Failure};
use crate::pg::scope::PublicTx;
use crate::pg::scope::param::Param;

/// A tenant of an operation.
#[derive(Debug, Clone)]
pub struct Work {
    /// Its id.
    pub tenant: TenantId,
    /// Its slug when the operation was inserted.
    pub slug: Slug,
    /// Whether it belongs to the canary.
    pub is_canary: bool,
    /// State of the work.
    pub state: WorkState,
    /// Attempts so far.
    pub attempts: i32,
    /// Files that were applied.
    pub applied: Option<Vec<String>>,
    /// What went wrong, or why it was skipped.
    pub error: Option<String>,
    /// When the last attempt began.
    pub started_at: Option<OffsetDateTime>,
    /// When it ended.
    pub ended_at: Option<OffsetDateTime>,
}

/// The tenants of an operation, and which of them come first.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// Only these; all that are behind if `None`.
    pub only: Option<Vec<Uuid>>,
    /// This many of the oldest come first, as the canary.
    pub canary_count: i64,
    /// These come first, as the canary.
    pub canary: Vec<Uuid>,
}

/// From this many rows on, the table is analyzed at once. Without statistics the planner estimates a row or two for an
/// operation, and reads all of them to find a tenant.
const MANY: u64 = 500;

/// Inserts a row for each tenant that is not on the set, the canary first and then the oldest; returns how many. A
/// tenant that is being deleted is not inserted: if it is restored, it is behind, and the next operation finds it.
pub async fn insert(
    tx: &PublicTx,
    operation: Uuid,
    fingerprint: &str,
    choice: &Choice,
) -> Result<u64> {
    let during = "insert tenants of an operation";
    let sql = "INSERT INTO operation_tenants
                   (operation_id, tenant_id, slug, position, is_canary, state, attempts)
               SELECT $1, id, slug, row_number() OVER (ORDER BY is_canary DESC, created_at, id), is_canary,
                      'pending', 0
                 FROM (SELECT id, slug, created_at,
                              id = ANY ($4) OR row_number() OVER (ORDER BY created_at, id) <= $5 AS is_canary
                         FROM tenants
                        WHERE migrations_fingerprint <> $2 AND status <> 'deleting'
                          AND ($3::uuid[] IS NULL OR id = ANY ($3))) behind";
    let params: [&dyn Param; 5] =
        [&operation, &fingerprint, &choice.only, &choice.canary, &choice.canary_count];
    let inserted = tx.execute(sql, &params).await.during(during)?;
    if inserted >= MANY {
        tx.batch("ANALYZE operation_tenants").await.during(during)?;
    }
    Ok(inserted)
}

/// Inserts a row for each of these tenants, the oldest first; returns how many. One that is being deleted is not
/// inserted.
pub async fn insert_these(tx: &PublicTx, operation: Uuid, tenants: &[TenantId]) -> Result<u64> {
    let ids: Vec<Uuid> = tenants.iter().map(|id| id.uuid()).collect();
    let sql = "INSERT INTO operation_tenants
                   (operation_id, tenant_id, slug, position, is_canary, state, attempts)
               SELECT $1, id, slug, row_number() OVER (ORDER BY created_at, id), false, 'pending', 0
                 FROM tenants
                WHERE id = ANY ($2) AND status <> 'deleting'";
    tx.execute(sql, &[&operation, &ids]).await.during("insert tenants of an operation")
}

/// A tenant that a runner has claimed.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// Its id.
    pub tenant: TenantId,
    /// Its slug.
    pub slug: Slug,
    /// Attempts so far, this one included.
    pub attempts: i32,
    /// Fingerprint of the set that made it, according to its row; `None` if the tenant is gone.
    pub made_by: Option<String>,
}

/// Claims pending tenants, in order, for the runner that has the operation.
///
/// # Errors
/// [`Failure`].
pub async fn claim(
    tx: PublicTx,
    operation: Uuid,
    runner: Uuid,
    canary_only: bool,
    limit: i64,
    now: OffsetDateTime,
) -> Result<Vec<Claimed>, Failure> {
    // An array and not a join, because an array is computed once. A plan may run one side of a join again for each row
    // of the other, and would each time lock other rows, past the limit.
    let sql = "UPDATE operation_tenants
                  SET state = 'running', runner = $2, attempts = attempts + 1, started_at = $5,
                      ended_at = NULL, error = NULL
                WHERE operation_id = $1
                  AND tenant_id = ANY (ARRAY (
                          SELECT tenant_id
                            FROM operation_tenants
                           WHERE operation_id = $1 AND state = 'pending' AND (is_canary OR NOT $3)
                           ORDER BY position
                           LIMIT $4
                             FOR UPDATE SKIP LOCKED))
                  AND EXISTS (SELECT FROM operations WHERE id = $1 AND state = 'running' AND runner = $2)
            RETURNING position, tenant_id, slug, attempts,
                      (SELECT migrations_fingerprint FROM tenants WHERE id = tenant_id) AS made_by";
    let rows = tx.query_and_commit(sql, &[&operation, &runner, &canary_only, &limit, &now]).await?;
    let claimed = |row: &Row| Claimed {
        tenant: row.get("tenant_id"),
        slug: row.get("slug"),
        attempts: row.get("attempts"),
        made_by: row.get("made_by"),
    };
    let mut rows: Vec<(i64, Claimed)> =
        rows.iter().map(|row| (row.get("position"), claimed(row))).collect();
    rows.sort_by_key(|(position, _)| *position);
    Ok(rows.into_iter().map(|(_, claimed)| claimed).collect())
}

/// Makes tenants pending again that a runner has claimed and not begun.
pub async fn give_back(
    tx: &PublicTx,
    operation: Uuid,
    runner: Uuid,
    tenants: Vec<Uuid>,
) -> Result<()> {
    tx.execute(
        "UPDATE operation_tenants
            SET state = CASE (SELECT state FROM operations WHERE id = $1)
                             WHEN 'cancelled' THEN 'skipped' ELSE 'pending' END,
                runner = NULL, attempts = attempts - 1
          WHERE operation_id = $1 AND runner = $2 AND state = 'running' AND tenant_id = ANY ($3)",
        &[&operation, &runner, &tenants],
    )
    .await
    .map(drop)
    .during("give tenants of an operation back")
}

/// Makes tenants pending again that a runner had claimed which is gone. What it had recorded is `done`.
pub async fn reclaim(tx: &PublicTx, operation: Uuid, runner: Uuid) -> Result<()> {
    tx.execute(
        "UPDATE operation_tenants SET state = 'pending', runner = NULL
          WHERE operation_id = $1 AND state = 'running' AND runner <> $2",
        &[&operation, &runner],
    )
    .await
    .map(drop)
    .during("take back tenants of an operation")
}

/// The key of a row that a runner has claimed.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// The operation.
    pub operation: Uuid,
    /// The runner.
    pub runner: Uuid,
    /// The tenant.
    pub tenant: TenantId,
}

/// How the work on a tenant ended.
#[derive(Debug, Clone)]
pub enum End {
    /// Migrated: these files were applied.
    Done(Vec<String>),
    /// Failed for this reason.
    Failed(String),
    /// Skipped for this reason.
    Skipped(String),
}

/// Records that a tenant was not migrated and why, unless another runner has claimed it meanwhile.
///
/// # Errors
/// [`Failure`]; [`Failure::RowCount`] if another runner has it.
pub async fn mark_failed(
    tx: &PublicTx,
    key: &Key,
    attempts: i32,
    state: WorkState,
    reason: &str,
    now: OffsetDateTime,
) -> Result<(), Failure> {
    let touched = tx
        .execute(
            "UPDATE operation_tenants
                SET state = $4, applied = NULL, error = $5, ended_at = $6, attempts = $7, runner = NULL
              WHERE operation_id = $1 AND tenant_id = $3 AND runner = $2 AND state = 'running'",
            &[
                &key.operation,
                &key.runner,
                &key.tenant,
                &state.as_str(),
                &reason,
                &now,
                &attempts,
            ],
        )
        .await?;
    if touched == 1 { Ok(()) } else { Err(Failure::RowCount) }
}

/// A tenant whose schema is migrated and which is not recorded yet.
#[derive(Debug, Clone)]
pub struct Migrated {
    /// Its id.
    pub tenant: TenantId,
    /// Fingerprint of the set that made it, according to its row when it was claimed.
    pub made_by: Option<String>,
    /// Attempts.
    pub attempts: i32,
    /// Files that were applied.
    pub applied: Vec<String>,
    /// When the migration was committed.
    pub ended_at: OffsetDateTime,
}

/// Records that tenants are migrated, and commits: in their own rows the set that they are migrated to, unless the row
/// has another fingerprint by now, and in the ledger that they are done. Returns `false` if another runner has a row of
/// the ledger by now; that row is left as it is.
///
/// # Errors
/// [`Failure`]; then nothing is recorded.
pub async fn record(
    tx: PublicTx,
    operation: Uuid,
    runner: Uuid,
    set: &MigrationSet,
    some: &[Migrated],
) -> Result<bool, Failure> {
    let ids: Vec<Uuid> = some.iter().map(|one| one.tenant.uuid()).collect();
    // No set has an empty fingerprint.
    let made_by: Vec<String> =
        some.iter().map(|one| one.made_by.clone().unwrap_or_default()).collect();
    let attempts: Vec<i32> = some.iter().map(|one| one.attempts).collect();
    let applied: Vec<String> = some.iter().map(|one| one.applied.join("\n")).collect();
    let ended: Vec<OffsetDateTime> = some.iter().map(|one| one.ended_at).collect();
    // The ids again, as an array, so that rows are found by their index whatever the statistics say.
    let sql = "WITH migrated AS (
                   SELECT id, made_by, attempts, string_to_array(applied, E'\\n') AS applied, ended_at
                     FROM unnest($3::uuid[], $4::text[], $5::int[], $6::text[], $7::timestamptz[])
                          AS m (id, made_by, attempts, applied, ended_at)
               ), tenant AS (
                   UPDATE tenants
                      SET migrations_version = $8, migrations_fingerprint = $9, revision = revision + 1,
                          updated_at = m.ended_at
                     FROM migrated m
                    WHERE tenants.id = ANY ($3) AND tenants.id = m.id AND migrations_fingerprint = m.made_by
               ), ledger AS (
                   UPDATE operation_tenants t
                      SET state = 'done', applied = m.applied, error = NULL, ended_at = m.ended_at,
                          attempts = m.attempts, runner = NULL
                     FROM migrated m
                    WHERE operation_id = $1 AND tenant_id = ANY ($3) AND tenant_id = m.id
                      AND runner = $2 AND state = 'running'
                RETURNING tenant_id)
               SELECT count(*) AS total FROM ledger";
    let (version, fingerprint) = (set.version(), set.fingerprint());
    let params: [&dyn Param; 9] =
        [&operation, &runner, &ids, &made_by, &attempts, &applied, &ended, &version, &fingerprint];
    let rows = tx.query_and_commit(sql, &params).await?;
    let written: i64 = rows.first().ok_or(Failure::RowCount)?.get("total");
    Ok(usize::try_from(written) == Ok(some.len()))
}

/// Makes failed tenants pending again, or those in `only`; returns which.
pub async fn retry(tx: &PublicTx, operation: Uuid, only: Option<&[Uuid]>) -> Result<HashSet<Uuid>> {
    let only: Option<Vec<Uuid>> = only.map(<[Uuid]>::to_vec);
    let sql = "UPDATE operation_tenants SET state = 'pending', error = NULL, ended_at = NULL
                WHERE operation_id = $1 AND state = 'failed' AND ($2::uuid[] IS NULL OR tenant_id = ANY ($2))
            RETURNING tenant_id";
    let rows = tx.query(sql, &[&operation, &only]).await.during("retry tenants of an operation")?;
    Ok(rows.iter().map(|row| row.get("tenant_id")).collect())
}

/// Skips pending tenants, and with `orphans` those that a runner had claimed which is gone.
pub async fn skip(
    tx: &PublicTx,
    operation: Uuid,
    orphans: bool,
    now: OffsetDateTime,
) -> Result<()> {
    tx.execute(
        "UPDATE operation_tenants
            SET state = 'skipped', error = 'the operation was cancelled', runner = NULL, ended_at = $3
          WHERE operation_id = $1 AND (state = 'pending' OR ($2 AND state = 'running'))",
        &[&operation, &orphans, &now],
    )
    .await
    .map(drop)
    .during("skip tenants of an operation")
}

/// Whether a tenant of the canary failed.
pub async fn canary_failed(tx: &PublicTx, operation: Uuid) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT FROM operation_tenants
                               WHERE operation_id = $1 AND is_canary AND state = 'failed') AS has_failed";
    Ok(tx.query_one(sql, &[&operation]).await.during("check the canary")?.get("has_failed"))
}

/// Conditions on the tenants to list; `None` sets no condition.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// In this state.
    pub state: Option<WorkState>,
    /// With this text in the slug, in any case.
    pub q: Option<String>,
    /// In this order.
    pub order: Order,
}

/// The order of a list of an operation's tenants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// By id.
    #[default]
    Id,
    /// Those whose last attempt took longest first.
    Slowest,
}

impl Order {
    /// All words.
    pub const WORDS: &[&str] = &["tenant_id", "-took"];

    /// Reads a word.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        match word {
            "tenant_id" => Some(Self::Id),
            "-took" => Some(Self::Slowest),
            _ => None,
        }
    }

    /// The condition that a row of the operation `$1` follows the one with the id `$2`, and the order.
    fn sql(self) -> (String, String) {
        // What was skipped took no time, whatever an attempt before it took.
        let took = "coalesce(CASE WHEN state IN ('done', 'failed') THEN ended_at - started_at END, interval '0')";
        match self {
            Self::Id => ("tenant_id > $2".to_owned(), "tenant_id".to_owned()),
            Self::Slowest => (
                format!(
                    "({took}, tenant_id) < ((SELECT {took} FROM operation_tenants
                                              WHERE operation_id = $1 AND tenant_id = $2), $2)"
                ),
                format!("{took} DESC, tenant_id DESC"),
            ),
        }
    }
}

/// Lists a page of an operation's tenants, in the order of the filter.
pub async fn list(
    tx: &PublicTx,
    operation: Uuid,
    filter: &Filter,
    window: &Window,
) -> Result<Vec<Work>> {
    let (follows, order) = filter.order.sql();
    let sql = format!(
        "SELECT tenant_id, slug, is_canary, state, attempts, applied, error, started_at, ended_at
           FROM operation_tenants
          WHERE operation_id = $1
            AND ($2::uuid IS NULL OR {follows})
            AND ($3::text IS NULL OR state = $3)
            AND ($4::text IS NULL OR strpos(slug, lower($4)) > 0)
          ORDER BY {order}
          LIMIT $5"
    );
    let rows = tx
        .query(
            &sql,
            &[
                &operation,
                &window.after.map(|cursor| cursor.id),
                &filter.state.map(|state| state.as_str().to_owned()),
                &filter.q,
                &window.rows_to_read(),
            ],
        )
        .await
        .during("list tenants of an operation")?;
    rows.iter()
        .map(|row| {
            let state: &str = row.get("state");
            Ok(Work {
                tenant: row.get("tenant_id"),
                slug: row.get("slug"),
                is_canary: row.get("is_canary"),
                state: state.parse().map_err(|e| Error::internal("read tenant of operation", e))?,
                attempts: row.get("attempts"),
                applied: row.get("applied"),
                error: row.get("error"),
                started_at: row.get("started_at"),
                ended_at: row.get("ended_at"),
            })
        })
        .collect()
}
