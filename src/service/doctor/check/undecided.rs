//! Differences about which the schema that is built for comparison says nothing: a migration asked the catalogs without
//! a schema, and found the objects of the tenants.

use crate::migrations::lint::Guard;
use crate::pg::catalog::Kind;
use crate::pg::catalog::inventory::TenantSchema;
use crate::service::doctor::check::findings::{UNDECIDED, UNDECIDED_MISSING, finding};
use crate::service::doctor::diff::{Change, Difference};
use crate::service::doctor::report::{Area, Finding, Gravity};

/// The guard that may have decided over an object that differs.
pub(super) fn decided_by<'a>(difference: &Difference, guards: &'a [Guard]) -> Option<&'a Guard> {
    if difference.area != Area::Structure {
        return None;
    }
    let name = difference.name.split('(').next().unwrap_or_default();
    let table = difference.parent.split_once(' ').map_or("", |(_, table)| table);
    // The server makes up names for some.
    let is_part = matches!(difference.kind, Kind::Constraint | Kind::Index) && !table.is_empty();
    let is_named = |guard: &&Guard| guard.names(name) || (is_part && guard.names(table));
    // What a guard names is likelier than what it may compose.
    guards.iter().find(is_named).or_else(|| {
        let is_extra = difference.change == Change::Extra;
        guards.iter().find(|guard| is_extra && guard.composes())
    })
}

/// The finding that the schema to compare with does not tell what is right, because it was built beside other tenants.
pub(super) fn undecided(entry: &TenantSchema, difference: &Difference, guard: &Guard) -> Finding {
    let (file, line) = (&guard.file, guard.line);
    let (what, next) = match difference.change {
        Change::Extra => {
            let whole = difference.what.trim_end_matches(", and no migration makes it");
            (whole.to_owned(), UNDECIDED)
        }
        Change::Missing | Change::Other => (difference.what.clone(), UNDECIDED_MISSING),
    };
    let what = format!(
        "{what}; whether that is right is undecided: {file}, line {line}, asks the catalogs without a schema, and the \
         answer depends on the other tenants"
    );
    let mut found = finding(entry, Area::Structure, Gravity::Warning, what, next);
    (found.is, found.should) = (difference.is.clone(), difference.should.clone());
    found
}
