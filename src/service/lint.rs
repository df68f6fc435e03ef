//! Checks a set of tenant migrations for statements whose effect depends on other tenants, or that would fail on a
//! distributed engine, during a rolling deploy or under traffic.
//!
//! The only use cases without a call context: they read the caller's files, use no tenant and no database, and
//! change nothing, so they need no permission and write no audit event.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::ErrorKind;
use std::path::Path;

use crate::migrations::{MigrationSet, Migrations, lint};

pub use crate::migrations::LoadError;
pub use crate::migrations::lint::{ALLOW_FILE, Finding, Report, Rule, Severity};

/// The allowances of the built-in set, whose files must not be edited any more.
const BUILT_IN_ALLOWANCES: &str = include_str!("../../tenant_migrations/lint.allow");

/// Why a set of tenant migrations must not be used.
#[derive(Debug, thiserror::Error)]
pub enum IsolationError {
    /// Its allowances cannot be read.
    #[error(transparent)]
    Unreadable(#[from] LoadError),
    /// Queries in it find the objects of other tenants.
    #[error("{}", in_words(.0))]
    CatalogWithoutSchema(Vec<Finding>),
}

/// Checks the migrations in a folder; where no folder is named, those of the application, or the built-in tenant set.
///
/// # Errors
/// All that is wrong with the files.
pub fn check(folder: Option<&Path>, own: Option<&Migrations>) -> Result<Report, LoadError> {
    let set = match (folder, own) {
        (None, None) => MigrationSet::tenant()?,
        (None, Some(own)) => MigrationSet::of_application(own)?,
        (Some(folder), _) => MigrationSet::load(folder)?,
    };
    Ok(lint::check(&set.texts(), &allowances(folder, own)?))
}

/// Refuses a set whose effect in one tenant depends on the schemas of the others ([`Rule::CatalogWithoutSchema`]),
/// unless that is allowed with a reason.
///
/// # Errors
/// [`IsolationError::CatalogWithoutSchema`] names each file and line, and what to write instead.
pub fn require_isolated(
    set: &MigrationSet,
    folder: Option<&Path>,
    own: Option<&Migrations>,
) -> Result<(), IsolationError> {
    let findings = lint::without_schema(&set.texts(), &allowances(folder, own)?);
    if findings.is_empty() { Ok(()) } else { Err(IsolationError::CatalogWithoutSchema(findings)) }
}

fn in_words(findings: &[Finding]) -> String {
    let mut text = "the tenant migrations must not be used as they are:".to_owned();
    for Finding { file, line, text: source, .. } in findings {
        let _ = write!(text, "\n  {file}, line {line}: {source}");
    }
    let rule = Rule::CatalogWithoutSchema;
    let (why, instead) = (rule.why(), rule.instead());
    let _ = write!(text, "\n{rule}: {why}.\nInstead: {instead}.\n");
    let files: BTreeSet<&str> = findings.iter().map(|finding| finding.file.as_str()).collect();
    let these = if files.len() == 1 { "this file" } else { "these files" };
    let _ = write!(
        text,
        "A file that was applied must not be edited. To use {these} as they are, write into {ALLOW_FILE} beside the \
         files, with your reason:"
    );
    for Finding { file, .. } in findings {
        let _ = write!(text, "\n{file} {rule} <reason>");
    }
    text
}

fn allowances(folder: Option<&Path>, own: Option<&Migrations>) -> Result<String, LoadError> {
    let Some(folder) = folder else {
        return Ok(match own {
            None => BUILT_IN_ALLOWANCES.to_owned(),
            Some(own) if own.replaces_built_in() => own.allowances().to_owned(),
            Some(own) => format!("{BUILT_IN_ALLOWANCES}\n{}", own.allowances()),
        });
    };
    match std::fs::read_to_string(folder.join(ALLOW_FILE)) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        Err(source) => Err(LoadError::unreadable(folder, &source)),
        Ok(text) => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_set_has_no_findings() {
        let report = check(None, None).unwrap();
        assert_eq!(report.findings, Vec::new());
        assert!(report.files >= 4 && report.statements >= report.files, "{report:?}");
        require_isolated(&MigrationSet::tenant().unwrap(), None, None).unwrap();
    }

    #[test]
    fn what_a_refusal_says_to_write_makes_the_set_usable() {
        let folder = tempfile::tempdir().unwrap();
        let guard = "DO $$ BEGIN\nIF EXISTS (SELECT FROM pg_type WHERE typname = 'a') THEN NULL; END IF;\n\
                     IF EXISTS (SELECT FROM pg_type WHERE typname = 'b') THEN NULL; END IF;\nEND $$";
        std::fs::write(folder.path().join("V1__a.sql"), guard).unwrap();
        let set = MigrationSet::load(folder.path()).unwrap();
        let refused = require_isolated(&set, Some(folder.path()), None).unwrap_err().to_string();
        assert!(refused.contains("V1__a.sql, line 2: IF EXISTS"), "{refused}");
        assert!(refused.contains("V1__a.sql, line 3: IF EXISTS"), "{refused}");
        let lines = refused.lines().filter(|line| line.ends_with("<reason>"));
        let lines =
            lines.map(|line| line.replace("<reason>", "known")).collect::<Vec<_>>().join("\n");
        std::fs::write(folder.path().join(ALLOW_FILE), lines).unwrap();
        require_isolated(&set, Some(folder.path()), None).unwrap();
    }
}
