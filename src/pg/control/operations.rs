//! Statements on `public.operations`: the ledger of work on the whole fleet, and the lock on it.
//!
//! The lock is a lease in the operation's row and not an advisory lock of a session, which two clients of a
//! transaction pooler may hold at once. The lease goes by the database's clock alone: those of the machines
//! that run an operation may differ by more than it lasts.

use std::time::Duration;

use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::error::{Error, Result};
use crate::domain::operation::{LeaseOwner, OperationState, PauseReason};
use crate::domain::page::Window;
use crate::migrations::MigrationSet;
use crate::pg::error::{During, Failure};
use crate::pg::scope::{Flush, PublicTx};

/// The one kind of operation so far.
const KIND: &str = "migrate";

/// An operation, and what has become of its tenants.
#[derive(Debug, Clone)]
pub struct Record {
    /// Names it.
    pub id: Uuid,
    /// Where it is in its life.
    pub state: OperationState,
    /// Why it is paused, where it is.
    pub pause_reason: Option<PauseReason>,
    /// Who asked for it.
    pub actor: String,
    /// The highest version of the set that it migrates to.
    pub target_version: i32,
    /// That set's fingerprint.
    pub target_fingerprint: String,
    /// What was asked for.
    pub options: Value,
    /// Whether its canary is still to be waited for.
    pub canary_open: bool,
    /// Who ran it last.
    pub holder: Option<LeaseOwner>,
    /// Whether that runner was heard of lately.
    pub is_held: bool,
    /// Its tenants by state.
    pub counts: Counts,
    /// When it was asked for.
    pub created_at: OffsetDateTime,
    /// When it was first begun.
    pub started_at: Option<OffsetDateTime>,
    /// When it ended.
    pub ended_at: Option<OffsetDateTime>,
}

/// Tenants of an operation by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// All of them.
    pub total: i64,
    /// Not begun.
    pub pending: i64,
    /// With a runner.
    pub running: i64,
    /// Migrated.
    pub done: i64,
    /// Could not be migrated.
    pub failed: i64,
    /// Left out.
    pub skipped: i64,
    /// Those of all of them whose rows are no longer kept.
    pub pruned: i64,
}

/// An operation that is to be written.
#[derive(Debug)]
pub struct New<'a> {
    /// Names it.
    pub id: Uuid,
    /// Who asks.
    pub actor: &'a str,
    /// Within which request.
    pub request_id: &'a str,
    /// What to migrate to.
    pub set: &'a MigrationSet,
    /// What was asked for.
    pub options: Value,
    /// Whether there is a canary.
    pub canary: bool,
    /// When.
    pub now: OffsetDateTime,
}

/// Who takes an operation up.
#[derive(Debug, Clone)]
pub struct Runner {
    /// Names this one go.
    pub id: Uuid,
    /// The machine.
    pub host: String,
    /// The process.
    pub pid: i32,
}

const RECORD: &str = "
    SELECT o.id, o.state, o.pause_reason, o.actor, o.target_version, o.target_fingerprint, o.options,
           o.canary_open, o.runner_host, o.runner_pid, o.runner_since,
           coalesce(o.lease_until > now(), false) AS is_held, o.created_at, o.started_at, o.ended_at,
           c.total + p.total AS total, c.pending, c.running, c.done + o.pruned_done_count AS done,
           c.failed + o.pruned_failed_count AS failed,
           c.skipped + o.pruned_skipped_count AS skipped, p.total AS pruned
      FROM operations o
     CROSS JOIN LATERAL (
           SELECT o.pruned_done_count + o.pruned_failed_count + o.pruned_skipped_count AS total) p
     CROSS JOIN LATERAL (
           SELECT count(*) AS total,
                  count(*) FILTER (WHERE t.state = 'pending') AS pending,
                  count(*) FILTER (WHERE t.state = 'running') AS running,
                  count(*) FILTER (WHERE t.state = 'done') AS done,
                  count(*) FILTER (WHERE t.state = 'failed') AS failed,
                  count(*) FILTER (WHERE t.state = 'skipped') AS skipped
             FROM operation_tenants t
            WHERE t.operation_id = o.id) c";

/// Writes a new operation; `None` where another one is open.
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
                &KIND,
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

