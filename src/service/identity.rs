//! Finds out who is calling from what was presented.

use std::sync::Arc;

use time::OffsetDateTime;

use crate::auth::Principal;
use crate::auth::context::Membership;
use crate::auth::jwt::Issuer;
use crate::auth::token::{Presented, RootToken, TokenDigest};
use crate::domain::error::{AuthProblem, Error, Result};
use crate::domain::{Permission, Role, Tenant};
use crate::pg::control::api_keys::{self, Shown};
use crate::pg::control::{memberships, tokens};
use crate::pg::{Db, During};

/// Recognises callers.
#[derive(Clone)]
pub struct Identity {
    db: Db,
    issuer: Issuer,
    root: Option<Arc<RootToken>>,
}

impl Identity {
    /// Recognises access tokens of `issuer`, the root token where there is one, and the API tokens in `db`.
    #[must_use]
    pub fn new(db: Db, issuer: Issuer, root: Option<Arc<RootToken>>) -> Self {
        Self { db, issuer, root }
    }

    /// The principal behind a bearer token. The database is asked each time, so that a revoked token, a
    /// removed user and a changed role take effect at once: on a user's own access tokens, and on the tokens
    /// that they made.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`], which does not tell apart what was wrong, except that it was good once.
    pub async fn of_bearer(&self, presented: &str, now: OffsetDateTime) -> Result<Principal> {
        match Presented::classify(presented) {
            Presented::Uuid => match &self.root {
                Some(root) if root.matches(presented) => Ok(Principal::Root),
                _ => Err(refused()),
            },
            Presented::Api => Ok(self.of_token(presented, now).await?.0),
            Presented::AccessToken => self.of_access_token(presented, now).await,
            // An API key has a header of its own.
            Presented::ApiKey | Presented::Unknown => Err(refused()),
        }
    }

    /// The principal behind an API key. It may do what it was given and its user may do in its tenant now;
    /// where that user is nothing there any more, it is good for nothing.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`], as of a bearer token.
    pub async fn of_api_key(&self, presented: &str, now: OffsetDateTime) -> Result<Principal> {
        if Presented::classify(presented) != Presented::ApiKey {
            return Err(refused());
        }
        let tx = self.db.public().await.during("read API key row")?;
        let digest = TokenDigest::of(presented);
        let shown = api_keys::use_by_digest(tx, digest.as_bytes(), now).await?;
        let Shown { key, role } = shown.ok_or_else(refused)?;
        if key.revoked_at.is_some() || (key.user.is_some() && role.is_none()) {
            return Err(refused());
        }
        if key.expires_at.is_some_and(|end| end <= now) {
            return Err(Error::Unauthenticated(AuthProblem::Expired));
        }
        let permissions = held(key.permissions, key.user.is_some(), role);
        Ok(Principal::ApiKey { id: key.id, user: key.user, permissions, tenant: key.tenant })
    }

    /// The principal behind an xtoken, which is a UUID: the root, a tenant's admin or a person; and the
    /// tenant that it is bound to, as it is now.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`], as of a bearer token.
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
        let tx = self.db.public().await.during("read token row")?;
        let digest = TokenDigest::of(presented);
        let found = tokens::use_by_digest(tx, digest.as_bytes(), now).await?;
        let tokens::Shown { token, tenant: home, role } = found.ok_or_else(refused)?;
        if token.revoked_at.is_some() || (token.user.is_some() && role.is_none()) {
            return Err(refused());
        }
        if token.expires_at.is_some_and(|end| end <= now) {
            return Err(Error::Unauthenticated(AuthProblem::Expired));
        }
        let principal = match (token.tenant, token.profile) {
            (Some(tenant), Some(profile)) => Principal::Profile { id: token.id, tenant, profile },
            (tenant, _) => {
                let permissions = held(token.permissions, token.user.is_some(), role);
                Principal::Token { id: token.id, user: token.user, permissions, tenant }
            }
        };
        Ok((principal, home))
    }

    async fn of_access_token(&self, presented: &str, now: OffsetDateTime) -> Result<Principal> {
        let claims = self.issuer.check(presented, now)?;
        let tx = self.db.public().await.during("read the roles of a user")?;
        let standing = memberships::find_standing(tx, claims.user, claims.session)
            .await?
            .ok_or_else(refused)?;
        let memberships = standing
            .memberships
            .into_iter()
            .map(|(tenant, role)| Membership { tenant, role })
            .collect();
        Ok(Principal::User {
            id: claims.user,
            session: claims.session,
            platform_role: standing.platform_role,
            memberships,
        })
    }

    /// The keys that access tokens are signed with, as a JSON Web Key Set.
    #[must_use]
    pub fn jwks(&self) -> serde_json::Value {
        self.issuer.jwks()
    }
}

/// What a credential may do: what it was given, and where it works for a user, what their role grants now.
fn held(given: Vec<Permission>, has_user: bool, role: Option<Role>) -> Vec<Permission> {
    let grants = |permission: &Permission| role.is_some_and(|role| role.grants(*permission));
    given.into_iter().filter(|permission| !has_user || grants(permission)).collect()
}

fn refused() -> Error {
    Error::Unauthenticated(AuthProblem::Invalid)
}
