//! Statements on the profiles of a tenant, their versions and their events.
//!
//! Each change is one statement that writes the profile, its version and its event together, and where it
//! is the last of a transaction it travels with the commit. A profile that has run out is not there for
//! any of these functions but [`delete_expired`], which erases it, versions and all.

use std::collections::HashSet;

use serde_json::Value;
use time::OffsetDateTime;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use super::error::{During, Failure};
use super::scope::TenantTx;
use super::{Param, Row};
use crate::domain::error::{Conflict, Error, Result};
use crate::domain::profile::{Document, Identity, KeyKind, Keys, Lifetime, ProfileId};

/// A profile as it is stored.
#[derive(Debug, Clone)]
pub struct Profile {
    /// Names it.
    pub id: ProfileId,
    /// What is stored.
    pub document: Document,
    /// How often it was changed, from 1.
    pub version: i32,
    /// How long it lives.
    pub lifetime: Lifetime,
    /// When it ends, as things stand.
    pub expires_at: Option<OffsetDateTime>,
}

/// A state that a profile has been in.
#[derive(Debug, Clone)]
pub struct Version {
    /// From 1.
    pub version: i32,
    /// When it began.
    pub created_at: OffsetDateTime,
    /// Digest of the document.
    pub md5: String,
}

/// Something that happened to a profile.
#[derive(Debug, Clone)]
pub struct Event {
    /// Names it.
    pub id: Uuid,
    /// To which profile.
    pub profile: ProfileId,
    /// When.
    pub at: OffsetDateTime,
    /// What, as `profile.verb`.
    pub action: String,
    /// Who.
    pub actor: String,
    /// Within which request.
    pub request_id: String,
}

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
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Which of these keys profiles have, whether or not they have run out.
pub async fn find_taken(tx: &TenantTx, wanted: &[&Keys]) -> Result<HashSet<(KeyKind, String)>> {
    let all = |of: fn(&Keys) -> &Option<String>| -> Vec<&str> {
        wanted.iter().filter_map(|keys| of(keys).as_deref()).collect()
    };
    let rows = tx
        .query(
            "SELECT email, login, phone, custom
               FROM profiles
              WHERE email = ANY ($1) OR login = ANY ($2) OR phone = ANY ($3) OR custom = ANY ($4)",
            &[
                &all(|keys| &keys.email),
                &all(|keys| &keys.login),
                &all(|keys| &keys.phone),
                &all(|keys| &keys.custom),
            ],
        )
        .await
        .during("read keys of profiles")?;
    let columns = [KeyKind::Email, KeyKind::Login, KeyKind::Phone, KeyKind::Custom];
    let keys_of = |row: &Row| {
        let key = |(at, kind): (usize, KeyKind)| Some((kind, row.get::<_, Option<String>>(at)?));
        columns.into_iter().enumerate().filter_map(key).collect::<Vec<_>>()
    };
    Ok(rows.iter().flat_map(keys_of).collect())
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
    Ok(rows.iter().map(|row| row.get(0)).collect())
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

/// Finds a profile and ends the transaction: one round trip.
pub async fn find(
    tx: TenantTx,
    identity: &Identity,
    now: OffsetDateTime,
) -> Result<Option<Profile>> {
    let (condition, value) = condition(identity);
    let rows = tx
        .query_and_commit(&select(&condition, ""), &[value, &now])
        .await
        .during("read profile row")?;
    Ok(rows.first().map(from_row))
}

/// Finds a profile and holds it until the transaction ends.
pub async fn find_for_update(
    tx: &TenantTx,
    identity: &Identity,
    now: OffsetDateTime,
) -> Result<Option<Profile>> {
    let (condition, value) = condition(identity);
    let row = tx
        .query_opt(&select(&condition, "FOR UPDATE"), &[value, &now])
        .await
        .during("read profile row")?;
    Ok(row.as_ref().map(from_row))
}

/// Notes that a profile was used, which moves its end.
pub async fn slide(tx: TenantTx, id: ProfileId, expires_at: Option<OffsetDateTime>) -> Result<()> {
    tx.query_and_commit("UPDATE profiles SET expires_at = $2 WHERE id = $1", &[&id, &expires_at])
        .await
        .during("move the end of a profile")?;
    Ok(())
}

/// Finds the profiles behind some identities; an unknown one gives nothing. In order of creation.
pub async fn find_all(
    tx: TenantTx,
    identities: &[Identity],
    now: OffsetDateTime,
) -> Result<Vec<Profile>> {
    let of = |kind| keys_of(identities, kind);
    let rows = tx
        .query_and_commit(
            &format!(
                "{} ORDER BY created_at, id",
                select("(email = ANY ($1) OR login = ANY ($3) OR phone = ANY ($4) OR custom = ANY ($5))", "")
            ),
            &[&of(KeyKind::Email), &now, &of(KeyKind::Login), &of(KeyKind::Phone), &of(KeyKind::Custom)],
        )
        .await
        .during("read profile rows")?;
    Ok(rows.iter().map(from_row).collect())
}

/// Finds the profiles that a text is part of: of their e-mail address where it has an `@`, of any other
/// key otherwise. At most `limit`, in order of creation, and how many there are.
pub async fn search(
    tx: TenantTx,
    text: &str,
    now: OffsetDateTime,
    limit: i64,
) -> Result<(i64, Vec<Profile>)> {
    // strpos has no wildcards, so nothing in the text has a meaning of its own; but nothing is part of
    // everything, which is why an empty telephone number is asked for.
    let (email, phone) = (KeyKind::Email.normalize(text), KeyKind::Phone.normalize(text));
    let condition = if text.contains('@') {
        "strpos(email, $4) > 0"
    } else {
        "(strpos(lower(login), lower($1)) > 0 OR strpos(lower(custom), lower($1)) > 0
          OR ($5 <> '' AND strpos(phone, $5) > 0))"
    };
    let rows = tx
        .query_and_commit(
            &format!(
                "SELECT {COLUMNS}, count(*) OVER ()
                   FROM profiles
                  WHERE {condition} AND (expires_at IS NULL OR expires_at > $2)
                  ORDER BY created_at, id
                  LIMIT $3"
            ),
            &[&text, &now, &limit, &email, &phone],
        )
        .await
        .during("search profile rows")?;
    let total = rows.first().map_or(0, |row| row.get(8));
    Ok((total, rows.iter().map(from_row).collect()))
}

