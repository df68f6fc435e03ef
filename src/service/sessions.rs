//! Opens sessions by password, refreshes them and ends them.
//!
//! A session is a log-in and every token that was refreshed from it. It ends when the user or an operator ends it, when
//! the password changes, and at the latest [`Lifetimes::session`] after the log-in, however often it was refreshed. No
//! token of it outlives it: access tokens are checked against it with every request.
//!
//! A refresh token can be used once. If it is presented again, either it or its successor was stolen, so the whole
//! session ends. Two tabs of one browser that refresh at the same moment present the same token without a theft; so for
//! [`OVERLAP`] after its first use, and from the same user agent, it is exchanged again.

mod operate;

use serde_json::json;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::SigningKeys;
use super::accounts::end_access;
use super::audit::note_as;
use super::refusals::{Kind as RefusalKind, Refusal, Refusals};
use crate::auth::CallContext;
use crate::auth::password::{Hasher, PasswordHash};
use crate::auth::token::{Kind, OpaqueToken, TokenDigest};
use crate::domain::error::{AuthProblem, Error, Result};
use crate::domain::names::{Email, NewPassword, Password, PersonName, UserId};
use crate::domain::outage::Outage;
use crate::domain::page::{Cursor, Page, Window};
use crate::domain::{AuditAction, ConsoleCredential, Role, User, UserAgent};
use crate::pg::control::console_sessions::{self, New};
use crate::pg::control::{sessions, users};
use crate::pg::{Db, During, PublicTx};

pub use self::operate::UserRef;
pub use crate::pg::control::sessions::Session;

/// How long after its first use a refresh token is exchanged again for the same user agent.
const OVERLAP: Duration = Duration::seconds(10);

/// What the event of a log-in says of one at the console.
pub(super) const BY_CONSOLE: &str = "console";

/// How long a session and its refresh tokens live.
#[derive(Debug, Clone, Copy)]
pub struct Lifetimes {
    /// From a refresh token's issue to its end.
    pub refresh: Duration,
    /// From a log-in to the end of its session.
    pub session: Duration,
}

impl Lifetimes {
    /// Returns when a session ends that was opened at `opened_at`.
    #[must_use]
    pub fn end_of(&self, opened_at: OffsetDateTime) -> OffsetDateTime {
        opened_at.saturating_add(self.session)
    }

    /// Returns the time at or before which a session was opened that has ended by `now`.
    #[must_use]
    pub fn oldest(&self, now: OffsetDateTime) -> OffsetDateTime {
        // PostgreSQL's calendar begins later than that of `time`.
        now.saturating_sub(self.session).max(OffsetDateTime::UNIX_EPOCH)
    }
}

/// Opens, refreshes and ends sessions.
#[derive(Clone)]
pub struct Sessions {
    db: Db,
    hasher: Hasher,
    signing_keys: SigningKeys,
    lifetimes: Lifetimes,
    refusals: Refusals,
}

/// A session's new pair of tokens, which are given to the user and not stored.
pub struct Tokens {
    /// Access token: signed and short-lived.
    pub access: String,
    /// Refresh token: opaque, usable once.
    pub refresh: OpaqueToken,
    /// When the refresh token expires.
    pub refresh_expires_at: OffsetDateTime,
}

impl Sessions {
    /// Creates the service on `db`.
    #[must_use]
    pub fn new(
        db: Db,
        hasher: Hasher,
        signing_keys: SigningKeys,
        lifetimes: Lifetimes,
        refusals: Refusals,
    ) -> Self {
        Self { db, hasher, signing_keys, lifetimes, refusals }
    }

    /// Opens a session for a caller who knows the password.
    ///
    /// `identifier` is an address. For an unknown one the same work is done as for a known one, so that the
    /// response time does not show which addresses have a user.
    ///
    /// # Errors
    /// [`AuthProblem::WrongPassword`], whether the address or the password was wrong.
    pub async fn log_in(
        &self,
        ctx: &CallContext,
        agent: &UserAgent,
        identifier: &str,
        password: &Password,
    ) -> Result<(User, Tokens)> {
        self.log_in_to(ctx, agent, identifier, password, None).await
    }

