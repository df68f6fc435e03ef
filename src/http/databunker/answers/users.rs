//! The response bodies of the calls about records; a "user" of this dialect is a profile.

use crate::domain::json::Value;
use serde::Serialize;
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

/// The result for each of many records.
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
    /// The record as it was sent.
    #[schema(value_type = Object, additional_properties = true)]
    pub(crate) profile: Value,
}

/// A record that was not stored.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerNotMade)]
pub(crate) struct NotMade {
    /// The value as it was sent, of any type.
    #[schema(value_type = Value)]
    pub(crate) profile: Value,
    /// Why it was not stored, for people.
    pub(crate) reason: String,
}

/// A person's record.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerUser)]
pub(crate) struct UserRead {
    status: Status,
    token: Uuid,
    /// The record as it was stored.
    #[schema(value_type = Object, additional_properties = true)]
    profile: Value,
    version: i32,
    /// When the record expires, as it was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    finaltime: Option<String>,
    /// How long the record is kept after its last use, as it was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    slidingtime: Option<String>,
    /// When the record expires, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    expirationtime: Option<i64>,
}

impl From<Profile> for UserRead {
    fn from(profile: Profile) -> Self {
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
    /// The record as it was stored.
    #[schema(value_type = Object, additional_properties = true)]
    profile: Value,
    version: i32,
    /// When the record expires, as it was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    finaltime: Option<String>,
    /// How long the record is kept after its last use, as it was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    slidingtime: Option<String>,
    /// When the record expires, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    expirationtime: Option<i64>,
}

impl From<Profile> for UserRow {
    fn from(profile: Profile) -> Self {
        Self {
            token: profile.id.uuid(),
            profile: profile.document.into_value(),
            version: profile.version,
            finaltime: profile.lifetime.final_time,
            slidingtime: profile.lifetime.sliding_time,
            expirationtime: profile.expires_at.map(time::OffsetDateTime::unix_timestamp),
        }
    }
}

/// A page of records.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerUsers)]
pub(crate) struct UserPage {
    status: Status,
    /// The number of matching records, which can be more than the rows.
    total: i64,
    rows: Vec<UserRow>,
}

impl UserPage {
    pub(crate) fn new(total: i64, found: Vec<Profile>) -> Self {
        Self { status: Status::Ok, total, rows: found.into_iter().map(UserRow::from).collect() }
    }
}

/// The number of deleted records.
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
    /// When the version was created, in seconds since 1970.
    optime: i64,
    /// The MD5 digest of the record in this version.
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

/// A credential for the person whose record it is.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerXtoken)]
pub(crate) struct XtokenMade {
    pub(crate) status: Status,
    /// The credential; returned only here.
    pub(crate) xtoken: String,
    /// The token of the record.
    pub(crate) token: Uuid,
}

/// A page of the audit events of a record.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerEvents)]
pub(crate) struct EventPage {
    pub(crate) status: Status,
    /// The number of events on all pages.
    pub(crate) total: i64,
    pub(crate) rows: Vec<EventRow>,
}

/// An audit event in a list.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerEventRow)]
pub(crate) struct EventRow {
    auditeventuuid: Uuid,
    eventtype: String,
    /// When it happened, in seconds since 1970.
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

/// An audit event.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerEvent)]
pub(crate) struct EventRead {
    status: Status,
    auditeventuuid: Uuid,
    eventtype: String,
    /// When it happened, in seconds since 1970.
    timestamp: i64,
    details: EventDetails,
}

/// The record, the caller and the request of an audit event.
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
