//! Statements on `public.tokens`.

use time::{Duration, OffsetDateTime};

use crate::domain::error::{Error, Noun, Result};
use crate::domain::names::{TenantId, TokenId, UserId};
use crate::domain::page::Window;
use crate::domain::profile::ProfileId;
use crate::domain::{Permission, Role, Tenant};
use crate::pg::control::{tenants, users};
use crate::pg::error::During;
use crate::pg::scope::PublicTx;

/// How fresh `last_used_at` is kept; a write for each use would cost more than it tells.
pub(in crate::pg) const LAST_USED_GRAIN: Duration = Duration::minutes(1);

/// An API token as it is listed: everything but the token.
#[derive(Debug, Clone)]
pub struct Token {
    /// Names it.
    pub id: TokenId,
    /// Its first characters.
    pub hint: String,
    /// What it is for, in its maker's words.
    pub name: String,
    /// What it may do.
    pub permissions: Vec<Permission>,
    /// The one tenant that it works in.
    pub tenant: Option<TenantId>,
    /// The one profile in that tenant that it may read, where it is a person's own.
    pub profile: Option<ProfileId>,
    /// Whom it works for: it may do no more than they may there now. Nobody where no user made it.
    pub user: Option<UserId>,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: OffsetDateTime,
    /// When it ends.
    pub expires_at: Option<OffsetDateTime>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<OffsetDateTime>,
    /// When it was revoked.
    pub revoked_at: Option<OffsetDateTime>,
}

/// Writes a new token's row.
///
/// # Errors
/// [`Noun::Tenant`] not found, where it is bound to one that is not there; [`Noun::User`] not found.
pub async fn insert(tx: &PublicTx, token: &Token, digest: &[u8]) -> Result<()> {
    let names: Vec<&str> = if token.permissions == Permission::ALL {
        vec![ALL]
    } else {
        token.permissions.iter().map(|p| p.as_str()).collect()
    };
    tx.execute(
        "INSERT INTO tokens (id, digest, hint, name, permissions, tenant_id, profile_id, user_id, created_by, created_at, expires_at)
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
    .map_err(|failure| {
        if failure.violates("tokens_tenant_id_fkey") {
            Error::NotFound(Noun::Tenant)
        } else if failure.violates("tokens_user_id_fkey") {
            Error::NotFound(Noun::User)
        } else {
            failure.during("insert token row")
        }
    })
}

/// A token that somebody shows.
#[derive(Debug, Clone)]
pub struct Shown {
    /// The token.
    pub token: Token,
    /// The tenant that it is bound to: whoever shows it works there.
    pub tenant: Option<Tenant>,
    /// The highest role that its user has now where it works; none where they have none, or there is no user.
    pub role: Option<Role>,
}

/// Finds a token by its digest, whether or not it is still good; where it is, notes that it was used.
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
             SELECT k.id, k.hint, k.name, k.permissions, k.tenant_id, k.profile_id, k.created_by,
                    k.created_at, k.expires_at, k.last_used_at, k.revoked_at, k.user_id,
                    u.platform_role, m.role,
                    t.id, t.number, t.slug, t.name, t.org, t.status, t.created_at
               FROM tokens k
               LEFT JOIN tenants t ON t.id = k.tenant_id
               LEFT JOIN users u ON u.id = k.user_id
               LEFT JOIN memberships m ON m.user_id = k.user_id AND m.tenant_id = k.tenant_id
              WHERE k.digest = $1",
            &[&digest, &now, &(now - LAST_USED_GRAIN)],
        )
        .await
        .during("read token row")?;
    let Some(row) = rows.first() else { return Ok(None) };
    let token = from_row(row);
    let tenant = match token.tenant {
        Some(_) => Some(tenants::from_row_at(row, 14)?),
        None => None,
    };
    let role = users::role(row.get(12))?.max(users::role(row.get(13))?);
    Ok(Some(Shown { token, tenant, role }))
}

/// All tokens, oldest first, but those of people in tenants, which are many and end soon.
pub async fn list(tx: &PublicTx) -> Result<Vec<Token>> {
    let rows = tx
        .query(
            "SELECT id, hint, name, permissions, tenant_id, profile_id, created_by, created_at,
                    expires_at, last_used_at, revoked_at, user_id
               FROM tokens
              WHERE profile_id IS NULL
              ORDER BY created_at, id",
            &[],
        )
        .await
        .during("list token rows")?;
    Ok(rows.iter().map(from_row).collect())
}

