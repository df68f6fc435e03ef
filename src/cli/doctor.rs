//! `doctor`: what is not as it should be, and with `--fix` what was done about it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::{Examine, Exit, Failure, output, tenant};
use crate::app::{Backend, Purpose};
use crate::config::Settings;
use crate::domain::names::TenantId;
use crate::service::doctor::{Area, Finding, Gravity, Orphans, Outcome, Report, Wish};

/// Tenants that are named where many have the same.
const NAMED_MAX: usize = 5;

/// A report as programs read it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ReportView {
    tenant_count: usize,
    vacancy_count: usize,
    wrong_count: usize,
    warning_count: usize,
    mended_count: usize,
    findings: Vec<FindingView>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
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
    /// Whether `--fix` puts it right.
    mendable: bool,
    /// Whether it was put right just now.
    mended: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_mended_because: Option<String>,
}

pub(super) async fn run(settings: &Settings, wish: Examine) -> Result<Exit, Failure> {
    let tenants = wish.tenants.iter().map(|t| tenant::tenant_ref(t)).collect::<Result<_, _>>()?;
    let asked = Wish { tenants };
    let orphans = orphans(wish.drop_orphans.as_deref())?;
    let look = async |backend: &Backend| {
        let (doctor, operator) = (&backend.services.doctor, backend.operator());
        let report = if wish.fix {
            doctor.mend(&operator, &asked, &orphans).await
        } else {
            doctor.examine(&operator, &asked).await
        };
        report.map_err(|error| tenant::not_found(error, &wish.tenants.join(", ")))
    };
    let report = output::on_backend(Purpose::Operate, settings, look).await?;
    output::print(wish.output, &ReportView::from(&report), || text(&report))?;
    Ok(exit(&report))
}

/// What to drop, by the names of schemas or roles, or by the ids in them.
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

/// Warnings alone are no failure: a script that runs this every night should not wake anybody for them.
fn exit(report: &Report) -> Exit {
    match (report.wrong_count(), report.mended_count()) {
        (0, _) => Exit::Done,
        (_, 0) => Exit::Failed,
        (_, _) => Exit::Partly,
    }
}

/// What is worst comes first; what many tenants have is told once.
fn text(report: &Report) -> String {
    let mut text = String::new();
    let headings = [
        (Gravity::Wrong, Area::Walls, "walls between tenants"),
        (Gravity::Wrong, Area::Structure, "structure"),
        (Gravity::Wrong, Area::Rights, "roles, owners and rights"),
        (Gravity::Wrong, Area::History, "migrations"),
        (Gravity::Wrong, Area::Orphans, "nobody's"),
        (Gravity::Wrong, Area::Capacity, "capacity"),
        (Gravity::Warning, Area::Walls, "walls between tenants, warnings"),
        (Gravity::Warning, Area::Structure, "structure, warnings"),
        (Gravity::Warning, Area::Rights, "roles, owners and rights, warnings"),
        (Gravity::Warning, Area::History, "migrations, warnings"),
        (Gravity::Warning, Area::Orphans, "nobody's, warnings"),
        (Gravity::Warning, Area::Capacity, "capacity, warnings"),
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
            if group[0].outcome != Outcome::Mended {
                let _ = writeln!(text, "    next: {}", group[0].next);
            }
        }
    }
    let _ = write!(text, "{}", summary(report));
    text
}

/// Findings that read the same but for the tenant, in the order of the report.
fn group<'a>(findings: impl Iterator<Item = &'a Finding>) -> Vec<Vec<&'a Finding>> {
    let mut places: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut groups: Vec<Vec<&Finding>> = Vec::new();
    for finding in findings {
        let place = *places.entry((finding.what.clone(), outcome(finding))).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        groups[place].push(finding);
    }
    groups
}

/// The tenants of a group, such as `acme, globex and 98 more: `.
fn whose(group: &[&Finding]) -> String {
    let names: Vec<String> = group
        .iter()
        // What is nobody's has the name in its sentence.
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
        Outcome::Stands => String::new(),
        Outcome::Mended => " [mended]".to_owned(),
        Outcome::NotMended(reason) => format!(" [not mended: {reason}]"),
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
        (report.mended_count(), "mended"),
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
            tenant_count: report.tenants,
            vacancy_count: report.vacancies,
            wrong_count: report.wrong_count(),
            warning_count: report.warning_count(),
            mended_count: report.mended_count(),
            findings: report.findings.iter().map(FindingView::from).collect(),
        }
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
            mendable: finding.is_mendable(),
            mended: finding.outcome == Outcome::Mended,
            not_mended_because: match &finding.outcome {
                Outcome::NotMended(reason) => Some(reason.clone()),
                Outcome::Stands | Outcome::Mended => None,
            },
        }
    }
}
