//! Signs callers in to the console and out of it, and determines the caller of a request there.
//!
//! A session of the console is a cookie that stands for another credential: a session of a user, which it opens by
//! password, or an API token or the root token, which are exchanged for it and never stay in the browser. It ends with
//! that credential, at the latest 12 hours after it was opened and one hour after it was last used; for a root token
//! these are one hour and 15 minutes.

use std::sync::Arc;

use serde_json::json;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::audit::note_as;
use super::identity::Identity;
use super::sessions::{BY_CONSOLE, Lifetimes, Sessions};
use crate::auth::context::Membership;
use crate::auth::token::{Kind, OpaqueToken, RootTokens, TokenDigest};
use crate::auth::{CallContext, Principal};
use crate::domain::error::{AuthProblem, Error, Result};
use crate::domain::names::{Email, Password};
use crate::domain::{AuditAction, ConsoleCredential, Role, UserAgent};
use crate::pg::control::console_sessions::{self, Found, FoundUser, New};
use crate::pg::control::sessions;
use crate::pg::control::tokens::LAST_USED_PRECISION;
use crate::pg::{Db, During};

/// The longest length of a session, and its longest pause.
const OF_ACCOUNT: (Duration, Duration) = (Duration::hours(12), Duration::HOUR);

/// The same for a root token.
const OF_ROOT: (Duration, Duration) = (Duration::HOUR, Duration::minutes(15));

/// Opens sessions of the console, finds and ends them.
#[derive(Clone)]
pub struct ConsoleSessions {
    db: Db,
    sessions: Sessions,
    identity: Identity,
    root: Option<Arc<RootTokens>>,
    lifetimes: Lifetimes,
}

/// A session of the console that was opened.
pub struct Opened {
    /// The secret for the cookie, which is not stored.
    pub secret: OpaqueToken,
    /// When it ends, however much it is used.
    pub expires_at: OffsetDateTime,
}

/// The account that is signed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Account {
    /// A user.
    User {
        /// Their address.
        email: Email,
        /// The role that applies everywhere.
        platform_role: Option<Role>,
    },
    /// The holder of an API token of this name.
    Token(String),
    /// The holder of the root token.
    Root,
}

/// The caller of a request to the console.
#[derive(Debug, Clone)]
pub struct SignedIn {
    /// On which rights are checked.
    pub principal: Principal,
    /// The account.
    pub account: Account,
    /// When the session ends, however much it is used.
    pub expires_at: OffsetDateTime,
}

impl ConsoleSessions {
    /// Creates the service on `db`.
    #[must_use]
    pub fn new(
        db: Db,
        sessions: Sessions,
        identity: Identity,
        root: Option<Arc<RootTokens>>,
        lifetimes: Lifetimes,
    ) -> Self {
        Self { db, sessions, identity, root, lifetimes }
    }

    /// Opens a session for a caller who knows the password of an account; see [`Sessions::log_in`].
    ///
    /// # Errors
    /// Those of [`Sessions::log_in`].
    pub async fn sign_in(
        &self,
        ctx: &CallContext,
        agent: &UserAgent,
        identifier: &str,
        password: &Password,
    ) -> Result<Opened> {
        let secret = OpaqueToken::generate(Kind::Console);
        let expires_at = (ctx.now + OF_ACCOUNT.0).min(self.lifetimes.end_of(ctx.now));
        let console = Some((&secret.digest(), expires_at));
        self.sessions.log_in_to(ctx, agent, identifier, password, console).await?;
        Ok(Opened { secret, expires_at })
    }

    /// Exchanges an API token or the root token for a session.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`], also for credentials of other kinds.
    pub async fn sign_in_by_token(&self, ctx: &CallContext, presented: &str) -> Result<Opened> {
        let principal = self.identity.of_bearer(presented, ctx.now).await?;
        let (kind, longest) = match principal {
            Principal::Root => (ConsoleCredential::Root, OF_ROOT.0),
            Principal::Token { .. } => (ConsoleCredential::Token, OF_ACCOUNT.0),
            Principal::User { .. }
            | Principal::ApiKey { .. }
            | Principal::Profile { .. }
            | Principal::Operator
            | Principal::Anonymous => return Err(refused()),
        };
        let secret = OpaqueToken::generate(Kind::Console);
        let (digest, credential) = (secret.digest(), TokenDigest::of(presented));
        let expires_at = ctx.now + longest;
        let new = New {
            digest: digest.as_bytes(),
            kind,
            session: None,
            credential_digest: Some(credential.as_bytes()),
            expires_at,
        };
        let tx = self.db.public().await.during("open console session")?;
        console_sessions::insert(&tx, &new, ctx.now).await?;
        let (action, details) = (AuditAction::SessionOpen, json!({ "by": BY_CONSOLE }));
        note_as(&tx, ctx, &principal.label(), action, principal.home(), details).await?;
        tx.commit().await.during("open console session")?;
        Ok(Opened { secret, expires_at })
    }

