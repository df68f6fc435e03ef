//! Statements that change profiles.
//!
//! Each change is one statement that writes the profile, its version and its event together, and where it is
//! the last of a transaction it travels with the commit.

use serde_json::Value;
use time::OffsetDateTime;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use crate::domain::error::{Conflict, Error, Result};
use crate::domain::profile::{Identity, KeyKind, Keys, ProfileId};
use crate::pg::error::{During, Failure};
use crate::pg::tenant::profiles::{Profile, condition, keys_of};
use crate::pg::{Param, TenantTx};

/// Who changes a profile, when, within which request.
#[derive(Debug, Clone)]
pub struct Author {
    /// Who.
    pub actor: String,
    /// When.
    pub at: OffsetDateTime,
    /// Within which request.
    pub request_id: String,
}

/// Writes a profile that is not there, with its version unless it has one, and commits. `action` names
/// the event: created or restored.
///
/// # Errors
/// [`Conflict::KeyTaken`].
pub async fn insert(
    tx: TenantTx,
    profile: &Profile,
    keys: &Keys,
    author: &Author,
    action: &'static str,
) -> Result<()> {
    tx.query_and_commit(
        "WITH written AS (
             INSERT INTO profiles
                 (id, profile, email, login, phone, custom, version, final_time, sliding_time, final_at,
                  sliding_seconds, expires_at, created_at, updated_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $13)
             RETURNING id
         ), versioned AS (
             INSERT INTO profile_versions
                 (profile_id, version, profile, md5, created_at, final_time, sliding_time, final_at,
                  sliding_seconds)
             VALUES ($1, $7, $2, $14, $13, $8, $9, $10, $11)
             ON CONFLICT (profile_id, version) DO NOTHING
         ), noted AS (
             INSERT INTO profile_events (id, profile_id, at, action, actor, request_id)
             VALUES ($15, $1, $13, $16, $17, $18)
         )
         SELECT id FROM written",
        &[
            &profile.id,
            &profile.document,
            &keys.email,
            &keys.login,
            &keys.phone,
            &keys.custom,
            &profile.version,
            &profile.lifetime.final_time,
            &profile.lifetime.sliding_time,
            &profile.lifetime.final_at,
            &profile.lifetime.sliding_seconds,
            &profile.expires_at,
            &author.at,
            &profile.document.md5(),
            &Uuid::now_v7(),
            &action,
            &author.actor,
            &author.request_id,
        ],
    )
    .await
    .map(|_| ())
    .map_err(taken_or("insert profile row"))
}

