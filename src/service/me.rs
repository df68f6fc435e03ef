//! What callers do with their own account: who they are, their sessions, their password.
//!
//! Sessions and password belong to a user who has logged in: a token or a key neither sees nor changes
//! them, even if the user created it.

use serde_json::json;
use uuid::Uuid;

use super::audit::note;
use super::refusals::{Kind as RefusalKind, Refusals};
use super::sessions::{Lifetimes, Session, page, wrong_password};
use crate::auth::password::{Hasher, PasswordHash};
use crate::auth::{CallContext, Principal};
use crate::domain::error::{AuthProblem, Conflict, Error, Noun, Result};
use crate::domain::names::{Email, NewPassword, Password, TenantId, TokenId, UserId};
use crate::domain::page::{Page, Window};
use crate::domain::{AuditAction, Permission, Role, Tenant, User};
use crate::pg::control::{own_account, sessions, users};
use crate::pg::{Db, During};

/// A caller's own account.
#[derive(Clone)]
pub struct Me {
    db: Db,
    hasher: Hasher,
    lifetimes: Lifetimes,
    refusals: Refusals,
}

/// A caller, as the caller sees it.
#[derive(Debug, Clone)]
pub struct Identified {
    /// What kind of caller it is.
    pub who: Who,
    /// The role in each tenant, by the tenant's slug; empty unless the caller is a user.
    pub roles: Vec<TenantRole>,
    /// The permissions that the caller holds at least somewhere.
    pub permissions: Vec<Permission>,
}

/// The kinds of callers.
#[derive(Debug, Clone)]
pub enum Who {
    /// The holder of the root token.
    Root,
    /// The operator at the command line.
    Operator,
    /// A user who has logged in.
    User {
        /// The user, with the role that holds everywhere.
        user: User,
        /// The session of the access token.
        session: Uuid,
    },
    /// The holder of an API token.
    Token(Credential),
    /// The holder of an API key.
    ApiKey(Credential),
    /// The person behind a profile, with a token for reading it.
    Profile(Credential),
}

/// A token or a key, without its secret.
#[derive(Debug, Clone)]
pub struct Credential {
    /// Id.
    pub id: TokenId,
    /// Purpose, as its creator wrote it.
    pub name: String,
    /// The user for whom it works.
    pub user: Option<UserId>,
    /// The only tenant in which it works.
    pub tenant: Option<TenantId>,
}

/// A user's role in one tenant.
#[derive(Debug, Clone)]
pub struct TenantRole {
    /// The tenant, which answers requests only while it is active.
    pub tenant: Tenant,
    /// The role.
    pub role: Role,
}

impl Me {
    /// Creates the service on `db`.
    #[must_use]
    pub fn new(db: Db, hasher: Hasher, lifetimes: Lifetimes, refusals: Refusals) -> Self {
        Self { db, hasher, lifetimes, refusals }
    }

    /// Returns who the caller is, and what they may do.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] without a credential, and where the user was removed a moment ago.
    pub async fn who(&self, ctx: &CallContext) -> Result<Identified> {
        ctx.require_authenticated()?;
        let principal = &ctx.principal;
        let who = match principal {
            // Refused above.
            Principal::Anonymous => return Err(Error::Unauthenticated(AuthProblem::Missing)),
            Principal::Root => Who::Root,
            Principal::Operator => Who::Operator,
            Principal::User { id, session, .. } => {
                Who::User { user: self.read_user(*id).await?.user, session: *session }
            }
            Principal::Token { id, .. } => Who::Token(self.credential(ctx, *id).await?),
            Principal::ApiKey { id, .. } => Who::ApiKey(self.credential(ctx, *id).await?),
            Principal::Profile { id, .. } => Who::Profile(self.credential(ctx, *id).await?),
        };
        let holds = |permission: &Permission| principal.reach(*permission).is_some();
        let permissions = Permission::ALL.iter().copied().filter(holds).collect();
        Ok(Identified { who, roles: self.roles(principal).await?, permissions })
    }

    /// Returns a page of the caller's sessions that have not ended, the latest first.
    ///
    /// # Errors
    /// [`Error::SessionRequired`].
    pub async fn sessions(&self, ctx: &CallContext, window: &Window) -> Result<Page<Session>> {
        let (user, _session) = ctx.require_session()?;
        let tx = self.db.public().await.during("list sessions")?;
        page(&tx, &self.lifetimes, user, window, ctx.now).await
    }

    /// Ends one of the caller's sessions, at once and in every process. It can be the one of this call.
    ///
    /// # Errors
    /// [`Error::SessionRequired`]; [`Noun::Session`] not found, also where it has ended or is another user's.
    pub async fn end_session(&self, ctx: &CallContext, session: Uuid) -> Result<()> {
        let (user, _session) = ctx.require_session()?;
        let tx = self.db.public().await.during("end session")?;
        if !sessions::revoke(&tx, user, session, ctx.now).await? {
            return Err(Error::NotFound(Noun::Session));
        }
        let details = json!({ "user": user, "session": session, "sessions_ended": 1 });
        note(&tx, ctx, AuditAction::SessionRevoke, None, details).await?;
        tx.commit().await.during("end session")
    }

