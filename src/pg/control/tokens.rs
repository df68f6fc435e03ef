//! Statements on `public.tokens`.

use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::domain::error::{Error, Noun, Result};
use crate::domain::names::{TenantId, TokenId, UserId};
use crate::domain::page::Window;
use crate::domain::profile::ProfileId;
use crate::domain::{Permission, Role, Tenant};
use crate::pg::Row;
use crate::pg::control::{memberships, tenants};
use crate::pg::error::{During, Failure};
use crate::pg::scope::PublicTx;

/// The precision of `last_used_at`; a write for each use would cost more than it is worth.
pub(in crate::pg) const LAST_USED_PRECISION: Duration = Duration::minutes(1);

/// The columns of a [`Token`], of the table `tokens` under the name `k`. The aliases keep them apart from a tenant's
/// columns where a query reads both.
pub(in crate::pg) const COLUMNS: &str = "k.id AS token_id, k.hint, k.name AS token_name, k.permissions, \
     k.tenant_id, k.profile_id, k.user_id, k.created_by, k.created_at AS token_created_at, k.expires_at, \
     k.last_used_at, k.revoked_at";

/// Sets `last_used_at` of the token with digest `$1` to the time `$2` if the token is valid and was not used since
/// `$3`.
pub(in crate::pg) const RECORD_USE: &str = "UPDATE tokens SET last_used_at = $2
      WHERE digest = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2)
        AND (last_used_at IS NULL OR last_used_at < $3)";

/// An API token without its secret.
#[derive(Debug, Clone)]
pub struct Token {
    /// Id.
    pub id: TokenId,
    /// First characters of the secret.
    pub hint: String,
    /// Purpose, as its creator wrote it.
    pub name: String,
    /// Permissions.
    pub permissions: Vec<Permission>,
    /// The only tenant in which it works, if it is bound to one.
    pub tenant: Option<TenantId>,
    /// The only profile that it may read, if it is a person's own token.
    pub profile: Option<ProfileId>,
    /// The user for whom it works: it permits no more than this user may do now. `None` where no user created it.
    pub user: Option<UserId>,
    /// Creator.
    pub created_by: String,
    /// When it was created.
    pub created_at: OffsetDateTime,
    /// When it expires.
    pub expires_at: Option<OffsetDateTime>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<OffsetDateTime>,
    /// When it was revoked.
    pub revoked_at: Option<OffsetDateTime>,
}

/// Inserts a token.
///
/// # Errors
/// [`Noun::Tenant`] not found, where it is bound to a tenant that does not exist; [`Noun::User`] not found.
pub async fn insert(tx: &PublicTx, token: &Token, digest: &[u8]) -> Result<()> {
    let names: Vec<&str> = if token.permissions == Permission::ALL {
        vec![ALL]
    } else {
        token.permissions.iter().map(|p| p.as_str()).collect()
    };
    tx.execute(
        "INSERT INTO tokens
             (id, digest, hint, name, permissions, tenant_id, profile_id, user_id, created_by, created_at,
              expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        &[
            &token.id,
            &digest,
            &token.hint,
            &token.name,
            &names,
            &token.tenant,
            &token.profile,
            &token.user,
            &token.created_by,
            &token.created_at,
            &token.expires_at,
        ],
    )
    .await
    .map(|_| ())
    .map_err(reference_missing_or("insert token row"))
}

/// Maps a violated foreign key of a new token's row to the missing tenant or user.
pub(in crate::pg) fn reference_missing_or(during: &'static str) -> impl Fn(Failure) -> Error {
    move |failure| {
        if failure.violates("tokens_tenant_id_fkey") {
            Error::NotFound(Noun::Tenant)
        } else if failure.violates("tokens_user_id_fkey") {
            Error::NotFound(Noun::User)
        } else {
            failure.during(during)
        }
    }
}

/// A token that a caller presented.
#[derive(Debug, Clone)]
pub struct Presented {
    /// Token.
    pub token: Token,
    /// The tenant to which it is bound, and in which the caller works.
    pub tenant: Option<Tenant>,
    /// The highest role that its user has now where the token works; `None` where there is no role or no user.
    pub role: Option<Role>,
}

/// Finds a token by its digest, valid or not, and records the use of a valid one.
pub async fn use_by_digest(
    tx: PublicTx,
    digest: &[u8],
    now: OffsetDateTime,
) -> Result<Option<Presented>> {
    let sql = format!(
        "WITH used AS ({RECORD_USE})
         SELECT {COLUMNS}, u.platform_role, m.role, {tenant}
           FROM tokens k
           LEFT JOIN tenants t ON t.id = k.tenant_id
           LEFT JOIN users u ON u.id = k.user_id
           LEFT JOIN memberships m ON m.user_id = k.user_id AND m.tenant_id = k.tenant_id
          WHERE k.digest = $1",
        tenant = tenants::COLUMNS,
    );
    let rows = tx
        .query_and_commit(&sql, &[&digest, &now, &(now - LAST_USED_PRECISION)])
        .await
        .during("read token row")?;
    let Some(row) = rows.first() else { return Ok(None) };
    let token = from_row(row);
    let tenant = match token.tenant {
        Some(_) => Some(tenants::from_row(row)?),
        None => None,
    };
    Ok(Some(Presented { token, tenant, role: memberships::highest_role(row)? }))
}

/// Reads the tokens, oldest first: only those of the given tenants where tenants are given, and one page where a
/// window is given. The own tokens of people are left out, because they are many and expire soon.
pub async fn list(
    tx: &PublicTx,
    only: Option<&[TenantId]>,
    window: Option<&Window>,
) -> Result<Vec<Token>> {
    let only: Option<Vec<Uuid>> = only.map(|ids| ids.iter().map(|id| id.uuid()).collect());
    let after = window.and_then(|window| window.after);
    let sql = format!(
        "SELECT {COLUMNS}
           FROM tokens k
          WHERE k.profile_id IS NULL
            AND ($1::uuid[] IS NULL OR k.tenant_id = ANY ($1))
            AND ($2::timestamptz IS NULL OR (k.created_at, k.id) > ($2, $3))
          ORDER BY k.created_at, k.id
          LIMIT $4"
    );
    let rows = tx
        .query(
            &sql,
            &[
                &only,
                &after.map(|cursor| cursor.at),
                &after.map(|cursor| cursor.id),
                &window.map(Window::rows_to_read),
            ],
        )
        .await
        .during("list token rows")?;
    Ok(rows.iter().map(from_row).collect())
}

/// Reads a token, but not a person's own one.
pub async fn lookup(tx: &PublicTx, id: TokenId) -> Result<Option<Token>> {
    let sql = format!("SELECT {COLUMNS} FROM tokens k WHERE k.id = $1 AND k.profile_id IS NULL");
    let row = tx.query_opt(&sql, &[&id]).await.during("read token row")?;
    Ok(row.as_ref().map(from_row))
}

/// Counts the valid tokens and API keys.
pub async fn count(tx: &PublicTx, now: OffsetDateTime) -> Result<i64> {
    let row = tx
        .query_one(
            "SELECT count(*) AS total
               FROM tokens
              WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $1)",
            &[&now],
        )
        .await
        .during("count tokens")?;
    Ok(row.get("total"))
}

