//! The list of tenants.

use std::cmp::Ordering;

use askama::Template;
use time::OffsetDateTime;

use super::Answer;
use super::call::{Call, ROWS, window};
use super::frame::Area;
use super::list::{Chip, List, Pages, link};
use super::text::{When, day, rfc3339};
use crate::domain::Permission;
use crate::domain::rule::Rule;
use crate::domain::status::TenantStatus;
use crate::domain::tenant::TenantRecord;
use crate::service::tenants::{Filter, Order};

const HERE: &str = "/console/tenants";

#[derive(Template)]
#[template(path = "tenants.html")]
struct TenantsPage {
    rows: Vec<Row>,
    chips: Vec<Chip>,
    q: String,
    status: String,
    after: String,
    before: String,
    is_filtered: bool,
    pages: Pages,
    may_create: bool,
    command: String,
}

/// A tenant in the list.
struct Row {
    record: TenantRecord,
    /// How its migrations differ from those of this server; empty if they do not.
    difference: &'static str,
}

/// Lists tenants, newest first.
pub(super) async fn list(call: &Call) -> Answer {
    let mut query = call.query()?;
    let window = window(&mut query);
    let filter = Filter {
        status: query.optional("status", |text| {
            text.parse().map_err(|_no_status| Rule::OneOf(TenantStatus::WORDS))
        }),
        q: query.optional("q", |text| Ok(text.to_owned())),
        created_after: query.optional("created_after", day),
        created_before: query.optional("created_before", day),
        order: Order::Newest,
        ..Filter::default()
    };
    let window = query.finish(Some(window))?;
    let page = call.services().tenants.list_records(&call.ctx, &filter, &window).await?;
    let (version, fingerprint) = call.services().overview.own_set(&call.ctx)?;
    let row = |record: TenantRecord| {
        let difference = if record.migrations_fingerprint == fingerprint {
            ""
        } else {
            match record.migrations_version.cmp(&version) {
                Ordering::Less => "behind",
                Ordering::Equal => "other files",
                Ordering::Greater => "ahead",
            }
        };
        Row { record, difference }
    };
    let list = List::of(call, HERE, &["q", "created_after", "created_before", "status"]);
    let content = TenantsPage {
        chips: list.chips("status", TenantStatus::WORDS),
        is_filtered: list.is_filtered(),
        pages: list.pages(&window, page.next),
        rows: page.rows.into_iter().map(row).collect(),
        q: call.parameter("q"),
        status: call.parameter("status"),
        after: call.parameter("created_after"),
        before: call.parameter("created_before"),
        may_create: call.may_everywhere(Permission::CreateTenant),
        command: "rowhouse tenant create --name 'Acme' --slug acme".to_owned(),
    };
    let page = call.page(Area::Tenants, "Tenants").api(alternate(call, &filter));
    // What the version is compared with.
    let page = if call.may_everywhere(Permission::ViewFleet) {
        page.api("/control/v1/migration-set")
    } else {
        page
    };
    page.show(&content)
}

/// Returns the path of the same list in the control dialect.
fn alternate(call: &Call, filter: &Filter) -> String {
    let parameter = |name| Some(call.parameter(name));
    let at = |at: Option<OffsetDateTime>| at.and_then(rfc3339);
    link(
        "/control/v1/tenants",
        [
            ("order", Some("-created_at".to_owned())),
            ("limit", Some(ROWS.to_string())),
            ("status", parameter("status")),
            ("q", parameter("q")),
            ("cursor", parameter("cursor")),
            ("created_after", at(filter.created_after)),
            ("created_before", at(filter.created_before)),
        ],
    )
}
