//! Checks a set of tenant migrations for statements that would fail on a distributed engine, during a rolling
//! deploy or under traffic.
//!
//! The only use case without a call context: it reads the caller's files, uses no tenant and no database, and
//! changes nothing, so it needs no permission and writes no audit event.

use std::io::ErrorKind;
use std::path::Path;

use crate::migrations::{MigrationSet, lint};

pub use crate::migrations::LoadError;
pub use crate::migrations::lint::{ALLOW_FILE, Finding, Report, Rule, Severity};

/// The allowances of the built-in set, whose files must not be edited any more.
const BUILT_IN_ALLOWANCES: &str = include_str!("../../tenant_migrations/lint.allow");

/// Checks the migrations in a folder, or the built-in tenant set where no folder is named.
///
/// # Errors
/// All that is wrong with the files.
pub fn check(folder: Option<&Path>) -> Result<Report, LoadError> {
    let (set, allowances) = match folder {
        None => (MigrationSet::tenant()?, BUILT_IN_ALLOWANCES.to_owned()),
        Some(folder) => (MigrationSet::load(folder)?, read_allowances(folder)?),
    };
    Ok(lint::check(&set.texts(), &allowances))
}

fn read_allowances(folder: &Path) -> Result<String, LoadError> {
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
        let report = check(None).unwrap();
        assert_eq!(report.findings, Vec::new());
        assert!(report.files >= 4 && report.statements >= report.files, "{report:?}");
    }
}
