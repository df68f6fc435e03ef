//! Statements on `public.tokens`. Those about the credentials that made a token and that it made are in
//! [`token_lines`], those about who manages which tokens in [`managed_tokens`](super::managed_tokens).

use time::{Duration, OffsetDateTime};

use crate::domain::error::{AuthProblem, Error, Noun, Result};
use crate::domain::names::{Slug, TenantId, TokenId, UserId};
use crate::domain::profile::ProfileId;
use crate::domain::{Permission, Role, Tenant, TokenKind};
use crate::pg::control::token_lines::{self, PRESENTED};
use crate::pg::control::{memberships, tenants};
use crate::pg::error::{During, Failure};
use crate::pg::scope::PublicTx;
use crate::pg::{Param, Row};

/// The precision of `last_used_at`; a write for each use would cost more than it is worth.
pub const LAST_USED_PRECISION: Duration = Duration::minutes(1);

/// The columns of a [`Token`], of the table `tokens` under the name `k`. The aliases keep them apart from a tenant's
/// columns where a query reads both.
pub(in crate::pg) const COLUMNS: &str = "k.id AS token_id, k.hint, k.name AS token_name, k.kind, k.permissions, \
     k.tenant_id, k.profile_id, k.user_id, k.parent_id, k.created_by, k.created_at AS token_created_at, k.expires_at, \
     k.last_used_at, k.revoked_at, k.rotated_at, k.previous_until";

/// An API token, or another stored credential, without its secret.
#[derive(Debug, Clone)]
pub struct Token {
    /// Id.
    pub id: TokenId,
    /// First characters of the secret.
    pub hint: String,
    /// Purpose, as its creator wrote it.
    pub name: String,
    /// Kind.
    pub kind: TokenKind,
    /// Permissions.
    pub permissions: Vec<Permission>,
    /// The only tenant in which it works, if it is bound to one.
    pub tenant: Option<TenantId>,
    /// The only profile that it may read, if it is a person's own token.
    pub profile: Option<ProfileId>,
    /// The user for whom it works: it permits no more than this user may do now. `None` where no user created it.
    pub user: Option<UserId>,
    /// The token or API key that made it, and with which it ends.
    pub parent: Option<TokenId>,
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
    /// When its secret was last replaced.
    pub rotated_at: Option<OffsetDateTime>,
    /// Until when the secret before that is good.
    pub previous_until: Option<OffsetDateTime>,
}

impl Token {
    /// Creates a token that permits nothing and is bound to nothing.
    #[must_use]
    pub fn new(
        kind: TokenKind,
        name: String,
        hint: String,
        created_by: String,
        created_at: OffsetDateTime,
    ) -> Self {
        Self {
            id: TokenId::generate(),
            hint,
            name,
            kind,
            permissions: Vec::new(),
            tenant: None,
            profile: None,
            user: None,
            parent: None,
            created_by,
            created_at,
            expires_at: None,
            last_used_at: None,
            revoked_at: None,
            rotated_at: None,
            previous_until: None,
        }
    }
}

/// Inserts a token. It expires no later than its parent.
///
/// # Errors
/// [`Noun::Tenant`] not found, where it is bound to a tenant that does not exist; [`Noun::User`] not found;
/// [`Error::Unauthenticated`] where its parent does not exist.
pub async fn insert(tx: &PublicTx, token: &Token, digest: &[u8]) -> Result<()> {
    let names: Vec<&str> = if token.permissions == Permission::ALL {
        vec![ALL]
    } else {
        token.permissions.iter().map(|p| p.as_str()).collect()
    };
    tx.execute(
        "INSERT INTO tokens
             (id, digest, hint, name, kind, permissions, tenant_id, profile_id, user_id, parent_id, created_by,
              created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12,
                 least($13, (SELECT p.expires_at FROM tokens p WHERE p.id = $10)))",
        &[
            &token.id,
            &digest,
            &token.hint,
            &token.name,
            &token.kind.as_str(),
            &names,
            &token.tenant,
            &token.profile,
            &token.user,
            &token.parent,
            &token.created_by,
            &token.created_at,
            &token.expires_at,
        ],
    )
    .await
    .map(|_| ())
    .map_err(reference_missing_or("insert token row"))
}

