//! `migrate --lint`: statements in the tenant migrations that are unsafe to deploy. Needs no database.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde::Serialize;

use super::{Exit, Failure, Output, output};
use crate::cli::Program;
use crate::service::lint::{self, Finding, Report, Rule};

/// A report as programs read it.
#[derive(Debug, Serialize)]
struct ReportView {
    file_count: usize,
    statement_count: usize,
    allowed_count: usize,
    findings: Vec<FindingView>,
}

#[derive(Debug, Serialize)]
struct FindingView {
    file: String,
    line: u64,
    rule: &'static str,
    severity: &'static str,
    why: &'static str,
    instead: &'static str,
    text: String,
}

pub(super) fn run(settings: &Program, output: Output) -> Result<Exit, Failure> {
    let own = settings.options.tenant_migrations.as_ref();
    let report = lint::check(settings.tenant_migrations.as_deref(), own)
        .map_err(|error| Failure::Other(error.to_string()))?;
    let exit = if report.findings.is_empty() { Exit::Done } else { Exit::Failed };
    let summary = summary(&report);
    let text = text(&report.findings);
    if output.json {
        output::print(output, &ReportView::from(report), String::new)?;
    } else if !text.is_empty() {
        output::data(&text)?;
    }
    output::say(&summary);
    Ok(exit)
}

/// Formats one line for each finding, then the explanation of each rule, once.
fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { file, line, rule, text: source } in findings {
        let _ = writeln!(text, "{file}:{line}: {rule} ({}): {source}", rule.severity().as_str());
    }
    let rules: BTreeSet<Rule> = findings.iter().map(|finding| finding.rule).collect();
    for rule in rules {
        let _ = write!(text, "\n{rule}: {}.\n  Instead: {}.\n", rule.why(), rule.instead());
    }
    text.trim_end().to_owned()
}

fn summary(report: &Report) -> String {
    let Report { files, statements, allowed, findings } = report;
    let found = findings.len();
    format!("{files} files with {statements} statements: {found} findings, {allowed} allowed")
}

impl From<Report> for ReportView {
    fn from(report: Report) -> Self {
        let view = |Finding { file, line, rule, text }| FindingView {
            file,
            line,
            rule: rule.id(),
            severity: rule.severity().as_str(),
            why: rule.why(),
            instead: rule.instead(),
            text,
        };
        Self {
            file_count: report.files,
            statement_count: report.statements,
            allowed_count: report.allowed,
            findings: report.findings.into_iter().map(view).collect(),
        }
    }
}
