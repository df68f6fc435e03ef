//! Statements on `public.vacancies` and `public.vacancy_keepers`.
//!
//! [`crate::pg::schema`] makes and drops the schemas that these rows describe, in the same transactions. A set-up
//! takes its vacancy in [`crate::pg::control::tenant_setup`].

use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::error::{Error, Result};
use crate::domain::names::TenantId;
use crate::migrations::MigrationSet;
use crate::pg::control::catalog_digest::catalog_digest;
use crate::pg::control::tenants::CLUSTER;
use crate::pg::error::{During, Failure};
use crate::pg::locks::{self, Lock};
use crate::pg::rules::{Isolation, RUNTIME_LOGIN};
use crate::pg::scope::PublicTx;

/// The state of a vacancy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum State {
    /// It has its role and no schema yet.
    Building,
    /// It can be taken.
    Ready,
    /// It is being dropped, in several transactions.
    Dropping,
}

impl State {
    /// Returns the word in the database.
    fn as_str(self) -> &'static str {
        self.into()
    }
}

/// What a vacancy was made by, and what a process needs: a vacancy fits if all fields are equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// How tenants are isolated.
    pub isolation: Isolation,
    /// The highest migration.
    pub version: i32,
    /// The digest of all migrations.
    pub fingerprint: String,
}

impl Pattern {
    /// Returns the pattern of this set under this isolation.
    #[must_use]
    pub fn of(set: &MigrationSet, isolation: Isolation) -> Self {
        Self { isolation, version: set.version(), fingerprint: set.fingerprint().to_owned() }
    }
}

/// A schema without a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vacancy {
    /// The future tenant's id.
    pub id: TenantId,
    /// Its state.
    pub state: State,
    /// What it was made by.
    pub pattern: Pattern,
    /// When it was begun.
    pub created_at: OffsetDateTime,
}

/// A process that keeps a stock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replenisher {
    /// Id, which the process chooses for itself.
    pub id: Uuid,
    /// What its vacancies must match.
    pub pattern: Pattern,
    /// How many it wants.
    pub wanted: usize,
    /// When it last recorded that it is alive.
    pub seen_at: OffsetDateTime,
}

/// Finds the vacancy on which to rehearse a migration to `pattern`: preferably one that is behind, and none of
/// `excluded`.
pub async fn find_for_rehearsal(
    tx: &PublicTx,
    pattern: &Pattern,
    excluded: &[TenantId],
) -> Result<Option<TenantId>> {
    let excluded: Vec<Uuid> = excluded.iter().map(|id| id.uuid()).collect();
    let row = tx
        .query_opt(
            "SELECT id
               FROM vacancies
              WHERE state = 'ready' AND damaged_at IS NULL AND away_at IS NULL AND isolation = $1 AND cluster = $2
                AND migrations_version <= $3 AND id <> ALL ($5)
              ORDER BY migrations_fingerprint = $4, created_at, id
              LIMIT 1",
            &[
                &pattern.isolation.as_str(),
                &CLUSTER,
                &pattern.version,
                &pattern.fingerprint,
                &excluded,
            ],
        )
        .await
        .during("look for a vacancy")?;
    Ok(row.map(|row| row.get("id")))
}

/// Locks a vacancy's row for the rest of a transaction that has entered its schema, so that no set-up takes it
/// meanwhile; false if it is taken or another transaction has locked it.
///
/// # Errors
/// [`Failure`].
pub async fn try_lock_row_inside(tx: &PublicTx, id: TenantId) -> Result<bool, Failure> {
    let sql = "SELECT id FROM public.vacancies
                WHERE id = $1 AND state = 'ready'
                  FOR UPDATE SKIP LOCKED";
    Ok(tx.query_opt(sql, &[&id]).await?.is_some())
}

/// Takes the lock on the stock for the rest of the transaction; false if another transaction has it.
pub async fn try_lock(tx: &PublicTx) -> Result<bool> {
    locks::try_lock(tx, Lock::Vacancies).await.during("lock the stock of vacancies")
}

/// Takes the lock on the stock for the rest of the transaction, and waits for it.
pub async fn lock(tx: &PublicTx) -> Result<()> {
    locks::lock(tx, Lock::Vacancies).await.during("lock the stock of vacancies")
}

/// All vacancies on this cluster, oldest first.
pub async fn list(tx: &PublicTx) -> Result<Vec<Vacancy>> {
    let rows = tx
        .query(
            "SELECT isolation, migrations_version, migrations_fingerprint, id, state, created_at
               FROM vacancies
              WHERE cluster = $1
              ORDER BY created_at, id",
            &[&CLUSTER],
        )
        .await
        .during("list vacancies")?;
    rows.iter()
        .map(|row| {
            let (pattern, word): (_, &str) = (read_pattern(row)?, row.get("state"));
            let state = word.parse().map_err(|_unknown| unknown(word))?;
            Ok(Vacancy { id: row.get("id"), state, pattern, created_at: row.get("created_at") })
        })
        .collect()
}

