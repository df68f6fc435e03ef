//! What this dialect's calls send, for the OpenAPI document. They are read by [`call`](super::call), whose
//! leniency is told here: null is as good as absent, numbers may be texts, and what is not listed is ignored
//! (`request_metadata`, say).

#![expect(dead_code, reason = "describes the bodies in the OpenAPI document")]

use serde_json::Value;
use utoipa::ToSchema;
use utoipa::openapi::schema::{AnyOfBuilder, KnownFormat, ObjectBuilder, SchemaType, Type};
use utoipa::openapi::{RefOr, Schema, SchemaFormat};
use uuid::Uuid;

/// What names a person.
#[derive(ToSchema)]
#[schema(as = DatabunkerMode, rename_all = "lowercase")]
pub(super) enum Mode {
    /// The record's token.
    Token,
    /// The log-in name.
    Login,
    /// The e-mail address.
    Email,
    /// The telephone number.
    Phone,
    /// Anything else.
    Custom,
}

/// What names a person by a key that is compared as it is.
#[derive(ToSchema)]
#[schema(as = DatabunkerKeyMode, rename_all = "lowercase")]
enum KeyMode {
    Login,
    Email,
    Custom,
}

/// The mode whose identity is a telephone number.
#[derive(ToSchema)]
#[schema(as = DatabunkerPhoneMode, rename_all = "lowercase")]
enum PhoneMode {
    Phone,
}

/// The mode whose identity is a record's token.
#[derive(ToSchema)]
#[schema(as = DatabunkerTokenMode, rename_all = "lowercase")]
enum TokenMode {
    Token,
}

/// A person, by the record's token or by a key.
#[derive(ToSchema)]
#[schema(as = DatabunkerPerson)]
#[serde(untagged)]
pub(super) enum Person {
    /// By the record's token.
    Token(PersonByToken),
    /// By a key.
    Key(PersonByKey),
    /// By the telephone number.
    Phone(PersonByPhone),
}

/// A person, by a key.
#[derive(ToSchema)]
#[schema(as = DatabunkerKeyedPerson)]
#[serde(untagged)]
pub(super) enum KeyedPerson {
    /// By a key.
    Key(PersonByKey),
    /// By the telephone number.
    Phone(PersonByPhone),
}

/// A person, by the record's token.
#[derive(ToSchema)]
#[schema(as = DatabunkerPersonByToken)]
pub(super) struct PersonByToken {
    mode: TokenMode,
    identity: Uuid,
}

/// A person, by a key.
#[derive(ToSchema)]
#[schema(as = DatabunkerPersonByKey)]
pub(super) struct PersonByKey {
    mode: KeyMode,
    #[schema(schema_with = key)]
    identity: String,
}

/// A person, by the telephone number.
#[derive(ToSchema)]
#[schema(as = DatabunkerPersonByPhone)]
pub(super) struct PersonByPhone {
    mode: PhoneMode,
    #[schema(schema_with = phone)]
    identity: String,
}

/// A new tenant.
#[derive(ToSchema)]
#[schema(as = DatabunkerTenantWish)]
pub(super) struct TenantWish {
    /// Its name, which no other tenant has.
    #[schema(min_length = 1, max_length = 63, pattern = "^[a-z0-9]+$")]
    tenantname: String,
    /// The organisation behind it.
    #[schema(max_length = 255, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$")]
    tenantorg: String,
    /// Whom to write to.
    #[schema(schema_with = optional_email)]
    email: Option<String>,
}

/// Which tenant; the caller's own where it is not said.
#[derive(ToSchema)]
#[schema(as = DatabunkerTenantAsked)]
pub(super) struct TenantAsked {
    #[schema(schema_with = optional_number)]
    tenantid: Option<i64>,
}

/// What changes of a tenant; the caller's own where it is not said.
#[derive(ToSchema)]
#[schema(as = DatabunkerTenantChange)]
pub(super) struct TenantChange {
    #[schema(schema_with = optional_number)]
    tenantid: Option<i64>,
    #[schema(min_length = 1, max_length = 63, pattern = "^[a-z0-9]+$")]
    tenantname: Option<String>,
    #[schema(max_length = 255, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$")]
    tenantorg: Option<String>,
    #[schema(schema_with = optional_email)]
    email: Option<String>,
}

