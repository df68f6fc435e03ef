//! What the calls of the older API answer.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::Status;

/// A new tenant, as the older API tells it.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerV1TenantMade)]
pub(crate) struct V1TenantMade {
    pub(crate) status: Status,
    /// The tenant's token, shown this once.
    pub(crate) xtoken: Option<String>,
}

/// A person's record, as the older API tells it.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerV1User)]
pub(crate) struct V1UserRead {
    pub(crate) status: Status,
    pub(crate) token: Uuid,
    /// The record as it was stored.
    #[schema(value_type = Object, additional_properties = true)]
    pub(crate) data: Value,
}

/// It was deleted, as the older API tells it.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerV1Deleted)]
pub(crate) struct V1Deleted {
    pub(crate) status: Status,
    /// Always `done`.
    pub(crate) result: &'static str,
}
