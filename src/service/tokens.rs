//! Creates, lists, rotates and revokes API tokens, and lists, rotates and revokes the other stored credentials: API
//! keys, the tenants' own tokens and the own tokens of people.
//!
//! The token is shown to its creator once; only its digest is stored.
//!
//! A token that a user creates, also by means of another token, works for that user: it never permits more than
//! the user may do now, and it is revoked when the user leaves the tenant to which it is bound or when their
//! password is reset. A token that the root or the operator creates works for no user and stays. Both kinds of
//! revocation lock the user's row before they look for tokens, and the creation of a token locks it too
//! ([`hold_maker`]), so that no token is missed.
//!
//! A credential that a token or an API key creates ends no later than that one, and with it. [`mod@managed`] decides who
//! sees and revokes which, [`lifetime`] when one expires.

mod lifetime;
mod managed;
mod rotation;

use serde_json::json;
use time::OffsetDateTime;

use super::audit::note;
use super::tenants::{active_part, require_active};
use crate::auth::token::{Kind, OpaqueToken};
use crate::auth::{CallContext, Principal};
use crate::domain::error::{AuthProblem, Conflict, Error, Noun, Result};
use crate::domain::names::{TenantId, TokenId, TokenName, UserId};
use crate::domain::page::{Cursor, Page, Window};
use crate::domain::rule::Rule;
use crate::domain::{AuditAction, Permission, TokenKind};
use crate::pg::control::{
    managed_tokens, memberships, sessions, tenants, token_lines, tokens, users,
};
use crate::pg::{Db, During, PublicTx};

pub use self::lifetime::{Lifetimes, OVERLAP_MAX};
pub(super) use self::managed::managed;
pub use self::rotation::Rotation;
pub use crate::pg::control::managed_tokens::{Filter, TokenState};
pub use crate::pg::control::tokens::Token;

/// The most members of a line: a token, what it made, what that made, and so on. Each use of a token reads its line.
const GENERATIONS_MAX: usize = 16;

/// API tokens.
#[derive(Clone)]
pub struct Tokens {
    db: Db,
    lifetimes: Lifetimes,
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
    pub fn new(db: Db, lifetimes: Lifetimes) -> Self {
        Self { db, lifetimes }
    }

    /// Creates a token that permits no more than its creator may do, and that ends no later than the token with which
    /// it is created.
    ///
    /// # Errors
    /// [`Error::Forbidden`] with the permissions that the creator lacks; [`Error::Invalid`] for a bad name, no
    /// permission, an expiry in the past or one beyond a limit; [`Noun::Tenant`] not found;
    /// [`Conflict::TooManyGenerations`].
    pub async fn create(&self, ctx: &CallContext, new: NewToken) -> Result<(Token, OpaqueToken)> {
        require_where_it_works(ctx, Permission::ManageApiKeys, new.tenant)?;
        require_no_api_key(ctx)?;
        require_held(ctx, &new.permissions, new.tenant)?;
        TokenName::parse(&new.name).map_err(|rule| Error::invalid("name", rule))?;
        check_terms(&new.permissions, new.expires_at, ctx.now)?;
        self.lifetimes.check(new.expires_at, ctx.now, "expiresAt")?;
        let tx = self.db.public().await.during("create token")?;
        let maker = hold_maker(&tx, ctx, new.tenant, &new.permissions).await?;
        require_open(&tx, ctx, new.tenant).await?;
        let expires_at = self.lifetimes.end(new.expires_at, ctx.now, maker.ends_at, "expiresAt")?;
        let secret = OpaqueToken::generate(Kind::Api);
        let (hint, label) = (secret.hint(), ctx.principal.label());
        let token = Token {
            permissions: new.permissions,
            tenant: new.tenant,
            user: ctx.principal.user(),
            parent: maker.credential,
            expires_at,
            ..Token::new(TokenKind::Token, new.name, hint, label, ctx.now)
        };
        tokens::insert(&tx, &token, secret.digest().as_bytes()).await?;
        note(
            &tx,
            ctx,
            AuditAction::TokenCreate,
            token.tenant,
            json!({ "token": token.id, "kind": token.kind }),
        )
        .await?;
        tx.commit().await.during("create token")?;
        Ok((token, secret))
    }

