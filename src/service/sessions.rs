//! Opens sessions by password and refreshes them.
//!
//! A session is a log-in and every token that was refreshed from it. A refresh token can be used once. If it is
//! presented again, either it or its successor was stolen, so the whole session ends.

use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::accounts::end_access;
use super::audit::note_as;
use crate::auth::CallContext;
use crate::auth::jwt::Issuer;
use crate::auth::password::{Hasher, PasswordHash};
use crate::auth::token::{Kind, OpaqueToken, TokenDigest};
use crate::domain::error::{AuthProblem, Conflict, Error, Result};
use crate::domain::names::{Email, Password, PersonName, UserId};
use crate::domain::{Role, User};
use crate::pg::control::{sessions, users};
use crate::pg::{Db, During, PublicTx};

/// Opens and refreshes sessions.
#[derive(Clone)]
pub struct Sessions {
    db: Db,
    hasher: Hasher,
    issuer: Issuer,
    refresh_lifetime: time::Duration,
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
    /// Creates the service on `db`; a refresh token expires after `refresh_lifetime`.
    #[must_use]
    pub fn new(db: Db, hasher: Hasher, issuer: Issuer, refresh_lifetime: time::Duration) -> Self {
        Self { db, hasher, issuer, refresh_lifetime }
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
        identifier: &str,
        password: &Password,
    ) -> Result<(User, Tokens)> {
        let email = Email::parse(identifier).ok();
        // Twice, in case the password's hash is replaced between reading it and opening the session.
        for _ in 0..2 {
            let opened = self.try_log_in(ctx, email.as_ref(), password).await?;
            if let Some(opened) = opened {
                return Ok(opened);
            }
        }
        Err(Error::Conflict(Conflict::Concurrent))
    }

    /// As [`Sessions::log_in`]; `None` where a concurrent request replaced the hash.
    async fn try_log_in(
        &self,
        ctx: &CallContext,
        email: Option<&Email>,
        password: &Password,
    ) -> Result<Option<(User, Tokens)>> {
        let found = match email {
            Some(email) => self.find(email).await?,
            None => None,
        };
        let hash = found.as_ref().and_then(|c| c.password_hash.clone()).map(PasswordHash::stored);
        let hasher = self.hasher.for_client(ctx.client);
        let matches = hasher.verify(password, hash.as_ref()).await?;
        let (Some(found), Some(hash), true) = (found, hash, matches) else {
            return Err(Error::Unauthenticated(AuthProblem::WrongPassword));
        };
        let fresh =
            if hasher.needs_rehash(&hash) { Some(hasher.hash(password).await?) } else { None };
        let tx = self.db.public().await.during("open session")?;
        if let Some(fresh) = &fresh {
            users::replace_hash(&tx, found.user.id, hash.as_str(), fresh.as_str(), ctx.now).await?;
        }
        sessions::delete_expired(&tx, found.user.id, ctx.now).await?;
        let session = Uuid::now_v7();
        let hash = fresh.as_ref().unwrap_or(&hash).as_str();
        if !sessions::insert(&tx, session, found.user.id, hash, ctx.now).await? {
            return Ok(None);
        }
        let tokens = self.issue(&tx, ctx, found.user.id, session).await?;
        note(&tx, ctx, found.user.id, "session.open").await?;
        tx.commit().await.during("open session")?;
        Ok(Some((found.user, tokens)))
    }

    /// Exchanges a refresh token for a new pair.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`]; where the token had been used before, the session ends as well.
    pub async fn refresh(&self, ctx: &CallContext, presented: &str) -> Result<Tokens> {
        let digest = TokenDigest::of(presented);
        let tx = self.db.public().await.during("refresh session")?;
        let refresh = sessions::find_refresh_for_update(&tx, digest.as_bytes())
            .await?
            .filter(|refresh| refresh.revoked_at.is_none())
            .ok_or(Error::Unauthenticated(AuthProblem::Invalid))?;
        if refresh.used_at.is_some() {
            sessions::revoke(&tx, refresh.session, ctx.now).await?;
            note(&tx, ctx, refresh.user, "session.reuse_detected").await?;
            tx.commit().await.during("end session")?;
            return Err(Error::Unauthenticated(AuthProblem::Invalid));
        }
        if refresh.expires_at <= ctx.now {
            return Err(Error::Unauthenticated(AuthProblem::Expired));
        }
        sessions::mark_used(&tx, digest.as_bytes(), ctx.now).await?;
        let tokens = self.issue(&tx, ctx, refresh.user, refresh.session).await?;
        tx.commit().await.during("refresh session")?;
        Ok(tokens)
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
        password: &Password,
    ) -> Result<()> {
        require_above_every_role(ctx)?;
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
        note(&tx, ctx, admin.id, "user.ensure_admin").await?;
        tx.commit().await.during("write the admin of the settings")
    }

    async fn find(&self, email: &Email) -> Result<Option<users::Credentials>> {
        let tx = self.db.public().await.during("read user row")?;
        users::find_credentials(&tx, email).await
    }

    async fn issue(
        &self,
        tx: &PublicTx,
        ctx: &CallContext,
        user: UserId,
        session: Uuid,
    ) -> Result<Tokens> {
        let refresh = OpaqueToken::generate(Kind::Refresh);
        let refresh_expires_at = ctx.now + self.refresh_lifetime;
        sessions::insert_refresh(
            tx,
            refresh.digest().as_bytes(),
            session,
            ctx.now,
            refresh_expires_at,
        )
        .await?;
        let access = self.issuer.issue(user, session, ctx.now)?;
        Ok(Tokens { access, refresh, refresh_expires_at })
    }
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
async fn note(tx: &PublicTx, ctx: &CallContext, user: UserId, action: &'static str) -> Result<()> {
    note_as(tx, ctx, &format!("user:{user}"), action, None, json!({})).await
}
