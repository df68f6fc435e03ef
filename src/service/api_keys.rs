//! Makes, lists and revokes API keys: credentials for programs, each bound to one tenant.
//!
//! A key works for the user who made it. It may do what it was given, and never more than that user may do
//! in the tenant now; when they leave, it ends. So it is listed to them and revoked by them; whoever acts
//! for no user (the root, an operator's token) manages all keys of the tenant. A key makes no other
//! credential: revoking it would leave that one behind.

use serde_json::json;
use time::OffsetDateTime;

use super::audit::note;
use super::tenants::require_active;
use super::tokens::{hold_maker, require_no_api_key};
use crate::auth::CallContext;
use crate::auth::token::{Kind, OpaqueToken};
use crate::domain::Permission;
use crate::domain::error::{Conflict, Error, Noun, Result, Rule};
use crate::domain::names::{TenantId, TokenId, TokenName};
use crate::pg::control::api_keys;
use crate::pg::{Db, During};

pub use crate::pg::control::api_keys::ApiKey;

/// API keys.
#[derive(Clone)]
pub struct ApiKeys {
    db: Db,
}

/// The wish for a key.
#[derive(Debug, Clone)]
pub struct NewApiKey {
    /// What it is for.
    pub name: TokenName,
    /// What it may do; the maker must hold each in the tenant.
    pub permissions: Vec<Permission>,
    /// When it ends, if it does.
    pub expires_at: Option<OffsetDateTime>,
}

impl ApiKeys {
    /// Works through `db`.
    #[must_use]
    pub fn new(db: Db) -> Self {
        Self { db }
    }

    /// Makes a key that can do no more than its maker.
    ///
    /// # Errors
    /// [`Error::Forbidden`] naming what the maker lacks; [`Error::Invalid`] for no permission or an end in
    /// the past; [`Noun::Tenant`] not found, also where it does not answer.
    pub async fn create(
        &self,
        ctx: &CallContext,
        tenant: TenantId,
        wish: NewApiKey,
    ) -> Result<(ApiKey, OpaqueToken)> {
        ctx.require_in(Permission::ManageApiKeys, tenant)?;
        require_no_api_key(ctx)?;
        let lacking: Vec<_> = wish
            .permissions
            .iter()
            .copied()
            .filter(|permission| !ctx.principal.may_in(*permission, tenant))
            .collect();
        if !lacking.is_empty() {
            return Err(Error::Forbidden { missing: lacking });
        }
        if wish.permissions.is_empty() {
            return Err(Error::invalid("permissions", Rule::Required));
        }
        if wish.expires_at.is_some_and(|end| end <= ctx.now) {
            return Err(Error::invalid("expiresAt", Rule::Past));
        }
        let secret = OpaqueToken::generate(Kind::ApiKey);
        let key = ApiKey {
            id: TokenId::generate(),
            hint: secret.hint(),
            name: wish.name.to_string(),
            permissions: wish.permissions,
            tenant,
            user: ctx.principal.user(),
            created_at: ctx.now,
            expires_at: wish.expires_at,
            last_used_at: None,
            revoked_at: None,
        };
        let tx = self.db.public().await.during("create API key")?;
        hold_maker(&tx, ctx, Some(tenant), &key.permissions).await?;
        require_active(&tx, tenant).await?;
        let label = ctx.principal.label();
        api_keys::insert(&tx, &key, &label, secret.digest().as_bytes()).await?;
        let details = json!({ "token": key.id, "permissions": key.permissions });
        note(&tx, ctx, "api_key.create", tenant, details).await?;
        tx.commit().await.during("create API key")?;
        Ok((key, secret))
    }

    /// The keys that the caller manages in this tenant, newest first, revoked ones too; all of them, never
    /// a part.
    ///
    /// # Errors
    /// [`Noun::Tenant`] not found, also where it does not answer.
    pub async fn list(&self, ctx: &CallContext, tenant: TenantId) -> Result<Vec<ApiKey>> {
        ctx.require_in(Permission::ManageApiKeys, tenant)?;
        let tx = self.db.public().await.during("list API keys")?;
        require_active(&tx, tenant).await?;
        api_keys::list(&tx, tenant, ctx.principal.user()).await
    }

    /// Ends a key at once, in every process.
    ///
    /// # Errors
    /// [`Noun::Token`] not found, also where it is another tenant's; [`Error::Forbidden`] where it is
    /// another user's; [`Conflict::AlreadyRevoked`].
    pub async fn revoke(&self, ctx: &CallContext, tenant: TenantId, id: TokenId) -> Result<()> {
        ctx.require_in(Permission::ManageApiKeys, tenant)?;
        let tx = self.db.public().await.during("revoke API key")?;
        require_active(&tx, tenant).await?;
        let key = api_keys::lookup(&tx, tenant, id).await?.ok_or(Error::NotFound(Noun::Token))?;
        if ctx.principal.user().is_some_and(|user| key.user != Some(user)) {
            return Err(Error::Forbidden { missing: Vec::new() });
        }
        if !api_keys::revoke(&tx, tenant, id, ctx.now).await? {
            return Err(Error::Conflict(Conflict::AlreadyRevoked));
        }
        note(&tx, ctx, "api_key.revoke", tenant, json!({ "token": id })).await?;
        tx.commit().await.during("revoke API key")
    }
}