/// Maps a violated foreign key of a new token's row to what is missing.
pub(in crate::pg) fn reference_missing_or(during: &'static str) -> impl Fn(Failure) -> Error {
    move |failure| {
        if failure.violates("tokens_tenant_id_fkey") {
            Error::NotFound(Noun::Tenant)
        } else if failure.violates("tokens_user_id_fkey") {
            Error::NotFound(Noun::User)
        } else if failure.violates("tokens_parent_id_fkey") {
            Error::Unauthenticated(AuthProblem::Invalid)
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
    /// Whether it or a credential from which it descends is revoked.
    pub is_revoked: bool,
    /// When it or the first of the credentials from which it descends expires.
    pub ends_at: Option<OffsetDateTime>,
    /// The tenant to which it is bound, and in which the caller works.
    pub tenant: Option<Tenant>,
    /// The highest role that its user has now where the token works; `None` where there is no role or no user.
    pub role: Option<Role>,
}

/// Finds a token by its digest, valid or not, and records the use of a valid one. The secret before the last rotation
/// is found as well while it is good.
pub async fn use_by_digest(
    tx: PublicTx,
    digest: &[u8],
    now: OffsetDateTime,
) -> Result<Option<Presented>> {
    let sql = format!(
        "{PRESENTED}
         SELECT {COLUMNS}, presented.is_revoked, presented.ends_at, u.platform_role, m.role, {tenant}
           FROM presented
           JOIN tokens k ON k.id = presented.id
           LEFT JOIN tenants t ON t.id = k.tenant_id
           LEFT JOIN users u ON u.id = k.user_id
           LEFT JOIN memberships m ON m.user_id = k.user_id AND m.tenant_id = k.tenant_id",
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
    Ok(Some(Presented {
        token,
        is_revoked: row.get("is_revoked"),
        ends_at: row.get("ends_at"),
        tenant,
        role: memberships::highest_role(row)?,
    }))
}

/// Reads a token or an API key.
pub async fn lookup(tx: &PublicTx, id: TokenId) -> Result<Option<Token>> {
    let sql = format!("SELECT {COLUMNS} FROM tokens k WHERE k.id = $1");
    let row = tx.query_opt(&sql, &[&id]).await.during("read token row")?;
    Ok(row.as_ref().map(from_row))
}

/// The new secret of a token.
#[derive(Debug)]
pub struct NewSecret<'a> {
    /// Digest of the secret.
    pub digest: &'a [u8],
    /// First characters of the secret.
    pub hint: &'a str,
    /// Until when the secret before is good; `None` ends it.
    pub previous_until: Option<OffsetDateTime>,
    /// When the token expires from now on.
    pub expires_at: Option<OffsetDateTime>,
}

/// Replaces the secret of a token that the transaction has locked, and returns the token.
pub async fn rotate(
    tx: &PublicTx,
    id: TokenId,
    secret: &NewSecret<'_>,
    now: OffsetDateTime,
) -> Result<Token> {
    let sql = format!(
        "UPDATE tokens k
            SET previous_digest = CASE WHEN $4 IS NULL THEN NULL ELSE k.digest END,
                previous_until = $4,
                digest = $2,
                hint = $3,
                expires_at = $5,
                rotated_at = $6
          WHERE k.id = $1
      RETURNING {COLUMNS}"
    );
    let params: [&dyn Param; 6] =
        [&id, &secret.digest, &secret.hint, &secret.previous_until, &secret.expires_at, &now];
    let row = tx.query_one(&sql, &params).await.during("replace the secret of a token")?;
    Ok(from_row(&row))
}

/// A token that never expires and that was not used for a long time.
#[derive(Debug, Clone)]
pub struct Unused {
    /// Id.
    pub id: TokenId,
    /// Purpose, as its creator wrote it.
    pub name: String,
    /// The only tenant in which it works, if it is bound to one.
    pub tenant: Option<(TenantId, Slug)>,
}

/// Reads the tokens and API keys that never expire and were neither used nor made since then, oldest first.
pub async fn list_unused(tx: &PublicTx, since: OffsetDateTime, limit: i64) -> Result<Vec<Unused>> {
    let rows = tx
        .query(
            "SELECT k.id, k.name, k.tenant_id, t.slug
               FROM tokens k
               LEFT JOIN tenants t ON t.id = k.tenant_id
              WHERE k.revoked_at IS NULL AND k.expires_at IS NULL AND k.profile_id IS NULL
                AND greatest(k.created_at, k.last_used_at, k.rotated_at) <= $1
              ORDER BY k.created_at, k.id
              LIMIT $2",
            &[&since, &limit],
        )
        .await
        .during("list unused tokens")?;
    let unused = |row: &Row| Unused {
        id: row.get("id"),
        name: row.get("name"),
        tenant: row.get::<_, Option<TenantId>>("tenant_id").zip(row.get("slug")),
    };
    Ok(rows.iter().map(unused).collect())
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

/// Revokes the tokens and API keys that work for a user, in one tenant or everywhere, and all that they made. The
/// caller has locked the user's row; otherwise one that is being created would be missed.
pub async fn revoke_of_user(
    tx: &PublicTx,
    user: UserId,
    only: Option<TenantId>,
    now: OffsetDateTime,
) -> Result<Vec<token_lines::Revoked>> {
    let rows = tx
        .query(token_lines::REVOKE_OF_USER, &[&user, &only, &now])
        .await
        .during("revoke the tokens of a user")?;
    Ok(rows.iter().map(token_lines::revoked_from_row).collect())
}

/// Reads a token or an API key from a row that holds [`COLUMNS`].
pub(in crate::pg) fn from_row(row: &Row) -> Token {
    Token {
        id: row.get("token_id"),
        hint: row.get("hint"),
        name: row.get("token_name"),
        kind: kind(row),
        permissions: permissions(&row.get::<_, Vec<String>>("permissions")),
        tenant: row.get("tenant_id"),
        profile: row.get("profile_id"),
        user: row.get("user_id"),
        parent: row.get("parent_id"),
        created_by: row.get("created_by"),
        created_at: row.get("token_created_at"),
        expires_at: row.get("expires_at"),
        last_used_at: row.get("last_used_at"),
        revoked_at: row.get("revoked_at"),
        rotated_at: row.get("rotated_at"),
        previous_until: row.get("previous_until"),
    }
}

/// Parses the kind. A server before version 22 of the control plane's tables writes a person's token as a token.
fn kind(row: &Row) -> TokenKind {
    match row.get::<_, Option<ProfileId>>("profile_id") {
        Some(_) => TokenKind::Person,
        None => row.get::<_, &str>("kind").parse().unwrap_or(TokenKind::Token),
    }
}

/// The name for every permission, those of later versions included.
pub(in crate::pg) const ALL: &str = "*";

/// Parses a permissions column. A name that this program does not know grants nothing.
fn permissions(names: &[String]) -> Vec<Permission> {
    if names.iter().any(|name| name == ALL) {
        return Permission::ALL.to_vec();
    }
    names.iter().filter_map(|name| name.parse().ok()).collect()
}
