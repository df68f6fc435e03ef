//! Audit events of operations, which belong to no tenant.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::auth::CallContext;
use crate::domain::error::Result;
use crate::domain::names::TenantId;
use crate::pg::PublicTx;
use crate::service::audit;

/// Writes an audit event about an operation, in the transaction of what it reports.
pub(super) async fn note(
    tx: &PublicTx,
    ctx: &CallContext,
    action: &'static str,
    operation: Uuid,
    mut details: Value,
) -> Result<()> {
    details["operation"] = json!(operation);
    audit::note(tx, ctx, action, None::<TenantId>, details).await
}
