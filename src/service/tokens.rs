//! Creates, lists and revokes API tokens.
//!
//! The token is shown to its creator once; only its digest is stored.
//!
//! A token that a user creates, also by means of another token, works for that user: it never permits more than
//! the user may do now, and it is revoked when the user leaves the tenant to which it is bound or when their
//! password is reset. A token that the root or the operator creates works for no user and stays. Both kinds of
//! revocation lock the user's row before they look for tokens, and the creation of a token locks it too
//! ([`hold_maker`]), so that no token is missed.

use serde_json::json;
use time::OffsetDateTime;

use super::audit::note;
use crate::auth::context::Reach;
use crate::auth::token::{Kind, OpaqueToken};
use crate::auth::{CallContext, Principal};
use crate::domain::Permission;
use crate::domain::error::{AuthProblem, Error, Noun, Result};
use crate::domain::names::{TenantId, TokenId, TokenName, UserId};
use crate::domain::page::{Cursor, Page, Window};
use crate::domain::rule::Rule;
use crate::pg::control::{memberships, sessions, tenants, tokens, users};
use crate::pg::{Db, During, PublicTx};

pub use crate::pg::control::tokens::Token;

/// API tokens.
#[derive(Clone)]
pub struct Tokens {
    db: Db,
}

/// A token to create.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// Purpose.
    pub name: String,
    /// Permissions; the creator must hold each.
    pub permissions: Vec<Permission>,
    /// When it expires, if ever.
    pub expires_at: Option<OffsetDateTime>,
    /// The only tenant in which it works, if it is bound to one.
    pub tenant: Option<TenantId>,
}

impl Tokens {
    /// Creates the service on `db`.
    #[must_use]
    pub fn new(db: Db) -> Self {
        Self { db }
    }

    /// Creates a token that permits no more than its creator may do.
    ///
    /// # Errors
    /// [`Error::Forbidden`] with the permissions that the creator lacks; [`Error::Invalid`] for a bad name, no
    /// permission or an expiry in the past; [`Noun::Tenant`] not found.
    pub async fn create(&self, ctx: &CallContext, new: NewToken) -> Result<(Token, OpaqueToken)> {
        require_where_it_works(ctx, Permission::ManageApiKeys, new.tenant)?;
        require_no_api_key(ctx)?;
        require_held(ctx, &new.permissions, new.tenant)?;
        TokenName::parse(&new.name).map_err(|rule| Error::invalid("name", rule))?;
        check_terms(&new.permissions, new.expires_at, ctx.now)?;
        let secret = OpaqueToken::generate(Kind::Api);
        let token = Token {
            id: TokenId::generate(),
            hint: secret.hint(),
            name: new.name,
            permissions: new.permissions,
            tenant: new.tenant,
            profile: None,
            user: ctx.principal.user(),
            created_by: ctx.principal.label(),
            created_at: ctx.now,
            expires_at: new.expires_at,
            last_used_at: None,
            revoked_at: None,
        };
        let tx = self.db.public().await.during("create token")?;
        hold_maker(&tx, ctx, token.tenant, &token.permissions).await?;
        tokens::insert(&tx, &token, secret.digest().as_bytes()).await?;
        note(&tx, ctx, "token.create", token.tenant, json!({ "token": token.id })).await?;
        tx.commit().await.during("create token")?;
        Ok((token, secret))
    }

    /// Returns all tokens, oldest first, without their secrets.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn list(&self, ctx: &CallContext) -> Result<Vec<Token>> {
        ctx.require(Permission::ManageApiKeys)?;
        let tx = self.db.public().await.during("list tokens")?;
        tokens::list(&tx, None, None).await
    }

    /// Returns a page of the tokens that the caller may manage, oldest first, without their secrets. For the admin
    /// of some tenants these are the tokens that are bound to one of those tenants.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn page(&self, ctx: &CallContext, window: &Window) -> Result<Page<Token>> {
        let reach = ctx.reach(Permission::ManageApiKeys)?;
        let tx = self.db.public().await.during("list tokens")?;
        let rows = tokens::list(&tx, reach.limits(), Some(window)).await?;
        Ok(Page::cut(rows, window, |token| Cursor { at: token.created_at, id: token.id.uuid() }))
    }

    /// Revokes a token that the caller may manage, at once and in every process, and returns it. A second
    /// revocation changes nothing.
    ///
    /// # Errors
    /// [`Noun::Token`] not found, also where it exists and the caller may not manage it.
    pub async fn revoke(&self, ctx: &CallContext, id: TokenId) -> Result<Token> {
        let reach = ctx.reach(Permission::ManageApiKeys)?;
        let tx = self.db.public().await.during("revoke token")?;
        let within = |token: &Token| match token.tenant {
            Some(tenant) => reach.covers(tenant),
            None => reach == Reach::Everything,
        };
        let token = tokens::lookup(&tx, id).await?.filter(within);
        let token = token.ok_or(Error::NotFound(Noun::Token))?;
        if token.revoked_at.is_some() {
            return Ok(token);
        }
        let token = tokens::revoke(&tx, id, ctx.now).await?.ok_or(Error::NotFound(Noun::Token))?;
        note(&tx, ctx, "token.revoke", token.tenant, json!({ "token": id })).await?;
        tx.commit().await.during("revoke token")?;
        Ok(token)
    }
}

