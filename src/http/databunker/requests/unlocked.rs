//! What the calls behind an unlock send: those in bulk and those across tenants.

#![expect(dead_code, reason = "describes the bodies in the OpenAPI document")]

use utoipa::ToSchema;
use uuid::Uuid;

use super::fields::optional_number;
use super::persons::{KeyedPerson, PersonByToken};
use super::tenants::TenantNamed;

/// What to look for, behind an unlock.
#[derive(ToSchema)]
#[schema(as = DatabunkerSearchAsked)]
pub(crate) struct SearchAsked {
    /// A part of the e-mail address where it has an `@`, of any other key otherwise.
    #[schema(max_length = 512, pattern = "[^\\s\\u0000]")]
    identity: String,
    unlockuuid: Uuid,
}

/// Whose records, behind an unlock.
#[derive(ToSchema)]
#[schema(as = DatabunkerUsersAsked)]
pub(crate) struct UsersAsked {
    #[schema(min_items = 1)]
    users: Vec<KeyedPerson>,
    unlockuuid: Uuid,
}

/// Which page, behind an unlock.
#[derive(ToSchema)]
#[schema(as = DatabunkerBulkPageAsked)]
pub(crate) struct BulkPageAsked {
    #[schema(schema_with = optional_number)]
    offset: Option<i64>,
    #[schema(schema_with = optional_number)]
    limit: Option<i64>,
    unlockuuid: Uuid,
}

/// Who, in all tenants, behind an unlock.
#[derive(ToSchema)]
#[schema(as = DatabunkerPersonAsked)]
pub(crate) struct PersonAsked {
    #[serde(flatten)]
    person: KeyedPerson,
    unlockuuid: Uuid,
}

/// Whose records go, behind an unlock.
#[derive(ToSchema)]
#[schema(as = DatabunkerErasureAsked)]
#[serde(untagged)]
pub(crate) enum ErasureAsked {
    /// In all tenants, or in one.
    Everywhere(ErasureByKey),
    /// In one tenant, without which a token means nothing.
    There(ErasureByToken),
}

/// Whose records go, in all tenants or in one.
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

/// Which record goes.
#[derive(ToSchema)]
#[schema(as = DatabunkerErasureByToken)]
pub(crate) struct ErasureByToken {
    #[serde(flatten)]
    person: PersonByToken,
    #[serde(flatten)]
    tenant: TenantNamed,
    unlockuuid: Uuid,
}

/// Which record comes back, behind an unlock.
#[derive(ToSchema)]
#[schema(as = DatabunkerRestoreAsked)]
pub(crate) struct RestoreAsked {
    token: Uuid,
    #[serde(flatten)]
    tenant: TenantNamed,
    unlockuuid: Uuid,
}