    /// Ends all sessions of the caller but the one of this call, and returns their number.
    ///
    /// # Errors
    /// [`Error::SessionRequired`].
    pub async fn end_other_sessions(&self, ctx: &CallContext) -> Result<u64> {
        let (user, session) = ctx.require_session()?;
        let tx = self.db.public().await.during("end sessions")?;
        let ended = sessions::revoke_others(&tx, user, session, ctx.now).await?;
        if ended > 0 {
            let details = json!({ "user": user, "sessions_ended": ended });
            note(&tx, ctx, AuditAction::SessionRevoke, None, details).await?;
        }
        tx.commit().await.during("end sessions")?;
        Ok(ended)
    }

    /// Returns the address with which the calling user logs in.
    ///
    /// # Errors
    /// [`Error::SessionRequired`].
    pub async fn email(&self, ctx: &CallContext) -> Result<Email> {
        let (user, _session) = ctx.require_session()?;
        Ok(self.read_user(user).await?.user.email)
    }

    /// Gives the calling user a new password and ends all their sessions but the one of this call; returns the number
    /// of sessions that it ended. Tokens and API keys stay, as they have secrets of their own; a reset by an admin,
    /// which is the remedy for an account that was taken over, ends them too.
    ///
    /// # Errors
    /// [`Error::SessionRequired`]; [`AuthProblem::WrongPassword`] for a wrong present password, also where another
    /// request changed it a moment ago.
    pub async fn change_password(
        &self,
        ctx: &CallContext,
        current: &Password,
        new: &NewPassword,
    ) -> Result<u64> {
        let (user, session) = ctx.require_session()?;
        let hasher = self.hasher.for_client(ctx.client);
        let mut fresh = None;
        // Twice, in case a log-in renews the hash of the same password meanwhile.
        for _ in 0..2 {
            let old = self.read_user(user).await?.password_hash.map(PasswordHash::stored);
            let matches = hasher.verify(current, old.as_ref()).await?;
            let (Some(old), true) = (old, matches) else {
                let refusal = wrong_password(RefusalKind::Credential, ctx, Some(user));
                self.refusals.count(&refusal);
                return Err(Error::Unauthenticated(AuthProblem::WrongPassword));
            };
            let fresh = match &fresh {
                Some(fresh) => fresh,
                None => &*fresh.insert(hasher.hash(new.as_password()).await?),
            };
            let tx = self.db.public().await.during("change a password")?;
            // Locks the user's row, as a log-in and a reset do, before the sessions are looked for.
            if !users::replace_hash(&tx, user, old.as_str(), fresh.as_str(), ctx.now).await? {
                continue;
            }
            if !sessions::is_open(&tx, session).await? {
                return Err(Error::Unauthenticated(AuthProblem::Invalid));
            }
            let ended = sessions::revoke_others(&tx, user, session, ctx.now).await?;
            let details = json!({ "user": user, "sessions_ended": ended });
            note(&tx, ctx, AuditAction::UserChangePassword, None, details).await?;
            tx.commit().await.during("change a password")?;
            return Ok(ended);
        }
        Err(Error::Conflict(Conflict::Concurrent))
    }

    /// Reads the calling user. One that was removed since the caller was recognised has no valid credential.
    async fn read_user(&self, id: UserId) -> Result<users::Credentials> {
        let tx = self.db.public().await.during("read user row")?;
        let found = users::lookup_credentials(&tx, id).await?;
        found.ok_or(Error::Unauthenticated(AuthProblem::Invalid))
    }

    async fn credential(&self, ctx: &CallContext, id: TokenId) -> Result<Credential> {
        let tx = self.db.public().await.during("read token row")?;
        let name = own_account::token_name(&tx, id).await?;
        let name = name.ok_or(Error::Unauthenticated(AuthProblem::Invalid))?;
        let (user, tenant) = (ctx.principal.user(), ctx.principal.home());
        Ok(Credential { id, name, user, tenant })
    }

    /// Returns the roles of a user, by the tenants' slugs.
    async fn roles(&self, principal: &Principal) -> Result<Vec<TenantRole>> {
        let Principal::User { memberships, .. } = principal else { return Ok(Vec::new()) };
        if memberships.is_empty() {
            return Ok(Vec::new());
        }
        let ids = memberships.iter().map(|m| m.tenant.uuid()).collect();
        let tx = self.db.public().await.during("read tenants")?;
        let tenants = own_account::tenants(&tx, ids).await?;
        let role_in = |id| memberships.iter().find(|m| m.tenant == id).map(|m| m.role);
        let roles = tenants
            .into_iter()
            .filter_map(|tenant| Some(TenantRole { role: role_in(tenant.id)?, tenant }));
        Ok(roles.collect())
    }
}
