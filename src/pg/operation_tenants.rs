//! Statements on `public.operation_tenants`: one row a tenant of an operation.

pub mod prune;

use postgres_protocol::escape::escape_literal;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use super::Row;
use super::error::{During, Failure};
use super::migrations::MigrationSet;
use super::scope::PublicTx;
use crate::domain::error::{Error, Result};
use crate::domain::names::{Slug, TenantId};
use crate::domain::operation::WorkState;
use crate::domain::page::Window;

/// A tenant of an operation.
#[derive(Debug, Clone)]
pub struct Work {
    /// Which.
    pub tenant: TenantId,
    /// Its slug when the operation was made.
    pub slug: Slug,
    /// Whether it belongs to the canary.
    pub is_canary: bool,
    /// Where it is.
    pub state: WorkState,
    /// How often it was begun.
    pub attempts: i32,
    /// What was applied.
    pub applied: Option<Vec<String>>,
    /// What went wrong, or why it was left out.
    pub error: Option<String>,
    /// When it was last begun.
    pub started_at: Option<OffsetDateTime>,
    /// When that ended.
    pub ended_at: Option<OffsetDateTime>,
}

/// Which tenants an operation is about, and which of them come first.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// These alone; all that are behind where there are none.
    pub only: Option<Vec<Uuid>>,
    /// So many come first, as the canary.
    pub canary_count: i64,
    /// These come first, as the canary.
    pub canary: Vec<Uuid>,
}

/// Writes a row for each tenant that is not on the set, the canary first and then the oldest; tells how many.
/// One that is being deleted is left out: where it is restored, it is behind, and the next operation finds it.
pub async fn insert(
    tx: &PublicTx,
    operation: Uuid,
    fingerprint: &str,
    choice: &Choice,
) -> Result<u64> {
    tx.execute(
        "INSERT INTO operation_tenants
             (operation_id, tenant_id, slug, position, is_canary, state, attempts)
         SELECT $1, id, slug, row_number() OVER (ORDER BY is_canary DESC, created_at, id), is_canary,
                'pending', 0
           FROM (SELECT id, slug, created_at,
                        id = ANY ($4) OR row_number() OVER (ORDER BY created_at, id) <= $5 AS is_canary
                   FROM tenants
                  WHERE migrations_fingerprint <> $2 AND status <> 'deleting'
                    AND ($3::uuid[] IS NULL OR id = ANY ($3))) behind",
        &[&operation, &fingerprint, &choice.only, &choice.canary, &choice.canary_count],
    )
    .await
    .during("insert tenants of an operation")
}

/// A tenant that was given to a runner.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// Which.
    pub tenant: TenantId,
    /// By the name people use.
    pub slug: Slug,
    /// This is so manieth time that it is begun.
    pub attempts: i32,
    /// The fingerprint of the set that it says it was made by; none where it is gone.
    pub made_by: Option<String>,
}

/// Gives some tenants that nobody has begun to a runner who has the operation, in order.
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
    // An array, and not something to join with: it is made once. A plan may run one side of a join anew for each
    // row of the other, and each time it would find other rows to lock, past the limit.
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
                      (SELECT migrations_fingerprint FROM tenants WHERE id = tenant_id)";
    let rows = tx.query_and_commit(sql, &[&operation, &runner, &canary_only, &limit, &now]).await?;
    let claimed = |row: &Row| Claimed {
        tenant: row.get(1),
        slug: row.get(2),
        attempts: row.get(3),
        made_by: row.get(4),
    };
    let mut rows: Vec<(i64, Claimed)> = rows.iter().map(|row| (row.get(0), claimed(row))).collect();
    rows.sort_by_key(|(position, _)| *position);
    Ok(rows.into_iter().map(|(_, claimed)| claimed).collect())
}

/// Takes back what a runner was given and did not begin.
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

/// Takes back what a runner had who is gone. What it had committed is `done`; the rest never happened.
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

/// A row, as long as a runner has it.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Of this operation.
    pub operation: Uuid,
    /// Given to this runner.
    pub runner: Uuid,
    /// About this tenant.
    pub tenant: TenantId,
}

/// How a tenant ended.
#[derive(Debug, Clone)]
pub enum End {
    /// These files were applied.
    Done(Vec<String>),
    /// For this reason.
    Failed(String),
    /// For this reason.
    Skipped(String),
}

/// Writes down how a tenant ended, unless somebody else has it by now: then the row count is wrong, and what
/// was done in this transaction must not be committed.
///
/// # Errors
/// [`Failure`].
pub async fn end(
    tx: &PublicTx,
    key: &Key,
    attempts: i32,
    end: &End,
    now: OffsetDateTime,
) -> Result<(), Failure> {
    let (state, applied, error) = match end {
        End::Done(applied) => (WorkState::Done, Some(applied.clone()), None),
        End::Failed(reason) => (WorkState::Failed, None, Some(reason.clone())),
        End::Skipped(reason) => (WorkState::Skipped, None, Some(reason.clone())),
    };
    let touched = tx
        .execute(
            "UPDATE operation_tenants
                SET state = $4, applied = $5, error = $6, ended_at = $7, attempts = $8, runner = NULL
              WHERE operation_id = $1 AND tenant_id = $3 AND runner = $2 AND state = 'running'",
            &[
                &key.operation,
                &key.runner,
                &key.tenant,
                &state.as_str(),
                &applied,
                &error,
                &now,
                &attempts,
            ],
        )
        .await?;
    if touched == 1 { Ok(()) } else { Err(Failure::RowCount) }
}

