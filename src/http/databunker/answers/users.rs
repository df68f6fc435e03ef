//! What the calls about records answer; a "user" of this dialect is a profile.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::Status;
use crate::service::profiles::{Event, Profile, Version};

/// The token of a record: its id.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerToken)]
pub(crate) struct Token {
    pub(crate) status: Status,
    pub(crate) token: Uuid,
}

/// What became of many records.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerBulkMade)]
pub(crate) struct BulkMade {
    pub(crate) status: Status,
    pub(crate) created: Vec<Made>,
    pub(crate) errors: Vec<NotMade>,
}

/// A record that was stored.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerMade)]
pub(crate) struct Made {
    pub(crate) token: Uuid,
    /// As it was sent.
    #[schema(value_type = Object, additional_properties = true)]
    pub(crate) profile: Value,
}

/// A record that was not stored.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerNotMade)]
pub(crate) struct NotMade {
    /// As it was sent, be it anything.
    #[schema(value_type = Value)]
    pub(crate) profile: Value,
    /// Why not, for people.
    pub(crate) reason: String,
}

/// A person's record.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerUser)]
pub(crate) struct UserRead {
    status: Status,
    token: Uuid,
    /// As it was stored.
    #[schema(value_type = Object, additional_properties = true)]
    profile: Value,
    version: i32,
    /// When it ends, in the words that it was given in.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    finaltime: Option<String>,
    /// How long it lives unused, in the words that it was given in.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    slidingtime: Option<String>,
    /// When it ends, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    expirationtime: Option<i64>,
}

impl From<&Profile> for UserRead {
    fn from(profile: &Profile) -> Self {
        let UserRow { token, profile, version, finaltime, slidingtime, expirationtime } =
            profile.into();
        let status = Status::Ok;
        Self { status, token, profile, version, finaltime, slidingtime, expirationtime }
    }
}

/// A person's record in a list.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerUserRow)]
pub(crate) struct UserRow {
    token: Uuid,
    /// As it was stored.
    #[schema(value_type = Object, additional_properties = true)]
    profile: Value,
    version: i32,
    /// When it ends, in the words that it was given in.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    finaltime: Option<String>,
    /// How long it lives unused, in the words that it was given in.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    slidingtime: Option<String>,
    /// When it ends, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    expirationtime: Option<i64>,
}

impl From<&Profile> for UserRow {
    fn from(profile: &Profile) -> Self {
        Self {
            token: profile.id.uuid(),
            profile: profile.document.as_value().clone(),
            version: profile.version,
            finaltime: profile.lifetime.final_time.clone(),
            slidingtime: profile.lifetime.sliding_time.clone(),
            expirationtime: profile.expires_at.map(time::OffsetDateTime::unix_timestamp),
        }
    }
}

/// Records.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerUsers)]
pub(crate) struct UserPage {
    status: Status,
    /// How many there are; it may be more than the rows.
    total: i64,
    rows: Vec<UserRow>,
}

impl UserPage {
    pub(crate) fn new(total: i64, found: &[Profile]) -> Self {
        Self { status: Status::Ok, total, rows: found.iter().map(UserRow::from).collect() }
    }
}

/// How many records were deleted.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerDeleted)]
pub(crate) struct Deleted {
    pub(crate) status: Status,
    pub(crate) deleted_count: usize,
}

/// The versions of a record.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerVersions)]
pub(crate) struct Versions {
    pub(crate) status: Status,
    pub(crate) versions: Vec<VersionRow>,
}

/// A version of a record.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerVersion)]
pub(crate) struct VersionRow {
    version: i32,
    /// When it was made, in seconds since 1970.
    optime: i64,
    /// Of the record as it was then.
    md5: String,
}

impl From<&Version> for VersionRow {
    fn from(version: &Version) -> Self {
        Self {
            version: version.version,
            optime: version.created_at.unix_timestamp(),
            md5: version.md5.clone(),
        }
    }
}

/// A credential for the person behind a record.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerXtoken)]
pub(crate) struct XtokenMade {
    pub(crate) status: Status,
    /// The credential, shown this once.
    pub(crate) xtoken: String,
    /// The record.
    pub(crate) token: Uuid,
}

/// What happened to a record.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerEvents)]
pub(crate) struct EventPage {
    pub(crate) status: Status,
    /// How many there are on all pages.
    pub(crate) total: i64,
    pub(crate) rows: Vec<EventRow>,
}

/// One thing that happened, in a list.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerEventRow)]
pub(crate) struct EventRow {
    auditeventuuid: Uuid,
    eventtype: String,
    /// In seconds since 1970.
    timestamp: i64,
}

impl From<&Event> for EventRow {
    fn from(event: &Event) -> Self {
        Self {
            auditeventuuid: event.id,
            eventtype: event.action.clone(),
            timestamp: event.at.unix_timestamp(),
        }
    }
}

/// One thing that happened.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerEvent)]
pub(crate) struct EventRead {
    status: Status,
    auditeventuuid: Uuid,
    eventtype: String,
    /// In seconds since 1970.
    timestamp: i64,
    details: EventDetails,
}

/// To whom it happened, by whom, within which request.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerEventDetails)]
struct EventDetails {
    token: Uuid,
    actor: String,
    requestid: String,
}

impl From<Event> for EventRead {
    fn from(event: Event) -> Self {
        Self {
            status: Status::Ok,
            auditeventuuid: event.id,
            eventtype: event.action,
            timestamp: event.at.unix_timestamp(),
            details: EventDetails {
                token: event.profile.uuid(),
                actor: event.actor,
                requestid: event.request_id,
            },
        }
    }
}
