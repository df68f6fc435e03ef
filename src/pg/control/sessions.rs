//! Statements on `public.sessions` and `public.refresh_tokens`.

use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::error::Result;
use crate::domain::names::UserId;
use crate::pg::error::During;
use crate::pg::scope::PublicTx;

/// A stored refresh token.
pub struct Refresh {
    /// Its session.
    pub session: Uuid,
    /// User of the session.
    pub user: UserId,
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
    now: OffsetDateTime,
) -> Result<bool> {
    let written = tx
        .execute(
            "INSERT INTO sessions (id, user_id, created_at)
             SELECT $1, id, $4 FROM users WHERE id = $2 AND password_hash = $3 FOR SHARE",
            &[&id, &user, &password_hash, &now],
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
            "SELECT r.session_id, s.user_id, r.expires_at, r.used_at, s.revoked_at
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
        expires_at: row.get("expires_at"),
        used_at: row.get("used_at"),
        revoked_at: row.get("revoked_at"),
    }))
}

/// Marks a refresh token as used.
pub async fn mark_used(tx: &PublicTx, digest: &[u8], now: OffsetDateTime) -> Result<()> {
    tx.execute("UPDATE refresh_tokens SET used_at = $2 WHERE digest = $1", &[&digest, &now])
        .await
        .during("mark refresh token as used")?;
    Ok(())
}

/// Ends a session, and with it all its refresh tokens.
pub async fn revoke(tx: &PublicTx, id: Uuid, now: OffsetDateTime) -> Result<()> {
    tx.execute(
        "UPDATE sessions SET revoked_at = coalesce(revoked_at, $2) WHERE id = $1",
        &[&id, &now],
    )
    .await
    .during("end session")?;
    Ok(())
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
