//! A set-up that is ready to be written: its command, who gives it and the hashed password. Writes everything that a
//! set-up makes except the schema.

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::auth::CallContext;
use crate::auth::password::PasswordHash;
use crate::auth::token::{Kind, OpaqueToken};
use crate::domain::error::Result;
use crate::domain::names::{TenantId, UserId};
use crate::domain::{AccountOrigin, AuditAction, Permission, TokenKind};
use crate::pg::PublicTx;
use crate::pg::control::shared_setup::SharedSetup;
use crate::pg::control::tenant_setup::{self, NewTenant, NewUser, Word};
use crate::pg::control::tokens::{self, Token};
use crate::pg::control::vacancies::Pattern;
use crate::service::accounts::Unproven;
use crate::service::audit::{event, of_tenant};
use crate::service::provisioning::command::{Admin, Extras, ProvisionTenant};
use crate::service::tokens::Lifetimes;

/// The revision of a new record, as the database sets it.
pub(super) const FIRST_REVISION: i64 = 1;

/// The action of the audit event.
const ACTION: AuditAction = AuditAction::TenantCreate;

/// What a set-up writes.
pub(super) struct PreparedSetup<'a> {
    pub(super) ctx: &'a CallContext,
    /// The caller, as the audit trail and the idempotency keys name them.
    pub(super) actor: String,
    pub(super) command: &'a ProvisionTenant,
    pub(super) extras: &'a Extras,
    /// When the tenant ends.
    pub(super) expires_at: Option<OffsetDateTime>,
    /// The password of an admin who may be new.
    pub(super) hash: Option<&'a PasswordHash>,
    /// The limits of the tenant's token.
    pub(super) lifetimes: Lifetimes,
    /// The admin's account, if its address is not proven and it may be linked.
    pub(super) unproven: Option<&'a Unproven>,
}

impl PreparedSetup<'_> {
    /// Whether one statement writes everything.
    pub(super) fn is_one_statement(&self) -> bool {
        self.command.idempotency_key.is_none()
            && !self.command.with_token
            && self.unproven.is_none()
    }

    /// Does what the linking of an account takes whose address is not proven.
    pub(super) async fn settle_account(&self, tx: &PublicTx) -> Result<()> {
        match self.unproven {
            Some(unproven) => unproven.settle(tx, self.ctx, self.hash).await,
            None => Ok(()),
        }
    }

    /// Whether the admin was linked without having agreed.
    pub(super) fn needs_consent(&self, admin: Option<AccountOrigin>) -> bool {
        admin == Some(AccountOrigin::Linked) && self.word() == Word::None
    }

    fn word(&self) -> Word {
        if self.ctx.principal.vouches() {
            Word::Vouched
        } else if self.unproven.is_some() {
            Word::OwnPassword
        } else {
            Word::None
        }
    }

    /// The rows of the tenant: with this id, or with that of a vacancy. A slug that another tenant had must have been
    /// freed at `rested` or before.
    pub(super) fn rows<'a>(
        &'a self,
        id: Option<TenantId>,
        pattern: &'a Pattern,
        rested: OffsetDateTime,
    ) -> NewTenant<'a> {
        let Self { ctx, command, extras, .. } = self;
        NewTenant {
            id,
            pattern,
            slug: &command.slug,
            rested,
            name: &command.name,
            org: command.org.as_deref(),
            contact: command.contact.as_ref(),
            external_id: extras.external_id.as_ref(),
            settings: &extras.settings,
            expires_at: self.expires_at,
            admin: self.admin(),
            word: self.word(),
            event: event(ctx, &self.actor, ACTION, None, self.details()),
        }
    }

    /// The set-up as it is sent together with others; `None` if it takes more than one statement or its admin may be
    /// new.
    pub(super) fn shared(&self, rested: OffsetDateTime) -> Option<SharedSetup> {
        let Self { ctx, command, extras, .. } = self;
        let email = match &command.admin {
            Admin::None => None,
            Admin::Existing(email) => Some(email.clone()),
            Admin::NewOrExisting(_) => return None,
        };
        if !self.is_one_statement() {
            return None;
        }
        let mut details = self.details();
        if email.is_some() {
            details["admin"] = json!(AccountOrigin::Linked.as_str());
        }
        Some(SharedSetup {
            slug: command.slug.clone(),
            rested,
            name: command.name.clone(),
            org: command.org.clone(),
            contact: command.contact.clone(),
            external_id: extras.external_id.clone(),
            settings: extras.settings.clone(),
            expires_at: self.expires_at,
            email,
            is_vouched: self.word() == Word::Vouched,
            event_id: Uuid::now_v7(),
            at: ctx.now,
            actor: self.actor.clone(),
            action: ACTION,
            request_id: ctx.request_id.clone(),
            details,
        })
    }

    /// The details of the audit event.
    fn details(&self) -> Value {
        let mut details = json!({ "name": self.command.name });
        if let Some(end) = self.expires_at {
            details["expires_at"] = json!(end.format(&Rfc3339).unwrap_or_default());
        }
        of_tenant(&self.command.slug, self.extras.external_id.as_ref(), FIRST_REVISION, details)
    }

    fn admin(&self) -> tenant_setup::Admin<'_> {
        match &self.command.admin {
            Admin::None => tenant_setup::Admin::None,
            Admin::Existing(email) => tenant_setup::Admin::Existing(email),
            Admin::NewOrExisting(admin) => tenant_setup::Admin::NewOrExisting(NewUser {
                id: UserId::generate(),
                email: &admin.email,
                first_name: &admin.first_name,
                last_name: &admin.last_name,
                password_hash: self.hash.map(PasswordHash::as_str),
            }),
        }
    }

    /// Makes the token with all permissions in the tenant and none outside of it, if the command asks for one. It
    /// never expires, as Databunker documents it, unless the settings limit every lifetime or the token that makes the
    /// tenant expires.
    pub(super) async fn make_token(
        &self,
        tx: &PublicTx,
        tenant: TenantId,
    ) -> Result<Option<OpaqueToken>> {
        if !self.command.with_token {
            return Ok(None);
        }
        let secret = OpaqueToken::generate(Kind::Uuid);
        let (name, actor, now) = ("the tenant's own".to_owned(), self.actor.clone(), self.ctx.now);
        let token = Token {
            permissions: Permission::ALL.to_vec(),
            tenant: Some(tenant),
            // It belongs to the tenant, and stays when the user who made the tenant leaves.
            user: None,
            parent: self.ctx.principal.credential(),
            // The statement below shortens it to the end of the parent.
            expires_at: self.lifetimes.shortened(None, now, None),
            ..Token::new(TokenKind::Xtoken, name, secret.hint(), actor, now)
        };
        tokens::insert(tx, &token, secret.digest().as_bytes()).await?;
        Ok(Some(secret))
    }
}
