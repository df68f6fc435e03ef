//! What an operator does with the sessions of others: lists them, ends them, and deletes what is left of them.

use serde_json::json;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::{Session, Sessions, page};
use crate::auth::CallContext;
use crate::domain::error::{Error, Noun, Result};
use crate::domain::names::{Email, UserId};
use crate::domain::page::{Page, Window};
use crate::domain::{AuditAction, Permission};
use crate::pg::control::{console_sessions, sessions, users};
use crate::pg::{During, PublicTx};
use crate::service::audit::note;

/// How many expired rows one statement deletes.
const ROWS_AT_ONCE: i64 = 1000;

/// How an operator names a user.
#[derive(Debug, Clone)]
pub enum UserRef {
    /// By id.
    Id(UserId),
    /// By address.
    Email(Email),
}

impl Sessions {
    /// Returns a page of a user's sessions that have not ended, the latest first.
    ///
    /// # Errors
    /// [`Noun::User`] not found.
    pub async fn list_of(
        &self,
        ctx: &CallContext,
        user: &UserRef,
        window: &Window,
    ) -> Result<Page<Session>> {
        ctx.require(Permission::ResetUserPassword)?;
        let tx = self.db.public().await.during("list sessions")?;
        let user = find_user(&tx, user).await?;
        page(&tx, &self.lifetimes, user, window, ctx.now).await
    }

    /// Ends one session of a user, or all of them, at once and in every process. Returns their number.
    ///
    /// # Errors
    /// [`Noun::User`] not found; [`Noun::Session`] not found, also where it has ended.
    pub async fn revoke_of(
        &self,
        ctx: &CallContext,
        user: &UserRef,
        session: Option<Uuid>,
    ) -> Result<u64> {
        ctx.require(Permission::ResetUserPassword)?;
        let tx = self.db.public().await.during("end sessions")?;
        let user = find_user(&tx, user).await?;
        let ended = match session {
            None => sessions::revoke_all(&tx, user, ctx.now).await?,
            Some(id) if sessions::revoke(&tx, user, id, ctx.now).await? => 1,
            Some(_) => return Err(Error::NotFound(Noun::Session)),
        };
        if ended > 0 {
            let details = json!({ "user": user, "session": session, "sessions_ended": ended });
            note(&tx, ctx, AuditAction::SessionRevoke, None, details).await?;
        }
        tx.commit().await.during("end sessions")?;
        Ok(ended)
    }

    /// Deletes refresh tokens that have expired, the sessions that have none left, and the sessions of the console that
    /// have expired; returns the number of the users' sessions.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn delete_ended(&self, ctx: &CallContext) -> Result<u64> {
        ctx.require(Permission::ResetUserPassword)?;
        let all = u64::try_from(ROWS_AT_ONCE).unwrap_or(u64::MAX);
        // The access token that was issued with the last refresh token may have a while to live.
        let access = Duration::try_from(self.signing_keys.issuer().access_lifetime())
            .unwrap_or(Duration::MAX);
        let opened_before = ctx.now.saturating_sub(access).max(OffsetDateTime::UNIX_EPOCH);
        let mut deleted = 0;
        loop {
            let tx = self.db.public().await.during("delete ended sessions")?;
            let refreshes = sessions::delete_expired_refreshes(&tx, ctx.now, ROWS_AT_ONCE).await?;
            let ended = sessions::delete_ended(&tx, opened_before, ROWS_AT_ONCE).await?;
            let of_console = console_sessions::delete_expired(&tx, ctx.now, ROWS_AT_ONCE).await?;
            tx.commit().await.during("delete ended sessions")?;
            deleted += ended;
            if refreshes < all && ended < all && of_console < all {
                return Ok(deleted);
            }
        }
    }
}

async fn find_user(tx: &PublicTx, user: &UserRef) -> Result<UserId> {
    let found = match user {
        UserRef::Id(id) => users::hold(tx, *id).await?.then_some(*id),
        UserRef::Email(email) => users::find_id_by_email(tx, email).await?,
    };
    found.ok_or(Error::NotFound(Noun::User))
}
