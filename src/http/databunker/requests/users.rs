//! The request bodies of the calls about records; a "user" of this dialect is a profile.

#![expect(dead_code, reason = "describes the bodies in the OpenAPI document")]

use crate::domain::json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::fields::{length, optional_key, optional_number, optional_version};
use super::persons::Person;

/// A new record.
#[derive(ToSchema)]
#[schema(as = DatabunkerRecordRequest)]
pub(crate) struct RecordRequest {
    profile: Profile,
    #[schema(schema_with = length)]
    finaltime: Option<String>,
    #[schema(schema_with = length)]
    slidingtime: Option<String>,
}

/// A person's record: an object with any members. These four are its keys; each is unique within the tenant.
#[derive(ToSchema)]
#[schema(as = DatabunkerProfile)]
pub(crate) struct Profile {
    #[schema(max_length = 512)]
    email: Option<String>,
    #[schema(schema_with = optional_key)]
    login: Option<String>,
    #[schema(schema_with = optional_key)]
    phone: Option<String>,
    #[schema(schema_with = optional_key)]
    custom: Option<String>,
}

/// Many new records.
#[derive(ToSchema)]
#[schema(as = DatabunkerRecordsRequest)]
pub(crate) struct RecordsRequest {
    /// Objects with a `profile`; an entry of another form is returned in `errors`.
    #[schema(value_type = Vec<Value>, min_items = 1)]
    records: Vec<Value>,
    #[schema(schema_with = length)]
    finaltime: Option<String>,
    #[schema(schema_with = length)]
    slidingtime: Option<String>,
}

/// The record to read.
#[derive(ToSchema)]
#[schema(as = DatabunkerRecordAsked)]
pub(crate) struct RecordAsked {
    #[serde(flatten)]
    person: Person,
    /// The version to read; default: the current one.
    #[schema(schema_with = optional_version)]
    version: Option<i32>,
}

/// The changes of a record.
#[derive(ToSchema)]
#[schema(as = DatabunkerRecordChange)]
pub(crate) struct RecordChange {
    #[serde(flatten)]
    person: Person,
    /// Merged into the record: a member that is null is removed.
    profile: Profile,
}

/// The changes of a record, as a JSON patch (RFC 6902).
#[derive(ToSchema)]
#[schema(as = DatabunkerRecordPatch)]
pub(crate) struct RecordPatch {
    #[serde(flatten)]
    person: Person,
    #[schema(min_items = 1, max_items = 1000)]
    patch: Vec<PatchOperation>,
}

/// An operation of a JSON patch.
#[derive(ToSchema)]
#[schema(as = DatabunkerPatchOperation)]
#[serde(untagged)]
pub(crate) enum PatchOperation {
    /// An operation with a value.
    Value(PatchWithValue),
    /// An operation with a source.
    From(PatchFrom),
    /// A removal.
    Remove(PatchRemove),
}

/// An operation with a value.
#[derive(ToSchema)]
#[schema(as = DatabunkerPatchWithValue)]
pub(crate) struct PatchWithValue {
    #[schema(pattern = "^(add|replace|test)$")]
    op: String,
    #[schema(pattern = "^(/([^~/]|~0|~1)*)*$")]
    path: String,
    value: Value,
}

/// An operation that copies or moves a value.
#[derive(ToSchema)]
#[schema(as = DatabunkerPatchFrom)]
pub(crate) struct PatchFrom {
    #[schema(pattern = "^(copy|move)$")]
    op: String,
    #[schema(pattern = "^(/([^~/]|~0|~1)*)*$")]
    path: String,
    #[schema(pattern = "^(/([^~/]|~0|~1)*)*$")]
    from: String,
}

/// An operation that removes a value.
#[derive(ToSchema)]
#[schema(as = DatabunkerPatchRemove)]
pub(crate) struct PatchRemove {
    #[schema(pattern = "^remove$")]
    op: String,
    #[schema(pattern = "^(/([^~/]|~0|~1)*)*$")]
    path: String,
}

/// The persons whose records are deleted.
#[derive(ToSchema)]
#[schema(as = DatabunkerPersonsGone)]
pub(crate) struct PersonsGone {
    #[schema(min_items = 1)]
    users: Vec<Person>,
    /// Optional; must be valid if present.
    unlockuuid: Option<Uuid>,
}

/// The person whose credential is created, and its lifetime; default: ten minutes.
#[derive(ToSchema)]
#[schema(as = DatabunkerXtokenRequest)]
pub(crate) struct XtokenRequest {
    #[serde(flatten)]
    person: Person,
    #[schema(schema_with = length)]
    finaltime: Option<String>,
    #[schema(schema_with = length)]
    slidingtime: Option<String>,
}

/// The person whose audit events are listed.
#[derive(ToSchema)]
#[schema(as = DatabunkerEventsAsked)]
pub(crate) struct EventsAsked {
    #[serde(flatten)]
    person: Person,
    #[schema(schema_with = optional_number)]
    offset: Option<i64>,
    #[schema(schema_with = optional_number)]
    limit: Option<i64>,
}

/// The audit event to read.
#[derive(ToSchema)]
#[schema(as = DatabunkerEventAsked)]
pub(crate) struct EventAsked {
    auditeventuuid: Uuid,
}
