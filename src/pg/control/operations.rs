//! Statements on `public.operations`: the ledger of work on the whole fleet, and the lock on it.
//!
//! The lock is a lease in the operation's row and not a session-level advisory lock, which two clients of a
//! transaction pooler may hold at once. Only the database's clock counts for the lease: the clocks of the machines that
//! run an operation may differ by more than it lasts.

use std::time::Duration;

use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::error::{Error, Result};
use crate::domain::operation::{LeaseOwner, OperationKind, OperationState, PauseReason};
use crate::domain::page::Window;
use crate::migrations::MigrationSet;
use crate::pg::error::{During, Failure};
use crate::pg::scope::PublicTx;

/// An operation, with the counts of its tenants.
#[derive(Debug, Clone)]
pub struct Record {
    /// Id.
    pub id: Uuid,
    /// What is done to each tenant.
    pub kind: OperationKind,
    /// Its state.
    pub state: OperationState,
    /// Why it is paused, if it is.
    pub pause_reason: Option<PauseReason>,
    /// The caller who started it.
    pub actor: String,
    /// The highest version of the set that it migrates to.
    pub target_version: i32,
    /// That set's fingerprint.
    pub target_fingerprint: String,
    /// The options of the request.
    pub options: Value,
    /// Whether its canary is not over yet.
    pub canary_open: bool,
    /// The process that ran it last.
    pub holder: Option<LeaseOwner>,
    /// Whether that process still has the lease.
    pub is_held: bool,
    /// Counts of its tenants by state.
    pub counts: Counts,
    /// When it was inserted.
    pub created_at: OffsetDateTime,
    /// When it was first run.
    pub started_at: Option<OffsetDateTime>,
    /// When it ended.
    pub ended_at: Option<OffsetDateTime>,
}

/// Counts of the tenants of an operation by state.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Counts {
    /// All tenants.
    pub total: i64,
    /// Pending.
    pub pending: i64,
    /// Claimed by a runner.
    pub running: i64,
    /// Migrated.
    pub done: i64,
    /// Could not be migrated.
    pub failed: i64,
    /// Skipped.
    pub skipped: i64,
    /// Those of all tenants whose rows were deleted.
    pub pruned: i64,
    /// Tenants that ended in each of the last ten seconds, on average; 0 unless it is running.
    pub done_per_second: f64,
}

/// An operation to insert.
#[derive(Debug)]
pub struct New<'a> {
    /// Id.
    pub id: Uuid,
    /// What is done to each tenant.
    pub kind: OperationKind,
    /// The caller.
    pub actor: &'a str,
    /// Id of the request.
    pub request_id: &'a str,
    /// The set to migrate to.
    pub set: &'a MigrationSet,
    /// The options of the request.
    pub options: Value,
    /// Whether there is a canary.
    pub canary: bool,
    /// The time of the request.
    pub now: OffsetDateTime,
}

/// A run of an operation, and the process that runs it.
#[derive(Debug, Clone)]
pub struct Runner {
    /// Id of this run.
    pub id: Uuid,
    /// Host name.
    pub host: String,
    /// Process id.
    pub pid: i32,
}

const RECORD: &str = "
    SELECT o.id, o.kind, o.state, o.pause_reason, o.actor, o.target_version, o.target_fingerprint, o.options,
           o.canary_open, o.runner_host, o.runner_pid, o.runner_since,
           coalesce(o.lease_until > now(), false) AS is_held, o.created_at, o.started_at, o.ended_at,
           c.total + p.total AS total, c.pending, c.running, c.done + o.pruned_done_count AS done,
           c.failed + o.pruned_failed_count AS failed,
           c.skipped + o.pruned_skipped_count AS skipped, p.total AS pruned, c.done_per_second
      FROM operations o
     CROSS JOIN LATERAL (
           SELECT o.pruned_done_count + o.pruned_failed_count + o.pruned_skipped_count AS total) p
     CROSS JOIN LATERAL (
           SELECT coalesce(sum(s.count), 0)::bigint AS total,
                  coalesce(sum(s.count) FILTER (WHERE s.state = 'pending'), 0)::bigint AS pending,
                  coalesce(sum(s.count) FILTER (WHERE s.state = 'running'), 0)::bigint AS running,
                  coalesce(sum(s.count) FILTER (WHERE s.state = 'done'), 0)::bigint AS done,
                  coalesce(sum(s.count) FILTER (WHERE s.state = 'failed'), 0)::bigint AS failed,
                  coalesce(sum(s.count) FILTER (WHERE s.state = 'skipped'), 0)::bigint AS skipped,
                  coalesce(sum(s.recent), 0)::float8 / 10 AS done_per_second
                  -- By state first: each row is then looked at once, and not once for each of the counts.
             FROM (SELECT t.state, count(*) AS count,
                          count(*) FILTER (WHERE o.state = 'running' AND t.ended_at > now() - interval '10 seconds')
                              AS recent
                     FROM operation_tenants t
                    WHERE t.operation_id = o.id
                    GROUP BY t.state) s) c";