/// The statement that writes down, from inside of a schema, what [`super::tenants`] and the ledger say of a
/// tenant that was migrated. It travels with the migration and its commit, so it cannot be looked at before
/// it: it fails by itself where nothing may be committed. A tenant that is being deleted gets no
/// fingerprint, which every tenant has; a row that somebody else has by now gets a state that is none
/// ([`has_refused`]).
///
/// Values stand in the text: two messages less, and no statement that is planned apart. Each is a number, an id,
/// a digest of ours or quoted.
#[must_use]
pub fn done_inside(
    key: &Key,
    attempts: i32,
    applied: &[String],
    set: &MigrationSet,
    now: OffsetDateTime,
) -> String {
    let Key { operation, runner, tenant } = key;
    let tenant = tenant.uuid();
    let (version, fingerprint) = (set.version(), escape_literal(set.fingerprint()));
    let now = escape_literal(&now.format(&Rfc3339).unwrap_or_default());
    let applied: Vec<String> = applied.iter().map(|file| escape_literal(file)).collect();
    let applied = applied.join(", ");
    format!(
        "WITH tenant AS (
             UPDATE public.tenants
                SET migrations_version = {version}, revision = revision + 1, updated_at = {now},
                    migrations_fingerprint = CASE WHEN status <> 'deleting' THEN {fingerprint} END
              WHERE id = '{tenant}')
         UPDATE public.operation_tenants
            SET state = CASE WHEN runner = '{runner}' AND state = 'running' THEN 'done' ELSE 'lost' END,
                applied = ARRAY[{applied}]::text[], error = NULL, ended_at = {now},
                attempts = {attempts}, runner = NULL
          WHERE operation_id = '{operation}' AND tenant_id = '{tenant}'"
    )
}

/// The files that were applied to a tenant whose migration is done; none where it is not.
///
/// # Errors
/// [`Failure`].
pub async fn done(
    tx: &PublicTx,
    operation: Uuid,
    tenant: TenantId,
) -> Result<Option<Vec<String>>, Failure> {
    let sql = "SELECT applied
                 FROM operation_tenants
                WHERE operation_id = $1 AND tenant_id = $2 AND state = 'done'";
    let row = tx.query_opt(sql, &[&operation, &tenant]).await?;
    Ok(row.map(|row| row.get::<_, Option<_>>(0).unwrap_or_default()))
}

/// Whether it is [`done_inside`] that failed, because the tenant is being deleted or somebody else has it.
pub(super) fn has_refused(failure: &Failure) -> bool {
    let Failure::Postgres(error) = failure else { return false };
    error.as_db_error().is_some_and(|db| {
        (*db.code() == SqlState::NOT_NULL_VIOLATION
            && db.schema() == Some("public")
            && db.table() == Some("tenants")
            && db.column() == Some("migrations_fingerprint"))
            || (*db.code() == SqlState::CHECK_VIOLATION
                && db.schema() == Some("public")
                && db.constraint() == Some("operation_tenants_state_check"))
    })
}

/// Puts those that failed back among those that are not begun; tells how many.
pub async fn retry(tx: &PublicTx, operation: Uuid) -> Result<u64> {
    let sql = "UPDATE operation_tenants SET state = 'pending', error = NULL, ended_at = NULL
                WHERE operation_id = $1 AND state = 'failed'";
    tx.execute(sql, &[&operation]).await.during("retry tenants of an operation")
}

/// Leaves out what nobody has begun, and with `orphans` what a runner had who is gone.
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
                               WHERE operation_id = $1 AND is_canary AND state = 'failed')";
    Ok(tx.query_one(sql, &[&operation]).await.during("look at the canary")?.get(0))
}

/// One part of an operation's tenants, in order of their ids.
pub async fn list(
    tx: &PublicTx,
    operation: Uuid,
    state: Option<WorkState>,
    window: &Window,
) -> Result<Vec<Work>> {
    let rows = tx
        .query(
            "SELECT tenant_id, slug, is_canary, state, attempts, applied, error, started_at, ended_at
               FROM operation_tenants
              WHERE operation_id = $1
                AND ($2::uuid IS NULL OR tenant_id > $2)
                AND ($3::text IS NULL OR state = $3)
              ORDER BY tenant_id
              LIMIT $4",
            &[
                &operation,
                &window.after.map(|cursor| cursor.id),
                &state.map(|state| state.as_str().to_owned()),
                &window.rows_to_read(),
            ],
        )
        .await
        .during("list tenants of an operation")?;
    rows.iter()
        .map(|row| {
            let state: &str = row.get(3);
            Ok(Work {
                tenant: row.get(0),
                slug: row.get(1),
                is_canary: row.get(2),
                state: state.parse().map_err(|e| Error::internal("read tenant of operation", e))?,
                attempts: row.get(4),
                applied: row.get(5),
                error: row.get(6),
                started_at: row.get(7),
                ended_at: row.get(8),
            })
        })
        .collect()
}
