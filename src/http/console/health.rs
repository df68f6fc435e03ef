//! Checks of the database, as `rowhouse doctor` makes them, and the capacity of its server.

use actix_web::HttpResponse;
use askama::Template;

use super::Answer;
use super::call::{Call, window};
use super::form::Form;
use super::frame::Area;
use super::list::{List, Pages};
use super::problem::Problem;
use super::text::{Count, When};
use crate::domain::Permission;
use crate::domain::error::{Conflict, Error, Result};
use crate::domain::names::TenantId;
use crate::domain::page::Window;
use crate::domain::rule::Rule;
use crate::service::doctor::{Finding, Orphans, Resource};
use crate::service::examinations::{Record, Request};

const HERE: &str = "/console/health";

/// The checks on a page.
const CHECKS: u16 = 20;

/// The prefix of the schemas of tenants and vacancies.
const PREFIX: &str = "tenant_";

#[derive(Template)]
#[template(path = "health.html")]
struct HealthPage<'a> {
    form: &'a Form,
    may_check: bool,
    is_running: bool,
    resources: Vec<ResourceView>,
    warnings: Vec<Finding>,
    rows: Vec<Record>,
    pages: Pages,
}

/// Something of the database server that may run out.
struct ResourceView {
    name: &'static str,
    words: &'static str,
    used: String,
    limit: String,
    share: i64,
}

/// Shows the capacity and the checks that were made.
pub(super) async fn read(call: &Call) -> Answer {
    let mut query = call.query()?;
    let window = Window { limit: CHECKS, ..window(&mut query) };
    let window = query.finish(Some(window))?;
    let html = page(call, &Form::default(), &window).await?;
    Ok(super::page::respond(actix_web::http::StatusCode::OK, html, &call.shown()))
}

/// Starts a check or a repair, and leads to it.
pub(super) async fn start(call: &Call) -> Answer {
    call.ctx.require(Permission::MigrateFleet)?;
    let form = &call.form;
    let request = request(form);
    if !form.is_good() {
        return refused(call, Error::Invalid(Vec::new())).await;
    }
    let (repairs, named) = (request.repair, request.tenants.clone());
    match call.services().examinations.start(&call.ctx, request).await {
        Ok(record) => {
            let sentence =
                if repairs { "The repair has started." } else { "The check has started." };
            call.done(&format!("/console/health/{}", record.id), sentence)
        }
        Err(Error::Invalid(problems)) => {
            for problem in &problems {
                form.blame_tenant("tenants", problem, &named);
            }
            refused(call, Error::Invalid(problems)).await
        }
        Err(error @ Error::Conflict(Conflict::ExaminationRunning)) => {
            form.blame("", "Another check is running. Wait until it has ended.");
            refused(call, error).await
        }
        Err(error) => Err(error),
    }
}

async fn refused(call: &Call, error: Error) -> Answer {
    let html = page(call, &call.form, &Window { after: None, limit: CHECKS }).await?;
    Ok(HttpResponse::from_error(Problem::shown(error, html)))
}

async fn page(call: &Call, form: &Form, window: &Window) -> Result<String> {
    let services = call.services();
    let capacity = services.doctor.capacity(&call.ctx).await?;
    let checks = services.examinations.list(&call.ctx, window).await?;
    let content = HealthPage {
        form,
        may_check: call.may_everywhere(Permission::MigrateFleet),
        is_running: checks.rows.iter().any(|record| record.state == "running"),
        resources: capacity.resources.into_iter().map(ResourceView::from).collect(),
        warnings: capacity.warnings,
        pages: List::of(call, HERE, &[]).pages(window, checks.next),
        rows: checks.rows,
    };
    call.page(Area::Health, "Health")
        .api(format!("/control/v1/examinations?limit={CHECKS}"))
        .api("/control/v1/capacity")
        .html(&content)
}

/// Reads the form that starts a check or a repair.
fn request(form: &Form) -> Request {
    let separators = |c: char| c.is_whitespace() || c == ',' || c == ';';
    let named = form.text("tenants").split(separators).filter(|name| !name.is_empty());
    let tenants: Vec<String> = named.map(str::to_owned).collect();
    // What is dropped is typed, and is one schema.
    let orphan = form.optional("orphan", |text| {
        let id = text.strip_prefix(PREFIX).and_then(|id| id.parse().ok());
        id.map(TenantId::new).ok_or(Rule::UuidFormat)
    });
    if orphan.is_some_and(|id| form.text("orphan") != format!("{PREFIX}{}", id.uuid().simple())) {
        form.refuse("orphan", Rule::UuidFormat);
    }
    let orphans = orphan.map_or(Orphans::Keep, |id| Orphans::DropThese(vec![id]));
    Request { tenants, repair: form.has("repair", "on") || orphan.is_some(), orphans }
}

impl From<Resource> for ResourceView {
    fn from(resource: Resource) -> Self {
        let Resource { name, used, limit, unit } = resource;
        let words = match name {
            "connections" => "connections that the servers may open",
            "locks" => "locks of one transaction",
            "relations" => "tables and indexes",
            "catalogs" => "size of the catalogs",
            "dead_rows" => "dead rows in the catalogs",
            "memory" => "memory of all backends",
            "roles" => "roles",
            other => other,
        };
        let share = if limit > 0 { used.saturating_mul(100) / limit } else { 0 };
        Self { name, words, used: amount(used, unit), limit: amount(limit, unit), share }
    }
}

/// Writes an amount with its unit.
fn amount(value: i64, unit: &str) -> String {
    match unit {
        "bytes" => bytes(value),
        "percent" => format!("{value} %"),
        _ => Count(value).to_string(),
    }
}

fn bytes(value: i64) -> String {
    let (mut unit, mut divisor) = ("B", 1_i64);
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if value / divisor < 1024 {
            break;
        }
        (unit, divisor) = (larger, divisor.saturating_mul(1024));
    }
    let tenths = value.saturating_mul(10) / divisor;
    if divisor > 1 && tenths < 100 {
        format!("{}.{} {unit}", tenths / 10, tenths % 10)
    } else {
        format!("{} {unit}", tenths / 10)
    }
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn bytes_are_written_with_the_unit_that_people_read() {
        for (value, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (12 << 20, "12 MiB"),
            (3 << 30, "3.0 GiB"),
        ] {
            assert_eq!(bytes(value), text);
        }
    }
}
