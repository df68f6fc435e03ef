//! Statements on `public.sessions` and `public.refresh_tokens`.

use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::error::Result;
use crate::domain::names::UserId;
use crate::domain::page::Window;
use crate::pg::control::tokens::LAST_USED_PRECISION;
use crate::pg::error::During;
use crate::pg::scope::PublicTx;

/// A session that has not ended.
#[derive(Debug, Clone)]
pub struct Session {
    /// Id.
    pub id: Uuid,
    /// When the user logged in.
    pub opened_at: OffsetDateTime,
    /// When it was last used, to the minute.
    pub last_used_at: Option<OffsetDateTime>,
    /// When it ends unless it is refreshed.
    pub expires_at: OffsetDateTime,
    /// The user agent that last opened or refreshed it; empty if it is not known.
    pub client: String,
}

/// A stored refresh token.
pub struct Refresh {
    /// Its session.
    pub session: Uuid,
    /// User of the session.
    pub user: UserId,
    /// When the session was opened.
    pub opened_at: OffsetDateTime,
    /// The user agent that last opened or refreshed the session; empty if it is not known.
    pub client: String,
    /// When it expires.
    pub expires_at: OffsetDateTime,
    /// When it was used, if it was.
    pub used_at: Option<OffsetDateTime>,
    /// When the session ended, if it did.
    pub revoked_at: Option<OffsetDateTime>,
}

/// Opens a session for a user whose password has this hash, and returns whether it did. The lock waits for a
/// concurrent change of the password, after which the hash no longer matches.
pub async fn insert(
    tx: &PublicTx,
    id: Uuid,
    user: UserId,
    password_hash: &str,
    client: &str,
    now: OffsetDateTime,
) -> Result<bool> {
    let written = tx
        .execute(
            "INSERT INTO sessions (id, user_id, created_at, last_used_at, client)
             SELECT $1, id, $4, $4, $5 FROM users WHERE id = $2 AND password_hash = $3 FOR SHARE",
            &[&id, &user, &password_hash, &now, &client],
        )
        .await
        .during("insert session row")?;
    Ok(written == 1)
}

/// Inserts a new refresh token.
pub async fn insert_refresh(
    tx: &PublicTx,
    digest: &[u8],
    session: Uuid,
    now: OffsetDateTime,
    expires_at: OffsetDateTime,
) -> Result<()> {
    tx.execute(
        "INSERT INTO refresh_tokens (digest, session_id, issued_at, expires_at) VALUES ($1, $2, $3, $4)",
        &[&digest, &session, &now, &expires_at],
    )
    .await
    .during("insert refresh token row")?;
    Ok(())
}

/// Reads a refresh token and locks it and its session until the transaction ends, so that of two concurrent uses
/// the second sees the first.
pub async fn find_refresh_for_update(tx: &PublicTx, digest: &[u8]) -> Result<Option<Refresh>> {
    let row = tx
        .query_opt(
            "SELECT r.session_id, s.user_id, s.created_at, s.client, r.expires_at, r.used_at, s.revoked_at
               FROM refresh_tokens r
               JOIN sessions s ON s.id = r.session_id
              WHERE r.digest = $1
                FOR UPDATE",
            &[&digest],
        )
        .await
        .during("read refresh token row")?;
    Ok(row.map(|row| Refresh {
        session: row.get("session_id"),
        user: row.get("user_id"),
        opened_at: row.get("created_at"),
        client: row.get("client"),
        expires_at: row.get("expires_at"),
        used_at: row.get("used_at"),
        revoked_at: row.get("revoked_at"),
    }))
}

/// Marks a refresh token as used. The time of its first use stays.
pub async fn mark_used(tx: &PublicTx, digest: &[u8], now: OffsetDateTime) -> Result<()> {
    tx.execute(
        "UPDATE refresh_tokens SET used_at = $2 WHERE digest = $1 AND used_at IS NULL",
        &[&digest, &now],
    )
    .await
    .during("mark refresh token as used")?;
    Ok(())
}

/// Finds the session of a refresh token, whatever has become of either, and its user.
pub async fn find_by_refresh(tx: &PublicTx, digest: &[u8]) -> Result<Option<(Uuid, UserId)>> {
    let row = tx
        .query_opt(
            "SELECT r.session_id, s.user_id
               FROM refresh_tokens r
               JOIN sessions s ON s.id = r.session_id
              WHERE r.digest = $1",
            &[&digest],
        )
        .await
        .during("read refresh token row")?;
    Ok(row.map(|row| (row.get("session_id"), row.get("user_id"))))
}

/// Records that a session was refreshed, and by which user agent.
pub async fn record_refresh(
    tx: &PublicTx,
    id: Uuid,
    client: &str,
    now: OffsetDateTime,
) -> Result<()> {
    tx.execute(
        "UPDATE sessions SET last_used_at = $2, client = $3 WHERE id = $1",
        &[&id, &now, &client],
    )
    .await
    .during("record the use of a session")?;
    Ok(())
}

/// Records that an access token of a session was used, unless another one was a moment ago. Waits for no other
/// transaction: one that holds the row uses or ends the session.
pub async fn record_use(tx: PublicTx, id: Uuid, now: OffsetDateTime) -> Result<()> {
    tx.query_and_commit(
        "UPDATE sessions SET last_used_at = $2
          WHERE id = (SELECT id FROM sessions
                       WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < $3)
                         FOR UPDATE SKIP LOCKED)
         RETURNING id",
        &[&id, &now, &(now - LAST_USED_PRECISION)],
    )
    .await
    .during("record the use of a session")?;
    Ok(())
}