/// Inserts an operation; `None` if another one is open.
pub async fn insert(tx: &PublicTx, new: &New<'_>) -> Result<Option<()>> {
    let inserted = tx
        .execute(
            "INSERT INTO operations
                 (id, kind, state, actor, request_id, target_version, target_fingerprint, options,
                  canary_open, created_at, updated_at)
             VALUES ($1, $2, 'planned', $3, $4, $5, $6, $7, $8, $9, $9)
             ON CONFLICT (kind) WHERE state IN ('planned', 'running', 'paused') DO NOTHING",
            &[
                &new.id,
                &new.kind.as_str(),
                &new.actor,
                &new.request_id,
                &new.set.version(),
                &new.set.fingerprint(),
                &new.options,
                &new.canary,
                &new.now,
            ],
        )
        .await
        .during("insert operation")?;
    Ok((inserted == 1).then_some(()))
}

/// Reads an operation.
pub async fn lookup(tx: &PublicTx, id: Uuid) -> Result<Option<Record>> {
    let row = tx.query_opt(&format!("{RECORD} WHERE o.id = $1"), &[&id]).await;
    row.during("read operation")?.map(|row| from_row(&row)).transpose()
}

/// Reads an operation and locks its row until the transaction ends.
pub async fn lock(tx: &PublicTx, id: Uuid) -> Result<Option<Record>> {
    tx.query("SELECT id FROM operations WHERE id = $1 FOR UPDATE", &[&id])
        .await
        .during("lock operation")?;
    lookup(tx, id).await
}

/// Returns when an operation was inserted; `None` if there is none with this id. Does not count its tenants.
pub async fn find_created_at(tx: &PublicTx, id: Uuid) -> Result<Option<OffsetDateTime>> {
    let row = tx.query_opt("SELECT created_at FROM operations WHERE id = $1", &[&id]).await;
    Ok(row.during("read operation")?.map(|row| row.get("created_at")))
}

/// Reads the open operation of a kind.
pub async fn find_open(tx: &PublicTx, kind: OperationKind) -> Result<Option<Record>> {
    let sql = format!("{RECORD} WHERE o.kind = $1 AND o.state IN ('planned', 'running', 'paused')");
    let row = tx.query_opt(&sql, &[&kind.as_str()]).await;
    row.during("read open operation")?.map(|row| from_row(&row)).transpose()
}

/// Reads the newest operation of a kind.
pub async fn find_newest(tx: &PublicTx, kind: OperationKind) -> Result<Option<Record>> {
    let sql = format!("{RECORD} WHERE o.kind = $1 ORDER BY o.created_at DESC, o.id DESC LIMIT 1");
    let row = tx.query_opt(&sql, &[&kind.as_str()]).await;
    row.during("read newest operation")?.map(|row| from_row(&row)).transpose()
}

/// Lists a page of the migrations, newest first.
pub async fn list(
    tx: &PublicTx,
    state: Option<OperationState>,
    window: &Window,
) -> Result<Vec<Record>> {
    let sql = format!(
        "{RECORD}
          WHERE o.kind = $1
            AND ($2::timestamptz IS NULL OR (o.created_at, o.id) < ($2, $3))
            AND ($4::text IS NULL OR o.state = $4)
          ORDER BY o.created_at DESC, o.id DESC
          LIMIT $5"
    );
    let (at, after) = window.position();
    let rows = tx
        .query(
            &sql,
            &[
                &OperationKind::Migrate.as_str(),
                &at,
                &after,
                &state.map(|state| state.as_str().to_owned()),
                &window.rows_to_read(),
            ],
        )
        .await
        .during("list operations")?;
    rows.iter().map(from_row).collect()
}

/// An operation whose runner is gone.
#[derive(Debug, Clone)]
pub struct Abandoned {
    /// Id.
    pub id: Uuid,
    /// What is done to each tenant.
    pub kind: OperationKind,
    /// The highest version of the set that it migrates to.
    pub target_version: i32,
    /// That set's fingerprint.
    pub target_fingerprint: String,
}

/// The lease has expired, or its process released it for others to continue. `lease_until IS NULL` means that an
/// operator stopped it.
const IS_ABANDONED: &str = "state = 'running' AND lease_until <= now()";

/// Finds the abandoned operation.
///
/// # Errors
/// [`Failure`].
pub async fn find_abandoned(tx: PublicTx) -> Result<Option<Abandoned>, Failure> {
    let sql = format!(
        "SELECT id, kind, target_version, target_fingerprint FROM operations
          WHERE {IS_ABANDONED} ORDER BY created_at LIMIT 1"
    );
    let rows = tx.query_and_commit(&sql, &[]).await?;
    Ok(rows.first().map(|row| Abandoned {
        id: row.get("id"),
        kind: row.get::<_, &str>("kind").parse().unwrap_or(OperationKind::Migrate),
        target_version: row.get("target_version"),
        target_fingerprint: row.get("target_fingerprint"),
    }))
}

/// Whether an operation is abandoned.
pub async fn is_abandoned(tx: &PublicTx, id: Uuid) -> Result<bool> {
    let sql = format!(
        "SELECT EXISTS (SELECT FROM operations WHERE id = $1 AND {IS_ABANDONED}) AS is_abandoned"
    );
    Ok(tx
        .query_one(&sql, &[&id])
        .await
        .during("check whether an operation is abandoned")?
        .get("is_abandoned"))
}

