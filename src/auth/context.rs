//! Owns the caller ([`Principal`]) and the context of a call ([`CallContext`]: caller, time, request id).
//!
//! The rights check is [`CallContext::require`], the first line of every service method.

use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::error::{Error, Result};
use crate::domain::names::{TenantId, TokenId, UserId};
use crate::domain::{Permission, ProfileId, Role};

/// An authenticated caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// No credential: a public call, such as a login.
    Anonymous,
    /// The holder of the root token.
    Root,
    /// The operator at the command line, who holds the database's own credentials.
    Operator,
    /// A user with an access token.
    User {
        /// The user.
        id: UserId,
        /// The session that the access token belongs to.
        session: Uuid,
        /// The role in every tenant; most users have none.
        platform_role: Option<Role>,
        /// The role in each tenant.
        memberships: Vec<Membership>,
    },
    /// The holder of an API token.
    Token {
        /// The token.
        id: TokenId,
        /// The user who created it; `None` if no user did.
        user: Option<UserId>,
        /// Its permissions: those it was given, as far as its user still holds them.
        permissions: Vec<Permission>,
        /// The one tenant that it is bound to, if any.
        tenant: Option<TenantId>,
    },
    /// The holder of an API key, which works in one tenant for the user who created it.
    ApiKey {
        /// The key.
        id: TokenId,
        /// The user who created it; `None` if no user did.
        user: Option<UserId>,
        /// Its permissions: those it was given, as far as its user still holds them in the tenant.
        permissions: Vec<Permission>,
        /// The tenant.
        tenant: TenantId,
    },
    /// The person behind a profile, with a token for reading it.
    Profile {
        /// The token.
        id: TokenId,
        /// The tenant.
        tenant: TenantId,
        /// The profile.
        profile: ProfileId,
    },
}

/// A user's role in one tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Membership {
    /// The tenant.
    pub tenant: TenantId,
    /// The role in it.
    pub role: Role,
}

/// The tenants in which a permission is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// Every tenant, and the platform itself.
    Everything,
    /// Only these tenants.
    Tenants(Vec<TenantId>),
}

impl Reach {
    /// Returns whether it includes the tenant.
    #[must_use]
    pub fn covers(&self, tenant: TenantId) -> bool {
        match self {
            Self::Everything => true,
            Self::Tenants(ids) => ids.contains(&tenant),
        }
    }

    /// Returns the tenants that it is limited to; `None` if it is not limited.
    #[must_use]
    pub fn limits(&self) -> Option<&[TenantId]> {
        match self {
            Self::Everything => None,
            Self::Tenants(ids) => Some(ids),
        }
    }
}

impl Principal {
    /// Returns whether the principal holds the permission everywhere.
    #[must_use]
    pub fn may(&self, permission: Permission) -> bool {
        matches!(self.reach(permission), Some(Reach::Everything))
    }

    /// Returns whether the principal holds the permission in this tenant.
    #[must_use]
    pub fn may_in(&self, permission: Permission, tenant: TenantId) -> bool {
        match self.reach(permission) {
            Some(Reach::Everything) => true,
            Some(Reach::Tenants(tenants)) => tenants.contains(&tenant),
            None => false,
        }
    }

    /// Returns where the principal holds the permission; `None` if nowhere.
    #[must_use]
    pub fn reach(&self, permission: Permission) -> Option<Reach> {
        match self {
            Self::Anonymous | Self::Profile { .. } => None,
            Self::Root | Self::Operator => Some(Reach::Everything),
            Self::Token { permissions, tenant, .. } => permissions
                .contains(&permission)
                .then(|| tenant.map_or(Reach::Everything, |tenant| Reach::Tenants(vec![tenant]))),
            Self::ApiKey { permissions, tenant, .. } => {
                permissions.contains(&permission).then(|| Reach::Tenants(vec![*tenant]))
            }
            Self::User { platform_role: Some(role), .. } if role.grants(permission) => {
                Some(Reach::Everything)
            }
            Self::User { memberships, .. } => {
                let tenants: Vec<_> = memberships
                    .iter()
                    .filter(|m| m.role.grants(permission))
                    .map(|m| m.tenant)
                    .collect();
                (!tenants.is_empty()).then_some(Reach::Tenants(tenants))
            }
        }
    }

    /// Returns whether the principal may work inside this tenant at all: its members, tokens bound to it, platform users
    /// of any role, and the root.
    #[must_use]
    pub fn may_enter(&self, tenant: TenantId) -> bool {
        match self {
            // The person behind a profile reads that profile and has no access to the tables.
            Self::Anonymous | Self::Profile { .. } => false,
            Self::Root | Self::Operator => true,
            Self::User { platform_role, memberships, .. } => {
                platform_role.is_some() || memberships.iter().any(|m| m.tenant == tenant)
            }
            Self::Token { tenant: bound, .. } => *bound == Some(tenant),
            Self::ApiKey { tenant: bound, .. } => *bound == tenant,
        }
    }

