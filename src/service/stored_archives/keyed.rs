//! Requests with an idempotency key that begin an archive or an import: the same key and request get the first one again.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use time::Duration;
use uuid::Uuid;

use crate::auth::CallContext;
use crate::domain::error::{Conflict, Error, Result};
use crate::pg::PublicTx;
use crate::pg::control::idempotency::{self, Claim, Request};
use crate::pg::rules::TimeLimits;

/// How long an idempotency key is remembered.
const KEY_LIFETIME: Duration = Duration::hours(24);

/// Claims the key for this transaction; returns the id that an earlier request with it got. `what` is the request.
pub(super) async fn claim(
    tx: &PublicTx,
    ctx: &CallContext,
    key: Option<&str>,
    what: &Value,
    limits: &TimeLimits,
) -> Result<Option<Uuid>> {
    let Some(key) = key else { return Ok(None) };
    let (principal, digest) = (ctx.principal.label(), Sha256::digest(what.to_string()));
    let request = Request { principal: &principal, key, digest: &digest, secret_hash: None };
    match idempotency::claim(tx, &request, ctx.now, ctx.now + KEY_LIFETIME, limits).await? {
        Claim::Claimed => Ok(None),
        Claim::Running => Err(Error::Conflict(Conflict::StillRunning)),
        Claim::Answered => {
            let found = idempotency::find(tx, &principal, key, ctx.now).await?;
            let found = found.ok_or(Error::Conflict(Conflict::StillRunning))?;
            if found.request_digest != digest.as_slice() {
                return Err(Error::Conflict(Conflict::KeyReused));
            }
            let id = found.outcome.get("id").and_then(Value::as_str).map(str::parse);
            match id {
                Some(Ok(id)) => Ok(Some(id)),
                _ => Err(Error::internal("read an earlier answer", "the stored answer has no id")),
            }
        }
    }
}

/// Records the answer under a key that this transaction has claimed.
pub(super) async fn complete(
    tx: &PublicTx,
    ctx: &CallContext,
    key: Option<&str>,
    id: Uuid,
) -> Result<()> {
    let Some(key) = key else { return Ok(()) };
    let principal = ctx.principal.label();
    idempotency::complete(tx, &principal, key, &json!({ "id": id }), ctx.now).await
}
