//! What the calls about tenants send.

#![expect(dead_code, reason = "describes the bodies in the OpenAPI document")]

use utoipa::ToSchema;

use super::fields::{null, number, optional_email, optional_number};

/// A new tenant.
#[derive(ToSchema)]
#[schema(as = DatabunkerTenantWish)]
pub(crate) struct TenantWish {
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
pub(crate) struct TenantAsked {
    #[schema(schema_with = optional_number)]
    tenantid: Option<i64>,
}

/// What changes of a tenant; the caller's own where it is not said.
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

/// Which tenant, by number or by name.
#[derive(ToSchema)]
#[schema(as = DatabunkerTenantNamed)]
#[serde(untagged)]
pub(crate) enum TenantNamed {
    /// By number.
    Number(TenantByNumber),
    /// By name.
    Name(TenantByName),
}

/// Which tenant, by number.
#[derive(ToSchema)]
#[schema(as = DatabunkerTenantByNumber)]
pub(crate) struct TenantByNumber {
    #[schema(schema_with = number)]
    tenantid: i64,
    /// Not looked at beside a number.
    tenantname: Option<String>,
}

/// Which tenant, by name.
#[derive(ToSchema)]
#[schema(as = DatabunkerTenantByName)]
pub(crate) struct TenantByName {
    #[schema(schema_with = null)]
    tenantid: Option<i64>,
    tenantname: String,
}

/// Which page.
#[derive(ToSchema)]
#[schema(as = DatabunkerPageAsked)]
pub(crate) struct PageAsked {
    /// Rows to leave out at the beginning.
    #[schema(schema_with = optional_number)]
    offset: Option<i64>,
    /// Rows of the page: 10 where it is not said, 100 where it makes no sense.
    #[schema(schema_with = optional_number)]
    limit: Option<i64>,
}
