//! The response bodies of this dialect. Every success has `"status": "ok"`.

pub(super) mod system;
pub(super) mod tenants;
pub(super) mod users;
pub(super) mod v1;

use serde::Serialize;
use utoipa::ToSchema;

/// The status in every success.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[schema(as = DatabunkerOk)]
pub(super) enum Status {
    /// The call succeeded.
    #[serde(rename = "ok")]
    Ok,
}

/// A success without further data.
#[derive(Serialize, ToSchema)]
#[schema(as = DatabunkerDone)]
pub(super) struct Done {
    pub(super) status: Status,
}