/// Which tenant, by number or by name.
#[derive(ToSchema)]
#[schema(as = DatabunkerTenantNamed)]
#[serde(untagged)]
pub(super) enum TenantNamed {
    /// By number.
    Number(TenantByNumber),
    /// By name.
    Name(TenantByName),
}

/// Which tenant, by number.
#[derive(ToSchema)]
#[schema(as = DatabunkerTenantByNumber)]
pub(super) struct TenantByNumber {
    #[schema(schema_with = number)]
    tenantid: i64,
    /// Not looked at beside a number.
    tenantname: Option<String>,
}

/// Which tenant, by name.
#[derive(ToSchema)]
#[schema(as = DatabunkerTenantByName)]
pub(super) struct TenantByName {
    #[schema(schema_with = null)]
    tenantid: Option<i64>,
    tenantname: String,
}

/// Which page.
#[derive(ToSchema)]
#[schema(as = DatabunkerPageAsked)]
pub(super) struct PageAsked {
    /// Rows to leave out at the beginning.
    #[schema(schema_with = optional_number)]
    offset: Option<i64>,
    /// Rows of the page: 10 where it is not said, 100 where it makes no sense.
    #[schema(schema_with = optional_number)]
    limit: Option<i64>,
}

/// A new record.
#[derive(ToSchema)]
#[schema(as = DatabunkerRecordWish)]
pub(super) struct RecordWish {
    profile: Profile,
    #[schema(schema_with = length)]
    finaltime: Option<String>,
    #[schema(schema_with = length)]
    slidingtime: Option<String>,
}

