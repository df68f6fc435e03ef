//! Statements on those rows of `public.tokens` that are API keys.

use time::OffsetDateTime;

use crate::domain::error::Result;
use crate::domain::names::{TenantId, TokenId, UserId};
use crate::domain::{Permission, Role};
use crate::pg::Row;
use crate::pg::control::memberships;
use crate::pg::control::tokens::{
    self, COLUMNS, LAST_USED_PRECISION, RECORD_USE, reference_missing_or,
};
use crate::pg::error::During;
use crate::pg::scope::PublicTx;

/// An API key without its secret.
#[derive(Debug, Clone)]
pub struct ApiKey {
    /// Id.
    pub id: TokenId,
    /// First characters of the secret.
    pub hint: String,
    /// Purpose, as its creator wrote it.
    pub name: String,
    /// Permissions, of which its user's role limits the effective ones.
    pub permissions: Vec<Permission>,
    /// The tenant in which it works.
    pub tenant: TenantId,
    /// The user for whom it works.
    pub user: Option<UserId>,
    /// When it was created.
    pub created_at: OffsetDateTime,
    /// When it expires.
    pub expires_at: Option<OffsetDateTime>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<OffsetDateTime>,
    /// When it was revoked.
    pub revoked_at: Option<OffsetDateTime>,
}

/// An API key that a caller presented.
#[derive(Debug, Clone)]
pub struct Presented {
    /// API key.
    pub key: ApiKey,
    /// The highest role that its user has in its tenant now; `None` where there is no role or no user.
    pub role: Option<Role>,
}

/// Inserts an API key.
///
/// # Errors
/// As [`tokens::insert`].
pub async fn insert(tx: &PublicTx, key: &ApiKey, created_by: &str, digest: &[u8]) -> Result<()> {
    let names: Vec<&str> = key.permissions.iter().map(|p| p.as_str()).collect();
    tx.execute(
        "INSERT INTO tokens
             (id, digest, hint, name, permissions, kind, tenant_id, user_id, created_by, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, 'api_key', $6, $7, $8, $9, $10)",
        &[
            &key.id,
            &digest,
            &key.hint,
            &key.name,
            &names,
            &key.tenant,
            &key.user,
            &created_by,
            &key.created_at,
            &key.expires_at,
        ],
    )
    .await
    .map(|_| ())
    .map_err(reference_missing_or("insert API key row"))
}

/// Finds an API key by its digest, valid or not, together with its user's present role, and records the use of a
/// valid one.
pub async fn use_by_digest(
    tx: PublicTx,
    digest: &[u8],
    now: OffsetDateTime,
) -> Result<Option<Presented>> {
    let sql = format!(
        "WITH used AS ({RECORD_USE})
         SELECT {COLUMNS}, u.platform_role, m.role
           FROM tokens k
           LEFT JOIN users u ON u.id = k.user_id
           LEFT JOIN memberships m ON m.user_id = k.user_id AND m.tenant_id = k.tenant_id
          WHERE k.digest = $1 AND k.kind = 'api_key'"
    );
    let rows = tx
        .query_and_commit(&sql, &[&digest, &now, &(now - LAST_USED_PRECISION)])
        .await
        .during("read API key row")?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some(Presented { key: from_row(row), role: memberships::highest_role(row)? }))
}

/// Reads all API keys of a tenant, newest first; only a user's own where a user is given.
pub async fn list(tx: &PublicTx, tenant: TenantId, user: Option<UserId>) -> Result<Vec<ApiKey>> {
    let sql = format!(
        "SELECT {COLUMNS}
           FROM tokens k
          WHERE k.tenant_id = $1 AND k.kind = 'api_key' AND ($2::uuid IS NULL OR k.user_id = $2)
          ORDER BY k.created_at DESC, k.id DESC"
    );
    let rows = tx.query(&sql, &[&tenant, &user]).await.during("list API key rows")?;
    Ok(rows.iter().map(from_row).collect())
}

/// Reads an API key of a tenant.
pub async fn lookup(tx: &PublicTx, tenant: TenantId, id: TokenId) -> Result<Option<ApiKey>> {
    let sql = format!(
        "SELECT {COLUMNS}
           FROM tokens k
          WHERE k.id = $2 AND k.tenant_id = $1 AND k.kind = 'api_key'"
    );
    let row = tx.query_opt(&sql, &[&tenant, &id]).await.during("read API key row")?;
    Ok(row.as_ref().map(from_row))
}

/// Revokes an API key that is not revoked, and returns whether it did. Of two concurrent calls one returns true.
pub async fn revoke(
    tx: &PublicTx,
    tenant: TenantId,
    id: TokenId,
    now: OffsetDateTime,
) -> Result<bool> {
    let touched = tx
        .execute(
            "UPDATE tokens SET revoked_at = $3
              WHERE id = $2 AND tenant_id = $1 AND kind = 'api_key' AND revoked_at IS NULL",
            &[&tenant, &id, &now],
        )
        .await
        .during("revoke API key")?;
    Ok(touched == 1)
}

fn from_row(row: &Row) -> ApiKey {
    let token = tokens::from_row(row);
    ApiKey {
        id: token.id,
        hint: token.hint,
        name: token.name,
        permissions: token.permissions,
        tenant: row.get("tenant_id"),
        user: token.user,
        created_at: token.created_at,
        expires_at: token.expires_at,
        last_used_at: token.last_used_at,
        revoked_at: token.revoked_at,
    }
}