    /// Returns the roles that grant less, in one tenant or everywhere, than the principal holds there.
    #[must_use]
    pub fn roles_below(&self, tenant: Option<TenantId>) -> Vec<Role> {
        let holds = |p| tenant.map_or_else(|| self.may(p), |tenant| self.may_in(p, tenant));
        Role::ALL.iter().copied().filter(|role| is_above(*role, &holds)).collect()
    }

    /// Returns whether the principal outranks a user with these roles: wherever a role holds, the principal holds
    /// every permission that it grants, and more. So an admin of one tenant does not outrank a user who has any role
    /// in another. The root and the operator outrank every user.
    #[must_use]
    pub fn outranks(&self, platform_role: Option<Role>, memberships: &[Membership]) -> bool {
        if matches!(self, Self::Root | Self::Operator) {
            return true;
        }
        platform_role.is_none_or(|role| is_above(role, &|permission| self.may(permission)))
            && memberships
                .iter()
                .all(|m| is_above(m.role, &|permission| self.may_in(permission, m.tenant)))
    }

    /// Returns the user that the principal is, or works for.
    #[must_use]
    pub const fn user(&self) -> Option<UserId> {
        match self {
            Self::User { id, .. } => Some(*id),
            Self::Token { user, .. } | Self::ApiKey { user, .. } => *user,
            Self::Anonymous | Self::Root | Self::Operator | Self::Profile { .. } => None,
        }
    }

    /// Returns the stored credential that the principal calls with and that can make others, if it is one.
    #[must_use]
    pub const fn credential(&self) -> Option<TokenId> {
        match self {
            Self::Token { id, .. } | Self::ApiKey { id, .. } => Some(*id),
            Self::Anonymous
            | Self::Root
            | Self::Operator
            | Self::User { .. }
            | Self::Profile { .. } => None,
        }
    }

    /// Returns the tenant that the principal is bound to, if any.
    #[must_use]
    pub const fn home(&self) -> Option<TenantId> {
        match self {
            Self::Token { tenant, .. } => *tenant,
            Self::ApiKey { tenant, .. } | Self::Profile { tenant, .. } => Some(*tenant),
            Self::Anonymous | Self::Root | Self::Operator | Self::User { .. } => None,
        }
    }

    /// Returns the kind of principal and its id, for the audit trail and the idempotency scope.
    #[must_use]
    pub fn label(&self) -> String {
        match self {
            Self::Anonymous => "anonymous".to_owned(),
            Self::Root => "root".to_owned(),
            Self::Operator => "operator".to_owned(),
            Self::User { id, .. } => format!("user:{id}"),
            Self::Token { id, .. } | Self::ApiKey { id, .. } => format!("token:{id}"),
            Self::Profile { profile, .. } => format!("profile:{profile}"),
        }
    }
}

/// Returns whether what is held includes every permission that the role grants, and more.
fn is_above(role: Role, holds: &dyn Fn(Permission) -> bool) -> bool {
    let all = Permission::ALL.iter().copied();
    all.clone().all(|permission| !role.grants(permission) || holds(permission))
        && all.clone().any(|permission| !role.grants(permission) && holds(permission))
}

/// The context of a call, the first argument of every service method.
#[derive(Debug, Clone)]
pub struct CallContext {
    /// The caller.
    pub principal: Principal,
    /// The id that the answer, the log lines and the audit events of one request share.
    pub request_id: String,
    /// The time of the call; no layer below reads a clock.
    pub now: OffsetDateTime,
}

impl CallContext {
    /// Refuses unless the caller holds the permission everywhere.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] without a credential, else [`Error::Forbidden`] with the missing permission.
    pub fn require(&self, permission: Permission) -> Result<()> {
        self.require_authenticated()?;
        if self.principal.may(permission) { Ok(()) } else { Err(Error::missing(permission)) }
    }

    /// Refuses unless the caller holds the permission in this tenant.
    ///
    /// # Errors
    /// As [`CallContext::require`].
    pub fn require_in(&self, permission: Permission, tenant: TenantId) -> Result<()> {
        self.require_authenticated()?;
        if self.principal.may_in(permission, tenant) {
            Ok(())
        } else {
            Err(Error::missing(permission))
        }
    }

    /// Returns where the caller holds the permission; refuses if nowhere.
    ///
    /// # Errors
    /// As [`CallContext::require`].
    pub fn reach(&self, permission: Permission) -> Result<Reach> {
        self.require_authenticated()?;
        self.principal.reach(permission).ok_or_else(|| Error::missing(permission))
    }