    /// As [`Sessions::log_in`]; with a digest, opens a session of the console in the same transaction, which ends at the
    /// time beside it.
    pub(super) async fn log_in_to(
        &self,
        ctx: &CallContext,
        agent: &UserAgent,
        identifier: &str,
        password: &Password,
        console: Option<(&TokenDigest, OffsetDateTime)>,
    ) -> Result<(User, Tokens)> {
        self.signing_keys.refresh(ctx.now).await?;
        let email = Email::parse(identifier).ok();
        // Twice, in case the password's hash is replaced between reading it and opening the session.
        for _ in 0..2 {
            let opened = self.try_log_in(ctx, agent, email.as_ref(), password, console).await?;
            if let Some(opened) = opened {
                return Ok(opened);
            }
        }
        // Not a conflict: to a client of a log-in that would mean that something exists.
        let why = "the stored hash of the password changed each time";
        Err(Error::outage(Outage::LostRace, "open session", why))
    }

    /// As [`Sessions::log_in`]; `None` where a concurrent request replaced the hash.
    async fn try_log_in(
        &self,
        ctx: &CallContext,
        agent: &UserAgent,
        email: Option<&Email>,
        password: &Password,
        console: Option<(&TokenDigest, OffsetDateTime)>,
    ) -> Result<Option<(User, Tokens)>> {
        let found = match email {
            Some(email) => self.find(email).await?,
            None => None,
        };
        let user = found.as_ref().map(|found| found.user.id);
        let hash = found.as_ref().and_then(|c| c.password_hash.clone()).map(PasswordHash::stored);
        let hasher = self.hasher.for_client(ctx.client);
        let matches = hasher.verify(password, hash.as_ref()).await?;
        let (Some(found), Some(hash), true) = (found, hash, matches) else {
            self.refusals.count(&wrong_password(RefusalKind::Session, ctx, user));
            return Err(Error::Unauthenticated(AuthProblem::WrongPassword));
        };
        let fresh =
            if hasher.needs_rehash(&hash) { Some(hasher.hash(password).await?) } else { None };
        let tx = self.db.public().await.during("open session")?;
        if let Some(fresh) = &fresh {
            users::replace_hash(&tx, found.user.id, hash.as_str(), fresh.as_str(), ctx.now).await?;
        }
        let session = Uuid::now_v7();
        let hash = fresh.as_ref().unwrap_or(&hash).as_str();
        // The user's row is locked first, as where the password changes.
        if !sessions::insert(&tx, session, found.user.id, hash, agent.as_str(), ctx.now).await? {
            return Ok(None);
        }
        let tokens = self.issue(&tx, ctx, found.user.id, session, ctx.now).await?;
        sessions::delete_expired(&tx, found.user.id, ctx.now).await?;
        let mut details = json!({});
        if let Some((digest, expires_at)) = console {
            let (kind, digest) = (ConsoleCredential::User, digest.as_bytes());
            let session = Some(session);
            let new = New { digest, kind, session, credential_digest: None, expires_at };
            console_sessions::insert(&tx, &new, ctx.now).await?;
            details = json!({ "by": BY_CONSOLE });
        }
        let actor = format!("user:{}", found.user.id);
        note_as(&tx, ctx, &actor, AuditAction::SessionOpen, None, details).await?;
        tx.commit().await.during("open session")?;
        Ok(Some((found.user, tokens)))
    }