/// Gives the lease on an operation to a runner, unless another process has it.
///
/// Returns when the lease ends, by the database's clock; `None` if another process has it.
pub async fn acquire(
    tx: &PublicTx,
    id: Uuid,
    runner: &Runner,
    lease: Duration,
    canary_open: bool,
    now: OffsetDateTime,
) -> Result<Option<OffsetDateTime>> {
    let row = tx
        .query_opt(
            "UPDATE operations
                SET state = 'running', pause_reason = NULL, canary_open = $7, runner = $2,
                    runner_host = $3, runner_pid = $4, runner_since = $5,
                    lease_until = now() + $6 * interval '1 millisecond',
                    started_at = coalesce(started_at, $5), ended_at = NULL, updated_at = $5
              WHERE id = $1 AND (lease_until IS NULL OR lease_until <= now())
          RETURNING lease_until",
            &[&id, &runner.id, &runner.host, &runner.pid, &now, &millis(lease), &canary_open],
        )
        .await
        .during("acquire an operation")?;
    Ok(row.map(|row| row.get("lease_until")))
}

/// Renews the lease. Returns the operation's state and when the lease ends now; `None` if another process has it.
///
/// # Errors
/// [`Failure`].
pub async fn renew(
    tx: PublicTx,
    id: Uuid,
    runner: Uuid,
    lease: Duration,
) -> Result<Option<(OperationState, OffsetDateTime)>, Failure> {
    let sql = "UPDATE operations SET lease_until = now() + $3 * interval '1 millisecond'
                WHERE id = $1 AND runner = $2
            RETURNING state, lease_until";
    let rows = tx.query_and_commit(sql, &[&id, &runner, &millis(lease)]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(row.get::<_, &str>("state").parse().ok().map(|state| (state, row.get("lease_until"))))
}

/// Sets the state of an operation, and its end if it is no longer open.
pub async fn set_state(
    tx: &PublicTx,
    id: Uuid,
    state: OperationState,
    reason: Option<PauseReason>,
    now: OffsetDateTime,
) -> Result<()> {
    let ended = (!state.is_open()).then_some(now);
    tx.execute(
        "UPDATE operations
            SET state = $2, pause_reason = $3, ended_at = $4, updated_at = $5
          WHERE id = $1",
        &[&id, &state.as_str(), &reason.map(|r| r.as_str().to_owned()), &ended, &now],
    )
    .await
    .map(drop)
    .map_err(|failure| {
        if failure.violates("operations_open_key") {
            Error::Conflict(crate::domain::error::Conflict::Concurrent)
        } else {
            failure.during("move an operation")
        }
    })
}

/// Ends the canary of an operation.
pub async fn close_canary(tx: &PublicTx, id: Uuid) -> Result<()> {
    let sql = "UPDATE operations SET canary_open = false WHERE id = $1";
    tx.execute(sql, &[&id]).await.map(drop).during("close the canary")
}

/// Ends the lease of a runner that has stopped. With `allow_recovery` another process may recover the operation;
/// without, it stays until an operator resumes it.
pub async fn release(tx: &PublicTx, id: Uuid, runner: Uuid, allow_recovery: bool) -> Result<()> {
    let sql = "UPDATE operations SET lease_until = CASE WHEN $3 THEN now() END, runner = NULL
                WHERE id = $1 AND runner = $2";
    tx.execute(sql, &[&id, &runner, &allow_recovery]).await.map(drop).during("release an operation")
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn from_row(row: &crate::pg::Row) -> Result<Record> {
    let unknown = |error| Error::internal("read operation", error);
    let (state, reason): (&str, Option<&str>) = (row.get("state"), row.get("pause_reason"));
    let (host, pid, since): (Option<String>, Option<i32>, Option<OffsetDateTime>) =
        (row.get("runner_host"), row.get("runner_pid"), row.get("runner_since"));
    let holder =
        || Some(LeaseOwner { operation: row.get("id"), host: host?, pid: pid?, since: since? });
    let holder = holder();
    Ok(Record {
        id: row.get("id"),
        kind: row.get::<_, &str>("kind").parse().map_err(unknown)?,
        state: state.parse().map_err(unknown)?,
        pause_reason: reason.map(|reason| reason.parse().map_err(unknown)).transpose()?,
        actor: row.get("actor"),
        target_version: row.get("target_version"),
        target_fingerprint: row.get("target_fingerprint"),
        options: row.get("options"),
        canary_open: row.get("canary_open"),
        holder,
        is_held: row.get("is_held"),
        created_at: row.get("created_at"),
        started_at: row.get("started_at"),
        ended_at: row.get("ended_at"),
        counts: Counts {
            total: row.get("total"),
            pending: row.get("pending"),
            running: row.get("running"),
            done: row.get("done"),
            failed: row.get("failed"),
            skipped: row.get("skipped"),
            pruned: row.get("pruned"),
            done_per_second: row.get("done_per_second"),
        },
    })
}