/// Locks the row of a vacancy in this state for the rest of the transaction; false if it is gone or in another state.
/// Waits for a set-up that is about to take it.
pub async fn lock_in(tx: &PublicTx, id: TenantId, state: State) -> Result<bool> {
    let sql = "SELECT id FROM vacancies WHERE id = $1 AND state = $2 FOR UPDATE";
    let row = tx.query_opt(sql, &[&id, &state.as_str()]).await.during("lock a vacancy")?;
    Ok(row.is_some())
}

/// Inserts vacancies whose roles are made in the same transaction and whose schemas follow.
pub async fn insert(
    tx: &PublicTx,
    ids: &[TenantId],
    pattern: &Pattern,
    now: OffsetDateTime,
) -> Result<()> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    tx.execute(
        "INSERT INTO vacancies
             (id, state, isolation, cluster, migrations_version, migrations_fingerprint, created_at)
         SELECT id, $2, $3, $4, $5, $6, $7 FROM unnest($1::uuid[]) AS new (id)",
        &[
            &ids,
            &State::Building.as_str(),
            &pattern.isolation.as_str(),
            &CLUSTER,
            &pattern.version,
            &pattern.fingerprint,
            &now,
        ],
    )
    .await
    .during("insert vacancy rows")?;
    Ok(())
}

/// Takes a vacancy that has its role and no schema: a set-up makes the schema. The newest one, because a replenisher builds
/// the oldest. One whose role is missing, or cannot be used, is left.
pub async fn take_begun(tx: &PublicTx, pattern: &Pattern) -> Result<Option<TenantId>> {
    let sql = "
        DELETE FROM vacancies
         WHERE id = (SELECT v.id
                       FROM vacancies v
                      WHERE v.state = $1 AND v.damaged_at IS NULL
                        AND v.migrations_fingerprint = $2 AND v.isolation = $3 AND v.cluster = $4
                        AND pg_catalog.to_regnamespace('tenant_' || replace(v.id::text, '-', '')) IS NULL
                        AND ($3 <> $5 OR EXISTS (
                            SELECT FROM pg_catalog.pg_auth_members m
                              JOIN pg_catalog.pg_roles r ON r.oid = m.roleid
                              JOIN pg_catalog.pg_roles l ON l.oid = m.member
                             WHERE r.rolname = 'tenant_' || replace(v.id::text, '-', '') AND l.rolname = $6))
                      ORDER BY v.created_at DESC, v.id DESC
                      LIMIT 1
                        FOR UPDATE OF v SKIP LOCKED)
        RETURNING id";
    let row = tx
        .query_opt(
            sql,
            &[
                &State::Building.as_str(),
                &pattern.fingerprint,
                &pattern.isolation.as_str(),
                &CLUSTER,
                &Isolation::Role.as_str(),
                &RUNTIME_LOGIN,
            ],
        )
        .await
        .during("take the role of a vacancy")?;
    Ok(row.map(|row| row.get("id")))
}

/// Marks a vacancy as ready, with these migrations.
pub async fn set_ready(tx: &PublicTx, id: TenantId, pattern: &Pattern) -> Result<()> {
    let touched = tx
        .execute(
            concat!(
                "UPDATE vacancies
                    SET state = $2, migrations_version = $3, migrations_fingerprint = $4, damaged_at = NULL,
                        catalog_digest = ",
                catalog_digest!("id"),
                " WHERE id = $1"
            ),
            &[&id, &State::Ready.as_str(), &pattern.version, &pattern.fingerprint],
        )
        .await
        .during("mark a vacancy as ready")?;
    if touched == 1 { Ok(()) } else { Err(Failure::RowCount.during("mark a vacancy as ready")) }
}

/// Finds vacancies whose schema or role was changed since it became ready, and sets them aside: no set-up takes one.
/// Returns those that were found now.
pub async fn set_damaged(tx: &PublicTx, now: OffsetDateTime) -> Result<Vec<TenantId>> {
    let sql = concat!(
        "UPDATE vacancies
            SET damaged_at = $1
          WHERE id = ANY (ARRAY(SELECT id FROM vacancies
                                 WHERE state = 'ready' AND damaged_at IS NULL AND catalog_digest IS NOT NULL
                                   AND catalog_digest IS DISTINCT FROM ",
        catalog_digest!("vacancies.id"),
        " FOR UPDATE SKIP LOCKED))
          RETURNING id"
    );
    let rows = tx.query(sql, &[&now]).await.during("look for damaged vacancies")?;
    Ok(rows.iter().map(|row| row.get("id")).collect())
}

/// Lists the vacancies that were set aside because their schema or role was changed.
pub async fn list_damaged(tx: &PublicTx) -> Result<Vec<TenantId>> {
    let sql = "SELECT id FROM vacancies WHERE damaged_at IS NOT NULL AND cluster = $1";
    let rows = tx.query(sql, &[&CLUSTER]).await.during("list damaged vacancies")?;
    Ok(rows.iter().map(|row| row.get("id")).collect())
}

/// Sets vacancies aside whose node was found to be away: no set-up takes one until [`clear_away`].
pub async fn set_away(tx: &PublicTx, ids: &[TenantId], now: OffsetDateTime) -> Result<()> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let sql = "UPDATE vacancies SET away_at = $2 WHERE id = ANY ($1) AND away_at IS NULL";
    tx.execute(sql, &[&ids, &now]).await.map(drop).during("set vacancies of a node aside")
}

/// Lets set-ups take these vacancies again.
pub async fn clear_away(tx: &PublicTx, ids: &[TenantId]) -> Result<()> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let sql = "UPDATE vacancies SET away_at = NULL WHERE id = ANY ($1)";
    tx.execute(sql, &[&ids]).await.map(drop).during("take vacancies of a node back")
}

