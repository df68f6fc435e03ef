//! Statements that write to `public.audit_events`.
//!
//! The database gives each event its number (`write_order`) when it is inserted. An event is inserted under the locks of
//! the change that it tells of, so that of two changes of one row the later one has the higher number; times and ids come
//! from the clocks of several servers and from before the locks were taken.

use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::AuditAction;
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
    /// Action.
    pub action: AuditAction,
    /// Tenant that was changed, if the action concerns one.
    pub tenant: Option<TenantId>,
    /// Id of the request.
    pub request_id: &'a str,
    /// Further details; never a secret.
    pub details: Value,
}

/// Writes several events in one statement.
pub async fn insert_all(tx: &PublicTx, events: &[Event<'_>]) -> Result<()> {
    tx.writes_event();
    let ids: Vec<Uuid> = events.iter().map(|_| Uuid::now_v7()).collect();
    let times: Vec<OffsetDateTime> = events.iter().map(|event| event.at).collect();
    let actors: Vec<&str> = events.iter().map(|event| event.actor).collect();
    let actions: Vec<&str> = events.iter().map(|event| event.action.as_str()).collect();
    let tenant = |event: &Event<'_>| event.tenant.map_or_else(String::new, |id| id.to_string());
    let tenants: Vec<String> = events.iter().map(tenant).collect();
    let requests: Vec<&str> = events.iter().map(|event| event.request_id).collect();
    let details: Vec<String> = events.iter().map(|event| event.details.to_string()).collect();
    tx.execute(
        "INSERT INTO audit_events (id, at, actor, action, tenant_id, request_id, details)
         SELECT id, at, actor, action, nullif(tenant_id, '')::uuid, request_id, details::jsonb
           FROM unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])
             AS event (id, at, actor, action, tenant_id, request_id, details)",
        &[&ids, &times, &actors, &actions, &tenants, &requests, &details],
    )
    .await
    .during("insert audit events")?;
    Ok(())
}

/// Writes an event, in the transaction that makes the change.
pub async fn insert(tx: &PublicTx, event: &Event<'_>) -> Result<()> {
    tx.writes_event();
    tx.execute(
        "INSERT INTO audit_events (id, at, actor, action, tenant_id, request_id, details)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        &[
            &Uuid::now_v7(),
            &event.at,
            &event.actor,
            &event.action.as_str(),
            &event.tenant,
            &event.request_id,
            &event.details,
        ],
    )
    .await
    .during("insert audit event")?;
    Ok(())
}