/// Ends a session of a user, and with it all its tokens. Returns whether it had not ended before.
pub async fn revoke(tx: &PublicTx, user: UserId, id: Uuid, now: OffsetDateTime) -> Result<bool> {
    let touched = tx
        .execute(
            "UPDATE sessions SET revoked_at = $3 WHERE id = $2 AND user_id = $1 AND revoked_at IS NULL",
            &[&user, &id, &now],
        )
        .await
        .during("end session")?;
    Ok(touched == 1)
}

/// Ends all sessions of a user but one, and returns their number.
pub async fn revoke_others(
    tx: &PublicTx,
    user: UserId,
    kept: Uuid,
    now: OffsetDateTime,
) -> Result<u64> {
    tx.execute(
        "UPDATE sessions SET revoked_at = $3 WHERE user_id = $1 AND id <> $2 AND revoked_at IS NULL",
        &[&user, &kept, &now],
    )
    .await
    .during("end sessions")
}

/// Reads a page of a user's sessions that were opened after `opened_after` and can still be refreshed, the latest
/// first.
pub async fn list(
    tx: &PublicTx,
    user: UserId,
    opened_after: OffsetDateTime,
    now: OffsetDateTime,
    window: &Window,
) -> Result<Vec<Session>> {
    let (at, after) = window.position();
    let rows = tx
        .query(
            "SELECT s.id, s.created_at, s.last_used_at, s.client, r.expires_at
               FROM sessions s
               JOIN LATERAL (SELECT max(expires_at) AS expires_at FROM refresh_tokens WHERE session_id = s.id) r
                 ON r.expires_at > $3
              WHERE s.user_id = $1
                AND s.revoked_at IS NULL
                AND s.created_at > $2
                AND ($4::timestamptz IS NULL OR (s.created_at, s.id) < ($4, $5))
              ORDER BY s.created_at DESC, s.id DESC
              LIMIT $6",
            &[
                &user,
                &opened_after,
                &now,
                &at,
&after,
                &window.rows_to_read(),
            ],
        )
        .await
        .during("list sessions")?;
    let session = |row: &crate::pg::Row| Session {
        id: row.get("id"),
        opened_at: row.get("created_at"),
        last_used_at: row.get("last_used_at"),
        expires_at: row.get("expires_at"),
        client: row.get("client"),
    };
    Ok(rows.iter().map(session).collect())
}

/// Returns whether a session exists and has not ended.
pub async fn is_open(tx: &PublicTx, id: Uuid) -> Result<bool> {
    let row = tx
        .query_opt("SELECT id FROM sessions WHERE id = $1 AND revoked_at IS NULL", &[&id])
        .await
        .during("read session row")?;
    Ok(row.is_some())
}

/// Ends all sessions of a user and returns their number.
pub async fn revoke_all(tx: &PublicTx, user: UserId, now: OffsetDateTime) -> Result<u64> {
    tx.execute(
        "UPDATE sessions SET revoked_at = $2 WHERE user_id = $1 AND revoked_at IS NULL",
        &[&user, &now],
    )
    .await
    .during("end sessions")
}

/// Deletes the sessions of a user whose refresh tokens have all expired.
pub async fn delete_expired(tx: &PublicTx, user: UserId, now: OffsetDateTime) -> Result<()> {
    tx.execute(
        "DELETE FROM sessions s
          WHERE s.user_id = $1
            AND NOT EXISTS (SELECT FROM refresh_tokens r WHERE r.session_id = s.id AND r.expires_at > $2)",
        &[&user, &now],
    )
    .await
    .during("delete expired sessions")?;
    Ok(())
}

/// Deletes refresh tokens that have expired, at most `limit`, and returns their number.
pub async fn delete_expired_refreshes(
    tx: &PublicTx,
    now: OffsetDateTime,
    limit: i64,
) -> Result<u64> {
    tx.execute(
        "DELETE FROM refresh_tokens
          WHERE digest IN (SELECT digest FROM refresh_tokens WHERE expires_at <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED)",
        &[&now, &limit],
    )
    .await
    .during("delete expired refresh tokens")
}

/// Deletes sessions without a refresh token that were opened before `opened_before`, at most `limit`, and returns
/// their number.
pub async fn delete_ended(tx: &PublicTx, opened_before: OffsetDateTime, limit: i64) -> Result<u64> {
    tx.execute(
        "DELETE FROM sessions
          WHERE id IN (SELECT id FROM sessions s
                        WHERE s.created_at < $1
                          AND NOT EXISTS (SELECT FROM refresh_tokens r WHERE r.session_id = s.id)
                        LIMIT $2 FOR UPDATE SKIP LOCKED)",
        &[&opened_before, &limit],
    )
    .await
    .during("delete ended sessions")
}

/// Counts the sessions that can still be refreshed.
pub async fn count(tx: &PublicTx, now: OffsetDateTime) -> Result<i64> {
    let row = tx
        .query_one(
            "SELECT count(*) AS total
               FROM sessions s
              WHERE s.revoked_at IS NULL
                AND EXISTS (SELECT FROM refresh_tokens r WHERE r.session_id = s.id AND r.expires_at > $1)",
            &[&now],
        )
        .await
        .during("count sessions")?;
    Ok(row.get("total"))
}
