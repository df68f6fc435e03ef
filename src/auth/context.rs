//! Owns the caller ([`Principal`]) and the context of a call ([`CallContext`]: caller, client address, time, request id).
//!
//! The rights check is [`CallContext::require`], the first line of every service method.

use std::net::IpAddr;

use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::error::{Error, Result};
use crate::domain::names::{TenantId, TokenId, UserId};
use crate::domain::{Permission, ProfileId, Role};
use crate::telemetry::note_tenant;

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
            Self::Token { permissions, tenant, .. } => permission
                .is_among(permissions)
                .then(|| tenant.map_or(Reach::Everything, |tenant| Reach::Tenants(vec![tenant]))),
            Self::ApiKey { permissions, tenant, .. } => {
                permission.is_among(permissions).then(|| Reach::Tenants(vec![*tenant]))
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

    /// Returns whether the principal's word is enough that an address belongs to its account: the root, the operator
    /// and a `SUPER_ADMIN` in person. A token does not vouch, whatever its permissions.
    #[must_use]
    pub const fn vouches(&self) -> bool {
        matches!(
            self,
            Self::Root | Self::Operator | Self::User { platform_role: Some(Role::SuperAdmin), .. }
        )
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
    /// The id that the answer, the log lines and the audit events of one request share. The server makes it.
    pub request_id: String,
    /// The address of the client; `None` for work that no request caused.
    pub client: Option<IpAddr>,
    /// The time of the call; no layer below reads a clock.
    pub now: OffsetDateTime,
}

impl CallContext {
    /// Creates a context for work of the operator that no request caused.
    #[must_use]
    pub fn of_operator(now: OffsetDateTime) -> Self {
        let request_id = Uuid::now_v7().to_string();
        Self { principal: Principal::Operator, request_id, client: None, now }
    }

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
        note_tenant(tenant);
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

    /// Returns the user and the session of a caller who has logged in; refuses every other one, since no one else can
    /// change what belongs to a user alone.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] without a credential, else [`Error::SessionRequired`].
    pub fn require_session(&self) -> Result<(UserId, Uuid)> {
        self.require_authenticated()?;
        match self.principal {
            Principal::User { id, session, .. } => Ok((id, session)),
            _ => Err(Error::SessionRequired),
        }
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
mod tests;