    /// Returns all tokens but the own ones of people, oldest first, without their secrets.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn list(&self, ctx: &CallContext) -> Result<Vec<Token>> {
        ctx.require(Permission::ManageApiKeys)?;
        self.list_filtered(ctx, &Filter::default()).await
    }

    /// Returns all tokens that pass the filter, oldest first, without their secrets.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn list_filtered(&self, ctx: &CallContext, filter: &Filter) -> Result<Vec<Token>> {
        ctx.require(Permission::ManageApiKeys)?;
        let reach = ctx.reach(Permission::ManageApiKeys)?;
        let tx = self.db.public().await.during("list tokens")?;
        managed_tokens::list(&tx, &managed(ctx, &reach), filter, None).await
    }

    /// Returns a page of the tokens and API keys that the caller manages and that pass the filter, oldest first, without
    /// their secrets.
    ///
    /// # Errors
    /// [`Noun::Tenant`] not found where the filter names a tenant in which the caller manages none, and where the
    /// caller's rights come from tenants that are not active.
    pub async fn page(
        &self,
        ctx: &CallContext,
        filter: &Filter,
        window: &Window,
    ) -> Result<Page<Token>> {
        let reach = ctx.reach(Permission::ManageApiKeys)?;
        let tx = self.db.public().await.during("list tokens")?;
        let reach = active_part(&tx, reach).await?;
        if filter.tenant.is_some_and(|tenant| !reach.covers(tenant)) {
            return Err(Error::NotFound(Noun::Tenant));
        }
        let rows = managed_tokens::list(&tx, &managed(ctx, &reach), filter, Some(window)).await?;
        Ok(Page::cut(rows, window, |token| Cursor { at: token.created_at, id: token.id.uuid() }))
    }

    /// Revokes a token that the caller manages and all that it made, at once and in every process, and returns it. A
    /// second revocation changes nothing.
    ///
    /// # Errors
    /// [`Noun::Token`] not found, also where it exists and the caller does not manage it.
    pub async fn revoke(&self, ctx: &CallContext, id: TokenId) -> Result<Token> {
        let reach = ctx.reach(Permission::ManageApiKeys)?;
        let tx = self.db.public().await.during("revoke token")?;
        let reach = active_part(&tx, reach).await?;
        let missing = || Error::NotFound(Noun::Token);
        managed_tokens::lookup(&tx, &managed(ctx, &reach), id).await?.ok_or_else(missing)?;
        let ended = token_lines::revoke(&tx, id, ctx.now).await?;
        let token = tokens::lookup(&tx, id).await?.ok_or_else(missing)?;
        note_revoked(&tx, ctx, id, &ended).await?;
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

/// Refuses a caller with an API key: a key is for one program in one tenant, and creates no other credential.
pub(super) fn require_no_api_key(ctx: &CallContext) -> Result<()> {
    match ctx.principal {
        Principal::ApiKey { .. } => Err(Error::Forbidden { missing: Vec::new() }),
        _ => Ok(()),
    }
}

/// The maker of a credential, as far as the credential depends on it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Maker {
    /// The token with which it is made; `None` if a user in person, the root or the operator makes it.
    pub(super) credential: Option<TokenId>,
    /// When that token ends.
    pub(super) ends_at: Option<OffsetDateTime>,
}

