//! Builds findings about a tenant's schema, and has the sentences that say what to do next.

use crate::pg::catalog::inventory::{SchemaOwner, TenantSchema};
use crate::service::doctor::report::{Area, Finding, Gravity, Subject};

pub(super) const MIGRATE: &str = "run `rowhouse migrate`";
pub(super) const FIX: &str = "run `rowhouse doctor --fix`";
pub(super) const DROP: &str = "see what is in it; `rowhouse doctor --fix --drop-orphans --yes` drops it with all that it holds";
pub(super) const BY_HAND: &str = "see what was done by hand and undo it, or write a migration that expects it; \
                                  nothing here changes structure or data";

/// A finding about the schema of an inventory entry.
pub(super) fn finding(
    entry: &TenantSchema,
    area: Area,
    gravity: Gravity,
    what: impl Into<String>,
    next: impl Into<String>,
) -> Finding {
    let slug = match &entry.owner {
        SchemaOwner::Tenant(recorded) => Some(recorded.slug.clone()),
        SchemaOwner::Vacancy { .. } | SchemaOwner::None => None,
    };
    Finding::new(area, gravity, Some(&Subject { slug, id: entry.id }), what, next)
}

pub(super) fn no_schema(entry: &TenantSchema) -> Finding {
    let next = "restore the schema from a backup, or delete the tenant";
    finding(entry, Area::Structure, Gravity::Wrong, "its schema is missing", next)
}
