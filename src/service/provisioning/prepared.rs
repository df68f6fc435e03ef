//! Writes what one set-up makes, but for its schema.

use serde_json::json;

use crate::auth::CallContext;
use crate::auth::password::PasswordHash;
use crate::auth::token::{Kind, OpaqueToken};
use crate::domain::Permission;
use crate::domain::error::Result;
use crate::domain::names::{TenantId, TokenId, UserId};
use crate::pg::PublicTx;
use crate::pg::control::tenant_setup::{self, NewTenant, Newcomer};
use crate::pg::control::tokens::{self, Token};
use crate::service::audit::event;
use crate::service::provisioning::command::{Admin, Extras, ProvisionTenant};

/// What a set-up goes by.
pub(super) struct Order {
    pub(super) ctx: CallContext,
    /// Who asks, as the audit trail and the idempotency keys say it.
    pub(super) actor: String,
    pub(super) wish: ProvisionTenant,
    pub(super) extras: Extras,
    /// The password of whoever may be new.
    pub(super) hash: Option<PasswordHash>,
}

impl Order {
    /// Whether one statement writes all that there is to write.
    pub(super) fn is_plain(&self) -> bool {
        self.wish.idempotency_key.is_none() && !self.wish.with_token
    }

    /// The rows of the tenant.
    pub(super) fn rows(&self) -> NewTenant<'_> {
        let Self { ctx, wish, extras, .. } = self;
        let details = json!({ "slug": wish.slug, "name": wish.name });
        NewTenant {
            slug: &wish.slug,
            name: &wish.name,
            org: wish.org.as_deref(),
            contact: wish.contact.as_ref(),
            external_id: extras.external_id.as_ref(),
            settings: &extras.settings,
            admin: self.admin(),
            event: event(ctx, &self.actor, "tenant.create", None, details),
        }
    }

    fn admin(&self) -> tenant_setup::Admin<'_> {
        match &self.wish.admin {
            Admin::Nobody => tenant_setup::Admin::Nobody,
            Admin::Existing(email) => tenant_setup::Admin::Existing(email),
            Admin::NewOrExisting(admin) => tenant_setup::Admin::NewOrExisting(Newcomer {
                id: UserId::generate(),
                email: &admin.email,
                first_name: &admin.first_name,
                last_name: &admin.last_name,
                password_hash: self.hash.as_ref().map(PasswordHash::as_str),
            }),
        }
    }

    /// Makes the token that may do everything in the tenant and nothing outside of it, where one is
    /// wished for. It never expires.
    pub(super) async fn make_token(
        &self,
        tx: &PublicTx,
        tenant: TenantId,
    ) -> Result<Option<OpaqueToken>> {
        if !self.wish.with_token {
            return Ok(None);
        }
        let secret = OpaqueToken::generate(Kind::Uuid);
        let token = Token {
            id: TokenId::generate(),
            hint: secret.hint(),
            name: "the tenant's own".to_owned(),
            permissions: Permission::ALL.to_vec(),
            tenant: Some(tenant),
            profile: None,
            // It is the tenant's, and stays when whoever set it up leaves.
            user: None,
            created_by: self.actor.clone(),
            created_at: self.ctx.now,
            expires_at: None,
            last_used_at: None,
            revoked_at: None,
        };
        tokens::insert(tx, &token, secret.digest().as_bytes()).await?;
        Ok(Some(secret))
    }
}