/// One part of the tokens, oldest first, of these tenants alone where some are given; but those of people
/// in tenants, as in [`list`].
pub async fn page(tx: &PublicTx, only: Option<&[TenantId]>, window: &Window) -> Result<Vec<Token>> {
    let only: Option<Vec<uuid::Uuid>> = only.map(|ids| ids.iter().map(|id| id.uuid()).collect());
    let rows = tx
        .query(
            "SELECT id, hint, name, permissions, tenant_id, profile_id, created_by, created_at,
                    expires_at, last_used_at, revoked_at, user_id
               FROM tokens
              WHERE profile_id IS NULL
                AND ($1::uuid[] IS NULL OR tenant_id = ANY ($1))
                AND ($2::timestamptz IS NULL OR (created_at, id) > ($2, $3))
              ORDER BY created_at, id
              LIMIT $4",
            &[
                &only,
                &window.after.map(|cursor| cursor.at),
                &window.after.map(|cursor| cursor.id),
                &window.rows_to_read(),
            ],
        )
        .await
        .during("list token rows")?;
    Ok(rows.iter().map(from_row).collect())
}

/// Reads a token, but not that of a person in a tenant.
pub async fn lookup(tx: &PublicTx, id: TokenId) -> Result<Option<Token>> {
    let row = tx
        .query_opt(
            "SELECT id, hint, name, permissions, tenant_id, profile_id, created_by, created_at,
                    expires_at, last_used_at, revoked_at, user_id
               FROM tokens
              WHERE id = $1 AND profile_id IS NULL",
            &[&id],
        )
        .await
        .during("read token row")?;
    Ok(row.as_ref().map(from_row))
}

/// How many tokens are good.
pub async fn count(tx: &PublicTx, now: OffsetDateTime) -> Result<i64> {
    let row = tx
        .query_one(
            "SELECT count(*) FROM tokens WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $1)",
            &[&now],
        )
        .await
        .during("count tokens")?;
    Ok(row.get(0))
}

/// Forgets the tokens of people that have run out.
pub async fn delete_expired_of_profiles(tx: &PublicTx, now: OffsetDateTime) -> Result<u64> {
    tx.execute("DELETE FROM tokens WHERE profile_id IS NOT NULL AND expires_at <= $1", &[&now])
        .await
        .during("forget tokens of people")
}

/// Revokes a token; once revoked it stays so from its first time on. `None` where there is no such token.
pub async fn revoke(tx: &PublicTx, id: TokenId, now: OffsetDateTime) -> Result<Option<Token>> {
    let row = tx
        .query_opt(
            "UPDATE tokens SET revoked_at = coalesce(revoked_at, $2)
              WHERE id = $1
          RETURNING id, hint, name, permissions, tenant_id, profile_id, created_by, created_at,
                    expires_at, last_used_at, revoked_at, user_id",
            &[&id, &now],
        )
        .await
        .during("revoke token")?;
    Ok(row.map(|row| from_row(&row)))
}

/// A token or an API key that was ended together with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Which.
    pub id: TokenId,
    /// The one tenant that it worked in.
    pub tenant: Option<TenantId>,
    /// Whether it was an API key.
    pub is_api_key: bool,
}

/// Revokes the tokens and API keys that work for a user, in one tenant or wherever they do. Whoever calls it
/// holds the user, or one that is just being made would be missed.
pub async fn revoke_of_user(
    tx: &PublicTx,
    user: UserId,
    only: Option<TenantId>,
    now: OffsetDateTime,
) -> Result<Vec<Ended>> {
    let rows = tx
        .query(
            "UPDATE tokens SET revoked_at = $3
              WHERE user_id = $1 AND ($2::uuid IS NULL OR tenant_id = $2) AND revoked_at IS NULL
          RETURNING id, tenant_id, kind = 'api_key'",
            &[&user, &only, &now],
        )
        .await
        .during("revoke the tokens of a user")?;
    let ended =
        |row: &crate::pg::Row| Ended { id: row.get(0), tenant: row.get(1), is_api_key: row.get(2) };
    Ok(rows.iter().map(ended).collect())
}

/// Whether a token or API key is there and not revoked.
pub async fn is_kept(tx: &PublicTx, id: TokenId) -> Result<bool> {
    let row = tx
        .query_opt("SELECT id FROM tokens WHERE id = $1 AND revoked_at IS NULL", &[&id])
        .await
        .during("read token row")?;
    Ok(row.is_some())
}

fn from_row(row: &crate::pg::Row) -> Token {
    let names: Vec<String> = row.get(3);
    Token {
        id: row.get(0),
        hint: row.get(1),
        name: row.get(2),
        permissions: permissions(&names),
        tenant: row.get(4),
        profile: row.get(5),
        created_by: row.get(6),
        created_at: row.get(7),
        expires_at: row.get(8),
        last_used_at: row.get(9),
        revoked_at: row.get(10),
        user: row.get(11),
    }
}

/// Stands for every permission, those of later versions included.
const ALL: &str = "*";

/// Reads the permissions of a column. A name that this program does not know grants nothing.
pub(in crate::pg) fn permissions(names: &[String]) -> Vec<Permission> {
    if names.iter().any(|name| name == ALL) {
        return Permission::ALL.to_vec();
    }
    names.iter().filter_map(|name| name.parse().ok()).collect()
}