/// A person's record: an object with any members. These four are the keys that it is found by, each unique
/// within the tenant.
#[derive(ToSchema)]
#[schema(as = DatabunkerProfile)]
pub(super) struct Profile {
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
#[schema(as = DatabunkerRecordsWish)]
pub(super) struct RecordsWish {
    /// Each an object with a `profile`; what is none is answered under `errors`.
    #[schema(value_type = Vec<Value>, min_items = 1)]
    records: Vec<Value>,
    #[schema(schema_with = length)]
    finaltime: Option<String>,
    #[schema(schema_with = length)]
    slidingtime: Option<String>,
}

/// Which record.
#[derive(ToSchema)]
#[schema(as = DatabunkerRecordAsked)]
pub(super) struct RecordAsked {
    #[serde(flatten)]
    person: Person,
    /// As it was in this version; as it is now where none is said.
    #[schema(schema_with = optional_version)]
    version: Option<i32>,
}

/// What changes of a record.
#[derive(ToSchema)]
#[schema(as = DatabunkerRecordChange)]
pub(super) struct RecordChange {
    #[serde(flatten)]
    person: Person,
    /// Merged into the record; a member that is null is removed.
    profile: Profile,
}

/// What changes of a record, as a JSON patch (RFC 6902).
#[derive(ToSchema)]
#[schema(as = DatabunkerRecordPatch)]
pub(super) struct RecordPatch {
    #[serde(flatten)]
    person: Person,
    #[schema(min_items = 1, max_items = 1000)]
    patch: Vec<PatchOperation>,
}

/// A step of a JSON patch.
#[derive(ToSchema)]
#[schema(as = DatabunkerPatchOperation)]
#[serde(untagged)]
pub(super) enum PatchOperation {
    /// With a value.
    Value(PatchWithValue),
    /// From another place.
    From(PatchFrom),
    /// Takes away.
    Remove(PatchRemove),
}

/// A step with a value.
#[derive(ToSchema)]
#[schema(as = DatabunkerPatchWithValue)]
pub(super) struct PatchWithValue {
    #[schema(pattern = "^(add|replace|test)$")]
    op: String,
    #[schema(pattern = "^(/([^~/]|~0|~1)*)*$")]
    path: String,
    value: Value,
}

/// A step that copies or moves.
#[derive(ToSchema)]
#[schema(as = DatabunkerPatchFrom)]
pub(super) struct PatchFrom {
    #[schema(pattern = "^(copy|move)$")]
    op: String,
    #[schema(pattern = "^(/([^~/]|~0|~1)*)*$")]
    path: String,
    #[schema(pattern = "^(/([^~/]|~0|~1)*)*$")]
    from: String,
}

/// A step that takes away.
#[derive(ToSchema)]
#[schema(as = DatabunkerPatchRemove)]
pub(super) struct PatchRemove {
    #[schema(pattern = "^remove$")]
    op: String,
    #[schema(pattern = "^(/([^~/]|~0|~1)*)*$")]
    path: String,
}

/// Whose records go.
#[derive(ToSchema)]
#[schema(as = DatabunkerPersonsGone)]
pub(super) struct PersonsGone {
    #[schema(min_items = 1)]
    users: Vec<Person>,
    /// Not needed; one that is sent must be good.
    unlockuuid: Option<Uuid>,
}

/// Whose credential, and how long it is good: ten minutes where it is not said.
#[derive(ToSchema)]
#[schema(as = DatabunkerXtokenWish)]
pub(super) struct XtokenWish {
    #[serde(flatten)]
    person: Person,
    #[schema(schema_with = length)]
    finaltime: Option<String>,
    #[schema(schema_with = length)]
    slidingtime: Option<String>,
}

/// Whose events.
#[derive(ToSchema)]
#[schema(as = DatabunkerEventsAsked)]
pub(super) struct EventsAsked {
    #[serde(flatten)]
    person: Person,
    #[schema(schema_with = optional_number)]
    offset: Option<i64>,
    #[schema(schema_with = optional_number)]
    limit: Option<i64>,
}

/// Which event.
#[derive(ToSchema)]
#[schema(as = DatabunkerEventAsked)]
pub(super) struct EventAsked {
    auditeventuuid: Uuid,
}

/// What to look for, behind an unlock.
#[derive(ToSchema)]
#[schema(as = DatabunkerSearchAsked)]
pub(super) struct SearchAsked {
    /// A part of the e-mail address where it has an `@`, of any other key otherwise.
    #[schema(max_length = 512, pattern = "[^\\s\\u0000]")]
    identity: String,
    unlockuuid: Uuid,
}

/// Whose records, behind an unlock.
#[derive(ToSchema)]
#[schema(as = DatabunkerUsersAsked)]
pub(super) struct UsersAsked {
    #[schema(min_items = 1)]
    users: Vec<KeyedPerson>,
    unlockuuid: Uuid,
}

/// Which page, behind an unlock.
#[derive(ToSchema)]
#[schema(as = DatabunkerBulkPageAsked)]
pub(super) struct BulkPageAsked {
    #[schema(schema_with = optional_number)]
    offset: Option<i64>,
    #[schema(schema_with = optional_number)]
    limit: Option<i64>,
    unlockuuid: Uuid,
}

/// Who, in all tenants, behind an unlock.
#[derive(ToSchema)]
#[schema(as = DatabunkerPersonAsked)]
pub(super) struct PersonAsked {
    #[serde(flatten)]
    person: KeyedPerson,
    unlockuuid: Uuid,
}

/// Whose records go, behind an unlock.
#[derive(ToSchema)]
#[schema(as = DatabunkerErasureAsked)]
#[serde(untagged)]
pub(super) enum ErasureAsked {
    /// In all tenants, or in one.
    Everywhere(ErasureByKey),
    /// In one tenant, without which a token means nothing.
    There(ErasureByToken),
}

/// Whose records go, in all tenants or in one.
#[derive(ToSchema)]
#[schema(as = DatabunkerErasureByKey)]
pub(super) struct ErasureByKey {
    #[serde(flatten)]
    person: KeyedPerson,
    #[schema(schema_with = optional_number)]
    tenantid: Option<i64>,
    tenantname: Option<String>,
    unlockuuid: Uuid,
}

/// Which record goes.
#[derive(ToSchema)]
#[schema(as = DatabunkerErasureByToken)]
pub(super) struct ErasureByToken {
    #[serde(flatten)]
    person: PersonByToken,
    #[serde(flatten)]
    tenant: TenantNamed,
    unlockuuid: Uuid,
}

/// Which record comes back, behind an unlock.
#[derive(ToSchema)]
#[schema(as = DatabunkerRestoreAsked)]
pub(super) struct RestoreAsked {
    token: Uuid,
    #[serde(flatten)]
    tenant: TenantNamed,
    unlockuuid: Uuid,
}

/// A new tenant, as the older API asks for it.
#[derive(ToSchema)]
#[schema(as = DatabunkerV1TenantWish)]
pub(super) struct V1TenantWish {
    #[schema(min_length = 1, max_length = 63, pattern = "^[a-z0-9]+$")]
    name: String,
    #[schema(max_length = 255, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$")]
    org: Option<String>,
    #[schema(schema_with = optional_email)]
    email: Option<String>,
}

/// What changes of a tenant, as the older API asks for it.
#[derive(ToSchema)]
#[schema(as = DatabunkerV1TenantChange)]
pub(super) struct V1TenantChange {
    #[schema(min_length = 1, max_length = 63, pattern = "^[a-z0-9]+$")]
    name: String,
    #[schema(max_length = 255, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$")]
    org: Option<String>,
    #[schema(schema_with = optional_number)]
    tenantid: Option<i64>,
}

/// A person's record: an object with at least one member, of any name.
#[derive(ToSchema)]
#[schema(as = DatabunkerV1Profile, min_properties = 1)]
pub(super) struct V1Profile {
    #[schema(max_length = 512)]
    email: Option<String>,
    #[schema(schema_with = optional_key)]
    login: Option<String>,
    #[schema(schema_with = optional_key)]
    phone: Option<String>,
    #[schema(schema_with = optional_key)]
    custom: Option<String>,
}

/// What changes of a record: members to merge into it, or a JSON patch.
#[derive(ToSchema)]
#[schema(as = DatabunkerV1Change)]
#[serde(untagged)]
pub(super) enum V1Change {
    /// Merged into the record; a member that is null is removed.
    Merge(V1Profile),
    /// A JSON patch (RFC 6902).
    Patch(Vec<PatchOperation>),
}

const DIGITS: &str = "^\\s*[+-]?[0-9]{1,18}\\s*$";

/// A length of time: `30d`, `1y`, `24h`, `2s`, `6w`, `3m` or seconds; an empty text is none.
const LENGTH: &str = "^\\s*(([1-9][0-9]{0,8}s?|[1-9][0-9]{0,4}h|[1-9][0-9]{0,3}d|[1-9][0-9]{0,2}[wm]|[1-9][0-9]?y)\\s*)?$";

/// The longest length of time in seconds: a hundred years.
const LENGTH_MAX: i64 = 100 * 365 * 86_400;

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

fn null() -> Schema {
    Schema::Object(ObjectBuilder::new().schema_type(Type::Null).build())
}

fn any_of(schemas: impl IntoIterator<Item = ObjectBuilder>) -> Schema {
    let add = |any: AnyOfBuilder, schema: ObjectBuilder| any.item(RefOr::T(schema.build().into()));
    schemas.into_iter().fold(AnyOfBuilder::new(), add).into()
}

fn nothing() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Null)
}

