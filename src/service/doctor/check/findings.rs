//! Builds findings about a tenant's schema, and has the sentences that say what to do next.

use crate::pg::catalog::inventory::{SchemaOwner, TenantSchema};
use crate::service::doctor::report::{Area, Finding, Gravity, Subject};

pub(super) const MIGRATE: &str = "run `rowhouse migrate`";
pub(super) const FIX: &str = "run `rowhouse doctor --fix`";
pub(super) const DROP: &str = "see what is in it; `rowhouse doctor --fix --drop-orphans --yes` drops it with all that it holds";
pub(super) const BY_HAND: &str = "see what was done by hand and undo it, or write a migration that expects it; \
                                  nothing here changes structure or data";

pub(super) const UNDECIDED: &str = "do not remove it: tenants at this version that are not named here lack it, and may be \
                                    the ones that are wrong; write a migration that makes it where it is missing, \
                                    with a query that says the schema";
pub(super) const UNDECIDED_MISSING: &str = "tenants at this version that are not named here have it, and may be the ones \
                                            that are right; write a migration that makes it where it is missing, with \
                                            a query that says the schema";
pub(super) const RESTORE: &str = "see what was done by hand and undo it, or restore a backup; `rowhouse migrate` does \
                                  not make it again, because its file counts as applied";
pub(super) const NODE_AWAY: &str =
    "see that its node is up (`rowhouse cluster status`), and examine it again";
pub(super) const NOT_OURS: &str =
    "see what made it, and drop it: the next release does not expect it";

/// A finding about the schema of an inventory entry.
pub(super) fn finding(
    entry: &TenantSchema,
    area: Area,
    gravity: Gravity,
    what: impl Into<String>,
    next: impl Into<String>,
) -> Finding {
    Finding::new(area, gravity, Some(&subject(entry)), what, next)
}

/// The tenant or vacancy of an inventory entry.
pub(super) fn subject(entry: &TenantSchema) -> Subject {
    let slug = match &entry.owner {
        SchemaOwner::Tenant(recorded) => Some(recorded.slug.clone()),
        SchemaOwner::Vacancy { .. } | SchemaOwner::None => None,
    };
    Subject { slug, id: entry.id }
}

pub(super) fn no_schema(entry: &TenantSchema) -> Finding {
    let next = match entry.owner {
        SchemaOwner::Vacancy { .. } => {
            "run `rowhouse vacancies drop`; a server then makes a new stock"
        }
        SchemaOwner::Tenant(_) | SchemaOwner::None => {
            "restore the schema from a backup, or delete the tenant"
        }
    };
    finding(entry, Area::Structure, Gravity::Wrong, "its schema is missing", next)
}
