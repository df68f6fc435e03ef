//! Owns the permissions and the roles that grant them.
//!
//! They are in `domain` and not in `auth` because the error (`Forbidden`) and the SQL of memberships and tokens
//! name them, and neither may import `auth`.

use serde::{Deserialize, Serialize};

/// One right. Tokens, errors and the command line use its name on the wire.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    strum::Display,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
    utoipa::ToSchema,
)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[strum(
    serialize_all = "SCREAMING_SNAKE_CASE",
    // Reten's own pages write both cases.
    ascii_case_insensitive,
    parse_err_ty = UnknownPermission,
    parse_err_fn = UnknownPermission::new
)]
pub enum Permission {
    /// Set up a new tenant.
    CreateTenant,
    /// Rename a tenant or change its settings and its status.
    UpdateTenant,
    /// Delete a tenant.
    DeleteTenant,
    /// Write the data of a tenant to an archive.
    ExportTenant,
    /// Make a tenant of an archive.
    ImportTenant,
    /// Check, cancel and delete the archives that the server keeps.
    ManageArchives,
    /// List and read tenants.
    ViewTenants,
    /// See the users of a tenant.
    ViewUsers,
    /// Set another user's password.
    ResetUserPassword,
    /// Add members to a tenant, change their roles, remove them.
    ManageMembers,
    /// Create, list and revoke API tokens.
    ManageApiKeys,
    /// Run migrations over all tenants, examine and repair their schemas; includes `VIEW_FLEET`.
    MigrateFleet,
    /// Watch migrations over all tenants, read examinations, and see the capacity of the server.
    ViewFleet,
    /// See the settings of the server, except its secrets.
    ViewSettings,
    /// List and rotate the keys that sign access tokens.
    ManageSigningKeys,
    /// Read the audit events.
    ViewAudit,
    /// Read the tables of a tenant: its profiles, and those of an application.
    ReadProfiles,
    /// Change what is in the tables of a tenant: its profiles, and those of an application.
    WriteProfiles,
    /// List the profiles of a tenant in bulk; needs an unlock as well.
    BulkProfiles,
    /// Look for a person across all tenants; needs an unlock as well.
    CrossTenant,
}

impl Permission {
    /// Every permission, in order of declaration.
    pub const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

    /// Returns the name on the wire, such as `CREATE_TENANT`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Returns whether one of the permissions of a token is this one or includes it.
    #[must_use]
    pub fn is_among(self, permissions: &[Self]) -> bool {
        permissions.contains(&self)
            || (self == Self::ViewFleet && permissions.contains(&Self::MigrateFleet))
    }

    /// Returns the lowest role that holds it; every higher role holds it too.
    const fn lowest_role(self) -> Role {
        match self {
            Self::ReadProfiles => Role::Viewer,
            Self::ViewUsers | Self::WriteProfiles => Role::Fde,
            Self::ViewTenants
            | Self::ExportTenant
            | Self::ResetUserPassword
            | Self::ManageMembers
            | Self::ManageApiKeys
            | Self::ViewAudit
            | Self::ViewFleet
            | Self::BulkProfiles => Role::Admin,
            Self::CreateTenant
            | Self::UpdateTenant
            | Self::DeleteTenant
            | Self::ImportTenant
            | Self::ManageArchives
            | Self::MigrateFleet
            | Self::ViewSettings
            | Self::ManageSigningKeys
            | Self::CrossTenant => Role::SuperAdmin,
        }
    }
}

/// What a transaction inside a tenant may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read the tables; the database refuses to write.
    Read,
    /// Read and write.
    Write,
}

impl Access {
    /// Returns the permission that it needs.
    #[must_use]
    pub const fn permission(self) -> Permission {
        match self {
            Self::Read => Permission::ReadProfiles,
            Self::Write => Permission::WriteProfiles,
        }
    }
}

/// A name that is not a permission; the message lists those that exist.
#[derive(Debug, thiserror::Error)]
#[error("no permission is called {0:?}; there are {names}", names = Permission::ALL.iter().map(|p| p.as_str()).collect::<Vec<_>>().join(", "))]
pub struct UnknownPermission(String);

impl UnknownPermission {
    fn new(given: &str) -> Self {
        Self(given.to_owned())
    }
}

/// A named set of permissions, held by a user everywhere (platform role) or in one tenant (membership). Declared
/// from the lowest to the highest, so that `<` means "is below".
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    strum::Display,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
    utoipa::ToSchema,
)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[strum(
    serialize_all = "SCREAMING_SNAKE_CASE",
    ascii_case_insensitive,
    parse_err_ty = UnknownRole,
    parse_err_fn = UnknownRole::new
)]
pub enum Role {
    /// Reads, changes nothing.
    Viewer,
    /// Reten's "forward deployed engineer": works inside a tenant.
    Fde,
    /// Administers a tenant.
    Admin,
    /// Administers all tenants.
    SuperAdmin,
}

impl Role {
    /// Every role, lowest first.
    pub const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

    /// Returns the name on the wire and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Returns whether the role holds the permission.
    #[must_use]
    pub fn grants(self, permission: Permission) -> bool {
        self >= permission.lowest_role()
    }
}

/// A name that is not a role.
#[derive(Debug, thiserror::Error)]
#[error("no role is called {0:?}; there are VIEWER, FDE, ADMIN, SUPER_ADMIN")]
pub struct UnknownRole(String);

impl UnknownRole {
    fn new(given: &str) -> Self {
        Self(given.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_grant_the_documented_permissions() {
        for (permission, holders) in [
            (Permission::CreateTenant, &[Role::SuperAdmin][..]),
            (Permission::UpdateTenant, &[Role::SuperAdmin]),
            (Permission::DeleteTenant, &[Role::SuperAdmin]),
            (Permission::ViewTenants, &[Role::SuperAdmin, Role::Admin]),
        ] {
            for role in Role::ALL {
                assert_eq!(role.grants(permission), holders.contains(role), "{role} {permission}");
            }
        }
    }

    #[test]
    fn every_role_may_read_the_tables_of_a_tenant_and_a_viewer_may_not_write_them() {
        for role in Role::ALL {
            assert!(role.grants(Access::Read.permission()), "{role}");
            assert_eq!(role.grants(Access::Write.permission()), *role >= Role::Fde, "{role}");
        }
    }

    #[test]
    fn the_right_to_run_migrations_includes_the_right_to_watch_them_and_not_the_reverse() {
        assert!(Permission::ViewFleet.is_among(&[Permission::MigrateFleet]));
        assert!(!Permission::MigrateFleet.is_among(&[Permission::ViewFleet]));
    }

    #[test]
    fn names_survive_a_round_trip_in_either_case() {
        for permission in Permission::ALL {
            assert_eq!(permission.as_str().parse::<Permission>().unwrap(), *permission);
            assert_eq!(
                permission.as_str().to_lowercase().parse::<Permission>().unwrap(),
                *permission
            );
        }
        for role in Role::ALL {
            assert_eq!(role.as_str().parse::<Role>().unwrap(), *role);
        }
        assert!(
            "CREATE_WORLD".parse::<Permission>().unwrap_err().to_string().contains("CREATE_TENANT")
        );
    }
}
