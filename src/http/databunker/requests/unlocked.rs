//! The request bodies of the calls that need an unlock: bulk calls and calls across tenants.

#![expect(dead_code, reason = "describes the bodies in the OpenAPI document")]

use utoipa::ToSchema;
use uuid::Uuid;

use super::fields::optional_number;
use super::persons::{KeyedPerson, PersonByToken};
use super::tenants::TenantNamed;

/// The text to search for, with an unlock.
#[derive(ToSchema)]
#[schema(as = DatabunkerSearchAsked)]
pub(crate) struct SearchAsked {
    /// A part of the e-mail address if it contains an `@`, otherwise a part of any other key.
    #[schema(max_length = 512, pattern = "[^\\s\\u0000]")]
    identity: String,
    unlockuuid: Uuid,
}

/// The persons whose records are listed, with an unlock.
#[derive(ToSchema)]
#[schema(as = DatabunkerUsersAsked)]
pub(crate) struct UsersAsked {
    #[schema(min_items = 1)]
    users: Vec<KeyedPerson>,
    unlockuuid: Uuid,
}

/// The page to list, with an unlock.
#[derive(ToSchema)]
#[schema(as = DatabunkerBulkPageAsked)]
pub(crate) struct BulkPageAsked {
    #[schema(schema_with = optional_number)]
    offset: Option<i64>,
    #[schema(schema_with = optional_number)]
    limit: Option<i64>,
    unlockuuid: Uuid,
}

/// The person to find in all tenants, with an unlock.
#[derive(ToSchema)]
#[schema(as = DatabunkerPersonAsked)]
pub(crate) struct PersonAsked {
    #[serde(flatten)]
    person: KeyedPerson,
    unlockuuid: Uuid,
}

/// The person whose records are deleted, with an unlock.
#[derive(ToSchema)]
#[schema(as = DatabunkerErasureAsked)]
#[serde(untagged)]
pub(crate) enum ErasureAsked {
    /// By a key, in all tenants or in one.
    Everywhere(ErasureByKey),
    /// By the record's token, which is meaningful only together with its tenant.
    There(ErasureByToken),
}

/// The person whose records are deleted, in all tenants or in one.
#[derive(ToSchema)]
#[schema(as = DatabunkerErasureByKey)]
pub(crate) struct ErasureByKey {
    #[serde(flatten)]
    person: KeyedPerson,
    #[schema(schema_with = optional_number)]
    tenantid: Option<i64>,
    tenantname: Option<String>,
    unlockuuid: Uuid,
}

/// The record that is deleted.
#[derive(ToSchema)]
#[schema(as = DatabunkerErasureByToken)]
pub(crate) struct ErasureByToken {
    #[serde(flatten)]
    person: PersonByToken,
    #[serde(flatten)]
    tenant: TenantNamed,
    unlockuuid: Uuid,
}

/// The record to restore, with an unlock.
#[derive(ToSchema)]
#[schema(as = DatabunkerRestoreAsked)]
pub(crate) struct RestoreAsked {
    token: Uuid,
    #[serde(flatten)]
    tenant: TenantNamed,
    unlockuuid: Uuid,
}
