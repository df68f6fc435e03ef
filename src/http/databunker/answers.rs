//! What this dialect answers, field by field. Every success says so in `status`.

pub(super) mod system;
pub(super) mod tenants;
pub(super) mod users;
pub(super) mod v1;

use serde::Serialize;
use utoipa::ToSchema;

/// The word in every success.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[schema(as = DatabunkerOk)]
pub(super) enum Status {
    /// It was done.
    #[serde(rename = "ok")]
    Ok,
}

/// It was done, and there is nothing to tell of it.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerDone)]
pub(super) struct Done {
    pub(super) status: Status,
}