    /// Exchanges a refresh token for a new pair.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`]; where the token had been used before, the session ends as well.
    pub async fn refresh(
        &self,
        ctx: &CallContext,
        agent: &UserAgent,
        presented: &str,
    ) -> Result<Tokens> {
        self.signing_keys.refresh(ctx.now).await?;
        let digest = TokenDigest::of(presented);
        let tx = self.db.public().await.during("refresh session")?;
        let refresh = sessions::find_refresh_for_update(&tx, digest.as_bytes())
            .await?
            .filter(|refresh| refresh.revoked_at.is_none())
            .ok_or(Error::Unauthenticated(AuthProblem::Invalid))?;
        let overlaps = |used_at: OffsetDateTime| {
            ctx.now - used_at <= OVERLAP && agent.is_same_as(&refresh.client)
        };
        if refresh.used_at.is_some_and(|used_at| !overlaps(used_at)) {
            sessions::revoke(&tx, refresh.user, refresh.session, ctx.now).await?;
            note_of(&tx, ctx, refresh.user, AuditAction::SessionReuseDetected).await?;
            tx.commit().await.during("end session")?;
            return Err(Error::Unauthenticated(AuthProblem::Invalid));
        }
        if refresh.expires_at.min(self.lifetimes.end_of(refresh.opened_at)) <= ctx.now {
            return Err(Error::Unauthenticated(AuthProblem::Expired));
        }
        sessions::mark_used(&tx, digest.as_bytes(), ctx.now).await?;
        sessions::record_refresh(&tx, refresh.session, agent.as_str(), ctx.now).await?;
        let tokens = self.issue(&tx, ctx, refresh.user, refresh.session, refresh.opened_at).await?;
        tx.commit().await.during("refresh session")?;
        Ok(tokens)
    }

    /// Ends the session of a refresh token, used or not. Ending it again changes nothing.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] for a token that no session has.
    pub async fn log_out_by_refresh(&self, ctx: &CallContext, presented: &str) -> Result<()> {
        let digest = TokenDigest::of(presented);
        let tx = self.db.public().await.during("end session")?;
        let found = sessions::find_by_refresh(&tx, digest.as_bytes()).await?;
        let (session, user) = found.ok_or(Error::Unauthenticated(AuthProblem::Invalid))?;
        close(tx, ctx, user, session).await
    }

    /// Ends the session of an access token, which may have expired. Ending it again changes nothing.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] for a token that is not ours.
    pub async fn log_out_by_access(&self, ctx: &CallContext, presented: &str) -> Result<()> {
        let found = self.signing_keys.session_of(presented, ctx.now).await?;
        let (user, session) = found.ok_or(Error::Unauthenticated(AuthProblem::Invalid))?;
        let tx = self.db.public().await.during("end session")?;
        close(tx, ctx, user, session).await
    }

    /// Makes the user with this address a `SUPER_ADMIN` with this password, as the settings say. A new password
    /// ends the sessions that were opened with the old one. Tokens and API keys stay: a secret is renewed as a
    /// matter of routine, and does not mean that the account was taken over. Only where the address was not proven
    /// and the password is another one, they end too: another person may hold them.
    ///
    /// # Errors
    /// [`Error::Forbidden`] unless the caller is the operator or the root; those of the database and of the hash.
    pub async fn ensure_admin(
        &self,
        ctx: &CallContext,
        email: &Email,
        password: &NewPassword,
    ) -> Result<()> {
        require_above_every_role(ctx)?;
        let password = password.as_password();
        let found = self.find(email).await?;
        let mut keeps_password = false;
        if let Some(found) = &found {
            let hash = found.password_hash.clone().map(PasswordHash::stored);
            keeps_password = hash.is_some() && self.hasher.verify(password, hash.as_ref()).await?;
            if keeps_password && found.user.platform_role == Some(Role::SuperAdmin) {
                return Ok(());
            }
        }
        let hash = self.hasher.hash(password).await?;
        let tx = self.db.public().await.during("write the admin of the settings")?;
        let admin = User {
            id: found.map_or_else(UserId::generate, |found| found.user.id),
            email: email.clone(),
            first_name: PersonName::stored("Rowhouse".to_owned()),
            last_name: PersonName::stored("Admin".to_owned()),
            platform_role: Some(Role::SuperAdmin),
        };
        if !users::insert_if_absent(&tx, &admin, Some(hash.as_str()), ctx.now).await? {
            let account = users::find_account(&tx, email).await?;
            let was_proven = account.as_ref().is_some_and(|account| account.is_proven);
            let id = account.map_or(admin.id, |account| account.id);
            // Keeps a concurrent request from creating a token for the user.
            users::lock_platform_role(&tx, id).await?;
            users::set_password_and_role(&tx, id, hash.as_str(), Role::SuperAdmin, ctx.now).await?;
            if !keeps_password && !was_proven {
                end_access(&tx, ctx, id).await?;
            } else if !keeps_password {
                sessions::revoke_all(&tx, id, ctx.now).await?;
            }
        }
        note_of(&tx, ctx, admin.id, AuditAction::UserEnsureAdmin).await?;
        tx.commit().await.during("write the admin of the settings")
    }