    /// Refuses a call without a credential.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`].
    pub fn require_authenticated(&self) -> Result<()> {
        match self.principal {
            Principal::Anonymous => {
                Err(Error::Unauthenticated(crate::domain::error::AuthProblem::Missing))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(n: u128) -> TenantId {
        TenantId::new(Uuid::from_u128(n))
    }

    #[test]
    fn a_membership_reaches_its_own_tenant_only() {
        let member = Principal::User {
            id: UserId::new(Uuid::nil()),
            session: Uuid::nil(),
            platform_role: None,
            memberships: vec![
                Membership { tenant: tenant(1), role: Role::Admin },
                Membership { tenant: tenant(2), role: Role::Viewer },
            ],
        };
        assert_eq!(member.reach(Permission::ViewTenants), Some(Reach::Tenants(vec![tenant(1)])));
        assert!(!member.may(Permission::ViewTenants));
        assert!(member.may_in(Permission::ManageApiKeys, tenant(1)));
        assert!(!member.may_in(Permission::ManageApiKeys, tenant(2)));
        assert_eq!(member.reach(Permission::CreateTenant), None);
        assert!(member.may_enter(tenant(2)) && !member.may_enter(tenant(3)));
    }

    #[test]
    fn a_bound_token_never_leaves_its_tenant() {
        let token = Principal::Token {
            id: TokenId::new(Uuid::nil()),
            user: None,
            permissions: vec![Permission::ViewUsers],
            tenant: Some(tenant(1)),
        };
        assert!(token.may_in(Permission::ViewUsers, tenant(1)));
        assert!(!token.may_in(Permission::ViewUsers, tenant(2)));
        assert!(!token.may_in(Permission::ViewTenants, tenant(1)));
        assert!(token.may_enter(tenant(1)) && !token.may_enter(tenant(2)));
    }

    fn memberships(roles: &[(u128, Role)]) -> Vec<Membership> {
        roles.iter().map(|(n, role)| Membership { tenant: tenant(*n), role: *role }).collect()
    }

    #[test]
    fn a_principal_outranks_a_user_only_if_it_holds_more_wherever_the_user_has_a_role() {
        let user = |platform_role, roles: &[(u128, Role)]| Principal::User {
            id: UserId::new(Uuid::nil()),
            session: Uuid::nil(),
            platform_role,
            memberships: memberships(roles),
        };
        let admin = user(None, &[(1, Role::Admin), (2, Role::Fde)]);
        let token = |permissions: &[Permission], tenant| Principal::Token {
            id: TokenId::new(Uuid::nil()),
            user: None,
            permissions: permissions.to_vec(),
            tenant,
        };
        let reset = Permission::ResetUserPassword;
        let all = token(Permission::ALL, None);
        for (principal, platform_role, roles, outranks) in [
            (&admin, None, &[][..], true),
            (&admin, None, &[(1, Role::Fde)], true),
            (&admin, None, &[(1, Role::Admin)], false),
            (&admin, None, &[(1, Role::Fde), (2, Role::Viewer)], true),
            (&admin, None, &[(1, Role::Viewer), (2, Role::Fde)], false),
            (&admin, None, &[(1, Role::Viewer), (3, Role::Viewer)], false),
            (&admin, Some(Role::Viewer), &[(1, Role::Viewer)], false),
            (&user(Some(Role::Admin), &[]), None, &[(3, Role::Fde)], true),
            (&user(Some(Role::Admin), &[]), None, &[(3, Role::Admin)], false),
            (&user(Some(Role::Admin), &[]), Some(Role::Fde), &[(3, Role::Fde)], true),
            (&user(Some(Role::Admin), &[]), Some(Role::Admin), &[], false),
            (&user(Some(Role::SuperAdmin), &[]), Some(Role::Admin), &[(3, Role::Admin)], true),
            (&user(Some(Role::SuperAdmin), &[]), Some(Role::SuperAdmin), &[], false),
            (&token(&[reset], None), None, &[(1, Role::Viewer)], false),
            (&token(&[reset, Permission::ReadProfiles], None), None, &[(1, Role::Viewer)], true),
            (&token(&[Permission::ReadProfiles], None), None, &[(1, Role::Viewer)], false),
            (&token(Permission::ALL, Some(tenant(1))), None, &[(1, Role::Admin)], true),
            (&token(Permission::ALL, Some(tenant(1))), None, &[(2, Role::Viewer)], false),
            (&all, Some(Role::Admin), &[(1, Role::Admin)], true),
            (&all, Some(Role::SuperAdmin), &[], false),
            (&Principal::Root, Some(Role::SuperAdmin), &[(1, Role::Admin)], true),
            (&Principal::Anonymous, None, &[(1, Role::Viewer)], false),
        ] {
            let found = principal.outranks(platform_role, &memberships(roles));
            assert_eq!(found, outranks, "{principal:?} over {platform_role:?} {roles:?}");
        }
    }

    #[test]
    fn an_api_key_never_leaves_its_tenant() {
        let key = Principal::ApiKey {
            id: TokenId::new(Uuid::nil()),
            user: None,
            permissions: vec![Permission::ViewUsers],
            tenant: tenant(1),
        };
        assert!(key.may_in(Permission::ViewUsers, tenant(1)));
        assert!(!key.may(Permission::ViewUsers));
        assert!(!key.may_in(Permission::ViewUsers, tenant(2)));
        assert!(key.may_enter(tenant(1)) && !key.may_enter(tenant(2)));
        assert_eq!(key.home(), Some(tenant(1)));
    }
}
