//! `doctor`: examines the database, and repairs it with `--fix`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::control::not_found;
use super::{Examine, Exit, Failure, output, tenant};
use crate::app::{Backend, Purpose};
use crate::cli::Program;
use crate::domain::names::TenantId;
use crate::service::doctor::{
    Area, ExpectedDriftUse, Finding, Gravity, Orphans, RepairOutcome, Report, Selection,
};

/// The most tenants that are named if many have the same finding.
const NAMED_MAX: usize = 5;

/// A report in JSON.
#[derive(Debug, Serialize)]
struct ReportView {
    engine: &'static str,
    tenant_count: usize,
    vacancy_count: usize,
    wrong_count: usize,
    warning_count: usize,
    repaired_count: usize,
    findings: Vec<FindingView>,
    /// How often each line of `drift.allow` was used.
    expected_drift: Vec<ExpectedDriftView>,
}

#[derive(Debug, Serialize)]
struct ExpectedDriftView {
    line: u64,
    text: String,
    count: usize,
}

#[derive(Debug, Serialize)]
struct FindingView {
    area: &'static str,
    gravity: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    is: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    should: Option<String>,
    next: String,
    /// Whether `--fix` repairs it.
    mendable: bool,
    /// Whether it was repaired by this command.
    repaired: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_repaired_because: Option<String>,
}

pub(super) async fn run(settings: &Program, flags: Examine) -> Result<Exit, Failure> {
    let tenants = flags.tenants.iter().map(|t| tenant::tenant_ref(t)).collect::<Result<_, _>>()?;
    let selection = Selection { tenants };
    let orphans = orphans(flags.drop_orphans.as_deref())?;
    let examine = async |backend: &Backend| {
        let (doctor, operator) = (&backend.services.doctor, backend.operator());
        let report = if flags.fix {
            doctor.repair(&operator, &selection, &orphans).await
        } else {
            doctor.examine(&operator, &selection).await
        };
        report.map_err(|error| not_found(error.into(), &flags.tenants.join(", ")))
    };
    let report = output::on_backend(Purpose::Operate, settings, examine).await?;
    output::print(flags.output, &ReportView::from(&report), || text(&report))?;
    Ok(exit(&report))
}

/// Returns what to drop, by the names of schemas or roles, or by the ids in them.
fn orphans(named: Option<&[String]>) -> Result<Orphans, Failure> {
    let Some(named) = named else { return Ok(Orphans::Keep) };
    if named.is_empty() {
        return Ok(Orphans::Drop);
    }
    let id = |name: &String| {
        let id = name.strip_prefix("tenant_").unwrap_or(name).parse().map(TenantId::new);
        id.map_err(|_no_id| {
            Failure::usage(format!("{name:?} is not the name of a tenant's schema or role"))
        })
    };
    Ok(Orphans::DropThese(named.iter().map(id).collect::<Result<_, _>>()?))
}

/// Warnings alone are not a failure: a nightly script should not page an operator for them.
fn exit(report: &Report) -> Exit {
    match (report.wrong_count(), report.repaired_count()) {
        (0, _) => Exit::Done,
        (_, 0) => Exit::Failed,
        (_, _) => Exit::Partly,
    }
}

/// The most serious findings come first; a finding that many tenants have is printed once.
fn text(report: &Report) -> String {
    let mut text = String::new();
    let headings = [
        (Gravity::Wrong, Area::Privileges, "isolation between tenants"),
        (Gravity::Wrong, Area::Structure, "structure"),
        (Gravity::Wrong, Area::Rights, "roles, owners and rights"),
        (Gravity::Wrong, Area::History, "migrations"),
        (Gravity::Wrong, Area::Orphans, "orphans"),
        (Gravity::Wrong, Area::Capacity, "capacity"),
        (Gravity::Wrong, Area::Credentials, "credentials"),
        (Gravity::Warning, Area::Privileges, "isolation between tenants, warnings"),
        (Gravity::Warning, Area::Structure, "structure, warnings"),
        (Gravity::Warning, Area::Rights, "roles, owners and rights, warnings"),
        (Gravity::Warning, Area::History, "migrations, warnings"),
        (Gravity::Warning, Area::Orphans, "orphans, warnings"),
        (Gravity::Warning, Area::Capacity, "capacity, warnings"),
        (Gravity::Warning, Area::Credentials, "credentials, warnings"),
    ];
    for (gravity, area, heading) in headings {
        let of_it = |f: &&Finding| f.gravity == gravity && f.area == area;
        let groups = group(report.findings.iter().filter(of_it));
        if groups.is_empty() {
            continue;
        }
        let _ = writeln!(text, "{heading}");
        for group in groups {
            let _ = writeln!(text, "  {}{}{}", whose(&group), group[0].what, outcome(group[0]));
            if group[0].outcome != RepairOutcome::Repaired {
                let _ = writeln!(text, "    next: {}", group[0].next);
            }
        }
    }
    if !report.expected.is_empty() {
        let _ = writeln!(text, "expected drift");
    }
    for ExpectedDriftUse { line, text: words, count } in &report.expected {
        let differences = if *count == 1 { "difference" } else { "differences" };
        let _ = writeln!(text, "  drift.allow, line {line}: {count} {differences}: {words}");
    }
    let _ = write!(text, "{}", summary(report));
    text
}