/// Refuses unless the caller holds the permission where the token works: in one tenant, or everywhere.
fn require_where_it_works(
    ctx: &CallContext,
    permission: Permission,
    tenant: Option<TenantId>,
) -> Result<()> {
    match tenant {
        Some(tenant) => ctx.require_in(permission, tenant),
        None => ctx.require(permission),
    }
}

/// Refuses a caller with an API key: a credential that it created would stay when the key is revoked, or when its
/// user leaves.
pub(super) fn require_no_api_key(ctx: &CallContext) -> Result<()> {
    match ctx.principal {
        Principal::ApiKey { .. } => Err(Error::Forbidden { missing: Vec::new() }),
        _ => Ok(()),
    }
}

/// Locks the tenant and the user for whom a credential is being created until the transaction ends. Refuses
/// where the creator's own credential has ended or their role has changed since the request arrived, because the
/// transaction that ended it cannot see a credential that is written later.
///
/// # Errors
/// [`Error::Unauthenticated`], [`Error::Forbidden`] with the missing permissions, [`Noun::Tenant`] not found.
pub(super) async fn hold_maker(
    tx: &PublicTx,
    ctx: &CallContext,
    tenant: Option<TenantId>,
    permissions: &[Permission],
) -> Result<()> {
    let Some(user) = ctx.principal.user() else { return Ok(()) };
    let ended = || Error::Unauthenticated(AuthProblem::Invalid);
    // The tenant first: the removal of a member locks in this order.
    if let Some(tenant) = tenant
        && !tenants::hold(tx, tenant).await?
    {
        return Err(Error::NotFound(Noun::Tenant));
    }
    if !users::hold(tx, user).await? {
        return Err(ended());
    }
    let is_good = match &ctx.principal {
        Principal::User { session, .. } => sessions::is_open(tx, *session).await?,
        Principal::Token { id, .. } | Principal::ApiKey { id, .. } => {
            tokens::is_kept(tx, *id).await?
        }
        Principal::Anonymous
        | Principal::Root
        | Principal::Operator
        | Principal::Profile { .. } => true,
    };
    if !is_good {
        return Err(ended());
    }
    let role = memberships::role_in(tx, user, tenant).await?;
    let grants = |permission: &Permission| role.is_some_and(|role| role.grants(*permission));
    let missing: Vec<_> = permissions.iter().copied().filter(|p| !grants(p)).collect();
    if missing.is_empty() { Ok(()) } else { Err(Error::Forbidden { missing }) }
}

/// Revokes the tokens and API keys that work for a user, in one tenant or everywhere, and writes an audit event
/// for each. Returns how many were revoked. The caller has locked the user's row.
pub(super) async fn end_of_user(
    tx: &PublicTx,
    ctx: &CallContext,
    user: UserId,
    only: Option<TenantId>,
    reason: &'static str,
) -> Result<usize> {
    let ended = tokens::revoke_of_user(tx, user, only, ctx.now).await?;
    for token in &ended {
        let action = if token.is_api_key { "api_key.revoke" } else { "token.revoke" };
        let details = json!({ "token": token.id, "user": user, "reason": reason });
        note(tx, ctx, action, token.tenant, details).await?;
    }
    Ok(ended.len())
}

/// Refuses permissions that the caller does not hold where the new credential works.
pub(super) fn require_held(
    ctx: &CallContext,
    permissions: &[Permission],
    tenant: Option<TenantId>,
) -> Result<()> {
    let missing: Vec<_> = permissions
        .iter()
        .copied()
        .filter(|permission| require_where_it_works(ctx, *permission, tenant).is_err())
        .collect();
    if missing.is_empty() { Ok(()) } else { Err(Error::Forbidden { missing }) }
}

/// Refuses a new credential without permissions and one that has expired already.
pub(super) fn check_terms(
    permissions: &[Permission],
    expires_at: Option<OffsetDateTime>,
    now: OffsetDateTime,
) -> Result<()> {
    if permissions.is_empty() {
        return Err(Error::invalid("permissions", Rule::Required));
    }
    if expires_at.is_some_and(|end| end <= now) {
        return Err(Error::invalid("expiresAt", Rule::Past));
    }
    Ok(())
}
