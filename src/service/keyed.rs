//! Requests with an idempotency key whose answer has an id: the same key and request get the same answer again.

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
        Claim::Answered => match find(tx, ctx, Some(key), what).await? {
            Some(id) => Ok(Some(id)),
            None => Err(Error::Conflict(Conflict::StillRunning)),
        },
    }
}

/// Returns the id that an earlier request with the key got, without claiming the key.
pub(super) async fn find(
    tx: &PublicTx,
    ctx: &CallContext,
    key: Option<&str>,
    what: &Value,
) -> Result<Option<Uuid>> {
    let Some(key) = key else { return Ok(None) };
    let found = idempotency::find(tx, &ctx.principal.label(), key, ctx.now).await?;
    let Some(found) = found else { return Ok(None) };
    if found.request_digest != Sha256::digest(what.to_string()).as_slice() {
        return Err(Error::Conflict(Conflict::KeyReused));
    }
    match found.outcome.get("id").and_then(Value::as_str).map(str::parse) {
        Some(Ok(id)) => Ok(Some(id)),
        _ => Err(Error::internal("read an earlier answer", "the stored answer has no id")),
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

/// As [`complete`], in a transaction that sees one moment of the database.
pub(super) async fn complete_in_snapshot(
    tx: &PublicTx,
    ctx: &CallContext,
    key: Option<&str>,
    id: Uuid,
) -> Result<()> {
    let Some(key) = key else { return Ok(()) };
    idempotency::complete_alone(tx, &ctx.principal.label(), key, &json!({ "id": id })).await
}