/// One page of all profiles, in order of creation, and how many there are.
pub async fn list(
    tx: TenantTx,
    now: OffsetDateTime,
    offset: i64,
    limit: i64,
) -> Result<(i64, Vec<Profile>)> {
    let total = count(&tx, now).await?;
    let rows = tx
        .query_and_commit(
            &format!("{} ORDER BY created_at, id OFFSET $1 LIMIT $3", select("true", "")),
            &[&offset, &now, &limit],
        )
        .await
        .during("list profile rows")?;
    Ok((total, rows.iter().map(from_row).collect()))
}

/// How many profiles there are.
pub async fn count(tx: &TenantTx, now: OffsetDateTime) -> Result<i64> {
    let row = tx
        .query_one(
            "SELECT count(*) FROM profiles WHERE expires_at IS NULL OR expires_at > $1",
            &[&now],
        )
        .await
        .during("count profile rows")?;
    Ok(row.get(0))
}

/// The document of one version, whether or not the profile is still there.
pub async fn find_version(tx: TenantTx, id: ProfileId, version: i32) -> Result<Option<Document>> {
    let rows = tx
        .query_and_commit(
            "SELECT profile FROM profile_versions WHERE profile_id = $1 AND version = $2",
            &[&id, &version],
        )
        .await
        .during("read profile version")?;
    Ok(rows.first().map(|row| Document::stored(row.get(0))))
}

/// A profile as it was in its newest version, whether or not it is still there; one whose end has passed
/// is not.
pub async fn find_last_version(
    tx: TenantTx,
    id: ProfileId,
    now: OffsetDateTime,
) -> Result<Option<Profile>> {
    let rows = tx
        .query_and_commit(
            "SELECT profile_id, profile, version, final_time, sliding_time, final_at, sliding_seconds,
                    NULL::timestamptz
               FROM profile_versions
              WHERE profile_id = $1 AND (final_at IS NULL OR final_at > $2)
              ORDER BY version DESC
              LIMIT 1",
            &[&id, &now],
        )
        .await
        .during("read profile version")?;
    Ok(rows.first().map(from_row))
}