/// Lists the vacancies that were set aside because their node was away, the earliest first.
pub async fn list_away(tx: &PublicTx) -> Result<Vec<TenantId>> {
    let sql =
        "SELECT id FROM vacancies WHERE away_at IS NOT NULL AND cluster = $1 ORDER BY away_at, id";
    let rows = tx.query(sql, &[&CLUSTER]).await.during("list vacancies of a node that is away")?;
    Ok(rows.iter().map(|row| row.get("id")).collect())
}

/// Marks vacancies as being dropped, so that no set-up takes one. Waits for set-ups that are about to take one;
/// those keep what they take.
pub async fn set_dropping(tx: &PublicTx, ids: &[TenantId]) -> Result<()> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    tx.execute(
        "UPDATE vacancies SET state = $2 WHERE id = ANY ($1)",
        &[&ids, &State::Dropping.as_str()],
    )
    .await
    .during("mark vacancies as dropping")?;
    Ok(())
}

/// Deletes the row of a vacancy whose schema is gone.
pub async fn delete(tx: &PublicTx, id: TenantId) -> Result<()> {
    tx.execute("DELETE FROM vacancies WHERE id = $1", &[&id]).await.during("delete vacancy row")?;
    Ok(())
}

/// All processes that keep vacancies on this cluster, including those that died without removing their row.
pub async fn list_replenishers(tx: &PublicTx) -> Result<Vec<Replenisher>> {
    let rows = tx
        .query(
            "SELECT isolation, migrations_version, migrations_fingerprint, id, wanted, seen_at
               FROM vacancy_keepers
              WHERE cluster = $1",
            &[&CLUSTER],
        )
        .await
        .during("list replenishers of vacancies")?;
    rows.iter()
        .map(|row| {
            let wanted = usize::try_from(row.get::<_, i32>("wanted")).unwrap_or(0);
            let (pattern, seen_at) = (read_pattern(row)?, row.get("seen_at"));
            Ok(Replenisher { id: row.get("id"), pattern, wanted, seen_at })
        })
        .collect()
}

/// Records a replenisher, and deletes those that were last seen before `forget`.
pub async fn upsert_replenisher(
    tx: &PublicTx,
    replenisher: &Replenisher,
    forget: OffsetDateTime,
) -> Result<()> {
    tx.execute(
        "DELETE FROM vacancy_keepers WHERE seen_at < $1 AND id <> $2",
        &[&forget, &replenisher.id],
    )
    .await
    .during("forget replenishers of vacancies")?;
    let wanted = i32::try_from(replenisher.wanted).unwrap_or(i32::MAX);
    tx.execute(
        "INSERT INTO vacancy_keepers
             (id, isolation, cluster, migrations_version, migrations_fingerprint, wanted, seen_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (id) DO UPDATE SET wanted = excluded.wanted, seen_at = excluded.seen_at",
        &[
            &replenisher.id,
            &replenisher.pattern.isolation.as_str(),
            &CLUSTER,
            &replenisher.pattern.version,
            &replenisher.pattern.fingerprint,
            &wanted,
            &replenisher.seen_at,
        ],
    )
    .await
    .during("record a replenisher of vacancies")?;
    Ok(())
}

/// Deletes a replenisher.
pub async fn delete_replenisher(tx: &PublicTx, id: Uuid) -> Result<()> {
    tx.execute("DELETE FROM vacancy_keepers WHERE id = $1", &[&id])
        .await
        .during("forget a replenisher of vacancies")?;
    Ok(())
}

/// Reads the pattern from the columns of a row.
fn read_pattern(row: &crate::pg::Row) -> Result<Pattern> {
    let word: &str = row.get("isolation");
    let isolation = word.parse().map_err(|_unknown| unknown(word))?;
    Ok(Pattern {
        isolation,
        version: row.get("migrations_version"),
        fingerprint: row.get("migrations_fingerprint"),
    })
}

fn unknown(word: &str) -> Error {
    Error::internal("read a vacancy", format!("unknown word {word:?}"))
}
