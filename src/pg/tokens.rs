//! Statements on `public.tokens`.

use time::{Duration, OffsetDateTime};

use super::error::During;
use super::scope::PublicTx;
use super::tenants;
use crate::domain::error::{Error, Noun, Result};
use crate::domain::names::{TenantId, TokenId};
use crate::domain::page::Window;
use crate::domain::profile::ProfileId;
use crate::domain::{Permission, Tenant};

/// How fresh `last_used_at` is kept; a write for each use would cost more than it tells.
pub(super) const LAST_USED_GRAIN: Duration = Duration::minutes(1);

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
/// [`Noun::Tenant`] not found, where it is bound to one that is not there.
pub async fn insert(tx: &PublicTx, token: &Token, digest: &[u8]) -> Result<()> {
    let names: Vec<&str> = if token.permissions == Permission::ALL {
        vec![ALL]
    } else {
        token.permissions.iter().map(|p| p.as_str()).collect()
    };
    tx.execute(
        "INSERT INTO tokens (id, digest, hint, name, permissions, tenant_id, profile_id, created_by, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        &[
            &token.id,
            &digest,
            &token.hint,
            &token.name,
            &names,
            &token.tenant,
            &token.profile,
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
        } else {
            failure.during("insert token row")
        }
    })
}

/// Finds a token by its digest, whether or not it is still good; where it is, notes that it was used. With
/// it comes the tenant that it is bound to: whoever shows such a token works there.
pub async fn use_by_digest(
    tx: PublicTx,
    digest: &[u8],
    now: OffsetDateTime,
) -> Result<Option<(Token, Option<Tenant>)>> {
    let rows = tx
        .query_and_commit(
            "WITH used AS (
                 UPDATE tokens SET last_used_at = $2
                  WHERE digest = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2)
                    AND (last_used_at IS NULL OR last_used_at < $3)
             )
             SELECT k.id, k.hint, k.name, k.permissions, k.tenant_id, k.profile_id, k.created_by,
                    k.created_at, k.expires_at, k.last_used_at, k.revoked_at,
                    t.id, t.number, t.slug, t.name, t.org, t.status, t.created_at
               FROM tokens k
               LEFT JOIN tenants t ON t.id = k.tenant_id
              WHERE k.digest = $1",
            &[&digest, &now, &(now - LAST_USED_GRAIN)],
        )
        .await
        .during("read token row")?;
    let Some(row) = rows.first() else { return Ok(None) };
    let token = from_row(row);
    let tenant = match token.tenant {
        Some(_) => Some(tenants::from_row_at(row, 11)?),
        None => None,
    };
    Ok(Some((token, tenant)))
}

/// All tokens, oldest first, but those of people in tenants, which are many and end soon.
pub async fn list(tx: &PublicTx) -> Result<Vec<Token>> {
    let rows = tx
        .query(
            "SELECT id, hint, name, permissions, tenant_id, profile_id, created_by, created_at,
                    expires_at, last_used_at, revoked_at
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
                    expires_at, last_used_at, revoked_at
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
                    expires_at, last_used_at, revoked_at
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
                    expires_at, last_used_at, revoked_at",
            &[&id, &now],
        )
        .await
        .during("revoke token")?;
    Ok(row.map(|row| from_row(&row)))
}

fn from_row(row: &super::Row) -> Token {
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
    }
}

/// Stands for every permission, those of later versions included.
const ALL: &str = "*";

/// Reads the permissions of a column. A name that this program does not know grants nothing.
pub(super) fn permissions(names: &[String]) -> Vec<Permission> {
    if names.iter().any(|name| name == ALL) {
        return Permission::ALL.to_vec();
    }
    names.iter().filter_map(|name| name.parse().ok()).collect()
}
