//! One check of the database: what it found, and what a repair did about it.

use askama::Template;

use super::Answer;
use super::call::{Call, window};
use super::frame::Area;
use super::list::{Chip, List, Pages};
use super::page::fragment;
use super::text::{Count, When};
use crate::domain::Permission;
use crate::domain::error::Noun;
use crate::domain::names::{SchemaName, TenantId};
use crate::domain::page::Window;
use crate::domain::rule::Rule;
use crate::service::doctor::{Area as FindingArea, Gravity};
use crate::service::examinations::{Filter, Record, StoredFinding};

/// The part of the page that changes by itself.
const LIVE: &str = "live";

/// The findings on a page.
const FINDINGS: u16 = 100;

/// The area of schemas and roles that belong to no tenant.
const ORPHANS: &str = "orphans";

/// Findings that say the same of several tenants.
struct Group {
    finding: StoredFinding,
    subjects: Vec<Subject>,
}

/// The tenant, vacancy or orphan that a finding is about.
struct Subject {
    slug: Option<String>,
    schema: Option<String>,
    outcome: String,
    reason: Option<String>,
}

#[derive(Template)]
#[template(path = "examination.html", blocks = ["live"])]
#[expect(clippy::struct_excessive_bools, reason = "what the template asks")]
struct ExaminationPage {
    record: Record,
    path: String,
    groups: Vec<Group>,
    chips: Vec<Chip>,
    can_be_repaired: bool,
    orphans: Vec<String>,
    named: String,
    repairs: bool,
    may_repair: bool,
    may_drop: bool,
    is_filtered: bool,
    pages: Pages,
}

/// Shows a check.
pub(super) async fn read(call: &Call) -> Answer {
    let id = call.id(Noun::Examination)?;
    let mut query = call.query()?;
    let window = Window { limit: FINDINGS, ..window(&mut query) };
    let word = |words: &'static [&'static str]| {
        move |text: &str| words.contains(&text).then(|| text.to_owned()).ok_or(Rule::OneOf(words))
    };
    let filter = Filter {
        area: query.optional("area", word(FindingArea::WORDS)),
        gravity: query.optional("gravity", word(Gravity::WORDS)),
        tenant: None,
    };
    let window = query.finish(Some(window))?;
    let examinations = &call.services().examinations;
    let record = examinations.read(&call.ctx, id).await?;
    let page = examinations.findings(&call.ctx, id, &filter, &window).await?;
    let path = format!("/console/health/{id}");
    let list = List::of(call, &path, &["gravity", "area"]);
    let is_open = |finding: &&StoredFinding| finding.outcome == "open";
    let open = || page.rows.iter().filter(is_open);
    let orphans = open().filter(|finding| finding.area == ORPHANS);
    let mut orphans: Vec<_> = orphans.filter_map(|found| found.tenant.map(schema)).collect();
    orphans.dedup();
    let named = record.options["tenants"].as_array().into_iter().flatten();
    let named: Vec<_> = named.filter_map(serde_json::Value::as_str).collect();
    let content = ExaminationPage {
        chips: list.chips("gravity", Gravity::WORDS),
        can_be_repaired: open().any(|finding| finding.is_repairable && finding.area != ORPHANS),
        orphans,
        named: named.join(", "),
        repairs: record.options["repair"] == true,
        may_repair: call.may_everywhere(Permission::MigrateFleet),
        may_drop: call.may_everywhere(Permission::DeleteTenant),
        is_filtered: list.is_filtered(),
        pages: list.pages(&window, page.next),
        groups: grouped(page.rows),
        path: path.clone(),
        record,
    };
    if call.fragment().as_deref() == Some(LIVE) {
        return fragment(call, &content.as_live());
    }
    let findings = call.request().query_string();
    let separator = if findings.is_empty() { "" } else { "&" };
    let page = call
        .page(Area::Health, if content.repairs { "Repair" } else { "Check" })
        .api(format!("/control/v1/examinations/{id}"))
        .api(format!(
            "/control/v1/examinations/{id}/findings?limit={FINDINGS}{separator}{findings}"
        ));
    let page = if content.record.state == "running" { page.changing() } else { page };
    page.show(&content)
}

/// Joins findings that follow each other and say the same.
fn grouped(findings: Vec<StoredFinding>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for finding in findings {
        let subject = Subject {
            slug: finding.slug.clone(),
            schema: finding.tenant.map(schema),
            outcome: finding.outcome.clone(),
            reason: finding.reason.clone(),
        };
        let is_same = |group: &Group| {
            let first = &group.finding;
            first.area == finding.area
                && first.gravity == finding.gravity
                && first.what == finding.what
                && first.actual == finding.actual
                && first.expected == finding.expected
                && first.next == finding.next
        };
        match groups.iter_mut().find(|group| is_same(group)) {
            Some(group) => group.subjects.push(subject),
            None => groups.push(Group { subjects: vec![subject], finding }),
        }
    }
    groups
}

fn schema(id: TenantId) -> String {
    SchemaName::of(id).to_string()
}
