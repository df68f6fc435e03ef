//! Audit events: who did what to which tenant, and whether the recorded events are unchanged.

use actix_web::{HttpResponse, get, post};
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::PROBLEM_JSON;
use super::call::{Call, timestamp, window, write_cursor};
use super::responses::{Forbidden, InvalidParameter, NoSuchTenant, Unexpected};
use super::{Answer, ProblemBody};
use crate::domain::Permission;
use crate::domain::names::TenantId;
use crate::domain::rule::Rule;
use crate::http::Mount;
use crate::http::responses::ViewAudit;
use crate::service::audit::{Break, Entry, Filter, Verdict};

pub(super) fn mount(routes: &mut Mount<'_>) {
    routes.service(list).service(verify);
}

/// An audit event.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EventAnswer {
    id: uuid::Uuid,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    /// The caller: `user:<id>`, `token:<id>`, `root` or `operator`.
    actor: String,
    /// What the caller did, as `noun.verb`.
    action: String,
    /// The tenant concerned, which may no longer exist.
    tenant_id: Option<uuid::Uuid>,
    /// The request that caused the event.
    request_id: String,
    /// Details that depend on the action.
    #[schema(value_type = Object)]
    details: Value,
}

/// A page of audit events.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EventList {
    data: Vec<EventAnswer>,
    /// The `cursor` of the next request; null on the last page.
    next_cursor: Option<String>,
}

/// Lists the audit events that the caller can see, newest first.
#[utoipa::path(tag = "control", operation_id = "listAuditEvents", security(("bearer" = [])),
    params(
        ("limit" = Option<u16>, Query, description = "Rows in this response; default: 50", minimum = 1, maximum = 100),
        ("cursor" = Option<String>, Query, description = "The next_cursor of the previous response", pattern = "^A[A-Za-v][A-Za-z0-9_-]{30}$"),
        ("actor" = Option<String>, Query, description = "Only events of this actor"),
        ("action" = Option<String>, Query, description = "Only events of this action"),
        ("tenant" = Option<uuid::Uuid>, Query, description = "Only events of the tenant with this id, which may no longer exist"),
        ("created_after" = Option<String>, Query, description = "Only events at this time or later", format = "date-time"),
        ("created_before" = Option<String>, Query, description = "Only events before this time", format = "date-time"),
    ),
    responses(
        (status = 200, description = "A page of events", body = EventList),
        InvalidParameter, Forbidden<ViewAudit>, NoSuchTenant,
    ))]
#[get("/control/v1/audit-events")]
async fn list(call: Call) -> Answer {
    call.ctx.reach(Permission::ViewAudit)?;
    let mut query = call.query()?;
    let window = window(&mut query);
    let filter = Filter {
        actor: query.optional("actor", |text| Ok(text.to_owned())),
        action: query.optional("action", |text| Ok(text.to_owned())),
        tenant: query.optional("tenant", |text| {
            text.parse().map(TenantId::new).map_err(|_no_id| Rule::UuidFormat)
        }),
        created_after: query.optional("created_after", timestamp),
        created_before: query.optional("created_before", timestamp),
    };
    let window = query.finish(Some(window))?;
    let page = call.services().audit.list(&call.ctx, &filter, &window).await?;
    Ok(HttpResponse::Ok().json(EventList {
        next_cursor: page.next.map(write_cursor),
        data: page.rows.into_iter().map(EventAnswer::from).collect(),
    }))
}

/// The result of a check of the chain of audit events.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditVerification)]
pub(super) struct VerificationAnswer {
    /// Whether the chain is complete and every event is unchanged since it was sealed.
    intact: bool,
    /// The number of events in the chain.
    event_count: i64,
    /// The last seal, in hexadecimal. A copy of it kept elsewhere reveals a chain that was rebuilt.
    head: String,
    /// The first position where the chain is broken; null if it is intact.
    #[schema(required)]
    broken: Option<BreakAnswer>,
}

/// Where and how a chain is broken.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditBreak)]
pub(super) struct BreakAnswer {
    /// The position in the chain, from 1.
    position: i64,
    /// What is wrong at this position.
    fault: Fault,
}

/// What is wrong with an event.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditFault)]
#[serde(rename_all = "lowercase")]
enum Fault {
    /// The event is missing.
    Missing,
    /// The event differs from what was sealed.
    Changed,
}

/// Seals the audit events that are not yet in the chain, then checks the whole chain. A broken chain is a result, not
/// an error.
#[utoipa::path(tag = "control", operation_id = "verifyAuditEvents", security(("bearer" = [])),
    responses(
        (status = 200, description = "The result", body = VerificationAnswer),
        Unexpected,
        (status = 403, description = "VIEW_AUDIT is missing, or held in some tenants only", body = ProblemBody, content_type = PROBLEM_JSON),
    ))]
#[post("/control/v1/audit-events/verify")]
async fn verify(call: Call) -> Answer {
    call.ctx.require(Permission::ViewAudit)?;
    call.nothing_else()?;
    let verdict = call.services().audit.verify(&call.ctx).await?;
    Ok(HttpResponse::Ok().json(VerificationAnswer::from(verdict)))
}

impl From<Verdict> for VerificationAnswer {
    fn from(verdict: Verdict) -> Self {
        Self {
            intact: verdict.broken.is_none(),
            event_count: verdict.events,
            head: verdict.head,
            broken: verdict.broken.map(BreakAnswer::from),
        }
    }
}

impl From<Break> for BreakAnswer {
    fn from(found: Break) -> Self {
        match found {
            Break::Missing(position) => Self { position, fault: Fault::Missing },
            Break::Changed(position) => Self { position, fault: Fault::Changed },
        }
    }
}

impl From<Entry> for EventAnswer {
    fn from(entry: Entry) -> Self {
        Self {
            id: entry.id,
            created_at: entry.at,
            actor: entry.actor,
            action: entry.action,
            tenant_id: entry.tenant.map(TenantId::uuid),
            request_id: entry.request_id,
            details: entry.details,
        }
    }
}
