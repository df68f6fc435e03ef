//! What this dialect answers, field by field. Every success says so in `status`.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::Tenant;
use crate::service::profiles::{Event, Profile, Version};
use crate::service::system::{Found, Unasked};

/// The word in every success.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[schema(as = DatabunkerOk)]
pub(super) enum Status {
    /// It was done.
    #[serde(rename = "ok")]
    Ok,
}

/// It was done, and there is nothing to tell of it.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerDone)]
pub(super) struct Done {
    pub(super) status: Status,
}

/// A new tenant.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerTenantMade)]
pub(super) struct TenantMade {
    pub(super) status: Status,
    /// The tenant's token, shown this once.
    pub(super) xtoken: Option<String>,
    pub(super) tenantid: i64,
}

/// A new tenant, as the older API tells it.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerV1TenantMade)]
pub(super) struct V1TenantMade {
    pub(super) status: Status,
    /// The tenant's token, shown this once.
    pub(super) xtoken: Option<String>,
}

/// A tenant.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerTenant)]
pub(super) struct TenantRead {
    pub(super) status: Status,
    pub(super) tenantname: String,
    pub(super) tenantorg: String,
}

/// A page of tenants.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerTenants)]
pub(super) struct TenantPage {
    pub(super) status: Status,
    /// How many there are on all pages.
    pub(super) total: i64,
    pub(super) rows: Vec<TenantRow>,
}

/// A tenant in a list.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerTenantRow)]
pub(super) struct TenantRow {
    tenantid: i64,
    tenantname: String,
    tenantorg: String,
}

impl From<Tenant> for TenantRow {
    fn from(tenant: Tenant) -> Self {
        Self {
            tenantid: tenant.number,
            tenantname: tenant.slug.to_string(),
            tenantorg: tenant.org.unwrap_or_default(),
        }
    }
}

/// The token of a record: its id.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerToken)]
pub(super) struct Token {
    pub(super) status: Status,
    pub(super) token: Uuid,
}

/// What became of many records.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerBulkMade)]
pub(super) struct BulkMade {
    pub(super) status: Status,
    pub(super) created: Vec<Made>,
    pub(super) errors: Vec<NotMade>,
}

/// A record that was stored.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerMade)]
pub(super) struct Made {
    pub(super) token: Uuid,
    /// As it was sent.
    #[schema(value_type = Object, additional_properties = true)]
    pub(super) profile: Value,
}

/// A record that was not stored.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerNotMade)]
pub(super) struct NotMade {
    /// As it was sent, be it anything.
    #[schema(value_type = Value)]
    pub(super) profile: Value,
    /// Why not, for people.
    pub(super) reason: String,
}

/// A person's record.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerUser)]
pub(super) struct UserRead {
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
pub(super) struct UserRow {
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
pub(super) struct UserPage {
    status: Status,
    /// How many there are; it may be more than the rows.
    total: i64,
    rows: Vec<UserRow>,
}

impl UserPage {
    pub(super) fn new(total: i64, found: &[Profile]) -> Self {
        Self { status: Status::Ok, total, rows: found.iter().map(UserRow::from).collect() }
    }
}

/// How many records were deleted.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerDeleted)]
pub(super) struct Deleted {
    pub(super) status: Status,
    pub(super) deleted_count: usize,
}

/// The versions of a record.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerVersions)]
pub(super) struct Versions {
    pub(super) status: Status,
    pub(super) versions: Vec<VersionRow>,
}

/// A version of a record.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerVersion)]
pub(super) struct VersionRow {
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
pub(super) struct XtokenMade {
    pub(super) status: Status,
    /// The credential, shown this once.
    pub(super) xtoken: String,
    /// The record.
    pub(super) token: Uuid,
}

/// What happened to a record.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerEvents)]
pub(super) struct EventPage {
    pub(super) status: Status,
    /// How many there are on all pages.
    pub(super) total: i64,
    pub(super) rows: Vec<EventRow>,
}

/// One thing that happened, in a list.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerEventRow)]
pub(super) struct EventRow {
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
pub(super) struct EventRead {
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

/// An unlock.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerUnlock)]
pub(super) struct Unlock {
    pub(super) status: Status,
    /// Good for 60 seconds.
    pub(super) unlockuuid: String,
}

/// A person's records in all tenants.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerFound)]
pub(super) struct FoundPage {
    pub(super) status: Status,
    /// How many there are; it may be more than the rows.
    pub(super) total: i64,
    pub(super) rows: Vec<FoundRow>,
    /// The tenants that were not asked, if any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub(super) errors: Vec<UnaskedRow>,
}

/// A person's record in a tenant.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerFoundRow)]
pub(super) struct FoundRow {
    tenantid: i64,
    tenantname: String,
    token: Uuid,
    #[schema(value_type = Object, additional_properties = true)]
    profile: Value,
}

impl From<&Found> for FoundRow {
    fn from(found: &Found) -> Self {
        Self {
            tenantid: found.tenant.number,
            tenantname: found.tenant.slug.to_string(),
            token: found.profile.id.uuid(),
            profile: found.profile.document.as_value().clone(),
        }
    }
}

/// A tenant that was not asked.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerUnasked)]
pub(super) struct UnaskedRow {
    tenantid: i64,
    tenantname: String,
    /// Why not, for people.
    message: &'static str,
}

impl UnaskedRow {
    pub(super) fn all(unasked: &[(Tenant, Unasked)]) -> Vec<Self> {
        let row = |(tenant, why): &(Tenant, Unasked)| Self {
            tenantid: tenant.number,
            tenantname: tenant.slug.to_string(),
            message: match why {
                Unasked::NotActive => "The tenant is not active",
                Unasked::Failed => "The tenant could not be asked",
            },
        };
        unasked.iter().map(row).collect()
    }
}

/// The records that were deleted.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerErased)]
pub(super) struct DeletedPage {
    pub(super) status: Status,
    pub(super) total: usize,
    pub(super) rows: Vec<DeletedRow>,
    /// The tenants that were not asked, if any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub(super) errors: Vec<UnaskedRow>,
}

/// A record that was deleted.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerErasedRow)]
pub(super) struct DeletedRow {
    pub(super) token: Uuid,
    pub(super) tenantid: i64,
    pub(super) tenantname: String,
}

/// A record that was put back.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerRestored)]
pub(super) struct Restored {
    pub(super) status: Status,
    /// Always `restored`.
    pub(super) result: &'static str,
    /// The same as before.
    pub(super) token: Uuid,
    #[schema(value_type = Object, additional_properties = true)]
    pub(super) profile: Value,
}

/// What the whole house holds.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerStats)]
pub(super) struct StatsRead {
    pub(super) status: Status,
    pub(super) stats: Stats,
    /// The tenants that were not asked, if any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub(super) errors: Vec<UnaskedRow>,
}

/// Counts.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerCounts)]
pub(super) struct Stats {
    pub(super) numusers: i64,
    pub(super) numtenants: i64,
    pub(super) numtokens: i64,
    pub(super) numsessions: i64,
    pub(super) totalnumrecords: i64,
}

/// A person's record, as the older API tells it.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerV1User)]
pub(super) struct V1UserRead {
    pub(super) status: Status,
    pub(super) token: Uuid,
    /// The record as it was stored.
    #[schema(value_type = Object, additional_properties = true)]
    pub(super) data: Value,
}

/// It was deleted, as the older API tells it.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerV1Deleted)]
pub(super) struct V1Deleted {
    pub(super) status: Status,
    /// Always `done`.
    pub(super) result: &'static str,
}