    /// Returns the caller whose cookie holds this secret. Every call queries the database, so that an ended session, a
    /// revoked token and a changed role take effect at once. A call that the browser makes by itself is no use of the
    /// session.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`], which says only whether the session has expired.
    pub async fn find(
        &self,
        presented: &str,
        is_use: bool,
        now: OffsetDateTime,
    ) -> Result<SignedIn> {
        let digest = TokenDigest::of(presented);
        let tx = self.db.public().await.during("read console session row")?;
        let opened_after = self.lifetimes.oldest(now);
        let found = console_sessions::find(tx, digest.as_bytes(), opened_after).await?;
        let found = found.ok_or_else(refused)?;
        let (_, longest_pause) = lengths(found.kind);
        if found.expires_at <= now || found.last_used_at + longest_pause <= now {
            return Err(Error::Unauthenticated(AuthProblem::Expired));
        }
        let (last_used_at, expires_at) = (found.last_used_at, found.expires_at);
        let (principal, account) = self.caller_of(found, now).await?;
        if is_use && last_used_at < now - LAST_USED_PRECISION {
            let tx = self.db.public().await.during("record the use of a console session")?;
            console_sessions::record_use(tx, digest.as_bytes(), now).await?;
        }
        Ok(SignedIn { principal, account, expires_at })
    }

    /// Returns the caller of a session, if the credential that it stands for is still good.
    async fn caller_of(&self, found: Found, now: OffsetDateTime) -> Result<(Principal, Account)> {
        match (found.kind, found.user, found.credential_digest) {
            (ConsoleCredential::User, Some(user), _) => Ok(of_user(user)),
            (ConsoleCredential::Root, _, Some(digest)) => match &self.root {
                Some(root) if root.has_digest(&digest) => Ok((Principal::Root, Account::Root)),
                _ => Err(refused()),
            },
            (ConsoleCredential::Token, _, Some(digest)) => {
                let (principal, name) = self.identity.of_digest(&digest, now).await?;
                Ok((principal, Account::Token(name)))
            }
            _ => Err(refused()),
        }
    }

    /// Ends the session of this secret, and with it the session of the user that it stands for. Ending it again changes
    /// nothing.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn sign_out(&self, ctx: &CallContext, presented: &str) -> Result<()> {
        ctx.require_authenticated()?;
        let digest = TokenDigest::of(presented);
        let tx = self.db.public().await.during("end session")?;
        let session = console_sessions::delete(&tx, digest.as_bytes()).await?;
        if let (Some(session), Some(user)) = (session, ctx.principal.user()) {
            sessions::revoke(&tx, user, session, ctx.now).await?;
        }
        let (action, details) = (AuditAction::SessionClose, json!({ "by": BY_CONSOLE }));
        note_as(&tx, ctx, &ctx.principal.label(), action, ctx.principal.home(), details).await?;
        tx.commit().await.during("end session")
    }

    /// Records that a form was sent which makes something that cannot be made twice. Returns false if it was sent before.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn take_form(&self, ctx: &CallContext, presented: &str, form: Uuid) -> Result<bool> {
        ctx.require_authenticated()?;
        let digest = TokenDigest::of(presented);
        let tx = self.db.public().await.during("record a form")?;
        let is_new = console_sessions::take_form(&tx, digest.as_bytes(), form).await?;
        tx.commit().await.during("record a form")?;
        Ok(is_new)
    }
}

/// Returns the longest length of a session and its longest pause.
const fn lengths(kind: ConsoleCredential) -> (Duration, Duration) {
    match kind {
        ConsoleCredential::Root => OF_ROOT,
        ConsoleCredential::User | ConsoleCredential::Token => OF_ACCOUNT,
    }
}

fn of_user(user: FoundUser) -> (Principal, Account) {
    let FoundUser { id, session, email, platform_role, memberships } = user;
    let memberships =
        memberships.into_iter().map(|(tenant, role)| Membership { tenant, role }).collect();
    let principal = Principal::User { id, session, platform_role, memberships };
    (principal, Account::User { email, platform_role })
}

fn refused() -> Error {
    Error::Unauthenticated(AuthProblem::Invalid)
}
