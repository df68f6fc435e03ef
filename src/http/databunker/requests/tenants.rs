//! The request bodies of the calls about tenants.

#![expect(dead_code, reason = "describes the bodies in the OpenAPI document")]

use utoipa::ToSchema;

use super::fields::{null, number, optional_email, optional_number};

/// A new tenant.
#[derive(ToSchema)]
#[schema(as = DatabunkerTenantRequest)]
pub(crate) struct TenantRequest {
    /// The name of the tenant, unique among all tenants.
    #[schema(min_length = 1, max_length = 63, pattern = "^[a-z0-9]+$")]
    tenantname: String,
    /// The organisation that the tenant belongs to.
    #[schema(max_length = 255, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$")]
    tenantorg: String,
    /// The contact address.
    #[schema(schema_with = optional_email)]
    email: Option<String>,
}

/// The tenant to read; default: the caller's own tenant.
#[derive(ToSchema)]
#[schema(as = DatabunkerTenantAsked)]
pub(crate) struct TenantAsked {
    #[schema(schema_with = optional_number)]
    tenantid: Option<i64>,
}

/// The changes of a tenant; default: the caller's own tenant.
#[derive(ToSchema)]
#[schema(as = DatabunkerTenantChange)]
pub(crate) struct TenantChange {
    #[schema(schema_with = optional_number)]
    tenantid: Option<i64>,
    #[schema(min_length = 1, max_length = 63, pattern = "^[a-z0-9]+$")]
    tenantname: Option<String>,
    #[schema(max_length = 255, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$")]
    tenantorg: Option<String>,
    #[schema(schema_with = optional_email)]
    email: Option<String>,
}

/// A tenant, identified by its number or its name.
#[derive(ToSchema)]
#[schema(as = DatabunkerTenantNamed)]
#[serde(untagged)]
pub(crate) enum TenantNamed {
    /// By number.
    Number(TenantByNumber),
    /// By name.
    Name(TenantByName),
}

/// A tenant, identified by its number.
#[derive(ToSchema)]
#[schema(as = DatabunkerTenantByNumber)]
pub(crate) struct TenantByNumber {
    #[schema(schema_with = number)]
    tenantid: i64,
    /// Ignored, because the number identifies the tenant.
    tenantname: Option<String>,
}

/// A tenant, identified by its name.
#[derive(ToSchema)]
#[schema(as = DatabunkerTenantByName)]
pub(crate) struct TenantByName {
    #[schema(schema_with = null)]
    tenantid: Option<i64>,
    tenantname: String,
}

/// The page to list.
#[derive(ToSchema)]
#[schema(as = DatabunkerPageAsked)]
pub(crate) struct PageAsked {
    /// The number of rows to skip.
    #[schema(schema_with = optional_number)]
    offset: Option<i64>,
    /// The number of rows on the page; default: 10. An invalid number means 100.
    #[schema(schema_with = optional_number)]
    limit: Option<i64>,
}
