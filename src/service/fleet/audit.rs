//! Audit events of operations, which belong to no tenant.

use serde_json::{Value, json};

use crate::auth::CallContext;
use crate::domain::error::Result;
use crate::domain::names::TenantId;
use crate::domain::operation::OperationKind;
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
    let (action, details) = of_operation(action, after, details);
    audit::note(tx, ctx, action, None::<TenantId>, details).await
}

/// As [`note`], for an operation that ended or paused by itself.
pub(super) async fn note_outcome(
    tx: &PublicTx,
    clock: &Clock,
    action: AuditAction,
    after: &Record,
) -> Result<()> {
    let ctx = CallContext::of_operator(clock.now());
    let (action, details) = of_operation(action, after, json!({}));
    audit::note_as(tx, &ctx, SYSTEM, action, None, details).await
}

/// Adds the operation, its state and the counts of its tenants. A step of a distribution is no migration: its event has
/// an action of its own, with the step in the details.
fn of_operation(action: AuditAction, record: &Record, mut details: Value) -> (AuditAction, Value) {
    let action = match record.kind {
        OperationKind::Migrate => action,
        OperationKind::Distribute => {
            let step = action.as_str();
            details["step"] = json!(step.split_once('.').map_or(step, |(_, verb)| verb));
            AuditAction::ClusterDistribute
        }
    };
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
    (action, details)
}
