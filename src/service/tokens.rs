//! Makes, lists and revokes API tokens.
//!
//! The token is shown to its maker once; what is kept is its digest.
//!
//! A token that a user makes, also by way of another token, works for that user: it never may do more than
//! they may now, and ends when they leave the tenant that it is bound to or when somebody resets their
//! password. One that the root or the operator makes works for nobody and stays. Both ways to end hold the
//! user's row before they look for tokens, and whoever makes one holds it too ([`hold_maker`]), so that none
//! slips through between.

use serde_json::json;
use time::OffsetDateTime;

use super::audit::note;
use crate::auth::context::Reach;
use crate::auth::token::{Kind, OpaqueToken};
use crate::auth::{CallContext, Principal};
use crate::domain::Permission;
use crate::domain::error::{AuthProblem, Error, Noun, Result, Rule};
use crate::domain::names::{NAME_MAX, TenantId, TokenId, UserId};
use crate::domain::page::{Cursor, Page, Window};
use crate::pg::control::{memberships, sessions, tenants, tokens, users};
use crate::pg::{Db, During, PublicTx};

pub use crate::pg::control::tokens::Token;

/// API tokens.
#[derive(Clone)]
pub struct Tokens {
    db: Db,
}

/// The wish for a token.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// What it is for.
    pub name: String,
    /// What it may do; the maker must hold each.
    pub permissions: Vec<Permission>,
    /// When it ends, if it does.
    pub expires_at: Option<OffsetDateTime>,
    /// The one tenant that it works in.
    pub tenant: Option<TenantId>,
}

impl Tokens {
    /// Works through `db`.
    #[must_use]
    pub fn new(db: Db) -> Self {
        Self { db }
    }

    /// Makes a token that can do no more than its maker.
    ///
    /// # Errors
    /// [`Error::Forbidden`] naming what the maker lacks; [`Error::Invalid`] for a bad name, no permission
    /// or an end in the past; [`Noun::Tenant`] not found.
    pub async fn create(&self, ctx: &CallContext, wish: NewToken) -> Result<(Token, OpaqueToken)> {
        require_in(ctx, Permission::ManageApiKeys, wish.tenant)?;
        require_no_api_key(ctx)?;
        let lacking: Vec<_> = wish
            .permissions
            .iter()
            .copied()
            .filter(|permission| require_in(ctx, *permission, wish.tenant).is_err())
            .collect();
        if !lacking.is_empty() {
            return Err(Error::Forbidden { missing: lacking });
        }
        check(&wish, ctx.now)?;
        let secret = OpaqueToken::generate(Kind::Api);
        let token = Token {
            id: TokenId::generate(),
            hint: secret.hint(),
            name: wish.name,
            permissions: wish.permissions,
            tenant: wish.tenant,
            profile: None,
            user: ctx.principal.user(),
            created_by: ctx.principal.label(),
            created_at: ctx.now,
            expires_at: wish.expires_at,
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

    /// All tokens, oldest first, without their secrets.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn list(&self, ctx: &CallContext) -> Result<Vec<Token>> {
        ctx.require(Permission::ManageApiKeys)?;
        let tx = self.db.public().await.during("list tokens")?;
        tokens::list(&tx).await
    }

    /// A part of the tokens that the caller may manage, oldest first, without their secrets: all of them,
    /// or for the admin of some tenants those that are bound to one of these.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn page(&self, ctx: &CallContext, window: &Window) -> Result<Page<Token>> {
        let reach = ctx.reach(Permission::ManageApiKeys)?;
        let tx = self.db.public().await.during("list tokens")?;
        let rows = tokens::page(&tx, reach.limits(), window).await?;
        Ok(Page::cut(rows, window, |token| Cursor { at: token.created_at, id: token.id.uuid() }))
    }

    /// Ends a token that the caller may manage, as [`Tokens::revoke`] does; answers it.
    ///
    /// # Errors
    /// [`Noun::Token`] not found, also where it exists and the caller may not know.
    pub async fn end(&self, ctx: &CallContext, id: TokenId) -> Result<Token> {
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
        tokens::revoke(&tx, id, ctx.now).await?;
        note(&tx, ctx, "token.revoke", token.tenant, json!({ "token": id })).await?;
        tx.commit().await.during("revoke token")?;
        Ok(Token { revoked_at: Some(ctx.now), ..token })
    }

    /// Ends a token at once, in every process. Revoking twice is as good as once.
    ///
    /// # Errors
    /// [`Noun::Token`] not found.
    pub async fn revoke(&self, ctx: &CallContext, id: TokenId) -> Result<()> {
        ctx.require(Permission::ManageApiKeys)?;
        let tx = self.db.public().await.during("revoke token")?;
        let token = tokens::revoke(&tx, id, ctx.now).await?.ok_or(Error::NotFound(Noun::Token))?;
        note(&tx, ctx, "token.revoke", token.tenant, json!({ "token": id })).await?;
        tx.commit().await.during("revoke token")
    }
}

/// Refuses unless the caller holds the permission where the token is to work.
fn require_in(ctx: &CallContext, permission: Permission, tenant: Option<TenantId>) -> Result<()> {
    match tenant {
        Some(tenant) if ctx.principal.may_in(permission, tenant) => Ok(()),
        Some(_) | None => ctx.require(permission),
    }
}

/// Refuses a caller with an API key: what one made would stay when it is revoked, or when its person leaves.
pub(super) fn require_no_api_key(ctx: &CallContext) -> Result<()> {
    match ctx.principal {
        Principal::ApiKey { .. } => Err(Error::Forbidden { missing: Vec::new() }),
        _ => Ok(()),
    }
}

/// Holds the tenant and the user for whom a credential is being made until the transaction ends, and refuses
/// where the maker's own credential has ended or their role has changed since the request came: what ends
/// credentials would not see one that is written later.
///
/// # Errors
/// [`Error::Unauthenticated`], [`Error::Forbidden`] naming what is lacking, [`Noun::Tenant`] not found.
pub(super) async fn hold_maker(
    tx: &PublicTx,
    ctx: &CallContext,
    tenant: Option<TenantId>,
    permissions: &[Permission],
) -> Result<()> {
    let Some(user) = ctx.principal.user() else { return Ok(()) };
    let ended = || Error::Unauthenticated(AuthProblem::Invalid);
    // The tenant first, as those do who remove a member.
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

/// Ends the tokens and API keys that work for a user, in one tenant or everywhere, and says so of each; tells
/// how many there were. The user is to be held.
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

fn check(wish: &NewToken, now: OffsetDateTime) -> Result<()> {
    if wish.name.trim().is_empty() {
        return Err(Error::invalid("name", Rule::Required));
    }
    if wish.name.chars().count() > NAME_MAX {
        return Err(Error::invalid("name", Rule::TooLong(NAME_MAX)));
    }
    if wish.name.chars().any(char::is_control) {
        return Err(Error::invalid("name", Rule::ControlCharacter));
    }
    if wish.permissions.is_empty() {
        return Err(Error::invalid("permissions", Rule::Required));
    }
    if wish.expires_at.is_some_and(|end| end <= now) {
        return Err(Error::invalid("expiresAt", Rule::Past));
    }
    Ok(())
}