/// All versions of a profile, oldest first.
pub async fn list_versions(tx: TenantTx, id: ProfileId) -> Result<Vec<Version>> {
    let rows = tx
        .query_and_commit(
            "SELECT version, created_at, md5 FROM profile_versions WHERE profile_id = $1 ORDER BY version",
            &[&id],
        )
        .await
        .during("list profile versions")?;
    Ok(rows
        .iter()
        .map(|row| Version { version: row.get(0), created_at: row.get(1), md5: row.get(2) })
        .collect())
}

/// One page of what happened to a profile, newest first, and how much there is.
pub async fn list_events(
    tx: TenantTx,
    id: ProfileId,
    offset: i64,
    limit: i64,
) -> Result<(i64, Vec<Event>)> {
    let total = tx
        .query_one("SELECT count(*) FROM profile_events WHERE profile_id = $1", &[&id])
        .await
        .during("count profile events")?
        .get(0);
    let rows = tx
        .query_and_commit(
            "SELECT id, profile_id, at, action, actor, request_id
               FROM profile_events
              WHERE profile_id = $1
              ORDER BY at DESC, id DESC
             OFFSET $2 LIMIT $3",
            &[&id, &offset, &limit],
        )
        .await
        .during("list profile events")?;
    Ok((total, rows.iter().map(event_from_row).collect()))
}

/// One event.
pub async fn find_event(tx: TenantTx, id: Uuid) -> Result<Option<Event>> {
    let rows = tx
        .query_and_commit(
            "SELECT id, profile_id, at, action, actor, request_id FROM profile_events WHERE id = $1",
            &[&id],
        )
        .await
        .during("read profile event")?;
    Ok(rows.first().map(event_from_row))
}

/// Notes something that changed no profile.
pub async fn insert_event(
    tx: TenantTx,
    id: ProfileId,
    action: &str,
    author: &Author,
) -> Result<()> {
    tx.query_and_commit(
        "INSERT INTO profile_events (id, profile_id, at, action, actor, request_id)
         VALUES ($1, $2, $3, $4, $5, $6)",
        &[&Uuid::now_v7(), &id, &author.at, &action, &author.actor, &author.request_id],
    )
    .await
    .during("insert profile event")?;
    Ok(())
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

/// What makes a [`Profile`].
const COLUMNS: &str =
    "id, profile, version, final_time, sliding_time, final_at, sliding_seconds, expires_at";

/// A query for live profiles, `$2` being the time.
fn select(condition: &str, lock: &str) -> String {
    format!(
        "SELECT {COLUMNS}
           FROM profiles
          WHERE {condition} AND (expires_at IS NULL OR expires_at > $2) {lock}"
    )
}

/// The condition that finds an identity, and the value of its `$1`. The column's name is one of ours.
fn condition(identity: &Identity) -> (String, &dyn Param) {
    match identity {
        Identity::Id(id) => ("id = $1".to_owned(), id),
        Identity::Key(kind, key) => (format!("{} = $1", kind.as_str()), key),
    }
}

/// The keys of one kind among some identities.
fn keys_of(identities: &[Identity], wanted: KeyKind) -> Vec<&str> {
    let key = |identity| match identity {
        &Identity::Key(kind, ref key) if kind == wanted => Some(key.as_str()),
        Identity::Key(..) | Identity::Id(_) => None,
    };
    identities.iter().filter_map(key).collect()
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

fn from_row(row: &Row) -> Profile {
    Profile {
        id: row.get(0),
        document: Document::stored(row.get::<_, Value>(1)),
        version: row.get(2),
        lifetime: Lifetime {
            final_time: row.get(3),
            sliding_time: row.get(4),
            final_at: row.get(5),
            sliding_seconds: row.get(6),
        },
        expires_at: row.get(7),
    }
}

fn event_from_row(row: &Row) -> Event {
    Event {
        id: row.get(0),
        profile: row.get(1),
        at: row.get(2),
        action: row.get(3),
        actor: row.get(4),
        request_id: row.get(5),
    }
}

/// Tells a taken key from any other failure.
fn taken_or(during: &'static str) -> impl Fn(Failure) -> Error {
    move |failure| {
        let taken = KeyKind::ALL
            .into_iter()
            .find(|kind| failure.violates(&format!("profiles_{}_key", kind.as_str())));
        match taken {
            Some(kind) => Error::Conflict(Conflict::KeyTaken(kind)),
            // Only a restored profile has an id that was there before.
            None if failure.violates("profiles_pkey") => Error::Conflict(Conflict::NotDeleted),
            None => failure.during(during),
        }
    }
}
