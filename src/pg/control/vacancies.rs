//! Statements on `public.vacancies` and `public.vacancy_keepers`.
//!
//! What these rows speak of is made and dropped in [`crate::pg::schema`], in the same transactions. A set-up
//! takes its vacancy in [`crate::pg::control::tenant_setup`].

use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::error::{Error, Result};
use crate::domain::names::TenantId;
use crate::migrations::MigrationSet;
use crate::pg::control::tenants::CLUSTER;
use crate::pg::error::{During, Failure};
use crate::pg::locks;
use crate::pg::rules::Isolation;
use crate::pg::scope::PublicTx;

/// What whoever changes the stock holds, so that there is one at a time.
const LOCK: &str = "rowhouse vacancies";

/// How far a vacancy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum State {
    /// Its role is there, and its schema is not.
    Building,
    /// It may be taken.
    Ready,
    /// It is being torn down, in several transactions.
    Dropping,
}

impl State {
    /// Returns the word in the database.
    fn as_str(self) -> &'static str {
        self.into()
    }
}

/// What a vacancy was made for, and what a process needs: one fits the other if all of it is equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// How tenants are kept apart.
    pub isolation: Isolation,
    /// The highest migration.
    pub version: i32,
    /// The digest of all migrations.
    pub fingerprint: String,
}

impl Pattern {
    /// What fits this set under this isolation.
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
    /// How far it is.
    pub state: State,
    /// What it fits.
    pub pattern: Pattern,
    /// When it was begun.
    pub created_at: OffsetDateTime,
}

/// A process that looks after a stock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keeper {
    /// Its own name for itself.
    pub id: Uuid,
    /// What its vacancies must fit.
    pub pattern: Pattern,
    /// How many it wants.
    pub wanted: usize,
    /// When it last said so.
    pub seen_at: OffsetDateTime,
}

/// The vacancy to rehearse a migration to `pattern` on: one that is behind where there is one, and none of
/// those that are `passed` over.
pub async fn find_for_rehearsal(
    tx: &PublicTx,
    pattern: &Pattern,
    passed: &[TenantId],
) -> Result<Option<TenantId>> {
    let passed: Vec<Uuid> = passed.iter().map(|id| id.uuid()).collect();
    let row = tx
        .query_opt(
            "SELECT id
               FROM vacancies
              WHERE state = 'ready' AND isolation = $1 AND cluster = $2
                AND migrations_version <= $3 AND id <> ALL ($5)
              ORDER BY migrations_fingerprint = $4, created_at, id
              LIMIT 1",
            &[
                &pattern.isolation.as_str(),
                &CLUSTER,
                &pattern.version,
                &pattern.fingerprint,
                &passed,
            ],
        )
        .await
        .during("look for a vacancy")?;
    Ok(row.map(|row| row.get("id")))
}

/// Holds a vacancy for the rest of a transaction that has entered its schema, so that no set-up takes it
/// meanwhile; false where it is taken, or somebody else holds it.
///
/// # Errors
/// [`Failure`].
pub async fn hold_inside(tx: &PublicTx, id: TenantId) -> Result<bool, Failure> {
    let sql = "SELECT id FROM public.vacancies
                WHERE id = $1 AND state = 'ready'
                  FOR UPDATE SKIP LOCKED";
    Ok(tx.query_opt(sql, &[&id]).await?.is_some())
}

/// Becomes the one who may change the stock, for the rest of the transaction; false where somebody is.
pub async fn try_lock(tx: &PublicTx) -> Result<bool> {
    locks::try_lock(tx, LOCK).await.during("lock the stock of vacancies")
}

