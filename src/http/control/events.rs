//! The feed of events: what happened to tenants, members, tokens and migrations, in order, by a cursor that misses none.
//!
//! A read can wait for the next event (`wait`). It holds no connection to the database then, and a server that stops ends
//! it at once with an empty page.

use std::time::Duration;

use actix_web::{HttpResponse, get};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::PROBLEM_JSON;
use super::call::{Call, limit};
use super::responses::{Forbidden, InvalidParameter, NoSuchTenant, Unexpected};
use super::{Answer, ProblemBody};
use crate::domain::error::{Error, Noun};
use crate::domain::names::TenantId;
use crate::domain::rule::Rule;
use crate::domain::{EventType, Permission};
use crate::http::Mount;
use crate::http::responses::ViewAudit;
use crate::service::events::{Event, Query, TypeInfo};

/// Longest wait for an event, in seconds.
const WAIT_MAX: u64 = 20;

/// How long before the time limit of a request a wait ends at the latest.
const MARGIN: Duration = Duration::from_secs(2);

pub(super) fn mount(routes: &mut Mount<'_>) {
    routes.service(list).service(list_types).service(read);
}

/// A part of the feed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EventPage {
    data: Vec<Event>,
    /// The `after` of the next request; also if there are no events.
    next_cursor: String,
}

/// Lists events in the order in which they were committed. A reader stores `next_cursor` when it has dealt with the
/// page, and sends it as `after`: it gets every event once, however often it stops. A cursor never expires.
#[utoipa::path(tag = "control", operation_id = "listEvents", security(("bearer" = [])),
    params(
        ("after" = Option<String>, Query, description = "The next_cursor of the previous response, or the position of an event; default: 0, the beginning", pattern = "^[0-9]{1,18}(-[0-9a-fA-F]{16})?$"),
        ("limit" = Option<u16>, Query, description = "Events in this response; default: 50", minimum = 1, maximum = 100),
        ("type" = Option<String>, Query, description = "Only events of these types, separated by commas: a type, or all of a noun, such as `tenant.*`"),
        ("tenant" = Option<uuid::Uuid>, Query, description = "Only events about the tenant with this id, which may no longer exist"),
        ("wait" = Option<u64>, Query, description = "If there is no event, wait this many seconds for one; default: 0", minimum = 0, maximum = 20),
    ),
    responses(
        (status = 200, description = "A part of the feed", body = EventPage),
        InvalidParameter, Forbidden<ViewAudit>, NoSuchTenant,
        (status = 409, description = "The cursor is ahead of the log, or of another log: the database was restored from a backup", body = ProblemBody, content_type = PROBLEM_JSON),
    ))]
#[get("/control/v1/events")]
async fn list(call: Call) -> Answer {
    call.ctx.reach(Permission::ViewAudit)?;
    let mut query = call.query()?;
    let after = query.optional("after", str::parse);
    let limit = limit(&mut query);
    let types = query.optional("type", EventType::parse_list);
    let tenant = query.optional("tenant", |text| {
        text.parse().map(TenantId::new).map_err(|_no_id| Rule::UuidFormat)
    });
    let range = Rule::Range(0, i64::try_from(WAIT_MAX).unwrap_or(i64::MAX));
    let wait = query.optional("wait", |text| {
        text.parse().ok().filter(|seconds| *seconds <= WAIT_MAX).ok_or(range)
    });
    let wait = query.finish(Some(Duration::from_secs(wait.unwrap_or(0))))?;
    let query =
        Query { after: after.unwrap_or_default(), limit, types: types.unwrap_or_default(), tenant };
    let events = &call.services().events;
    let longest = call.site().settings.request_timeout.saturating_sub(MARGIN);
    let batch = if wait.is_zero() {
        events.list(&call.ctx, &query).await?
    } else {
        let renew = async || Box::pin(call.renewed()).await;
        events.wait(&call.ctx, query, wait.min(longest), renew).await?
    };
    Ok(HttpResponse::Ok()
        .json(EventPage { data: batch.events, next_cursor: batch.next.to_string() }))
}

/// A type of events.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EventTypeInfo)]
pub(super) struct TypeAnswer {
    /// The type.
    #[serde(rename = "type")]
    kind: &'static str,
    /// What it means, for people.
    description: &'static str,
    /// The version of the form of its events.
    version: i32,
    /// A JSON schema (draft 2020-12) that every event of this type and version satisfies.
    #[schema(value_type = Object)]
    schema: Value,
}

/// All types of events; there are few, so the list is always whole.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EventTypeList)]
pub(super) struct TypeList {
    data: Vec<TypeAnswer>,
    /// Always null.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// Lists the types of events, each with a JSON schema.
#[utoipa::path(tag = "control", operation_id = "listEventTypes", security(("bearer" = [])), responses(
    (status = 200, description = "All types", body = TypeList),
    Unexpected, Forbidden<ViewAudit>, NoSuchTenant,
))]
#[get("/control/v1/event-types")]
async fn list_types(call: Call) -> Answer {
    call.ctx.reach(Permission::ViewAudit)?;
    call.nothing_else()?;
    let types = call.services().events.types(&call.ctx).await?;
    let data = types.into_iter().map(TypeAnswer::from).collect();
    Ok(HttpResponse::Ok().json(TypeList { data, next_cursor: None }))
}

/// Returns an event.
#[utoipa::path(tag = "control", operation_id = "getEvent", security(("bearer" = [])),
    params(("id" = uuid::Uuid, Path, description = "The id of the event")),
    responses(
        (status = 200, description = "The event", body = Event),
        Unexpected, Forbidden<ViewAudit>,
        (status = 404, description = "No such event, one that is not in the feed yet, or one that the caller cannot see", body = ProblemBody, content_type = PROBLEM_JSON),
    ))]
#[get("/control/v1/events/{id}")]
async fn read(call: Call) -> Answer {
    call.ctx.reach(Permission::ViewAudit)?;
    call.nothing_else()?;
    let id = call.path("id")?.parse().map_err(|_no_id| Error::NotFound(Noun::AuditEvent))?;
    Ok(HttpResponse::Ok().json(call.services().events.read(&call.ctx, id).await?))
}

impl From<TypeInfo> for TypeAnswer {
    fn from(info: TypeInfo) -> Self {
        Self {
            kind: info.kind.as_str(),
            description: info.description,
            version: info.version,
            schema: info.schema,
        }
    }
}