fn whole(min: i64, max: i64) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(min)).maximum(Some(max))
}

/// A whole number, also as a text of digits.
fn number() -> Schema {
    any_of([whole(i64::MIN, i64::MAX), text().pattern(Some(DIGITS))])
}

fn optional_number() -> Schema {
    any_of([whole(i64::MIN, i64::MAX), text().pattern(Some(DIGITS)), nothing()])
}

fn optional_version() -> Schema {
    let (min, max) = (i64::from(i32::MIN), i64::from(i32::MAX));
    any_of([whole(min, max), text().pattern(Some("^\\s*[+-]?[0-9]{1,9}\\s*$")), nothing()])
}

/// A key of which something is left without space around it; a number is as good as its text.
fn key() -> Schema {
    let text = text().min_length(Some(1)).max_length(Some(512)).pattern(Some("\\S"));
    any_of([text, ObjectBuilder::new().schema_type(Type::Number)])
}

/// A telephone number, of which something is left without spaces and punctuation.
fn phone() -> Schema {
    let text = text().min_length(Some(1)).max_length(Some(512)).pattern(Some("[^\\s().-]"));
    any_of([text, ObjectBuilder::new().schema_type(Type::Number)])
}

fn optional_key() -> Schema {
    let kinds = [Type::String, Type::Number, Type::Null];
    let key = ObjectBuilder::new().schema_type(SchemaType::from_iter(kinds));
    Schema::Object(key.max_length(Some(512)).build())
}

fn length() -> Schema {
    any_of([text().pattern(Some(LENGTH)), whole(1, LENGTH_MAX), nothing()])
}

/// An address, or none: an empty text is none.
fn optional_email() -> Schema {
    let email = SchemaFormat::KnownFormat(KnownFormat::Email);
    any_of([
        text().format(Some(email)).max_length(Some(254)),
        text().max_length(Some(0)),
        nothing(),
    ])
}
