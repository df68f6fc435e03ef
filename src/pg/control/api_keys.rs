//! Statements on those rows of `public.tokens` that are API keys.

use time::OffsetDateTime;

use crate::domain::error::Result;
use crate::domain::names::{TenantId, TokenId, UserId};
use crate::domain::{Permission, Role};
use crate::pg::control::managed_tokens::{IS_MANAGED, Managed};
use crate::pg::control::memberships;
use crate::pg::control::token_lines::PRESENTED;
use crate::pg::control::tokens::{self, COLUMNS, LAST_USED_PRECISION, reference_missing_or};
use crate::pg::error::During;
use crate::pg::scope::PublicTx;
use crate::pg::{Param, Row};

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
    /// Whether it or a credential from which it descends is revoked.
    pub is_revoked: bool,
    /// When it or the first of the credentials from which it descends expires.
    pub ends_at: Option<OffsetDateTime>,
    /// The highest role that its user has in its tenant now; `None` where there is no role or no user.
    pub role: Option<Role>,
}

/// Inserts an API key. It expires no later than the token that made it, if one did.
///
/// # Errors
/// As [`tokens::insert`].
pub async fn insert(
    tx: &PublicTx,
    key: &ApiKey,
    created_by: &str,
    parent: Option<TokenId>,
    digest: &[u8],
) -> Result<()> {
    let names: Vec<&str> = key.permissions.iter().map(|p| p.as_str()).collect();
    tx.execute(
        "INSERT INTO tokens
             (id, digest, hint, name, permissions, kind, tenant_id, user_id, created_by, created_at, expires_at,
              parent_id)
         VALUES ($1, $2, $3, $4, $5, 'api_key', $6, $7, $8, $9,
                 least($10, (SELECT p.expires_at FROM tokens p WHERE p.id = $11)), $11)",
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
            &parent,
        ],
    )
    .await
    .map(|_| ())
    .map_err(reference_missing_or("insert API key row"))
}

/// Finds an API key by its digest, valid or not, together with its user's present role, and records the use of a
/// valid one. The secret before the last rotation is found as well while it is good.
pub async fn use_by_digest(
    tx: PublicTx,
    digest: &[u8],
    now: OffsetDateTime,
) -> Result<Option<Presented>> {
    let sql = format!(
        "{PRESENTED}
         SELECT {COLUMNS}, presented.is_revoked, presented.ends_at, u.platform_role, m.role
           FROM presented
           JOIN tokens k ON k.id = presented.id
           LEFT JOIN users u ON u.id = k.user_id
           LEFT JOIN memberships m ON m.user_id = k.user_id AND m.tenant_id = k.tenant_id
          WHERE k.kind = 'api_key'"
    );
    let rows = tx
        .query_and_commit(&sql, &[&digest, &now, &(now - LAST_USED_PRECISION)])
        .await
        .during("read API key row")?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some(Presented {
        key: from_row(row),
        is_revoked: row.get("is_revoked"),
        ends_at: row.get("ends_at"),
        role: memberships::highest_role(row)?,
    }))
}

/// Reads the API keys of a tenant that the caller manages, newest first; only a user's own where a user is given.
pub async fn list(
    tx: &PublicTx,
    managed: &Managed,
    tenant: TenantId,
    user: Option<UserId>,
) -> Result<Vec<ApiKey>> {
    let sql = format!(
        "SELECT {COLUMNS}
           FROM tokens k
          WHERE {IS_MANAGED}
            AND k.tenant_id = $10 AND k.kind = 'api_key' AND ($11::uuid IS NULL OR k.user_id = $11)
          ORDER BY k.created_at DESC, k.id DESC"
    );
    let mut params = managed.params();
    params.extend([&tenant as &dyn Param, &user]);
    let rows = tx.query(&sql, &params).await.during("list API key rows")?;
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
