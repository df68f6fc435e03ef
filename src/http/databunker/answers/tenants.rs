//! The response bodies of the calls about tenants.

use serde::Serialize;
use utoipa::ToSchema;

use super::Status;
use crate::domain::Tenant;

/// A new tenant.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerTenantMade)]
pub(crate) struct TenantMade {
    pub(crate) status: Status,
    /// The tenant's token; returned only here.
    pub(crate) xtoken: Option<String>,
    pub(crate) tenantid: i64,
}

/// A tenant.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerTenant)]
pub(crate) struct TenantRead {
    pub(crate) status: Status,
    pub(crate) tenantname: String,
    pub(crate) tenantorg: String,
}

/// A page of tenants.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerTenants)]
pub(crate) struct TenantPage {
    pub(crate) status: Status,
    /// The number of tenants on all pages.
    pub(crate) total: i64,
    pub(crate) rows: Vec<TenantRow>,
}

/// A tenant in a list.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerTenantRow)]
pub(crate) struct TenantRow {
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
