//! Statements on `public.audit_events`.

use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::error::Result;
use crate::domain::names::TenantId;
use crate::pg::error::During;
use crate::pg::scope::PublicTx;

/// An audit event to write.
pub struct Event<'a> {
    /// Time of the call.
    pub at: OffsetDateTime,
    /// Caller, as [`Principal::label`](crate::auth::Principal::label) names it.
    pub actor: &'a str,
    /// Action, as `noun.verb`.
    pub action: &'static str,
    /// Tenant that was changed, if the action concerns one.
    pub tenant: Option<TenantId>,
    /// Id of the request.
    pub request_id: &'a str,
    /// Further details; never a secret.
    pub details: Value,
}

/// Writes an event, in the transaction that makes the change.
pub async fn insert(tx: &PublicTx, event: &Event<'_>) -> Result<()> {
    tx.execute(
        "INSERT INTO audit_events (id, at, actor, action, tenant_id, request_id, details)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        &[
            &Uuid::now_v7(),
            &event.at,
            &event.actor,
            &event.action,
            &event.tenant,
            &event.request_id,
            &event.details,
        ],
    )
    .await
    .during("insert audit event")?;
    Ok(())
}
