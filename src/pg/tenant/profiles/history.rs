//! Statements on the versions and events of profiles. Both remain when a profile is deleted.

use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::error::Result;
use crate::domain::profile::{Document, ProfileId};
use crate::pg::error::During;
use crate::pg::tenant::profiles::{Author, Profile, from_row};
use crate::pg::{Row, TenantTx};

/// A version of a profile.
#[derive(Debug, Clone)]
pub struct Version {
    /// The version number, from 1.
    pub version: i32,
    /// When it was written.
    pub created_at: OffsetDateTime,
    /// The MD5 digest of the document.
    pub md5: String,
}

/// An event in the history of a profile.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its id.
    pub id: Uuid,
    /// The profile.
    pub profile: ProfileId,
    /// When it happened.
    pub at: OffsetDateTime,
    /// The action, as `profile.verb`.
    pub action: String,
    /// The actor.
    pub actor: String,
    /// The id of the request.
    pub request_id: String,
}

/// Returns the document of one version, whether or not the profile still exists.
pub async fn find_version(tx: TenantTx, id: ProfileId, version: i32) -> Result<Option<Document>> {
    let rows = tx
        .query_and_commit(
            "SELECT profile FROM profile_versions WHERE profile_id = $1 AND version = $2",
            &[&id, &version],
        )
        .await
        .during("read profile version")?;
    Ok(rows
        .first()
        .map(|row| Document::stored(row.get::<_, crate::domain::json::Value>("profile"))))
}

/// Returns a profile in its newest version, whether or not the profile still exists. An expired one is not returned.
pub async fn find_last_version(
    tx: TenantTx,
    id: ProfileId,
    now: OffsetDateTime,
) -> Result<Option<Profile>> {
    let rows = tx
        .query_and_commit(
            "SELECT profile_id AS id, profile, version, final_time, sliding_time, final_at, sliding_seconds,
                    NULL::timestamptz AS expires_at
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

/// Lists all versions of a profile, oldest first.
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
        .map(|row| Version {
            version: row.get("version"),
            created_at: row.get("created_at"),
            md5: row.get("md5"),
        })
        .collect())
}

/// Returns one page of a profile's events, newest first, with the total number.
pub async fn list_events(
    tx: TenantTx,
    id: ProfileId,
    offset: i64,
    limit: i64,
) -> Result<(i64, Vec<Event>)> {
    let total = tx
        .query_one("SELECT count(*) AS total FROM profile_events WHERE profile_id = $1", &[&id])
        .await
        .during("count profile events")?
        .get("total");
    let rows = tx
        .query_and_commit(
            &format!(
                "SELECT {EVENT_COLUMNS}
                   FROM profile_events
                  WHERE profile_id = $1
                  ORDER BY at DESC, id DESC
                 OFFSET $2 LIMIT $3"
            ),
            &[&id, &offset, &limit],
        )
        .await
        .during("list profile events")?;
    Ok((total, rows.iter().map(event_from_row).collect()))
}

/// Returns one event.
pub async fn find_event(tx: TenantTx, id: Uuid) -> Result<Option<Event>> {
    let rows = tx
        .query_and_commit(
            &format!("SELECT {EVENT_COLUMNS} FROM profile_events WHERE id = $1"),
            &[&id],
        )
        .await
        .during("read profile event")?;
    Ok(rows.first().map(event_from_row))
}

/// Records an event that changed no profile.
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

/// The columns of an [`Event`].
const EVENT_COLUMNS: &str = "id, profile_id, at, action, actor, request_id";

fn event_from_row(row: &Row) -> Event {
    Event {
        id: row.get("id"),
        profile: row.get("profile_id"),
        at: row.get("at"),
        action: row.get("action"),
        actor: row.get("actor"),
        request_id: row.get("request_id"),
    }
}
