//! Statements on the lines of tokens: a token, and the tokens and API keys that made it, one after the other.
//!
//! A token is good only while each credential of its line is. So a revocation and an expiry end everything below at
//! the next request, whatever the rows below say. A revocation is also written to the rows below, for lists and for the
//! audit trail.
//!
//! Locks are taken from the first maker down, so that a revocation and the making of a token below it wait for each
//! other instead of deadlocking.

use time::OffsetDateTime;

use crate::domain::TokenKind;
use crate::domain::error::Result;
use crate::domain::names::{TenantId, TokenId};
use crate::pg::Row;
use crate::pg::error::During;
use crate::pg::scope::PublicTx;

/// The beginning of a statement that finds the token that a caller presents: `presented` has its id, whether its line
/// holds a revoked credential, and when the first of the line expires. Records the use of a good one.
///
/// `$1` is the digest of the secret, `$2` the time; a use is written if the last one was before `$3`. `LIMIT 1` tells the
/// planner that a digest is unique: otherwise it expects many rows and reads the whole table.
pub(in crate::pg) const PRESENTED: &str = "\
    WITH RECURSIVE line AS (
        SELECT k.id, k.id AS member_id, k.parent_id, k.revoked_at, k.expires_at
          FROM tokens k
         WHERE k.digest = $1 OR (k.previous_digest = $1 AND k.previous_until > $2)
         UNION
        SELECT line.id, p.id, p.parent_id, p.revoked_at, p.expires_at
          FROM line
          JOIN tokens p ON p.id = line.parent_id
    ),
    presented AS (
        SELECT id, bool_or(revoked_at IS NOT NULL) AS is_revoked, min(expires_at) AS ends_at
          FROM line
         GROUP BY id
         LIMIT 1
    ),
    used AS (
        UPDATE tokens SET last_used_at = $2
          FROM presented
         WHERE tokens.id = presented.id
           AND NOT presented.is_revoked AND (presented.ends_at IS NULL OR presented.ends_at > $2)
           AND (last_used_at IS NULL OR last_used_at < $3)
    )";

/// Revokes the tokens of the user `$1`, in the tenant `$2` if it is given, and all below them, at the time `$3`.
pub(in crate::pg) const REVOKE_OF_USER: &str = "\
    WITH RECURSIVE below AS (
        SELECT id FROM tokens WHERE user_id = $1 AND ($2::uuid IS NULL OR tenant_id = $2)
         UNION
        SELECT child.id FROM below JOIN tokens child ON child.parent_id = below.id
    )
    UPDATE tokens SET revoked_at = $3
     WHERE id IN (SELECT id FROM below) AND revoked_at IS NULL
 RETURNING id, tenant_id, kind";

/// A token and the credentials from which it descends.
#[derive(Debug, Clone, Default)]
pub struct Line {
    /// The first maker first, the token itself last.
    members: Vec<Member>,
}

#[derive(Debug, Clone)]
struct Member {
    id: TokenId,
    is_revoked: bool,
    expires_at: Option<OffsetDateTime>,
}

impl Line {
    /// Returns whether the token exists and each of its line is neither revoked nor expired.
    #[must_use]
    pub fn is_good(&self, now: OffsetDateTime) -> bool {
        !self.members.is_empty()
            && self.members.iter().all(|member| !member.is_revoked)
            && self.ends_at().is_none_or(|end| end > now)
    }

    /// Returns the number of its members.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Returns whether the token does not exist.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Returns whether the credential is the token or one from which it descends.
    #[must_use]
    pub fn contains(&self, id: TokenId) -> bool {
        self.members.iter().any(|member| member.id == id)
    }

    /// Returns when the first of the line expires.
    #[must_use]
    pub fn ends_at(&self) -> Option<OffsetDateTime> {
        self.members.iter().filter_map(|member| member.expires_at).min()
    }

    /// Returns when the first of those expires from which the token descends.
    #[must_use]
    pub fn ancestors_end_at(&self) -> Option<OffsetDateTime> {
        let (_itself, ancestors) = self.members.split_last()?;
        ancestors.iter().filter_map(|member| member.expires_at).min()
    }
}

/// Locks the line of a credential in share mode until the transaction ends, so that it cannot be revoked meanwhile.
pub async fn hold(tx: &PublicTx, id: TokenId) -> Result<Line> {
    read(tx, id, "SHARE").await
}

/// Locks the line of a token until the transaction ends, for a change of the token.
pub async fn lock(tx: &PublicTx, id: TokenId) -> Result<Line> {
    read(tx, id, "NO KEY UPDATE").await
}

async fn read(tx: &PublicTx, id: TokenId, strength: &str) -> Result<Line> {
    // A row that another transaction changes meanwhile is read again after the wait.
    let sql = format!(
        "WITH RECURSIVE line AS (
             SELECT id, parent_id, 0 AS distance FROM tokens WHERE id = $1
              UNION ALL
             SELECT p.id, p.parent_id, line.distance + 1
               FROM line
               JOIN tokens p ON p.id = line.parent_id
              WHERE line.distance < 1000
         )
         SELECT k.id, k.revoked_at, k.expires_at
           FROM line
           JOIN tokens k ON k.id = line.id
          ORDER BY line.distance DESC
            FOR {strength} OF k"
    );
    let rows = tx.query(&sql, &[&id]).await.during("lock token rows")?;
    let member = |row: &Row| Member {
        id: row.get("id"),
        is_revoked: row.get::<_, Option<OffsetDateTime>>("revoked_at").is_some(),
        expires_at: row.get("expires_at"),
    };
    Ok(Line { members: rows.iter().map(member).collect() })
}

/// A token or an API key that was revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revoked {
    /// Id.
    pub id: TokenId,
    /// The only tenant in which it worked, if it was bound to one.
    pub tenant: Option<TenantId>,
    /// Kind.
    pub kind: TokenKind,
}

/// Revokes a token and all below it, and returns those that were not revoked before.
pub async fn revoke(tx: &PublicTx, id: TokenId, now: OffsetDateTime) -> Result<Vec<Revoked>> {
    // Locked before the statement that looks for the tokens below: a transaction that makes one has locked this row,
    // and after the wait its token is visible.
    tx.query_opt("SELECT id FROM tokens WHERE id = $1 FOR UPDATE", &[&id])
        .await
        .during("lock token row")?;
    let rows = tx
        .query(
            "WITH RECURSIVE below AS (
                 SELECT id FROM tokens WHERE id = $1
                  UNION
                 SELECT child.id FROM below JOIN tokens child ON child.parent_id = below.id
             )
             UPDATE tokens SET revoked_at = $2
              WHERE id IN (SELECT id FROM below) AND revoked_at IS NULL
          RETURNING id, tenant_id, kind",
            &[&id, &now],
        )
        .await
        .during("revoke tokens")?;
    Ok(rows.iter().map(revoked_from_row).collect())
}

/// Reads a revoked token from the columns `id`, `tenant_id` and `kind`.
pub(in crate::pg) fn revoked_from_row(row: &Row) -> Revoked {
    Revoked {
        id: row.get("id"),
        tenant: row.get("tenant_id"),
        kind: row.get::<_, &str>("kind").parse().unwrap_or(TokenKind::Token),
    }
}