    async fn find(&self, email: &Email) -> Result<Option<users::Credentials>> {
        let tx = self.db.public().await.during("read user row")?;
        users::find_credentials(&tx, email).await
    }

    /// Makes a new pair of tokens for a session, neither of which outlives it.
    async fn issue(
        &self,
        tx: &PublicTx,
        ctx: &CallContext,
        user: UserId,
        session: Uuid,
        opened_at: OffsetDateTime,
    ) -> Result<Tokens> {
        let refresh = OpaqueToken::generate(Kind::Refresh);
        let session_end = self.lifetimes.end_of(opened_at);
        let refresh_expires_at = ctx.now.saturating_add(self.lifetimes.refresh).min(session_end);
        let digest = refresh.digest();
        sessions::insert_refresh(tx, digest.as_bytes(), session, ctx.now, refresh_expires_at)
            .await?;
        let access = self.signing_keys.issuer().issue(user, session, ctx.now, session_end)?;
        Ok(Tokens { access, refresh, refresh_expires_at })
    }
}

/// Returns the refusal of a caller who does not know the password of the user.
pub(super) fn wrong_password(
    kind: RefusalKind,
    ctx: &CallContext,
    user: Option<UserId>,
) -> Refusal<'_> {
    Refusal {
        kind,
        address: ctx.client,
        actor: None,
        tenant: None,
        reason: "wrong_password",
        user,
        request_id: &ctx.request_id,
        at: ctx.now,
    }
}

/// Reads a page of a user's sessions that have not ended.
pub(super) async fn page(
    tx: &PublicTx,
    lifetimes: &Lifetimes,
    user: UserId,
    window: &Window,
    now: OffsetDateTime,
) -> Result<Page<Session>> {
    let rows = sessions::list(tx, user, lifetimes.oldest(now), now, window).await?;
    Ok(Page::cut(rows, window, |session| Cursor { at: session.opened_at, id: session.id }))
}

/// Ends a session and commits; the event is that of a log-out. Without an open session it does nothing.
async fn close(tx: PublicTx, ctx: &CallContext, user: UserId, session: Uuid) -> Result<()> {
    if sessions::revoke(&tx, user, session, ctx.now).await? {
        note_of(&tx, ctx, user, AuditAction::SessionClose).await?;
    }
    tx.commit().await.during("end session")
}

/// Refuses unless the caller may create a user of the highest role.
fn require_above_every_role(ctx: &CallContext) -> Result<()> {
    ctx.require_authenticated()?;
    if ctx.principal.outranks(Some(Role::SuperAdmin), &[]) {
        Ok(())
    } else {
        Err(Error::Forbidden { missing: Vec::new() })
    }
}

/// Writes an audit event in the name of a user whom no credential identifies yet.
async fn note_of(
    tx: &PublicTx,
    ctx: &CallContext,
    user: UserId,
    action: AuditAction,
) -> Result<()> {
    note_as(tx, ctx, &format!("user:{user}"), action, None, json!({})).await
}