/// Writes new profiles that share a lifetime, in this order, but those of which a key is taken, also by
/// one before them. Gives the ids of those that were written; does not commit.
pub async fn insert_many(
    tx: &TenantTx,
    profiles: &[(Profile, Keys)],
    author: &Author,
) -> Result<Vec<ProfileId>> {
    let Some((first, _)) = profiles.first() else { return Ok(Vec::new()) };
    let keys = |of: fn(&Keys) -> &Option<String>| {
        Array(profiles.iter().map(|(_, keys)| of(keys).as_deref()).collect(), Type::TEXT_ARRAY)
    };
    let documents: Vec<&Value> = profiles.iter().map(|(p, _)| p.document.as_value()).collect();
    let rows = tx
        .query(
            "WITH given AS (
                 SELECT id, profile, email, login, phone, custom, md5, event_id, place
                   FROM unnest($1::uuid[], $2::json[], $3::text[], $4::text[], $5::text[], $6::text[],
                               $7::text[], $8::uuid[])
                   WITH ORDINALITY AS g (id, profile, email, login, phone, custom, md5, event_id, place)
             ), written AS (
                 INSERT INTO profiles
                     (id, profile, email, login, phone, custom, version, final_time, sliding_time, final_at,
                      sliding_seconds, expires_at, created_at, updated_at)
                 SELECT id, profile, email, login, phone, custom, 1, $9, $10, $11, $12, $13, $14, $14
                   FROM given
                  ORDER BY place
                 ON CONFLICT DO NOTHING
                 RETURNING id
             ), versioned AS (
                 INSERT INTO profile_versions
                     (profile_id, version, profile, md5, created_at, final_time, sliding_time, final_at,
                      sliding_seconds)
                 SELECT g.id, 1, g.profile, g.md5, $14, $9, $10, $11, $12
                   FROM given g
                   JOIN written w ON w.id = g.id
             ), noted AS (
                 INSERT INTO profile_events (id, profile_id, at, action, actor, request_id)
                 SELECT g.event_id, g.id, $14, 'profile.create', $15, $16
                   FROM given g
                   JOIN written w ON w.id = g.id
             )
             SELECT id FROM written",
            &[
                &profiles.iter().map(|(p, _)| p.id.uuid()).collect::<Vec<Uuid>>(),
                &Array(documents, Type::JSON_ARRAY),
                &keys(|keys| &keys.email),
                &keys(|keys| &keys.login),
                &keys(|keys| &keys.phone),
                &keys(|keys| &keys.custom),
                &profiles.iter().map(|(p, _)| p.document.md5()).collect::<Vec<String>>(),
                &profiles.iter().map(|_| Uuid::now_v7()).collect::<Vec<Uuid>>(),
                &first.lifetime.final_time,
                &first.lifetime.sliding_time,
                &first.lifetime.final_at,
                &first.lifetime.sliding_seconds,
                &first.expires_at,
                &author.at,
                &author.actor,
                &author.request_id,
            ],
        )
        .await
        .during("insert profile rows")?;
    Ok(rows.iter().map(|row| row.get("id")).collect())
}

/// Writes the next state of a profile that the transaction holds, and commits.
///
/// # Errors
/// [`Conflict::KeyTaken`].
pub async fn update(tx: TenantTx, profile: &Profile, keys: &Keys, author: &Author) -> Result<()> {
    tx.query_and_commit(
        "WITH written AS (
             UPDATE profiles
                SET profile = $2, email = $3, login = $4, phone = $5, custom = $6, version = $7,
                    expires_at = $8, updated_at = $9
              WHERE id = $1
             RETURNING id
         ), versioned AS (
             INSERT INTO profile_versions
                 (profile_id, version, profile, md5, created_at, final_time, sliding_time, final_at,
                  sliding_seconds)
             VALUES ($1, $7, $2, $10, $9, $14, $15, $16, $17)
         ), noted AS (
             INSERT INTO profile_events (id, profile_id, at, action, actor, request_id)
             VALUES ($11, $1, $9, 'profile.update', $12, $13)
         )
         SELECT id FROM written",
        &[
            &profile.id,
            &profile.document,
            &keys.email,
            &keys.login,
            &keys.phone,
            &keys.custom,
            &profile.version,
            &profile.expires_at,
            &author.at,
            &profile.document.md5(),
            &Uuid::now_v7(),
            &author.actor,
            &author.request_id,
            &profile.lifetime.final_time,
            &profile.lifetime.sliding_time,
            &profile.lifetime.final_at,
            &profile.lifetime.sliding_seconds,
        ],
    )
    .await
    .map(|_| ())
    .map_err(taken_or("update profile row"))
}

/// Notes that a profile was used, which moves its end.
pub async fn slide(tx: TenantTx, id: ProfileId, expires_at: Option<OffsetDateTime>) -> Result<()> {
    tx.query_and_commit("UPDATE profiles SET expires_at = $2 WHERE id = $1", &[&id, &expires_at])
        .await
        .during("move the end of a profile")?;
    Ok(())
}

