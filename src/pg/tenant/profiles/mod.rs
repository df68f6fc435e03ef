//! Statements on the profiles of a tenant: queries are here, changes in `write`, versions and events in
//! `history`.
//!
//! These functions do not see an expired profile, except [`find_taken`] and [`delete_expired`], which deletes it with
//! its versions.

mod history;
mod write;

use std::collections::HashSet;

use crate::domain::json::Value;
use time::OffsetDateTime;

use crate::domain::error::{Error, Result};
use crate::domain::profile::{Document, Identity, KeyKind, Keys, Lifetime, ProfileId};
use crate::domain::rule::Rule;
use crate::pg::error::During;
use crate::pg::scope::TenantTx;
use crate::pg::{Param, Row};

pub use history::{
    Event, Version, find_event, find_last_version, find_version, insert_event, list_events,
    list_versions,
};
pub use write::{Author, delete, delete_expired, delete_many, insert, insert_many, slide, update};

/// A profile as it is stored.
#[derive(Debug, Clone)]
pub struct Profile {
    /// Its id.
    pub id: ProfileId,
    /// The stored document.
    pub document: Document,
    /// The version number, from 1.
    pub version: i32,
    /// Its lifetime rules.
    pub lifetime: Lifetime,
    /// When it expires, unless it is used or changed before.
    pub expires_at: Option<OffsetDateTime>,
}

/// Finds a profile and commits, in one round trip.
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

/// Finds a profile and locks it until the transaction ends.
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

/// Finds the profiles with these identities, in order of creation. Unknown identities are ignored.
///
/// # Errors
/// [`Rule::AnswerTooLarge`] for more than [`ANSWER_MAX`] bytes.
pub async fn find_all(
    tx: TenantTx,
    identities: &[Identity],
    now: OffsetDateTime,
) -> Result<Vec<Profile>> {
    let of = |kind| keys_of(identities, kind);
    let rows = tx
        .query_and_commit(
            &whole_or_none(&select(
                "(email = ANY ($1) OR login = ANY ($3) OR phone = ANY ($4) OR custom = ANY ($5))",
                "",
            )),
            &[
                &of(KeyKind::Email),
                &now,
                &of(KeyKind::Login),
                &of(KeyKind::Phone),
                &of(KeyKind::Custom),
            ],
        )
        .await
        .during("read profile rows")?;
    from_whole(rows, "users").await
}

/// Returns which of these keys a profile has, expired profiles included.
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
        let key = |kind: KeyKind| Some((kind, row.get::<_, Option<String>>(kind.as_str())?));
        columns.into_iter().filter_map(key).collect::<Vec<_>>()
    };
    Ok(rows.iter().flat_map(keys_of).collect())
}

/// Finds the profiles with a key that contains a text: the e-mail address if the text has an `@`, any other key
/// otherwise. Returns at most `limit`, and at most [`ANSWER_MAX`] bytes, in order of creation, and the total number.
pub async fn search(
    tx: TenantTx,
    text: &str,
    now: OffsetDateTime,
    limit: i64,
) -> Result<(i64, Vec<Profile>)> {
    // strpos has no wildcards, so no character of the text is special. But every key contains an empty text, so the
    // condition excludes an empty telephone number.
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
                "SELECT {COLUMNS}, total
                   FROM (SELECT {COLUMNS}, created_at, total,
                                sum({SIZE}) OVER (ORDER BY created_at, id) AS size
                           FROM (SELECT {COLUMNS}, created_at, count(*) OVER () AS total
                                   FROM profiles
                                  WHERE {condition} AND (expires_at IS NULL OR expires_at > $2)
                                  ORDER BY created_at, id
                                  LIMIT $3) AS page) AS page
                  WHERE size <= {ANSWER_MAX}
                  ORDER BY created_at, id"
            ),
            &[&text, &now, &limit, &email, &phone],
        )
        .await
        .during("search profile rows")?;
    let total = rows.first().map_or(0, |row| row.get("total"));
    Ok((total, from_rows(rows).await?))
}