/// Locks the tenant and the user for whom a credential is being created, and the credential with which it is created,
/// until the transaction ends. Refuses where the creator's own credential has ended or their role has changed since the
/// request arrived, because the transaction that ended it cannot see a credential that is written later.
///
/// # Errors
/// [`Error::Unauthenticated`], [`Error::Forbidden`] with the missing permissions, [`Noun::Tenant`] not found,
/// [`Conflict::TooManyGenerations`].
pub(super) async fn hold_maker(
    tx: &PublicTx,
    ctx: &CallContext,
    tenant: Option<TenantId>,
    permissions: &[Permission],
) -> Result<Maker> {
    hold_user(tx, ctx, tenant).await?;
    let mut ends_at = None;
    if let Some(id) = ctx.principal.credential() {
        let line = token_lines::hold(tx, id).await?;
        if !line.is_good(ctx.now) {
            return Err(Error::Unauthenticated(AuthProblem::Invalid));
        }
        if line.len() >= GENERATIONS_MAX {
            return Err(Error::Conflict(Conflict::TooManyGenerations));
        }
        ends_at = line.ends_at();
    }
    require_role(tx, ctx, tenant, permissions).await?;
    Ok(Maker { credential: ctx.principal.credential(), ends_at })
}

/// Locks the tenant and the user for whom the caller works, if it works for one, and refuses where the user or the
/// session has ended since the request arrived.
async fn hold_user(tx: &PublicTx, ctx: &CallContext, tenant: Option<TenantId>) -> Result<()> {
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
    match &ctx.principal {
        Principal::User { session, .. } if !sessions::is_open(tx, *session).await? => Err(ended()),
        _ => Ok(()),
    }
}

/// Refuses where the user for whom the caller works does not hold the permissions now. The user's row is locked.
async fn require_role(
    tx: &PublicTx,
    ctx: &CallContext,
    tenant: Option<TenantId>,
    permissions: &[Permission],
) -> Result<()> {
    let Some(user) = ctx.principal.user() else { return Ok(()) };
    let role = memberships::role_in(tx, user, tenant).await?;
    let grants = |permission: &Permission| role.is_some_and(|role| role.grants(*permission));
    let missing: Vec<_> = permissions.iter().copied().filter(|p| !grants(p)).collect();
    if missing.is_empty() { Ok(()) } else { Err(Error::Forbidden { missing }) }
}

/// Refuses a tenant that is not active, to a caller who manages tokens in some tenants only: such a tenant is closed to
/// its own members.
async fn require_open(tx: &PublicTx, ctx: &CallContext, tenant: Option<TenantId>) -> Result<()> {
    match tenant {
        Some(tenant) if !ctx.principal.may(Permission::ManageApiKeys) => {
            require_active(tx, tenant).await
        }
        _ => Ok(()),
    }
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
        let details =
            json!({ "token": token.id, "kind": token.kind, "user": user, "reason": reason });
        note(tx, ctx, revoke_action(token.kind), token.tenant, details).await?;
    }
    Ok(ended.len())
}

/// Writes an audit event for a revoked token, and for each that ended with it. The own tokens of people, which can be
/// very many, are counted in the first event and have none.
pub(super) async fn note_revoked(
    tx: &PublicTx,
    ctx: &CallContext,
    id: TokenId,
    ended: &[token_lines::Revoked],
) -> Result<()> {
    let is_below = |token: &&token_lines::Revoked| token.id != id;
    let of_people = ended.iter().filter(is_below).filter(|t| t.kind == TokenKind::Person).count();
    for token in ended {
        let details = if token.id != id {
            if token.kind == TokenKind::Person {
                continue;
            }
            json!({ "token": token.id, "kind": token.kind, "parent": id, "reason": "parent.revoke" })
        } else if of_people > 0 {
            json!({ "token": token.id, "kind": token.kind, "tokens_of_people_ended": of_people })
        } else {
            json!({ "token": token.id, "kind": token.kind })
        };
        note(tx, ctx, revoke_action(token.kind), token.tenant, details).await?;
    }
    Ok(())
}

fn revoke_action(kind: TokenKind) -> AuditAction {
    match kind {
        TokenKind::ApiKey => AuditAction::ApiKeyRevoke,
        TokenKind::Token | TokenKind::Xtoken | TokenKind::Person => AuditAction::TokenRevoke,
    }
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