/// Deletes the profiles that are named, and commits; their versions stay. Gives the ids of those that
/// were there.
pub async fn delete(tx: TenantTx, identity: &Identity, author: &Author) -> Result<Vec<ProfileId>> {
    let (condition, value) = condition(identity);
    let sql = format!(
        "WITH gone AS (
             DELETE FROM profiles
              WHERE {condition} AND (expires_at IS NULL OR expires_at > $2)
             RETURNING id
         ), noted AS (
             INSERT INTO profile_events (id, profile_id, at, action, actor, request_id)
             SELECT $3, id, $2, 'profile.delete', $4, $5 FROM gone
         )
         SELECT id FROM gone"
    );
    let rows = tx
        .query_and_commit(
            &sql,
            &[value, &author.at, &Uuid::now_v7(), &author.actor, &author.request_id],
        )
        .await
        .during("delete profile row")?;
    Ok(rows.iter().map(|row| row.get("id")).collect())
}

/// Deletes all profiles that are named, and commits; their versions stay, and who is unknown is passed
/// over. Gives the number of those that were there.
pub async fn delete_many(tx: TenantTx, identities: &[Identity], author: &Author) -> Result<usize> {
    let ids: Vec<Uuid> = identities
        .iter()
        .filter_map(|identity| match identity {
            Identity::Id(id) => Some(id.uuid()),
            Identity::Key(..) => None,
        })
        .collect();
    let events: Vec<Uuid> = identities.iter().map(|_| Uuid::now_v7()).collect();
    let rows = tx
        .query_and_commit(
            "WITH gone AS (
                 DELETE FROM profiles
                  WHERE (id = ANY ($1) OR email = ANY ($2) OR login = ANY ($3) OR phone = ANY ($4)
                         OR custom = ANY ($5))
                    AND (expires_at IS NULL OR expires_at > $6)
                 RETURNING id
             ), noted AS (
                 INSERT INTO profile_events (id, profile_id, at, action, actor, request_id)
                 SELECT event_id, id, $6, 'profile.delete', $8, $9
                   FROM (SELECT id, row_number() OVER () AS place FROM gone) g
                   JOIN unnest($7::uuid[]) WITH ORDINALITY AS e (event_id, place) ON e.place = g.place
             )
             SELECT id FROM gone",
            &[
                &ids,
                &keys_of(identities, KeyKind::Email),
                &keys_of(identities, KeyKind::Login),
                &keys_of(identities, KeyKind::Phone),
                &keys_of(identities, KeyKind::Custom),
                &author.at,
                &events,
                &author.actor,
                &author.request_id,
            ],
        )
        .await
        .during("delete profile rows")?;
    Ok(rows.len())
}

/// Erases what has run out, versions and all, and what is left of the deleted ones whose end has passed;
/// tells how many profiles had run out.
pub async fn delete_expired(tx: TenantTx, now: OffsetDateTime) -> Result<usize> {
    let rows = tx
        .query_and_commit(
            "WITH gone AS (
                 DELETE FROM profiles WHERE expires_at <= $1 RETURNING id
             ), forgotten AS (
                 DELETE FROM profile_versions
                  WHERE profile_id IN (SELECT id FROM gone) OR final_at <= $1
             )
             SELECT id FROM gone",
            &[&now],
        )
        .await
        .during("erase profiles that have run out")?;
    Ok(rows.len())
}

/// Many values of one column.
struct Array<T>(Vec<T>, Type);

impl<T: ToSql + Sync> Param for Array<T> {
    fn as_sql(&self) -> &(dyn ToSql + Sync) {
        &self.0
    }

    fn sql_type(&self) -> Type {
        self.1.clone()
    }
}

/// Tells a taken key from any other failure.
fn taken_or(during: &'static str) -> impl Fn(Failure) -> Error {
    move |failure| {
        let taken = KeyKind::ALL
            .iter()
            .copied()
            .find(|kind| failure.violates(&format!("profiles_{}_key", kind.as_str())));
        match taken {
            Some(kind) => Error::Conflict(Conflict::KeyTaken(kind)),
            // Only a restored profile has an id that was there before.
            None if failure.violates("profiles_pkey") => Error::Conflict(Conflict::NotDeleted),
            None => failure.during(during),
        }
    }
}
