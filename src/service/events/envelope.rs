//! An event on the wire, in the form that Standard Webhooks asks for: `type`, `timestamp`, `data`, and what leads to the
//! cause.
//!
//! It is made of the stored event alone. A field is never removed and never changes its meaning; new ones may come. What
//! would break readers is a new `version`.

use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::catalogue;
use crate::domain::names::TenantId;
use crate::domain::{AuditAction, EventType};
use crate::pg::control::feed::SealedEvent;

/// An event.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Event {
    /// The id of the event; the same whenever it is read.
    pub id: Uuid,
    /// What happened.
    #[serde(rename = "type", serialize_with = "as_word")]
    #[schema(value_type = String)]
    pub kind: EventType,
    /// When the call was made that caused it, by the clock of its server; `position` gives the order.
    #[serde(with = "time::serde::rfc3339")]
    pub timestamp: OffsetDateTime,
    /// The version of this form.
    pub version: i32,
    /// The position in the log, from 1. Positions only grow; those of other audit events are left out.
    pub position: i64,
    /// The tenant concerned, as it was then; null if the event concerns none.
    #[schema(required)]
    pub tenant: Option<EventTenant>,
    /// The caller: `user:<id>`, `token:<id>`, `root`, `operator`, or `system` for what happened by itself.
    pub actor: String,
    /// The request that caused it.
    pub request_id: String,
    /// What depends on the type; `GET /control/v1/event-types` has a schema of each.
    #[schema(value_type = Object)]
    pub data: Value,
}

/// The tenant that an event concerns.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct EventTenant {
    /// Its id.
    pub id: Uuid,
    /// Its slug after the event; null where the event does not tell it.
    #[schema(required)]
    pub slug: Option<String>,
    /// Its id in its creator's own system, if it has one and the event tells it.
    #[schema(required)]
    pub external_id: Option<String>,
}

impl Event {
    /// Makes the event of a stored one; `None` if its action is not of the feed.
    pub(super) fn of(stored: &SealedEvent) -> Option<Self> {
        let entry = &stored.entry;
        let kind = entry.action.parse::<AuditAction>().ok()?.event_type()?;
        let text = |key: &str| entry.details[key].as_str().map(str::to_owned);
        Some(Self {
            id: entry.id,
            kind,
            timestamp: entry.at,
            version: catalogue::VERSION,
            position: stored.position,
            tenant: entry.tenant.map(|tenant| EventTenant {
                id: TenantId::uuid(tenant),
                slug: text("slug"),
                external_id: text("external_id"),
            }),
            actor: entry.actor.clone(),
            request_id: entry.request_id.clone(),
            data: catalogue::data_of(kind, entry),
        })
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn as_word<S: serde::Serializer>(kind: &EventType, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.as_str())
}
