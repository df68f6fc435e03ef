//! Statements on `public.tokens` about those that are API keys.

use time::OffsetDateTime;

use crate::domain::error::{Error, Noun, Result};
use crate::domain::names::{TenantId, TokenId, UserId};
use crate::domain::{Permission, Role};
use crate::pg::control::tokens::{LAST_USED_GRAIN, permissions};
use crate::pg::control::users;
use crate::pg::error::During;
use crate::pg::scope::PublicTx;

/// An API key as it is listed: everything but the key.
#[derive(Debug, Clone)]
pub struct ApiKey {
    /// Names it.
    pub id: TokenId,
    /// Its first characters.
    pub hint: String,
    /// What it is for, in its maker's words.
    pub name: String,
    /// What it may do, where its user may too.
    pub permissions: Vec<Permission>,
    /// Where it works.
    pub tenant: TenantId,
    /// Whom it works for.
    pub user: Option<UserId>,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it ends.
    pub expires_at: Option<OffsetDateTime>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<OffsetDateTime>,
    /// When it was revoked.
    pub revoked_at: Option<OffsetDateTime>,
}

/// An API key that somebody shows.
#[derive(Debug, Clone)]
pub struct Shown {
    /// The key.
    pub key: ApiKey,
    /// The highest role that its user has there now; none where they have none, or there is no user.
    pub role: Option<Role>,
}

/// Writes a new key's row.
///
/// # Errors
/// [`Noun::Tenant`] not found, [`Noun::User`] not found.
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
    .map_err(|failure| {
        if failure.violates("tokens_tenant_id_fkey") {
            Error::NotFound(Noun::Tenant)
        } else if failure.violates("tokens_user_id_fkey") {
            Error::NotFound(Noun::User)
        } else {
            failure.during("insert API key row")
        }
    })
}

/// Finds a key by its digest, whether or not it is still good; where it is, notes that it was used. With it
/// comes what its user is in its tenant now.
pub async fn use_by_digest(
    tx: PublicTx,
    digest: &[u8],
    now: OffsetDateTime,
) -> Result<Option<Shown>> {
    let rows = tx
        .query_and_commit(
            "WITH used AS (
                 UPDATE tokens SET last_used_at = $2
                  WHERE digest = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2)
                    AND (last_used_at IS NULL OR last_used_at < $3)
             )
             SELECT k.id, k.hint, k.name, k.permissions, k.tenant_id, k.user_id, k.created_at,
                    k.expires_at, k.last_used_at, k.revoked_at, u.platform_role, m.role
               FROM tokens k
               LEFT JOIN users u ON u.id = k.user_id
               LEFT JOIN memberships m ON m.user_id = k.user_id AND m.tenant_id = k.tenant_id
              WHERE k.digest = $1 AND k.kind = 'api_key'",
            &[&digest, &now, &(now - LAST_USED_GRAIN)],
        )
        .await
        .during("read API key row")?;
    let Some(row) = rows.first() else { return Ok(None) };
    let role = users::role(row.get(10))?.max(users::role(row.get(11))?);
    Ok(Some(Shown { key: from_row(row), role }))
}

/// All keys of a tenant, newest first; where a user is given, theirs alone.
pub async fn list(tx: &PublicTx, tenant: TenantId, user: Option<UserId>) -> Result<Vec<ApiKey>> {
    let rows = tx
        .query(
            "SELECT id, hint, name, permissions, tenant_id, user_id, created_at, expires_at,
                    last_used_at, revoked_at
               FROM tokens
              WHERE tenant_id = $1 AND kind = 'api_key' AND ($2::uuid IS NULL OR user_id = $2)
              ORDER BY created_at DESC, id DESC",
            &[&tenant, &user],
        )
        .await
        .during("list API key rows")?;
    Ok(rows.iter().map(from_row).collect())
}

/// Reads a key of a tenant.
pub async fn lookup(tx: &PublicTx, tenant: TenantId, id: TokenId) -> Result<Option<ApiKey>> {
    let row = tx
        .query_opt(
            "SELECT id, hint, name, permissions, tenant_id, user_id, created_at, expires_at,
                    last_used_at, revoked_at
               FROM tokens
              WHERE id = $2 AND tenant_id = $1 AND kind = 'api_key'",
            &[&tenant, &id],
        )
        .await
        .during("read API key row")?;
    Ok(row.as_ref().map(from_row))
}

/// Revokes a key that is not revoked; tells whether there was one. Of two at once, one did it.
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

fn from_row(row: &crate::pg::Row) -> ApiKey {
    let names: Vec<String> = row.get(3);
    ApiKey {
        id: row.get(0),
        hint: row.get(1),
        name: row.get(2),
        permissions: permissions(&names),
        tenant: row.get(4),
        user: row.get(5),
        created_at: row.get(6),
        expires_at: row.get(7),
        last_used_at: row.get(8),
        revoked_at: row.get(9),
    }
}