/// Deletes the expired own tokens of people.
pub async fn delete_expired_of_profiles(tx: &PublicTx, now: OffsetDateTime) -> Result<u64> {
    tx.execute("DELETE FROM tokens WHERE profile_id IS NOT NULL AND expires_at <= $1", &[&now])
        .await
        .during("delete expired tokens of people")
}

/// Revokes a token and returns it; a revoked token keeps its time of revocation. `None` where it does not exist.
pub async fn revoke(tx: &PublicTx, id: TokenId, now: OffsetDateTime) -> Result<Option<Token>> {
    let sql = format!(
        "UPDATE tokens k SET revoked_at = coalesce(k.revoked_at, $2) WHERE k.id = $1 RETURNING {COLUMNS}"
    );
    let row = tx.query_opt(&sql, &[&id, &now]).await.during("revoke token")?;
    Ok(row.as_ref().map(from_row))
}

/// A token or an API key that [`revoke_of_user`] revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revoked {
    /// Id.
    pub id: TokenId,
    /// The only tenant in which it worked, if it was bound to one.
    pub tenant: Option<TenantId>,
    /// Whether it was an API key.
    pub is_api_key: bool,
}

/// Revokes the tokens and API keys that work for a user, in one tenant or everywhere. The caller has locked the
/// user's row; otherwise one that is being created would be missed.
pub async fn revoke_of_user(
    tx: &PublicTx,
    user: UserId,
    only: Option<TenantId>,
    now: OffsetDateTime,
) -> Result<Vec<Revoked>> {
    let rows = tx
        .query(
            "UPDATE tokens SET revoked_at = $3
              WHERE user_id = $1 AND ($2::uuid IS NULL OR tenant_id = $2) AND revoked_at IS NULL
          RETURNING id, tenant_id, kind = 'api_key' AS is_api_key",
            &[&user, &only, &now],
        )
        .await
        .during("revoke the tokens of a user")?;
    let revoked = |row: &Row| Revoked {
        id: row.get("id"),
        tenant: row.get("tenant_id"),
        is_api_key: row.get("is_api_key"),
    };
    Ok(rows.iter().map(revoked).collect())
}

/// Returns whether a token or API key exists and is not revoked.
pub async fn is_kept(tx: &PublicTx, id: TokenId) -> Result<bool> {
    let row = tx
        .query_opt("SELECT id FROM tokens WHERE id = $1 AND revoked_at IS NULL", &[&id])
        .await
        .during("read token row")?;
    Ok(row.is_some())
}

/// Reads a token or an API key from a row that holds [`COLUMNS`].
pub(in crate::pg) fn from_row(row: &Row) -> Token {
    Token {
        id: row.get("token_id"),
        hint: row.get("hint"),
        name: row.get("token_name"),
        permissions: permissions(&row.get::<_, Vec<String>>("permissions")),
        tenant: row.get("tenant_id"),
        profile: row.get("profile_id"),
        user: row.get("user_id"),
        created_by: row.get("created_by"),
        created_at: row.get("token_created_at"),
        expires_at: row.get("expires_at"),
        last_used_at: row.get("last_used_at"),
        revoked_at: row.get("revoked_at"),
    }
}

/// The name for every permission, those of later versions included.
const ALL: &str = "*";

/// Parses a permissions column. A name that this program does not know grants nothing.
fn permissions(names: &[String]) -> Vec<Permission> {
    if names.iter().any(|name| name == ALL) {
        return Permission::ALL.to_vec();
    }
    names.iter().filter_map(|name| name.parse().ok()).collect()
}
