//! Logs users in and keeps them logged in.
//!
//! A session is a log-in and everything that was refreshed from it. Each refresh token is good once; one
//! that comes back after its use was stolen, or its successor was, so the whole session ends.

use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

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

/// A session's fresh pair of tokens, to be handed to the user and forgotten.
pub struct Tokens {
    /// Signed, short-lived.
    pub access: String,
    /// Opaque, good once.
    pub refresh: OpaqueToken,
    /// When the refresh token ends.
    pub refresh_expires_at: OffsetDateTime,
}

impl Sessions {
    /// Works through `db`; a refresh token lives for `refresh_lifetime`.
    #[must_use]
    pub fn new(db: Db, hasher: Hasher, issuer: Issuer, refresh_lifetime: time::Duration) -> Self {
        Self { db, hasher, issuer, refresh_lifetime }
    }

    /// Opens a session for whoever knows the password.
    ///
    /// `identifier` is an address; what is none belongs to nobody. For nobody the same work is done as
    /// for somebody, so that the time tells nothing.
    ///
    /// # Errors
    /// [`AuthProblem::WrongPassword`], whichever of the two was wrong.
    pub async fn log_in(
        &self,
        ctx: &CallContext,
        identifier: &str,
        password: &Password,
    ) -> Result<(User, Tokens)> {
        let email = Email::parse(identifier).ok();
        // Twice, in case the password's hash is replaced between the look at it and the session.
        for _ in 0..2 {
            let opened = self.try_log_in(ctx, email.as_ref(), password).await?;
            if let Some(opened) = opened {
                return Ok(opened);
            }
        }
        Err(Error::Conflict(Conflict::Concurrent))
    }

    /// As [`Sessions::log_in`]; `None` where somebody else replaced the hash meanwhile.
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
        let matches = self.hasher.verify(password, hash.as_ref()).await?;
        let (Some(found), Some(hash), true) = (found, hash, matches) else {
            return Err(Error::Unauthenticated(AuthProblem::WrongPassword));
        };
        let fresh = if self.hasher.needs_rehash(&hash) {
            Some(self.hasher.hash(password).await?)
        } else {
            None
        };
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

    /// Trades a refresh token for a fresh pair.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`]; where the token had been used before, the session is ended as well.
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

    /// Makes sure of a `SUPER_ADMIN` with this address and password; the settings are the truth. A new password
    /// ends the sessions that were opened with the old one. Tokens and API keys stay: a secret is renewed as a
    /// matter of routine, and nothing says that the account was taken over.
    ///
    /// # Errors
    /// Those of the database and of the hash.
    pub async fn ensure_admin(
        &self,
        ctx: &CallContext,
        email: &Email,
        password: &Password,
    ) -> Result<()> {
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
            let id = users::find_id_by_email(&tx, email).await?.unwrap_or(admin.id);
            users::set_password_and_role(&tx, id, hash.as_str(), Role::SuperAdmin, ctx.now).await?;
            if !keeps_password {
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

/// Tells what somebody did who is not known by a credential yet.
async fn note(tx: &PublicTx, ctx: &CallContext, user: UserId, action: &'static str) -> Result<()> {
    note_as(tx, ctx, &format!("user:{user}"), action, None, json!({})).await
}
