//! Statements that change profiles.
//!
//! Each change is one statement that writes the profile, its version and its event together. If it is the last of
//! a transaction, the commit is pipelined behind it.

use crate::domain::json::Value;
use time::OffsetDateTime;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use crate::domain::error::{Conflict, Error, Result};
use crate::domain::profile::{Identity, KeyKind, Keys, ProfileId};
use crate::pg::error::{During, Failure};
use crate::pg::tenant::profiles::{Profile, condition, keys_of};
use crate::pg::{Param, TenantTx};

/// The author of a change: the actor, the time and the request.
#[derive(Debug, Clone)]
pub struct Author {
    /// The actor.
    pub actor: String,
    /// The time of the change.
    pub at: OffsetDateTime,
    /// The id of the request.
    pub request_id: String,
}

/// Inserts a profile, and its version unless that exists, and commits. `action` is the event's: created or restored.
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
         ), logged AS (
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

/// Inserts new profiles that share a lifetime, in this order, and skips those with a key that is taken, also by an
/// earlier one of them. Returns the ids of the inserted ones; does not commit.
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
                 SELECT id, profile, email, login, phone, custom, md5, event_id, ordinal
                   FROM unnest($1::uuid[], $2::json[], $3::text[], $4::text[], $5::text[], $6::text[],
                               $7::text[], $8::uuid[])
                   WITH ORDINALITY AS g (id, profile, email, login, phone, custom, md5, event_id, ordinal)
             ), written AS (
                 INSERT INTO profiles
                     (id, profile, email, login, phone, custom, version, final_time, sliding_time, final_at,
                      sliding_seconds, expires_at, created_at, updated_at)
                 SELECT id, profile, email, login, phone, custom, 1, $9, $10, $11, $12, $13, $14, $14
                   FROM given
                  ORDER BY ordinal
                 ON CONFLICT DO NOTHING
                 RETURNING id
             ), versioned AS (
                 INSERT INTO profile_versions
                     (profile_id, version, profile, md5, created_at, final_time, sliding_time, final_at,
                      sliding_seconds)
                 SELECT g.id, 1, g.profile, g.md5, $14, $9, $10, $11, $12
                   FROM given g
                   JOIN written w ON w.id = g.id
             ), logged AS (
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

/// Writes the next version of a profile that the transaction has locked, and commits.
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
         ), logged AS (
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

/// Sets the new expiry of a profile that was used, and commits.
pub async fn slide(tx: TenantTx, id: ProfileId, expires_at: Option<OffsetDateTime>) -> Result<()> {
    tx.query_and_commit("UPDATE profiles SET expires_at = $2 WHERE id = $1", &[&id, &expires_at])
        .await
        .during("update expiry of profile row")?;
    Ok(())
}

/// Deletes the profiles with this identity and commits; their versions remain. Returns the ids of the deleted ones.
pub async fn delete(tx: TenantTx, identity: &Identity, author: &Author) -> Result<Vec<ProfileId>> {
    let (condition, value) = condition(identity);
    let sql = format!(
        "WITH deleted AS (
             DELETE FROM profiles
              WHERE {condition} AND (expires_at IS NULL OR expires_at > $2)
             RETURNING id
         ), logged AS (
             INSERT INTO profile_events (id, profile_id, at, action, actor, request_id)
             SELECT $3, id, $2, 'profile.delete', $4, $5 FROM deleted
         )
         SELECT id FROM deleted"
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

/// Deletes the profiles with these identities and commits; their versions remain. Unknown identities are ignored.
/// Returns the number of deleted profiles.
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
            "WITH deleted AS (
                 DELETE FROM profiles
                  WHERE (id = ANY ($1) OR email = ANY ($2) OR login = ANY ($3) OR phone = ANY ($4)
                         OR custom = ANY ($5))
                    AND (expires_at IS NULL OR expires_at > $6)
                 RETURNING id
             ), logged AS (
                 INSERT INTO profile_events (id, profile_id, at, action, actor, request_id)
                 SELECT event_id, id, $6, 'profile.delete', $8, $9
                   FROM (SELECT id, row_number() OVER () AS ordinal FROM deleted) g
                   JOIN unnest($7::uuid[]) WITH ORDINALITY AS e (event_id, ordinal) ON e.ordinal = g.ordinal
             )
             SELECT id FROM deleted",
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

/// Deletes expired profiles with their versions, and the expired versions of deleted profiles, and commits. Returns
/// the number of expired profiles.
pub async fn delete_expired(tx: TenantTx, now: OffsetDateTime) -> Result<usize> {
    let rows = tx
        .query_and_commit(
            "WITH deleted AS (
                 DELETE FROM profiles WHERE expires_at <= $1 RETURNING id
             ), purged AS (
                 DELETE FROM profile_versions
                  WHERE profile_id IN (SELECT id FROM deleted) OR final_at <= $1
             )
             SELECT id FROM deleted",
            &[&now],
        )
        .await
        .during("delete expired profile rows")?;
    Ok(rows.len())
}

/// An array parameter: the values of one column.
struct Array<T>(Vec<T>, Type);

impl<T: ToSql + Sync> Param for Array<T> {
    fn as_sql(&self) -> &(dyn ToSql + Sync) {
        &self.0
    }

    fn sql_type(&self) -> Type {
        self.1.clone()
    }
}

/// Converts a unique violation to the conflict that it means, and keeps any other failure.
fn taken_or(during: &'static str) -> impl Fn(Failure) -> Error {
    move |failure| {
        let taken = KeyKind::ALL
            .iter()
            .copied()
            .find(|kind| failure.violates(&format!("profiles_{}_key", kind.as_str())));
        match taken {
            Some(kind) => Error::Conflict(Conflict::KeyTaken(kind)),
            // Only a restored profile has an id that may already exist.
            None if failure.violates("profiles_pkey") => Error::Conflict(Conflict::NotDeleted),
            None => failure.during(during),
        }
    }
}
