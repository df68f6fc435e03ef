//! Determines the caller from a credential.
//!
//! These methods check no rights, because they produce the principal on which rights are checked.

use std::sync::Arc;

use time::OffsetDateTime;

use super::SigningKeys;
use crate::auth::Principal;
use crate::auth::context::Membership;
use crate::auth::token::{Presented, RootTokens, TokenDigest};
use crate::domain::error::{AuthProblem, Error, Result};
use crate::domain::{Permission, Role, Tenant};
use crate::pg::control::tokens::LAST_USED_PRECISION;
use crate::pg::control::{api_keys, memberships, sessions, tokens};
use crate::pg::{Db, During};
use crate::service::sessions::Lifetimes;

/// Authenticates callers.
#[derive(Clone)]
pub struct Identity {
    db: Db,
    signing_keys: SigningKeys,
    root: Option<Arc<RootTokens>>,
    lifetimes: Lifetimes,
}

impl Identity {
    /// Creates the service, which accepts access tokens of `signing_keys`, the root tokens if there are any, and the
    /// API tokens in `db`.
    #[must_use]
    pub fn new(
        db: Db,
        signing_keys: SigningKeys,
        root: Option<Arc<RootTokens>>,
        lifetimes: Lifetimes,
    ) -> Self {
        Self { db, signing_keys, root, lifetimes }
    }

    /// Returns the principal of a bearer token. Every call queries the database, so that a revoked token, a
    /// removed user and a changed role take effect at once, on a user's own access tokens and on the tokens that
    /// the user created. A token whose checksum is wrong is refused without a query.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`], which says only whether the token has expired.
    pub async fn of_bearer(&self, presented: &str, now: OffsetDateTime) -> Result<Principal> {
        match Presented::classify(presented) {
            Presented::Uuid => match &self.root {
                Some(root) if root.matches(presented) => Ok(Principal::Root),
                _ => Err(refused()),
            },
            Presented::Api => Ok(self.of_token(presented, now).await?.0),
            Presented::AccessToken => self.of_access_token(presented, now).await,
            // An API key is presented in another header.
            Presented::ApiKey | Presented::Unknown => Err(refused()),
        }
    }

    /// Returns the principal of an API key. It has those of the key's permissions that the key's user has in its
    /// tenant now; a user who is no longer a member makes the key invalid.
    ///
    /// # Errors
    /// As [`Identity::of_bearer`].
    pub async fn of_api_key(&self, presented: &str, now: OffsetDateTime) -> Result<Principal> {
        if Presented::classify(presented) != Presented::ApiKey {
            return Err(refused());
        }
        let tx = self.db.public().await.during("read API key row")?;
        let digest = TokenDigest::of(presented);
        let found = api_keys::use_by_digest(tx, digest.as_bytes(), now).await?;
        let api_keys::Presented { key, is_revoked, ends_at, role } = found.ok_or_else(refused)?;
        if is_revoked || (key.user.is_some() && role.is_none()) {
            return Err(refused());
        }
        if ends_at.is_some_and(|end| end <= now) {
            return Err(Error::Unauthenticated(AuthProblem::Expired));
        }
        let permissions = held(key.permissions, key.user.is_some(), role);
        Ok(Principal::ApiKey { id: key.id, user: key.user, permissions, tenant: key.tenant })
    }

    /// Returns the principal of an xtoken, which is a UUID of the root, of a tenant's admin or of a person, and the
    /// present state of the tenant to which it is bound.
    ///
    /// # Errors
    /// As [`Identity::of_bearer`].
    pub async fn of_xtoken(
        &self,
        presented: &str,
        now: OffsetDateTime,
    ) -> Result<(Principal, Option<Tenant>)> {
        match (Presented::classify(presented), &self.root) {
            (Presented::Uuid, Some(root)) if root.matches(presented) => Ok((Principal::Root, None)),
            (Presented::Uuid, _) => self.of_token(presented, now).await,
            (
                Presented::Api | Presented::ApiKey | Presented::AccessToken | Presented::Unknown,
                _,
            ) => Err(refused()),
        }
    }

    async fn of_token(
        &self,
        presented: &str,
        now: OffsetDateTime,
    ) -> Result<(Principal, Option<Tenant>)> {
        let (principal, home, _) =
            self.token_of(TokenDigest::of(presented).as_bytes(), now).await?;
        Ok((principal, home))
    }

    /// Returns the principal of an API token by the digest of its secret, and its name.
    ///
    /// # Errors
    /// As [`Identity::of_bearer`].
    pub(super) async fn of_digest(
        &self,
        digest: &[u8],
        now: OffsetDateTime,
    ) -> Result<(Principal, String)> {
        let (principal, _, name) = self.token_of(digest, now).await?;
        Ok((principal, name))
    }

    async fn token_of(
        &self,
        digest: &[u8],
        now: OffsetDateTime,
    ) -> Result<(Principal, Option<Tenant>, String)> {
        let tx = self.db.public().await.during("read token row")?;
        let found = tokens::use_by_digest(tx, digest, now).await?;
        let tokens::Presented { token, is_revoked, ends_at, tenant: home, role } =
            found.ok_or_else(refused)?;
        if is_revoked || (token.user.is_some() && role.is_none()) {
            return Err(refused());
        }
        if ends_at.is_some_and(|end| end <= now) {
            return Err(Error::Unauthenticated(AuthProblem::Expired));
        }
        let principal = match (token.tenant, token.profile) {
            (Some(tenant), Some(profile)) => Principal::Profile { id: token.id, tenant, profile },
            (tenant, _) => {
                let permissions = held(token.permissions, token.user.is_some(), role);
                Principal::Token { id: token.id, user: token.user, permissions, tenant }
            }
        };
        Ok((principal, home, token.name))
    }

    async fn of_access_token(&self, presented: &str, now: OffsetDateTime) -> Result<Principal> {
        let claims = self.signing_keys.check(presented, now).await?;
        let tx = self.db.public().await.during("read the roles of a user")?;
        let opened_after = self.lifetimes.oldest(now);
        let found = memberships::find_by_session(tx, claims.user, claims.session, opened_after)
            .await?
            .ok_or_else(refused)?;
        if found.last_used_at.is_none_or(|at| at < now - LAST_USED_PRECISION) {
            let tx = self.db.public().await.during("record the use of a session")?;
            sessions::record_use(tx, claims.session, now).await?;
        }
        let memberships = found
            .memberships
            .into_iter()
            .map(|(tenant, role)| Membership { tenant, role })
            .collect();
        Ok(Principal::User {
            id: claims.user,
            session: claims.session,
            platform_role: found.platform_role,
            memberships,
        })
    }
}

/// Returns the permissions of a credential: those that it was given, and of these, where it works for a user, only
/// those that the user's role grants now.
fn held(given: Vec<Permission>, has_user: bool, role: Option<Role>) -> Vec<Permission> {
    let grants = |permission: &Permission| role.is_some_and(|role| role.grants(*permission));
    given.into_iter().filter(|permission| !has_user || grants(permission)).collect()
}

fn refused() -> Error {
    Error::Unauthenticated(AuthProblem::Invalid)
}
