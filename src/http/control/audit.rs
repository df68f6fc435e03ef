//! The audit trail: who did what to which tenant, newest first, and whether it is still what was written.

use actix_web::{HttpResponse, get, post};
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::call::{Call, timestamp, write_cursor};
use super::{Answer, ProblemBody};
use crate::domain::Permission;
use crate::domain::error::Rule;
use crate::domain::names::TenantId;
use crate::http::Mount;
use crate::service::audit::{Break, Entry, Filter, Verdict};

pub(super) fn mount(routes: &mut Mount<'_>) {
    routes.service(list).service(verify);
}

/// An audit event, as this dialect answers it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EventAnswer {
    id: uuid::Uuid,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    /// Who: `user:<id>`, `token:<id>`, `root` or `operator`.
    actor: String,
    /// What, as `noun.verb`.
    action: String,
    /// To which tenant; it may be gone.
    tenant_id: Option<uuid::Uuid>,
    /// Within which request.
    request_id: String,
    /// What else there is to say.
    #[schema(value_type = Object)]
    details: Value,
}

/// A part of the events.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EventList {
    data: Vec<EventAnswer>,
    /// Ask with it as `cursor` for what follows; null at the end.
    next_cursor: Option<String>,
}

/// The audit events that the caller may see, newest first.
#[utoipa::path(tag = "control", operation_id = "ControlListAuditEvents", security(("bearer" = [])),
    params(
        ("limit" = Option<u16>, Query, description = "Rows in this answer; 50 where it is not said", minimum = 1, maximum = 100),
        ("cursor" = Option<String>, Query, description = "The next_cursor of the answer before", pattern = "^A[A-Za-v][A-Za-z0-9_-]{30}$"),
        ("actor" = Option<String>, Query, description = "By exactly this actor"),
        ("action" = Option<String>, Query, description = "Of exactly this action"),
        ("tenant" = Option<uuid::Uuid>, Query, description = "About the tenant with this id, also where it is gone"),
        ("created_after" = Option<String>, Query, description = "At this time or later", format = "date-time"),
        ("created_before" = Option<String>, Query, description = "Before this time", format = "date-time"),
    ),
    responses(
        (status = 200, description = "Events", body = EventList),
        (status = 400, description = "A parameter is unknown or not valid", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid token", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "VIEW_AUDIT is missing", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "A tenant that the caller may not know of", body = ProblemBody, content_type = "application/problem+json"),
    ))]
#[get("/control/v1/audit-events")]
async fn list(call: Call) -> Answer {
    call.ctx.reach(Permission::ViewAudit)?;
    let mut query = call.query()?;
    let window = query.window();
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

/// What a check of the chain of audit events found.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditVerification)]
pub(super) struct VerificationAnswer {
    /// Whether every event is what was sealed, in its place, to the end.
    intact: bool,
    /// How many events the chain has.
    event_count: i64,
    /// The last seal, in hex; note it elsewhere to find a chain that was made anew.
    head: String,
    /// The first place where the chain does not hold; null where it does.
    #[schema(required)]
    broken: Option<BreakAnswer>,
}

/// Where and how a chain does not hold.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditBreak)]
pub(super) struct BreakAnswer {
    /// The place in the chain, from 1.
    position: i64,
    /// What is wrong there.
    fault: Fault,
}

/// What is wrong with an event.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditFault)]
#[serde(rename_all = "lowercase")]
enum Fault {
    /// It is gone.
    Missing,
    /// It is not what was sealed.
    Changed,
}

/// Checks the whole chain of audit events, after sealing what is not yet in it. A chain that does not hold
/// is an answer, and no error.
#[utoipa::path(tag = "control", operation_id = "ControlVerifyAuditEvents", security(("bearer" = [])),
    responses(
        (status = 200, description = "What was found", body = VerificationAnswer),
        (status = 400, description = "The request holds what is not known here", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid token", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "VIEW_AUDIT is missing, or held in some tenants alone", body = ProblemBody, content_type = "application/problem+json"),
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