/// As [`try_lock`], and waits for whoever is.
pub async fn lock(tx: &PublicTx) -> Result<()> {
    locks::lock(tx, LOCK).await.during("lock the stock of vacancies")
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

/// Holds a vacancy for the rest of the transaction; false where it was taken. Waits for a set-up that is
/// about to take it.
pub async fn hold(tx: &PublicTx, id: TenantId) -> Result<bool> {
    let row = tx
        .query_opt("SELECT id FROM vacancies WHERE id = $1 FOR UPDATE", &[&id])
        .await
        .during("hold a vacancy")?;
    Ok(row.is_some())
}

/// Notes vacancies whose roles are made in the same transaction and whose schemas follow.
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

/// Notes that a vacancy is whole and on these migrations.
pub async fn set_ready(tx: &PublicTx, id: TenantId, pattern: &Pattern) -> Result<()> {
    let touched = tx
        .execute(
            "UPDATE vacancies
                SET state = $2, migrations_version = $3, migrations_fingerprint = $4
              WHERE id = $1",
            &[&id, &State::Ready.as_str(), &pattern.version, &pattern.fingerprint],
        )
        .await
        .during("note that a vacancy is ready")?;
    if touched == 1 {
        Ok(())
    } else {
        Err(Failure::RowCount.during("note that a vacancy is ready"))
    }
}

/// Notes that vacancies are about to be torn down, so that nobody takes one. Waits for set-ups that are
/// about to; what they take is theirs.
pub async fn set_dropping(tx: &PublicTx, ids: &[TenantId]) -> Result<()> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    tx.execute(
        "UPDATE vacancies SET state = $2 WHERE id = ANY ($1)",
        &[&ids, &State::Dropping.as_str()],
    )
    .await
    .during("note that vacancies go")?;
    Ok(())
}

/// Removes the row of a vacancy that is gone.
pub async fn delete(tx: &PublicTx, id: TenantId) -> Result<()> {
    tx.execute("DELETE FROM vacancies WHERE id = $1", &[&id]).await.during("delete vacancy row")?;
    Ok(())
}

/// All processes that look after vacancies on this cluster, those that have ended without a word too.
pub async fn list_keepers(tx: &PublicTx) -> Result<Vec<Keeper>> {
    let rows = tx
        .query(
            "SELECT isolation, migrations_version, migrations_fingerprint, id, wanted, seen_at
               FROM vacancy_keepers
              WHERE cluster = $1",
            &[&CLUSTER],
        )
        .await
        .during("list keepers of vacancies")?;
    rows.iter()
        .map(|row| {
            let wanted = usize::try_from(row.get::<_, i32>("wanted")).unwrap_or(0);
            let (pattern, seen_at) = (read_pattern(row)?, row.get("seen_at"));
            Ok(Keeper { id: row.get("id"), pattern, wanted, seen_at })
        })
        .collect()
}

/// Writes down a keeper, and forgets those that were last seen before `forget`.
pub async fn write_keeper(tx: &PublicTx, keeper: &Keeper, forget: OffsetDateTime) -> Result<()> {
    tx.execute(
        "DELETE FROM vacancy_keepers WHERE seen_at < $1 AND id <> $2",
        &[&forget, &keeper.id],
    )
    .await
    .during("forget keepers of vacancies")?;
    let wanted = i32::try_from(keeper.wanted).unwrap_or(i32::MAX);
    tx.execute(
        "INSERT INTO vacancy_keepers
             (id, isolation, cluster, migrations_version, migrations_fingerprint, wanted, seen_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (id) DO UPDATE SET wanted = excluded.wanted, seen_at = excluded.seen_at",
        &[
            &keeper.id,
            &keeper.pattern.isolation.as_str(),
            &CLUSTER,
            &keeper.pattern.version,
            &keeper.pattern.fingerprint,
            &wanted,
            &keeper.seen_at,
        ],
    )
    .await
    .during("write a keeper of vacancies")?;
    Ok(())
}

/// Forgets a keeper.
pub async fn delete_keeper(tx: &PublicTx, id: Uuid) -> Result<()> {
    tx.execute("DELETE FROM vacancy_keepers WHERE id = $1", &[&id])
        .await
        .during("forget a keeper of vacancies")?;
    Ok(())
}

/// Reads a pattern off a row that has its columns.
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
    Error::internal("read a vacancy", format!("nothing here is called {word:?}"))
}
