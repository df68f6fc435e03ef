//! The answer to a set-up, and how it is kept for a request that comes again with the same idempotency key.

use serde_json::{Value, json};
use time::Duration;

use crate::auth::password::PasswordHash;
use crate::auth::token::OpaqueToken;
use crate::domain::AccountOrigin;
use crate::domain::error::{Conflict, Error, Result};
use crate::domain::names::{Slug, TenantId, TenantName};
use crate::pg::PublicTx;
use crate::pg::control::idempotency::{self, Claim};
use crate::pg::control::tenant_setup::Assigned;
use crate::pg::rules::TimeLimits;
use crate::service::provisioning::command::ProvisionTenant;
use crate::service::provisioning::prepared::PreparedSetup;

/// How long an idempotency key is remembered.
const KEY_LIFETIME: Duration = Duration::hours(24);

/// A tenant that was made now, or earlier under the same idempotency key.
#[derive(Debug)]
pub struct Provisioned {
    /// The tenant's id.
    pub id: TenantId,
    /// The tenant's number.
    pub number: i64,
    /// The tenant's own token, which is shown once; a replayed answer has none.
    pub token: Option<OpaqueToken>,
    /// Its name at the time.
    pub name: TenantName,
    /// Its slug at the time.
    pub slug: Slug,
    /// Whether the admin's account was created or linked; `None` without an admin.
    pub admin: Option<AccountOrigin>,
    /// Whether this is the stored answer to an earlier request.
    pub replayed: bool,
}

impl PreparedSetup<'_> {
    /// Claims the idempotency key, if there is one, for the transaction; false if the key already has an answer.
    pub(super) async fn claim_key(&self, tx: &PublicTx, limits: &TimeLimits) -> Result<bool> {
        let Some(key) = &self.command.idempotency_key else { return Ok(true) };
        let request = idempotency::Request {
            principal: &self.actor,
            key,
            digest: &self.command.digest(self.extras),
            secret_hash: self.hash.map(PasswordHash::as_str),
        };
        let now = self.ctx.now;
        match idempotency::claim(tx, &request, now, now + KEY_LIFETIME, limits).await? {
            Claim::Claimed => Ok(true),
            Claim::Answered => Ok(false),
            Claim::Running => Err(Error::Conflict(Conflict::StillRunning)),
        }
    }

    /// Records the answer, if there is an idempotency key.
    pub(super) async fn record_answer(&self, tx: &PublicTx, made: &Provisioned) -> Result<()> {
        let Some(key) = &self.command.idempotency_key else { return Ok(()) };
        idempotency::complete(tx, &self.actor, key, &made.to_json(), self.ctx.now).await
    }
}

impl Provisioned {
    pub(super) fn new(command: &ProvisionTenant, assigned: Assigned) -> Self {
        Self {
            id: assigned.id,
            number: assigned.number,
            token: None,
            name: command.name.clone(),
            slug: command.slug.clone(),
            admin: assigned.admin,
            replayed: false,
        }
    }

    fn to_json(&self) -> Value {
        json!({ "id": self.id, "number": self.number, "name": self.name, "slug": self.slug })
    }

    /// Reads a stored answer; the audit event tells what was done with the account of the admin.
    ///
    /// # Errors
    /// [`Error::Internal`] if a field is missing.
    pub(super) fn from_json(value: &Value) -> Result<Self> {
        let text = |key: &str| {
            value.get(key).and_then(Value::as_str).map(str::to_owned).ok_or_else(|| {
                Error::internal("read an earlier answer", format!("the stored answer has no {key}"))
            })
        };
        let id = text("id")?
            .parse()
            .map_err(|error| Error::internal("read an earlier answer", error))?;
        Ok(Self {
            id: TenantId::new(id),
            number: value.get("number").and_then(Value::as_i64).unwrap_or_default(),
            token: None,
            name: TenantName::stored(text("name")?),
            slug: Slug::stored(text("slug")?),
            admin: None,
            replayed: true,
        })
    }
}
