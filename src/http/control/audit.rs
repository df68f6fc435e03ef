//! Audit events: who did what to which tenant, and whether the recorded events are unchanged.

mod export;

use actix_web::{HttpResponse, get, post};
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::ToSchema;

use self::export::{Format, export};
use super::PROBLEM_JSON;
use super::call::{Call, timestamp, window, write_cursor};
use super::responses::{Forbidden, InvalidParameter, NoSuchTenant, Unexpected};
use super::{Answer, ProblemBody};
use crate::domain::Permission;
use crate::domain::error::{Error, Noun};
use crate::domain::names::TenantId;
use crate::domain::page::Window;
use crate::domain::rule::Rule;
use crate::http::Mount;
use crate::http::responses::ViewAudit;
use crate::service::audit::{Break, Entry, Filter, Verdict};

pub(super) fn mount(routes: &mut Mount<'_>) {
    routes.service(list).service(read).service(actions).service(verify);
}

/// An audit event.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EventAnswer {
    id: uuid::Uuid,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    /// The caller: `user:<id>`, `token:<id>`, `root` or `operator`.
    actor: String,
    /// The address of the user, or the name of the token; null for others, and once it is gone.
    actor_name: Option<String>,
    /// What the caller did, as `noun.verb`.
    action: String,
    /// The tenant concerned, which may no longer exist.
    tenant_id: Option<uuid::Uuid>,
    /// The present slug of this tenant; null once it is purged.
    tenant_slug: Option<String>,
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
        ("actor" = Option<String>, Query, description = "Only events of this actor, as events name it, or of the user with this e-mail address"),
        ("action" = Option<String>, Query, description = "Only events of this action"),
        ("tenant" = Option<uuid::Uuid>, Query, description = "Only events of the tenant with this id, which may no longer exist"),
        ("created_after" = Option<String>, Query, description = "Only events at this time or later", format = "date-time"),
        ("created_before" = Option<String>, Query, description = "Only events before this time", format = "date-time"),
        ("request_id" = Option<String>, Query, description = "Only events of the request with this id, which the answer and the log have"),
    ),
    responses(
        (status = 200, description = "A page of events; with `Accept: application/x-ndjson` or `text/csv` all events from the cursor on, one a line", content(
            (EventList = "application/json"),
            (String = "application/x-ndjson"),
            (String = "text/csv"),
        )),
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
        request_id: query.optional("request_id", |text| Ok(text.to_owned())),
        id: None,
    };
    let window = query.finish(Some(window))?;
    if let Some(format) = Format::wanted(call.request()) {
        return export(&call, filter, window, format).await;
    }
    let page = call.services().audit.list(&call.ctx, &filter, &window).await?;
    Ok(HttpResponse::Ok().json(EventList {
        next_cursor: page.next.map(write_cursor),
        data: page.rows.into_iter().map(EventAnswer::from).collect(),
    }))
}

/// Returns an audit event.
#[utoipa::path(tag = "control", operation_id = "getAuditEvent", security(("bearer" = [])),
    params(("id" = uuid::Uuid, Path, description = "The id of the event")),
    responses(
        (status = 200, description = "The event", body = EventAnswer),
        Unexpected, Forbidden<ViewAudit>,
        (status = 404, description = "No such event, or one that the caller cannot see", body = ProblemBody, content_type = PROBLEM_JSON),
    ))]
#[get("/control/v1/audit-events/{id}")]
async fn read(call: Call) -> Answer {
    call.ctx.reach(Permission::ViewAudit)?;
    call.nothing_else()?;
    let id = call.path("id")?.parse().map_err(|_no_id| Error::NotFound(Noun::AuditEvent))?;
    let filter = Filter { id: Some(id), ..Filter::default() };
    let page = call.services().audit.list(&call.ctx, &filter, &Window { after: None, limit: 1 });
    let found = page.await?.rows.into_iter().next().ok_or(Error::NotFound(Noun::AuditEvent))?;
    Ok(HttpResponse::Ok().json(EventAnswer::from(found)))
}

/// The actions that audit events can have.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AuditActionList {
    /// Each as `noun.verb`.
    data: Vec<&'static str>,
}

/// Lists the actions that audit events can have.
#[utoipa::path(tag = "control", operation_id = "listAuditActions", security(("bearer" = [])), responses(
    (status = 200, description = "The actions, in alphabetical order", body = AuditActionList),
    Unexpected, Forbidden<ViewAudit>, NoSuchTenant,
))]
#[get("/control/v1/audit-actions")]
async fn actions(call: Call) -> Answer {
    call.ctx.reach(Permission::ViewAudit)?;
    call.nothing_else()?;
    let mut data: Vec<&str> = call.services().audit.actions(&call.ctx).await?;
    data.sort_unstable();
    Ok(HttpResponse::Ok().json(AuditActionList { data }))
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
            actor_name: entry.actor_name,
            action: entry.action,
            tenant_id: entry.tenant.map(TenantId::uuid),
            tenant_slug: entry.tenant_slug,
            request_id: entry.request_id,
            details: entry.details,
        }
    }
}
