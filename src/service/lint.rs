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
    /// The engine is distributed, and refuses some statements.
    #[error("{}", refused_in_words(.0))]
    NotDistributable(Vec<Finding>),
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
    check_set(&set, folder, own)
}

/// Checks a set that was loaded as [`check`] loads it.
///
/// # Errors
/// [`LoadError`] if the allowances cannot be read.
pub fn check_set(
    set: &MigrationSet,
    folder: Option<&Path>,
    own: Option<&Migrations>,
) -> Result<Report, LoadError> {
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

/// Refuses a set that a distributed engine cannot take, unless each such statement is allowed with a reason.
///
/// # Errors
/// [`IsolationError::NotDistributable`] names each file and line, and what to write instead.
pub fn require_distributable(
    set: &MigrationSet,
    folder: Option<&Path>,
    own: Option<&Migrations>,
) -> Result<(), IsolationError> {
    let mut findings = lint::check(&set.texts(), &allowances(folder, own)?).findings;
    findings.retain(|finding| finding.rule.is_refused_when_distributed());
    if findings.is_empty() { Ok(()) } else { Err(IsolationError::NotDistributable(findings)) }
}

fn refused_in_words(findings: &[Finding]) -> String {
    let mut text = "Citus cannot take the tenant migrations as they are:".to_owned();
    for Finding { file, line, text: source, rule } in findings {
        let (why, instead) = (rule.why(), rule.instead());
        let _ = write!(text, "\n  {file}, line {line}: {source}\n    {rule}: {why}; {instead}");
    }
    let _ = write!(
        text,
        "\nA statement that is known to work is allowed by `-- rowhouse: allow <rule-id> <reason>` on the line before it, \
         or by a line `<file> <rule-id> <reason>` in {ALLOW_FILE} beside the files."
    );
    text
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
    fn a_set_that_a_distributed_engine_refuses_is_refused_with_the_file_unless_it_is_allowed() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, sql: &str| std::fs::write(folder.path().join(name), sql).unwrap();
        write(
            "V1__a.sql",
            "CREATE TABLE a (id int CONSTRAINT a_pkey PRIMARY KEY) PARTITION BY RANGE (id)",
        );
        let set = || MigrationSet::load(folder.path()).unwrap();
        require_distributable(&set(), Some(folder.path()), None).unwrap();
        require_distributable(&MigrationSet::tenant().unwrap(), None, None).unwrap();
        write(
            "V2__b.sql",
            "SELECT 1;\nCREATE TABLE b PARTITION OF a FOR VALUES FROM (0) TO (9) PARTITION BY RANGE (id);\n\
             CREATE TRIGGER t AFTER INSERT ON a EXECUTE FUNCTION f();\n\
             DO $$ BEGIN CREATE TABLE c (id int); END $$;\n\
             ALTER TABLE a ADD COLUMN n int CONSTRAINT a_n_check CHECK (n > 0);\n\
             ALTER TABLE a ADD COLUMN m int, ADD CONSTRAINT a_m_check CHECK (m > 0)",
        );
        let refused =
            require_distributable(&set(), Some(folder.path()), None).unwrap_err().to_string();
        for line in [
            "V2__b.sql, line 2: CREATE TABLE b",
            "V2__b.sql, line 3: CREATE TRIGGER t",
            "V2__b.sql, line 4: DO $$",
            "V2__b.sql, line 5: ALTER TABLE a",
            "V2__b.sql, line 6: ALTER TABLE a",
        ] {
            assert!(refused.contains(line), "{line}: {refused}");
        }
        let rules = [
            "nested-partition",
            "trigger",
            "ddl-in-body",
            "constraint-in-add-column",
            "constraint-among-others",
        ];
        write(ALLOW_FILE, &rules.map(|rule| format!("V2__b.sql {rule} known")).join("\n"));
        require_distributable(&set(), Some(folder.path()), None).unwrap();
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
