//! The request bodies of the older API.

#![expect(dead_code, reason = "describes the bodies in the OpenAPI document")]

use utoipa::ToSchema;

use super::fields::{optional_email, optional_key, optional_number};
use super::users::PatchOperation;

/// A new tenant, in the form of the older API.
#[derive(ToSchema)]
#[schema(as = DatabunkerV1TenantRequest)]
pub(crate) struct V1TenantRequest {
    #[schema(min_length = 1, max_length = 63, pattern = "^[a-z0-9]+$")]
    name: String,
    #[schema(max_length = 255, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$")]
    org: Option<String>,
    #[schema(schema_with = optional_email)]
    email: Option<String>,
}

/// The changes of a tenant, in the form of the older API.
#[derive(ToSchema)]
#[schema(as = DatabunkerV1TenantChange)]
pub(crate) struct V1TenantChange {
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
pub(crate) struct V1Profile {
    #[schema(max_length = 512)]
    email: Option<String>,
    #[schema(schema_with = optional_key)]
    login: Option<String>,
    #[schema(schema_with = optional_key)]
    phone: Option<String>,
    #[schema(schema_with = optional_key)]
    custom: Option<String>,
}

/// The changes of a record: members to merge into it, or a JSON patch.
#[derive(ToSchema)]
#[schema(as = DatabunkerV1Change)]
#[serde(untagged)]
pub(crate) enum V1Change {
    /// Merged into the record: a member that is null is removed.
    Merge(V1Profile),
    /// A JSON patch (RFC 6902).
    Patch(Vec<PatchOperation>),
}
