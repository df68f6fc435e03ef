//! The response bodies of the older API.

use crate::domain::json::Value;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::Status;

/// A new tenant, in the form of the older API.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerV1TenantMade)]
pub(crate) struct V1TenantMade {
    pub(crate) status: Status,
    /// The tenant's token; returned only here.
    pub(crate) xtoken: Option<String>,
}

/// A person's record, in the form of the older API.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerV1User)]
pub(crate) struct V1UserRead {
    pub(crate) status: Status,
    pub(crate) token: Uuid,
    /// The record as it was stored.
    #[schema(value_type = Object, additional_properties = true)]
    pub(crate) data: Value,
}

/// A deletion, in the form of the older API.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerV1Deleted)]
pub(crate) struct V1Deleted {
    pub(crate) status: Status,
    /// Always `done`.
    pub(crate) result: &'static str,
}
