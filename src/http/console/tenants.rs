//! The list of tenants.

use askama::Template;
use url::form_urlencoded::Serializer;

use super::Answer;
use super::call::{Call, window};
use super::frame::Area;
use super::text::When;
use crate::domain::Permission;
use crate::domain::rule::Rule;
use crate::domain::status::TenantStatus;
use crate::domain::tenant::TenantRecord;
use crate::http::cursor::write_cursor;
use crate::service::tenants::{Filter, Order};

/// A status to filter by.
struct Chip {
    words: &'static str,
    path: String,
    is_chosen: bool,
}

#[derive(Template)]
#[template(path = "tenants.html")]
struct TenantsPage {
    rows: Vec<TenantRecord>,
    chips: Vec<Chip>,
    q: String,
    status: String,
    after: String,
    before: String,
    is_filtered: bool,
    is_first: bool,
    first: String,
    next: Option<String>,
    may_create: bool,
    command: String,
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
        created_after: query.optional("created_after", super::text::day),
        created_before: query.optional("created_before", super::text::day),
        order: Order::Newest,
        ..Filter::default()
    };
    let window = query.finish(Some(window))?;
    let page = call.services().tenants.list_records(&call.ctx, &filter, &window).await?;
    let with = |status: Option<&str>, cursor: Option<&str>| {
        let mut text = Serializer::new(String::new());
        for name in ["q", "created_after", "created_before"] {
            let value = call.parameter(name);
            if !value.is_empty() {
                text.append_pair(name, &value);
            }
        }
        for (name, value) in [("status", status), ("cursor", cursor)] {
            if let Some(value) = value {
                text.append_pair(name, value);
            }
        }
        match text.finish() {
            query if query.is_empty() => "/console/tenants".to_owned(),
            query => format!("/console/tenants?{query}"),
        }
    };
    let chosen = filter.status.map(TenantStatus::as_str);
    let all = Chip { words: "all", path: with(None, None), is_chosen: chosen.is_none() };
    let each = TenantStatus::WORDS.iter().map(|word| Chip {
        words: word,
        path: with(Some(word), None),
        is_chosen: chosen == Some(word),
    });
    let content = TenantsPage {
        chips: std::iter::once(all).chain(each).collect(),
        is_filtered: chosen.is_some()
            || filter.q.is_some()
            || filter.created_after.is_some()
            || filter.created_before.is_some(),
        is_first: window.after.is_none(),
        first: with(chosen, None),
        next: page.next.map(|next| with(chosen, Some(&write_cursor(next)))),
        rows: page.rows,
        q: call.parameter("q"),
        status: call.parameter("status"),
        after: call.parameter("created_after"),
        before: call.parameter("created_before"),
        may_create: call.may_everywhere(Permission::CreateTenant),
        command: "rowhouse tenant create --name 'Acme' --slug acme".to_owned(),
    };
    call.page(Area::Tenants, "Tenants").api(alternate(call, &filter)).show(&content)
}

/// Returns the path of the same list in the control dialect.
fn alternate(call: &Call, filter: &Filter) -> String {
    let mut query = Serializer::new(String::new());
    query.append_pair("order", "-created_at").append_pair("limit", &super::call::ROWS.to_string());
    for name in ["status", "q", "cursor"] {
        let value = call.parameter(name);
        if !value.is_empty() {
            query.append_pair(name, &value);
        }
    }
    for (name, at) in
        [("created_after", filter.created_after), ("created_before", filter.created_before)]
    {
        if let Some(at) = at.and_then(super::text::rfc3339) {
            query.append_pair(name, &at);
        }
    }
    format!("/control/v1/tenants?{}", query.finish())
}
