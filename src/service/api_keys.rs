//! Creates, lists and revokes API keys: credentials for programs, each bound to one tenant.
//!
//! A key works for the user who created it. It has the permissions that it was given, and never permits more than
//! that user may do in the tenant now; when the user leaves, it is revoked. So users list and revoke only their
//! own keys, and a caller that acts for no user (the root, an operator's token) manages all keys of the tenant; of
//! these, each those that [`managed`] names. A key cannot create another credential. [`Tokens`](super::Tokens)
//! rotates keys.

use serde_json::json;
use time::OffsetDateTime;

use super::audit::note;
use super::tenants::require_active;
use super::tokens::{
    Lifetimes, check_terms, hold_maker, managed, note_revoked, require_held, require_no_api_key,
};
use crate::auth::CallContext;
use crate::auth::token::{Kind, OpaqueToken};
use crate::domain::error::{Conflict, Error, Noun, Result};
use crate::domain::names::{TenantId, TokenId, TokenName};
use crate::domain::{AuditAction, Permission, TokenKind};
use crate::pg::control::{api_keys, managed_tokens, token_lines};
use crate::pg::{Db, During};

pub use crate::pg::control::api_keys::ApiKey;

/// API keys.
#[derive(Clone)]
pub struct ApiKeys {
    db: Db,
    lifetimes: Lifetimes,
}

/// An API key to create.
#[derive(Debug, Clone)]
pub struct NewApiKey {
    /// Purpose.
    pub name: TokenName,
    /// Permissions; the creator must hold each in the tenant.
    pub permissions: Vec<Permission>,
    /// When it expires, if ever.
    pub expires_at: Option<OffsetDateTime>,
}

impl ApiKeys {
    /// Creates the service on `db`.
    #[must_use]
    pub fn new(db: Db, lifetimes: Lifetimes) -> Self {
        Self { db, lifetimes }
    }

    /// Creates a key that permits no more than its creator may do, and that ends no later than the token with which it
    /// is created.
    ///
    /// # Errors
    /// [`Error::Forbidden`] with the permissions that the creator lacks; [`Error::Invalid`] for no permission, an
    /// expiry in the past or one beyond a limit; [`Noun::Tenant`] not found, also where it is not active.
    pub async fn create(
        &self,
        ctx: &CallContext,
        tenant: TenantId,
        new: NewApiKey,
    ) -> Result<(ApiKey, OpaqueToken)> {
        ctx.require_in(Permission::ManageApiKeys, tenant)?;
        require_no_api_key(ctx)?;
        require_held(ctx, &new.permissions, Some(tenant))?;
        check_terms(&new.permissions, new.expires_at, ctx.now)?;
        self.lifetimes.check(new.expires_at, ctx.now, "expiresAt")?;
        let tx = self.db.public().await.during("create API key")?;
        let maker = hold_maker(&tx, ctx, Some(tenant), &new.permissions).await?;
        require_active(&tx, tenant).await?;
        let expires_at = self.lifetimes.end(new.expires_at, ctx.now, maker.ends_at, "expiresAt")?;
        let secret = OpaqueToken::generate(Kind::ApiKey);
        let key = ApiKey {
            id: TokenId::generate(),
            hint: secret.hint(),
            name: new.name.to_string(),
            permissions: new.permissions,
            tenant,
            user: ctx.principal.user(),
            created_at: ctx.now,
            expires_at,
            last_used_at: None,
            revoked_at: None,
        };
        let label = ctx.principal.label();
        let digest = secret.digest();
        api_keys::insert(&tx, &key, &label, maker.credential, digest.as_bytes()).await?;
        let details = json!({
            "token": key.id, "kind": TokenKind::ApiKey, "permissions": key.permissions,
        });
        note(&tx, ctx, AuditAction::ApiKeyCreate, tenant, details).await?;
        tx.commit().await.during("create API key")?;
        Ok((key, secret))
    }

    /// Returns all keys that the caller manages in this tenant, newest first, revoked ones included.
    ///
    /// # Errors
    /// [`Noun::Tenant`] not found, also where it is not active.
    pub async fn list(&self, ctx: &CallContext, tenant: TenantId) -> Result<Vec<ApiKey>> {
        ctx.require_in(Permission::ManageApiKeys, tenant)?;
        let reach = ctx.reach(Permission::ManageApiKeys)?;
        let tx = self.db.public().await.during("list API keys")?;
        require_active(&tx, tenant).await?;
        api_keys::list(&tx, &managed(ctx, &reach), tenant, ctx.principal.user()).await
    }

    /// Revokes a key at once, in every process.
    ///
    /// # Errors
    /// [`Noun::Token`] not found, also where it belongs to another tenant; [`Error::Forbidden`] where it belongs
    /// to another user or the caller does not manage it; [`Conflict::AlreadyRevoked`].
    pub async fn revoke(&self, ctx: &CallContext, tenant: TenantId, id: TokenId) -> Result<()> {
        ctx.require_in(Permission::ManageApiKeys, tenant)?;
        let reach = ctx.reach(Permission::ManageApiKeys)?;
        let tx = self.db.public().await.during("revoke API key")?;
        require_active(&tx, tenant).await?;
        let key = api_keys::lookup(&tx, tenant, id).await?.ok_or(Error::NotFound(Noun::Token))?;
        let is_managed = managed_tokens::lookup(&tx, &managed(ctx, &reach), id).await?.is_some();
        if !is_managed || ctx.principal.user().is_some_and(|user| key.user != Some(user)) {
            return Err(Error::Forbidden { missing: Vec::new() });
        }
        let ended = token_lines::revoke(&tx, id, ctx.now).await?;
        if ended.iter().all(|token| token.id != id) {
            return Err(Error::Conflict(Conflict::AlreadyRevoked));
        }
        note_revoked(&tx, ctx, id, &ended).await?;
        tx.commit().await.during("revoke API key")
    }
}
