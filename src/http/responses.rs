//! Permissions as types, for the 403 of an operation in the OpenAPI document.
//!
//! Each dialect has its error responses in its own `responses.rs`; an operation lists those that it can answer:
//! `responses((status = 200, ..), Forbidden<ViewUsers>, NoSuchTenant)`. Of two entries with one status the later one
//! wins, so that an operation can take a set of responses and reword one of them.

use crate::domain::Permission;

/// A permission that an operation requires.
pub(crate) trait Required {
    /// The permission itself.
    const PERMISSION: Permission;
}

/// Declares one type for each permission, with the permission's name.
macro_rules! required {
    ($($name:ident),+ $(,)?) => {$(
        pub(crate) enum $name {}

        impl Required for $name {
            const PERMISSION: Permission = Permission::$name;
        }
    )+};
}

required! {
    CreateTenant, UpdateTenant, DeleteTenant, ViewTenants, ViewUsers, ResetUserPassword,
    ManageApiKeys, ManageMembers, MigrateFleet, ViewFleet, ViewSettings, ManageSigningKeys,
    ViewAudit,
    ExportTenant, ImportTenant, ManageArchives,
}

/// Returns the description of a 403.
pub(crate) fn missing<P: Required>() -> String {
    format!("{} is missing", P::PERMISSION)
}
