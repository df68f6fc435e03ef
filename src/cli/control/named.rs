//! How a command names a tenant.

use crate::cli::Failure;
use crate::domain::names::ExternalId;
use crate::service::tenants::TenantRef;

/// The validated name of a tenant.
pub(in crate::cli) enum Named {
    /// The slug or the id.
    Tenant(String),
    /// The id in the caller's own system.
    ExternalId(ExternalId),
}

/// Names the tenant in a "not found" failure.
pub(in crate::cli) fn not_found(failure: Failure, tenant: &str) -> Failure {
    if failure.code() == "tenant_not_found" {
        return failure.worded(format!("no such tenant: {tenant}"));
    }
    failure
}

impl Named {
    /// Returns what the services find the tenant by.
    pub(in crate::cli) fn to_ref(&self) -> TenantRef {
        match self {
            Self::Tenant(tenant) => TenantRef::IdOrSlug(tenant.clone()),
            Self::ExternalId(id) => TenantRef::ExternalId(id.clone()),
        }
    }

    /// Returns the name as it was given.
    pub(in crate::cli) fn as_str(&self) -> &str {
        match self {
            Self::Tenant(tenant) => tenant,
            Self::ExternalId(id) => id.as_ref(),
        }
    }
}
