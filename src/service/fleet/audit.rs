//! Audit events of operations, which belong to no tenant.

use serde_json::{Value, json};

use crate::auth::CallContext;
use crate::domain::error::Result;
use crate::domain::names::TenantId;
use crate::domain::{AuditAction, Clock};
use crate::pg::PublicTx;
use crate::pg::control::operations::Record;
use crate::service::audit;

/// The actor of an operation that ends or pauses by itself.
const SYSTEM: &str = "system";

/// Writes an audit event about an operation, in the transaction of what it reports. `after` is the operation as it is
/// after the change.
pub(super) async fn note(
    tx: &PublicTx,
    ctx: &CallContext,
    action: AuditAction,
    after: &Record,
    details: Value,
) -> Result<()> {
    audit::note(tx, ctx, action, None::<TenantId>, of_operation(after, details)).await
}

/// As [`note`], for an operation that ended or paused by itself.
pub(super) async fn note_outcome(
    tx: &PublicTx,
    clock: &Clock,
    action: AuditAction,
    after: &Record,
) -> Result<()> {
    let ctx = CallContext::of_operator(clock.now());
    audit::note_as(tx, &ctx, SYSTEM, action, None, of_operation(after, json!({}))).await
}

/// Adds the operation, its state and the counts of its tenants.
fn of_operation(record: &Record, mut details: Value) -> Value {
    let counts = record.counts;
    details["operation"] = json!(record.id);
    details["state"] = json!(record.state.as_str());
    details["target_version"] = json!(record.target_version);
    if let Some(reason) = record.pause_reason {
        details["reason"] = json!(reason.as_str());
    }
    details["counts"] = json!({
        "total": counts.total,
        "pending": counts.pending,
        "running": counts.running,
        "done": counts.done,
        "failed": counts.failed,
        "skipped": counts.skipped,
    });
    details
}
