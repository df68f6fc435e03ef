//! What is answered to a set-up, and how it is kept for whoever asks again under the same key.

use futures_util::join;
use serde_json::{Value, json};
use time::Duration;

use crate::auth::CallContext;
use crate::auth::password::PasswordHash;
use crate::auth::token::OpaqueToken;
use crate::domain::error::{Conflict, Error, Result};
use crate::domain::names::{Slug, TenantId, TenantName};
use crate::pg::control::idempotency;
use crate::pg::control::tenant_setup::Given;
use crate::pg::{During, PublicTx};
use crate::service::provisioning::Provisioning;
use crate::service::provisioning::command::{Extras, ProvisionTenant};
use crate::service::provisioning::prepared::Order;

/// How long an idempotency key is remembered.
const KEY_LIFETIME: Duration = Duration::hours(24);

/// What was made, or had been made under the same key before.
#[derive(Debug)]
pub struct Provisioned {
    /// The tenant's id.
    pub id: TenantId,
    /// The tenant's number.
    pub number: i64,
    /// The tenant's own token, to be shown once; a replayed answer has none.
    pub token: Option<OpaqueToken>,
    /// Its name at the time.
    pub name: TenantName,
    /// Its slug at the time.
    pub slug: Slug,
    /// Whether this is the stored answer to an earlier request.
    pub replayed: bool,
}

impl Provisioning {
    /// What was answered to the same key before, if anything was.
    pub(super) async fn answered_before(
        &self,
        ctx: &CallContext,
        wish: &ProvisionTenant,
        extras: &Extras,
    ) -> Result<Option<Provisioned>> {
        let Some(key) = &wish.idempotency_key else { return Ok(None) };
        let tx = self.db.public().await.during("look for an earlier answer")?;
        let found = idempotency::find(&tx, &ctx.principal.label(), key, ctx.now).await?;
        drop(tx); // a read needs no commit, and the hash below no connection
        let Some(record) = found else { return Ok(None) };
        let same_secret = match (wish.admin.password(), record.secret_hash) {
            (Some(password), Some(hash)) => {
                self.hasher.verify(password, Some(&PasswordHash::stored(hash))).await?
            }
            (None, None) => true,
            _ => false,
        };
        if record.request_digest != wish.digest(extras) || !same_secret {
            return Err(Error::Conflict(Conflict::KeyReused));
        }
        Provisioned::from_json(&record.outcome).map(Some)
    }
}

impl Order {
    /// Holds the idempotency key, where there is one, until the transaction ends; false where it turns out
    /// to be answered.
    pub(super) async fn take_key(&self, tx: &PublicTx) -> Result<bool> {
        let Some(key) = &self.wish.idempotency_key else { return Ok(true) };
        let (free, answered) = join!(
            idempotency::try_lock(tx, &self.actor, key),
            idempotency::find(tx, &self.actor, key, self.ctx.now)
        );
        if !free? {
            return Err(Error::Conflict(Conflict::StillRunning));
        }
        Ok(answered?.is_none())
    }

    /// Writes the answer down, where a key says that it may be asked for again.
    pub(super) async fn keep_answer(&self, tx: &PublicTx, made: &Provisioned) -> Result<()> {
        let Some(key) = &self.wish.idempotency_key else { return Ok(()) };
        let now = self.ctx.now;
        let record = idempotency::Record {
            principal: self.actor.clone(),
            key: key.clone(),
            request_digest: self.wish.digest(&self.extras),
            secret_hash: self.hash.as_ref().map(|hash| hash.as_str().to_owned()),
            outcome: made.to_json(),
        };
        idempotency::insert(tx, &record, now, now + KEY_LIFETIME).await
    }
}

impl Provisioned {
    pub(super) fn of(wish: &ProvisionTenant, given: Given) -> Self {
        Self {
            id: given.id,
            number: given.number,
            token: None,
            name: wish.name.clone(),
            slug: wish.slug.clone(),
            replayed: false,
        }
    }

    fn to_json(&self) -> Value {
        json!({ "id": self.id, "number": self.number, "name": self.name, "slug": self.slug })
    }

    fn from_json(value: &Value) -> Result<Self> {
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
            replayed: true,
        })
    }
}