/// Returns one page of all profiles, in order of creation, with the total number.
///
/// # Errors
/// [`Rule::AnswerTooLarge`] for more than [`ANSWER_MAX`] bytes.
pub async fn list(
    tx: TenantTx,
    now: OffsetDateTime,
    offset: i64,
    limit: i64,
) -> Result<(i64, Vec<Profile>)> {
    let total = count(&tx, now).await?;
    let rows = tx
        .query_and_commit(
            &whole_or_none(&format!(
                "{} ORDER BY created_at, id OFFSET $1 LIMIT $3",
                select("true", "")
            )),
            &[&offset, &now, &limit],
        )
        .await
        .during("list profile rows")?;
    Ok((total, from_whole(rows, "limit").await?))
}

/// Counts the profiles.
pub async fn count(tx: &TenantTx, now: OffsetDateTime) -> Result<i64> {
    let row = tx
        .query_one(
            "SELECT count(*) AS total FROM profiles WHERE expires_at IS NULL OR expires_at > $1",
            &[&now],
        )
        .await
        .during("count profile rows")?;
    Ok(row.get("total"))
}

/// The columns of a [`Profile`].
const COLUMNS: &str =
    "id, profile, version, final_time, sliding_time, final_at, sliding_seconds, expires_at";

/// Most bytes of documents in one answer. In memory a document takes up to thirty times its text.
pub const ANSWER_MAX: usize = 8 << 20;

/// The size of a document's text, in bytes.
const SIZE: &str = "octet_length(profile::text)";

/// Builds a query that returns the profiles of another one in order of creation, without their documents if these are
/// larger than [`ANSWER_MAX`] together.
fn whole_or_none(query: &str) -> String {
    format!(
        "SELECT id, CASE WHEN size <= {ANSWER_MAX} THEN profile END AS profile, version,
                final_time, sliding_time, final_at, sliding_seconds, expires_at, size
           FROM (SELECT {COLUMNS}, created_at, sum({SIZE}) OVER () AS size
                   FROM ({query}) AS page) AS page
          ORDER BY created_at, id"
    )
}

/// Reads the rows of [`whole_or_none`]. `field` of the request says how many there are.
async fn from_whole(rows: Vec<Row>, field: &'static str) -> Result<Vec<Profile>> {
    let size = rows.first().map_or(0, |row| row.get::<_, i64>("size"));
    if usize::try_from(size).is_ok_and(|size| size > ANSWER_MAX) {
        return Err(Error::invalid(field, Rule::AnswerTooLarge(ANSWER_MAX)));
    }
    from_rows(rows).await
}

/// Reads many profiles. Parsing many documents takes up to a tenth of a second, in which the worker does other work.
async fn from_rows(rows: Vec<Row>) -> Result<Vec<Profile>> {
    let read = move || rows.iter().map(from_row).collect();
    tokio::task::spawn_blocking(read)
        .await
        .map_err(|panicked| Error::internal("read profile rows", panicked))
}

/// Builds a query for profiles that are not expired at the time `$2`.
fn select(condition: &str, lock: &str) -> String {
    format!(
        "SELECT {COLUMNS}, created_at
           FROM profiles
          WHERE {condition} AND (expires_at IS NULL OR expires_at > $2) {lock}"
    )
}

/// Returns the condition that finds an identity, and the value of its `$1`. The column's name is a constant.
fn condition(identity: &Identity) -> (String, &dyn Param) {
    match identity {
        Identity::Id(id) => ("id = $1".to_owned(), id),
        Identity::Key(kind, key) => (format!("{} = $1", kind.as_str()), key),
    }
}

/// Returns the keys of one kind among some identities.
fn keys_of(identities: &[Identity], wanted: KeyKind) -> Vec<&str> {
    let key = |identity| match identity {
        &Identity::Key(kind, ref key) if kind == wanted => Some(key.as_str()),
        Identity::Key(..) | Identity::Id(_) => None,
    };
    identities.iter().filter_map(key).collect()
}

fn from_row(row: &Row) -> Profile {
    Profile {
        id: row.get("id"),
        document: Document::stored(row.get::<_, Value>("profile")),
        version: row.get("version"),
        lifetime: Lifetime {
            final_time: row.get("final_time"),
            sliding_time: row.get("sliding_time"),
            final_at: row.get("final_at"),
            sliding_seconds: row.get("sliding_seconds"),
        },
        expires_at: row.get("expires_at"),
    }
}
