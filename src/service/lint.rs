//! Reads a set of tenant migrations for what a distributed engine, a rolling deploy or traffic would not
//! survive.
//!
//! The one use case without a call context: it reads files of whoever calls, touches no tenant and no
//! database, and changes nothing, so there is nothing to permit and nobody to name in the audit trail.

use std::io::ErrorKind;
use std::path::Path;

use crate::migrations::{MigrationSet, lint};

pub use crate::migrations::LoadError;
pub use crate::migrations::lint::{ALLOW_FILE, Finding, Report, Rule, Severity};

/// What is allowed in the built-in set, whose files must not be edited any more.
const BUILT_IN_ALLOWANCES: &str = include_str!("../../tenant_migrations/lint.allow");

/// Checks the migrations in a folder, or the built-in tenant set where none is named.
///
/// # Errors
/// The first file that cannot be used at all, and why.
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
        Err(source) => Err(LoadError::Unreadable { folder: folder.to_owned(), source }),
        Ok(text) => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_set_that_is_built_in_is_clean() {
        let report = check(None).unwrap();
        assert_eq!(report.findings, Vec::new());
        assert!(report.files >= 4 && report.statements >= report.files, "{report:?}");
    }
}
