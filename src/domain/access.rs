//! Owns the permissions and the roles that grant them.
//!
//! It stands in `domain` and not in `auth` because both the error ("you lack ..") and the SQL of
//! memberships and tokens speak of them, and neither may import `auth`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Declares the permissions once: variant, wire name, who holds it by role.
macro_rules! permissions {
    ($($(#[$doc:meta])* $variant:ident = $wire:literal, from $role:ident;)+) => {
        /// One right. The wire name is what tokens, errors and the command line say.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
        #[schema(rename_all = "SCREAMING_SNAKE_CASE")]
        pub enum Permission { $($(#[$doc])* #[serde(rename = $wire)] $variant,)+ }

        impl Permission {
            /// Every permission there is, in the order of their declaration.
            pub const ALL: &'static [Permission] = &[$(Permission::$variant,)+];

            /// The name on the wire, such as `CREATE_TENANT`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Permission::$variant => $wire,)+ }
            }

            /// The lowest role that holds it; every higher role does too.
            const fn lowest_role(self) -> Role {
                match self { $(Permission::$variant => Role::$role,)+ }
            }
        }
    };
}

permissions! {
    /// Set up a new tenant.
    CreateTenant = "CREATE_TENANT", from SuperAdmin;
    /// Rename a tenant or change its settings and its state.
    UpdateTenant = "UPDATE_TENANT", from SuperAdmin;
    /// Delete a tenant.
    DeleteTenant = "DELETE_TENANT", from SuperAdmin;
    /// List and read tenants.
    ViewTenants = "VIEW_TENANTS", from Admin;
    /// See the users of a tenant.
    ViewUsers = "VIEW_USERS", from Fde;
    /// Set another user's password.
    ResetUserPassword = "RESET_USER_PASSWORD", from Admin;
    /// Add members to a tenant, change their roles, remove them.
    ManageMembers = "MANAGE_MEMBERS", from Admin;
    /// Make, list and revoke API tokens.
    ManageApiKeys = "MANAGE_API_KEYS", from Admin;
    /// Run and watch migrations over all tenants.
    MigrateFleet = "MIGRATE_FLEET", from SuperAdmin;
    /// Read the audit events.
    ViewAudit = "VIEW_AUDIT", from Admin;
    /// Read the profiles of a tenant.
    ReadProfiles = "READ_PROFILES", from Viewer;
    /// Create, change and delete the profiles of a tenant.
    WriteProfiles = "WRITE_PROFILES", from Fde;
    /// List the profiles of a tenant in bulk; needs an unlock as well.
    BulkProfiles = "BULK_PROFILES", from Admin;
    /// Look for a person across all tenants; needs an unlock as well.
    CrossTenant = "CROSS_TENANT", from SuperAdmin;
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name that is no permission; the message lists the ones there are.
#[derive(Debug, thiserror::Error)]
#[error("no permission is called {given:?}; there are {}", Permission::ALL.iter().map(|p| p.as_str()).collect::<Vec<_>>().join(", "))]
pub struct UnknownPermission {
    given: String,
}

impl FromStr for Permission {
    type Err = UnknownPermission;

    /// Takes the wire name in either case: Reten's own pages write both.
    fn from_str(given: &str) -> Result<Self, Self::Err> {
        Permission::ALL
            .iter()
            .copied()
            .find(|p| p.as_str().eq_ignore_ascii_case(given))
            .ok_or_else(|| UnknownPermission { given: given.to_owned() })
    }
}

/// A named bundle of permissions, held by a user everywhere (platform role) or in one tenant
/// (membership). Declared from the least to the most, so that `<` means "is below".
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
    utoipa::ToSchema,
)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Role {
    /// Looks, touches nothing.
    Viewer,
    /// Reten's "forward deployed engineer": works inside a tenant.
    Fde,
    /// Runs a tenant.
    Admin,
    /// Runs everything.
    SuperAdmin,
}

impl Role {
    /// Every role, lowest first.
    pub const ALL: &'static [Role] = &[Role::Viewer, Role::Fde, Role::Admin, Role::SuperAdmin];

    /// The name on the wire and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Viewer => "VIEWER",
            Role::Fde => "FDE",
            Role::Admin => "ADMIN",
            Role::SuperAdmin => "SUPER_ADMIN",
        }
    }

    /// Whether the role holds the permission.
    #[must_use]
    pub fn grants(self, permission: Permission) -> bool {
        self >= permission.lowest_role()
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name that is no role.
#[derive(Debug, thiserror::Error)]
#[error("no role is called {given:?}; there are VIEWER, FDE, ADMIN, SUPER_ADMIN")]
pub struct UnknownRole {
    given: String,
}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        Role::ALL
            .iter()
            .copied()
            .find(|r| r.as_str().eq_ignore_ascii_case(given))
            .ok_or_else(|| UnknownRole { given: given.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_grant_what_the_documents_say() {
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