/// Groups findings that differ only in the tenant, in the order of the report.
fn group<'a>(findings: impl Iterator<Item = &'a Finding>) -> Vec<Vec<&'a Finding>> {
    let mut positions: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut groups: Vec<Vec<&Finding>> = Vec::new();
    for finding in findings {
        let position =
            *positions.entry((finding.what.clone(), outcome(finding))).or_insert_with(|| {
                groups.push(Vec::new());
                groups.len() - 1
            });
        groups[position].push(finding);
    }
    groups
}

/// The tenants of a group, such as `acme, globex and 98 more: `.
fn whose(group: &[&Finding]) -> String {
    let names: Vec<String> = group
        .iter()
        // The sentence of an orphan has its name.
        .filter(|finding| finding.area != Area::Orphans)
        .filter_map(|finding| finding.subject.as_ref())
        .map(|subject| match &subject.slug {
            Some(slug) => slug.to_string(),
            None => format!("the vacancy {}", subject.id),
        })
        .collect();
    match names.len() {
        0 => String::new(),
        count if count <= NAMED_MAX => format!("{}: ", names.join(", ")),
        count => {
            let first = names.iter().take(NAMED_MAX).map(String::as_str).collect::<Vec<_>>();
            format!("{} and {} more: ", first.join(", "), count - NAMED_MAX)
        }
    }
}

fn outcome(finding: &Finding) -> String {
    match &finding.outcome {
        RepairOutcome::Open => String::new(),
        RepairOutcome::Repaired => " [repaired]".to_owned(),
        RepairOutcome::Failed(reason) => format!(" [not repaired: {reason}]"),
    }
}

fn summary(report: &Report) -> String {
    let mut parts = vec![match report.tenants {
        1 => "1 tenant examined".to_owned(),
        count => format!("{count} tenants examined"),
    }];
    if report.vacancies > 0 {
        parts.push(format!("{} vacancies", report.vacancies));
    }
    for (count, word) in [
        (report.repaired_count(), "repaired"),
        (report.wrong_count(), "wrong"),
        (report.warning_count(), if report.warning_count() == 1 { "warning" } else { "warnings" }),
    ] {
        if count > 0 {
            parts.push(format!("{count} {word}"));
        }
    }
    if report.findings.is_empty() {
        parts.push("all as it should be".to_owned());
    }
    parts.join(", ")
}

impl From<&Report> for ReportView {
    fn from(report: &Report) -> Self {
        Self {
            engine: report.engine.as_str(),
            tenant_count: report.tenants,
            vacancy_count: report.vacancies,
            wrong_count: report.wrong_count(),
            warning_count: report.warning_count(),
            repaired_count: report.repaired_count(),
            findings: report.findings.iter().map(FindingView::from).collect(),
            expected_drift: report.expected.iter().map(ExpectedDriftView::from).collect(),
        }
    }
}

impl From<&ExpectedDriftUse> for ExpectedDriftView {
    fn from(used: &ExpectedDriftUse) -> Self {
        Self { line: used.line, text: used.text.clone(), count: used.count }
    }
}

impl From<&Finding> for FindingView {
    fn from(finding: &Finding) -> Self {
        let subject = finding.subject.as_ref();
        Self {
            area: finding.area.as_str(),
            gravity: finding.gravity.as_str(),
            tenant_id: subject.map(|subject| subject.id.to_string()),
            tenant: subject.and_then(|s| s.slug.as_ref()).map(ToString::to_string),
            what: finding.what.clone(),
            is: finding.is.clone(),
            should: finding.should.clone(),
            next: finding.next.clone(),
            mendable: finding.is_repairable(),
            repaired: finding.outcome == RepairOutcome::Repaired,
            not_repaired_because: match &finding.outcome {
                RepairOutcome::Failed(reason) => Some(reason.clone()),
                RepairOutcome::Open | RepairOutcome::Repaired => None,
            },
        }
    }
}
