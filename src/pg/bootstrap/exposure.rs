//! An exposure that was found.

use crate::pg::rules::exposure::{ExposureName, Exposures};

/// A privilege, an attribute or a role that defeats the isolation of tenants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposure {
    /// The name under which the settings accept it; `None` if it cannot be accepted.
    pub name: Option<ExposureName>,
    /// What can be done with it, for people.
    pub risk: String,
    /// The statement that removes it.
    pub statement: String,
    /// Whether this login may run the statement. An owner that is no superuser cannot revoke from PUBLIC what the
    /// server grants.
    pub may_revoke: bool,
}

/// Returns the names of exposures.
pub(super) fn names(found: &[Exposure]) -> Exposures {
    found.iter().filter_map(|exposure| exposure.name).collect()
}

/// Lists exposures, one a line, each with its name.
pub(super) fn list(found: &[Exposure]) -> String {
    let line = |exposure: &Exposure| {
        let name = exposure.name.map_or("unnamed", ExposureName::as_str);
        format!("\n  {name}: {}", exposure.risk)
    };
    found.iter().map(line).collect::<Vec<_>>().concat()
}

/// Returns the statements that remove exposures, one a line and ready for `psql`.
pub(super) fn statements(found: &[Exposure]) -> String {
    let statements = found.iter().flat_map(|exposure| exposure.statement.split("; "));
    let lines: Vec<String> = statements.map(|statement| format!("\n  {statement};")).collect();
    lines.concat()
}