/// Reads an operation and holds its row until the transaction ends.
pub async fn lock(tx: &PublicTx, id: Uuid) -> Result<Option<Record>> {
    tx.query("SELECT id FROM operations WHERE id = $1 FOR UPDATE", &[&id])
        .await
        .during("lock operation")?;
    lookup(tx, id).await
}

/// Reads the operation that is open, if one is.
pub async fn find_open(tx: &PublicTx) -> Result<Option<Record>> {
    let sql = format!("{RECORD} WHERE o.kind = $1 AND o.state IN ('planned', 'running', 'paused')");
    let row = tx.query_opt(&sql, &[&KIND]).await;
    row.during("read open operation")?.map(|row| from_row(&row)).transpose()
}

/// Reads the newest operation.
pub async fn find_newest(tx: &PublicTx) -> Result<Option<Record>> {
    let sql = format!("{RECORD} WHERE o.kind = $1 ORDER BY o.created_at DESC, o.id DESC LIMIT 1");
    let row = tx.query_opt(&sql, &[&KIND]).await;
    row.during("read newest operation")?.map(|row| from_row(&row)).transpose()
}

/// One part of the operations, newest first.
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
    let rows = tx
        .query(
            &sql,
            &[
                &KIND,
                &window.after.map(|cursor| cursor.at),
                &window.after.map(|cursor| cursor.id),
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
pub struct Left {
    /// Which.
    pub id: Uuid,
    /// The highest version of the set that it migrates to.
    pub target_version: i32,
    /// That set's fingerprint.
    pub target_fingerprint: String,
}

/// Somebody ran it who is not heard of any more, or who let it go for others to go on with. Where its lease
/// has no end, whoever ran it was told to stop.
const IS_LEFT: &str = "state = 'running' AND lease_until <= now()";

/// Finds the operation that was left, if one was.
///
/// # Errors
/// [`Failure`].
pub async fn find_left(tx: PublicTx) -> Result<Option<Left>, Failure> {
    let sql = format!(
        "SELECT id, target_version, target_fingerprint FROM operations WHERE kind = $1 AND {IS_LEFT}"
    );
    let rows = tx.query_and_commit(&sql, &[&KIND]).await?;
    Ok(rows.first().map(|row| Left {
        id: row.get("id"),
        target_version: row.get("target_version"),
        target_fingerprint: row.get("target_fingerprint"),
    }))
}

/// Whether an operation was left.
pub async fn is_left(tx: &PublicTx, id: Uuid) -> Result<bool> {
    let sql = format!(
        "SELECT EXISTS (SELECT FROM operations WHERE id = $1 AND {IS_LEFT}) AS is_abandoned"
    );
    Ok(tx
        .query_one(&sql, &[&id])
        .await
        .during("look whether an operation was left")?
        .get("is_abandoned"))
}

/// Gives the operation to a runner, unless somebody has it.
///
/// When its lease ends, by the database's clock; `None` where that of somebody else still holds.
pub async fn take(
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
        .during("take an operation")?;
    Ok(row.map(|row| row.get("lease_until")))
}

/// When what a runner does to a tenant is on disk: later, but where one commit is that of several servers, each
/// with a log of its own, which after a crash might not lose the same.
pub async fn flush(tx: &PublicTx) -> Result<Flush> {
    let sql = "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus') AS is_spread";
    let is_spread = tx.query_one(sql, &[]).await.during("look for other servers")?.get("is_spread");
    Ok(if is_spread { Flush::Now } else { Flush::Later })
}

/// Makes the lease last longer; tells the operation's state and when the lease ends now, and nothing where
/// somebody else has it.
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

/// Moves an operation; one that is no longer open gets its end.
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

/// Does without the canary from here on.
pub async fn close_canary(tx: &PublicTx, id: Uuid) -> Result<()> {
    let sql = "UPDATE operations SET canary_open = false WHERE id = $1";
    tx.execute(sql, &[&id]).await.map(drop).during("close the canary")
}

/// Ends the lease of a runner, who has stopped. With `hands_on` another may take up by itself what is still to
/// be done; without, it waits until somebody asks for it.
pub async fn release(tx: &PublicTx, id: Uuid, runner: Uuid, hands_on: bool) -> Result<()> {
    let sql = "UPDATE operations SET lease_until = CASE WHEN $3 THEN now() END, runner = NULL
                WHERE id = $1 AND runner = $2";
    tx.execute(sql, &[&id, &runner, &hands_on]).await.map(drop).during("release an operation")
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
        },
    })
}
