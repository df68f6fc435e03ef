//! Statements on `public.audit_events`.

use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::error::Result;
use crate::domain::names::TenantId;
use crate::pg::error::During;
use crate::pg::scope::PublicTx;

/// Who did what to which tenant.
pub struct Event<'a> {
    /// When.
    pub at: OffsetDateTime,
    /// Who, as [`Principal::label`](crate::auth::Principal::label) says it.
    pub actor: &'a str,
    /// What, as `noun.verb`.
    pub action: &'static str,
    /// To which tenant, where it was to one.
    pub tenant: Option<TenantId>,
    /// Within which request.
    pub request_id: &'a str,
    /// What else there is to say; never a secret.
    pub details: Value,
}

/// Writes an event, in the transaction that does what it tells.
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
