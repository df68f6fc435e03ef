//! Statements on `public.console_sessions`.

use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::error::{Error, Result};
use crate::domain::names::{Email, TenantId, UserId};
use crate::domain::{ConsoleCredential, Role};
use crate::pg::control::tokens::LAST_USED_PRECISION;
use crate::pg::control::{memberships, users};
use crate::pg::error::During;
use crate::pg::scope::PublicTx;

/// A session of the console to insert.
pub struct New<'a> {
    /// Digest of its secret.
    pub digest: &'a [u8],
    /// What it stands for.
    pub kind: ConsoleCredential,
    /// The session of a user.
    pub session: Option<Uuid>,
    /// The digest of a token or of a root token.
    pub credential_digest: Option<&'a [u8]>,
    /// When it ends, however much it is used.
    pub expires_at: OffsetDateTime,
}

/// A session of the console that was found, whether or not it is still good.
pub struct Found {
    /// What it stands for.
    pub kind: ConsoleCredential,
    /// The digest of a token or of a root token.
    pub credential_digest: Option<Vec<u8>>,
    /// When it was last used, to the minute.
    pub last_used_at: OffsetDateTime,
    /// When it ends, however much it is used.
    pub expires_at: OffsetDateTime,
    /// The user, if it stands for a session that has not ended.
    pub user: Option<FoundUser>,
}

/// The user of a session of the console.
pub struct FoundUser {
    /// The user.
    pub id: UserId,
    /// Their session.
    pub session: Uuid,
    /// Their address.
    pub email: Email,
    /// The role that applies everywhere.
    pub platform_role: Option<Role>,
    /// The role in each tenant.
    pub memberships: Vec<(TenantId, Role)>,
}

/// Inserts a session of the console.
pub async fn insert(tx: &PublicTx, new: &New<'_>, now: OffsetDateTime) -> Result<()> {
    tx.execute(
        "INSERT INTO console_sessions
             (digest, kind, session_id, credential_digest, created_at, last_used_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $5, $6)",
        &[
            &new.digest,
            &new.kind.as_str(),
            &new.session,
            &new.credential_digest,
            &now,
            &new.expires_at,
        ],
    )
    .await
    .during("insert console session row")?;
    Ok(())
}

/// Finds a session of the console by its digest, with the present roles of its user, in one statement. A user's session
/// that has ended, or was opened before `opened_after`, has no user.
pub async fn find(
    tx: PublicTx,
    digest: &[u8],
    opened_after: OffsetDateTime,
) -> Result<Option<Found>> {
    let rows = tx
        .query_and_commit(
            "SELECT c.kind, c.credential_digest, c.last_used_at, c.expires_at,
                    s.id AS session_id, u.id AS user_id, u.email, u.platform_role, m.tenant_id, m.role
               FROM console_sessions c
               LEFT JOIN sessions s ON s.id = c.session_id AND s.revoked_at IS NULL AND s.created_at > $2
               LEFT JOIN users u ON u.id = s.user_id
               LEFT JOIN memberships m ON m.user_id = u.id
              WHERE c.digest = $1",
            &[&digest, &opened_after],
        )
        .await
        .during("read console session row")?;
    let Some(first) = rows.first() else { return Ok(None) };
    let user = match first.get::<_, Option<UserId>>("user_id") {
        None => None,
        Some(id) => {
            let mut held = Vec::new();
            for row in &rows {
                if let Some(tenant) = row.get::<_, Option<TenantId>>("tenant_id") {
                    held.push((tenant, memberships::role(row)?));
                }
            }
            Some(FoundUser {
                id,
                session: first.get("session_id"),
                email: first.get("email"),
                platform_role: users::role(first.get("platform_role"))?,
                memberships: held,
            })
        }
    };
    Ok(Some(Found {
        kind: first.get::<_, &str>("kind").parse().map_err(|error: strum::ParseError| {
            Error::internal("read console session row", error)
        })?,
        credential_digest: first.get("credential_digest"),
        last_used_at: first.get("last_used_at"),
        expires_at: first.get("expires_at"),
        user,
    }))
}

/// Records that a session of the console was used, and the session that it stands for. Waits for no other transaction.
pub async fn record_use(tx: PublicTx, digest: &[u8], now: OffsetDateTime) -> Result<()> {
    tx.query_and_commit(
        "WITH used AS (
             UPDATE console_sessions SET last_used_at = $2
              WHERE digest = (SELECT digest FROM console_sessions
                               WHERE digest = $1 AND last_used_at < $3
                                 FOR UPDATE SKIP LOCKED)
             RETURNING session_id
         )
         UPDATE sessions SET last_used_at = $2
          WHERE id = (SELECT id FROM sessions
                       WHERE id = (SELECT session_id FROM used)
                         FOR UPDATE SKIP LOCKED)
         RETURNING id",
        &[&digest, &now, &(now - LAST_USED_PRECISION)],
    )
    .await
    .during("record the use of a console session")?;
    Ok(())
}

/// Records that a form was sent which can be sent only once. Returns false if it was sent before.
pub async fn take_form(tx: &PublicTx, digest: &[u8], form: Uuid) -> Result<bool> {
    let touched = tx
        .execute(
            "UPDATE console_sessions SET last_form = $2 WHERE digest = $1 AND last_form IS DISTINCT FROM $2",
            &[&digest, &form],
        )
        .await
        .during("record a form")?;
    Ok(touched == 1)
}

/// Deletes a session of the console and returns the session that it stands for, if it is a user's.
pub async fn delete(tx: &PublicTx, digest: &[u8]) -> Result<Option<Uuid>> {
    let row = tx
        .query_opt(
            "DELETE FROM console_sessions WHERE digest = $1 RETURNING session_id",
            &[&digest],
        )
        .await
        .during("delete console session row")?;
    Ok(row.and_then(|row| row.get("session_id")))
}

/// Deletes the sessions of the console that have expired, at most `limit`, and returns their number.
pub async fn delete_expired(tx: &PublicTx, now: OffsetDateTime, limit: i64) -> Result<u64> {
    tx.execute(
        "DELETE FROM console_sessions
          WHERE digest IN (SELECT digest FROM console_sessions WHERE expires_at <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED)",
        &[&now, &limit],
    )
    .await
    .during("delete expired console sessions")
}
