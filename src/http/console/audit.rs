//! Audit events: a filtered list, the check of the chain, an export.

use actix_web::HttpResponse;
use actix_web::http::header::CONTENT_DISPOSITION;
use askama::Template;

use super::Answer;
use super::call::{Call, ROWS, window};
use super::frame::Area;
use super::list::{List, Pages, link};
use super::text::{Count, When, day, rfc3339};
use crate::domain::Permission;
use crate::domain::error::{Error, Noun, Result};
use crate::domain::names::TenantId;
use crate::domain::page::Window;
use crate::http::audit_export::{self, HEADINGS, csv_lines};
use crate::service::audit::{Break, Entry, Filter, Verdict};
use crate::service::tenants::TenantRef;

const HERE: &str = "/console/audit";

/// The parameters of the list, except the cursor.
const FILTERS: [&str; 6] =
    ["actor", "action", "tenant", "created_after", "created_before", "request_id"];

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditPage {
    rows: Vec<Row>,
    actions: Vec<&'static str>,
    given: Given,
    is_filtered: bool,
    pages: Pages,
    export: String,
    may_verify: bool,
}

/// An event in the list.
struct Row {
    entry: Entry,
    details: String,
}

/// What was asked for.
struct Given {
    actor: String,
    action: String,
    tenant: String,
    after: String,
    before: String,
    request_id: String,
}

#[derive(Template)]
#[template(path = "verdict.html")]
struct VerdictPage {
    verdict: Verdict,
    broken: Option<(i64, &'static str)>,
}

/// Lists the events that the caller may see, newest first.
pub(super) async fn list(call: &Call) -> Answer {
    let (filter, window) = read(call).await?;
    let audit = &call.services().audit;
    let page = audit.list(&call.ctx, &filter, &window).await?;
    let mut actions = audit.actions(&call.ctx).await?;
    actions.sort_unstable();
    let given = |name| call.parameter(name);
    let list = List::of(call, HERE, &FILTERS);
    let row = |entry: Entry| {
        let details = serde_json::to_string_pretty(&entry.details).unwrap_or_default();
        Row { entry, details }
    };
    let content = AuditPage {
        rows: page.rows.into_iter().map(row).collect(),
        actions,
        given: Given {
            actor: given("actor"),
            action: given("action"),
            tenant: given("tenant"),
            after: given("created_after"),
            before: given("created_before"),
            request_id: given("request_id"),
        },
        is_filtered: list.is_filtered(),
        pages: list.pages(&window, page.next),
        export: List::of(call, "/console/audit/export", &FILTERS).first(),
        may_verify: call.may_everywhere(Permission::ViewAudit),
    };
    call.page(Area::Audit, "Audit").api(alternate(call, &filter)).show(&content)
}

/// Reads the query. A tenant can be named by its slug; one that is purged is found by its id.
async fn read(call: &Call) -> Result<(Filter, Window)> {
    call.ctx.reach(Permission::ViewAudit)?;
    let mut query = call.query()?;
    let window = window(&mut query);
    let text = |text: &str| Ok(text.to_owned());
    let mut filter = Filter {
        actor: query.optional("actor", text),
        action: query.optional("action", text),
        created_after: query.optional("created_after", day),
        created_before: query.optional("created_before", day),
        request_id: query.optional("request_id", text),
        ..Filter::default()
    };
    let tenant = query.optional("tenant", text);
    let window = query.finish(Some(window))?;
    if let Some(named) = tenant {
        filter.tenant = Some(match named.parse() {
            Ok(id) => TenantId::new(id),
            Err(_no_id) => {
                let which = TenantRef::IdOrSlug(named);
                call.services().tenants.read(&call.ctx, &which).await?.id
            }
        });
    }
    Ok((filter, window))
}

/// Returns the path of the same list in the control dialect.
fn alternate(call: &Call, filter: &Filter) -> String {
    link(
        "/control/v1/audit-events",
        [
            ("limit", Some(ROWS.to_string())),
            ("actor", filter.actor.clone()),
            ("action", filter.action.clone()),
            ("tenant", filter.tenant.map(|tenant| tenant.to_string())),
            ("created_after", filter.created_after.and_then(rfc3339)),
            ("created_before", filter.created_before.and_then(rfc3339)),
            ("request_id", filter.request_id.clone()),
            ("cursor", Some(call.parameter("cursor"))),
        ],
    )
}

/// Checks the whole chain, and shows what was found.
pub(super) async fn verify(call: &Call) -> Answer {
    let verdict = call.services().audit.verify(&call.ctx).await?;
    let broken = verdict.broken.map(|found| match found {
        Break::Missing(position) => (position, "is missing"),
        Break::Changed(position) => (position, "was changed after it was sealed"),
    });
    let content = VerdictPage { verdict, broken };
    call.page(Area::Audit, "Audit: verification").api("/control/v1/audit-events").show(&content)
}

/// Sends all events that match the filter as CSV.
pub(super) async fn export(call: &Call) -> Answer {
    let (filter, window) = read(call).await?;
    let (audit, write) = (&call.services().audit, |entries| Ok(csv_lines(entries)));
    let events = audit_export::stream(audit, &call.ctx, filter, window, HEADINGS, write).await?;
    Ok(HttpResponse::Ok()
        .content_type("text/csv; charset=utf-8")
        .insert_header((CONTENT_DISPOSITION, "attachment; filename=\"audit-events.csv\""))
        .streaming(events))
}

/// Shows one event, as a link to it leads to.
pub(super) async fn event(call: &Call) -> Answer {
    let id = call.id(Noun::AuditEvent)?;
    let filter = Filter { id: Some(id), ..Filter::default() };
    let window = Window { after: None, limit: 1 };
    let page = call.services().audit.list(&call.ctx, &filter, &window).await?;
    let entry = page.rows.into_iter().next().ok_or(Error::NotFound(Noun::AuditEvent))?;
    let details = serde_json::to_string_pretty(&entry.details).unwrap_or_default();
    let content = EventPage { row: Row { entry, details } };
    let alternate = format!("/control/v1/audit-events/{id}");
    call.page(Area::Audit, "Audit event").api(alternate).show(&content)
}

#[derive(Template)]
#[template(path = "event.html")]
struct EventPage {
    row: Row,
}
