//! Keeps the keys that sign access tokens: reads them from the database, rotates and retires them.
//!
//! All servers on a database share its keys. The private halves are encrypted with a secret that the servers share
//! outside of it ([`SecretKey`]). Each server reads the keys every minute, and at once if a token names a key that it
//! does not know ([`keyring`]). A new key is published [`PUBLISHED_BEFORE`](rotation::PUBLISHED_BEFORE) before it signs,
//! and the old one verifies until its last token has expired ([`rotation`]), so that a rotation refuses no token. A key
//! that is retired is refused by every server within [`MAX_AGE`](keyring::MAX_AGE).

mod keyring;
mod rotation;

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use self::keyring::Keyring;
use self::rotation::{end_of_predecessor, lifetime_of, ready_to_sign, signer_of, verifies};
use super::audit::note;
use crate::auth::CallContext;
use crate::auth::jwt::{AccessClaims, Issuer, SigningKey};
use crate::auth::secret_key::SecretKey;
use crate::domain::error::{Error, Noun, Result};
use crate::domain::names::UserId;
use crate::domain::{AuditAction, Permission};
use crate::pg::control::signing_keys as rows;
use crate::pg::portability::control as archive_keys;
use crate::pg::{Db, During, PublicTx};

pub use self::keyring::SecretProblem;
pub use self::rotation::{KeyInfo, State};

/// How long an ended key is still listed.
const KEEP_ENDED: time::Duration = time::Duration::days(7);

/// How long the published keys wait for the database before the known ones are returned.
const PUBLISH_WITHIN: Duration = Duration::from_secs(1);

const ROTATE: &str = "rotate the signing key";
const RETIRE: &str = "retire a signing key";

/// The keys that sign access tokens.
#[derive(Clone)]
pub struct SigningKeys {
    db: Db,
    keyring: Arc<Keyring>,
}

/// Why the keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UnlockError {
    /// The secret is not the one that the keys are encrypted with.
    #[error(transparent)]
    Secret(#[from] SecretProblem),
    /// A first secret could not be created.
    #[error("cannot create a secret key: {0}")]
    NotCreated(std::io::Error),
    /// A step failed.
    #[error(transparent)]
    Step(#[from] Error),
}

/// The outcome of a rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// The key that will sign.
    pub next: KeyInfo,
    /// Whether the rotation made it; otherwise an earlier one did, and it does not sign yet.
    pub is_new: bool,
}

/// The outcome of retiring a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retirement {
    /// The key, which has ended.
    pub key: KeyInfo,
    /// Whether another key is left that signs. If not, the first server that reads the keys makes one.
    pub has_successor: bool,
}

impl SigningKeys {
    /// Creates the service on `db`. It has no keys until [`SigningKeys::unlock`]; with a secret it can rotate them.
    #[must_use]
    pub fn new(db: Db, issuer: Issuer, secret: Option<SecretKey>) -> Self {
        Self { db, keyring: Arc::new(Keyring::new(issuer, secret)) }
    }

    /// Returns the same service on the pools of another runtime; both share the keys.
    #[must_use]
    pub fn on(&self, db: Db) -> Self {
        Self { db, keyring: Arc::clone(&self.keyring) }
    }

    /// Reads the keys when a server starts. Encrypts those that an earlier version stored in clear, and makes the first
    /// key. If there is no secret and no key is encrypted yet, `create_secret` makes it.
    ///
    /// # Errors
    /// [`UnlockError`]; nothing is changed then.
    pub async fn unlock(
        &self,
        ctx: &CallContext,
        create_secret: impl FnOnce() -> std::io::Result<SecretKey> + Send,
    ) -> Result<(), UnlockError> {
        ctx.require(Permission::ManageSigningKeys)?;
        let tx = self.db.public().await.during("read signing keys")?;
        rows::lock(&tx).await?;
        let mut keys = rows::list(&tx).await?;
        let secret = match self.keyring.secret() {
            Ok(secret) => secret,
            Err(missing) if keys.iter().any(|key| is_wrapped(key, ctx.now)) => {
                return Err(missing.into());
            }
            Err(_none_needed_yet) => {
                self.keyring.set_secret(create_secret().map_err(UnlockError::NotCreated)?)
            }
        };
        wrap_those_in_clear(&tx, ctx, secret, &mut keys).await?;
        keyring::require_readable(secret, &keys, ctx.now)?;
        let lifetime = self.keyring.lifetime_seconds();
        rows::raise_token_lifetime(&tx, lifetime, ctx.now).await?;
        if signer_of(&keys, lifetime, ctx.now).is_none() {
            let key = insert_new(&tx, ctx, secret, lifetime, &keys).await?;
            keys.push(key);
        }
        tx.commit().await.during("write signing keys")?;
        self.keyring.install(&keys, ctx.now);
        Ok(())
    }

    /// Lists all keys that have not ended long ago, in the order in which they sign. Needs no secret.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn list(&self, ctx: &CallContext) -> Result<Vec<KeyInfo>> {
        ctx.require(Permission::ManageSigningKeys)?;
        let tx = self.db.public().await.during("list signing keys")?;
        let keys = rows::list(&tx).await?;
        Ok(rotation::describe(&keys, self.keyring.lifetime_seconds(), ctx.now))
    }

    /// Makes a key that takes over from the one that signs. It is published at once and signs ten minutes later; the
    /// other one verifies until its last token has expired. If such a key waits already, it is returned and nothing
    /// changes.
    ///
    /// # Errors
    /// Those of the rights check and of the database; [`Error::Internal`] with a [`SecretProblem`] if there is no secret
    /// or it is not that of the other keys.
    pub async fn rotate(&self, ctx: &CallContext) -> Result<Rotation> {
        ctx.require(Permission::ManageSigningKeys)?;
        let problem = |problem: SecretProblem| Error::internal(ROTATE, problem);
        let secret = self.keyring.secret().map_err(problem)?;
        let tx = self.db.public().await.during(ROTATE)?;
        rows::lock(&tx).await?;
        let mut keys = rows::list(&tx).await?;
        keyring::require_readable(secret, &keys, ctx.now).map_err(problem)?;
        let own = self.keyring.lifetime_seconds();
        let waiting = keys.iter().find(|key| verifies(key, ctx.now) && key.signs_from > ctx.now);
        let (kid, is_new) = if let Some(waiting) = waiting {
            (waiting.kid.clone(), false)
        } else {
            let new = insert_new(&tx, ctx, secret, own, &keys).await?;
            let end = end_of_predecessor(new.signs_from, lifetime_of(&keys, own, ctx.now));
            for key in keys.iter_mut().filter(|key| key.verifies_until.is_none()) {
                key.verifies_until = Some(end);
                rows::set_term(&tx, key).await?;
            }
            let details = json!({ "kid": new.kid, "signs_from": to_text(new.signs_from) });
            note(&tx, ctx, AuditAction::SigningKeyRotate, None, details).await?;
            let kid = new.kid.clone();
            keys.push(new);
            (kid, true)
        };
        tx.commit().await.during(ROTATE)?;
        self.keyring.install_if_used(&keys, ctx.now);
        let next = describe_one(&keys, &kid, own, ctx.now)?;
        Ok(Rotation { next, is_new })
    }

    /// Ends a key at once: no server that has read the keys since accepts its tokens, and all have within a minute.
    /// Needs no secret. A key that waits to sign takes over; if there is none, the first server that reads the keys
    /// makes one. Retiring an ended key changes nothing.
    ///
    /// # Errors
    /// Those of the rights check and of the database; [`Noun::SigningKey`] not found.
    pub async fn retire(&self, ctx: &CallContext, kid: &str) -> Result<Retirement> {
        ctx.require(Permission::ManageSigningKeys)?;
        let tx = self.db.public().await.during(RETIRE)?;
        rows::lock(&tx).await?;
        let mut keys = rows::list(&tx).await?;
        let own = self.keyring.lifetime_seconds();
        let key =
            keys.iter_mut().find(|key| key.kid == kid).ok_or(Error::NotFound(Noun::SigningKey))?;
        if verifies(key, ctx.now) {
            key.verifies_until = Some(ctx.now);
            rows::set_term(&tx, key).await?;
            archive_keys::forget_key(&tx, kid).await?;
            note(&tx, ctx, AuditAction::SigningKeyRetire, None, json!({ "kid": kid })).await?;
            if let Some(next) = ready_to_sign(&mut keys, own, ctx.now) {
                rows::set_term(&tx, next).await?;
            }
        }
        tx.commit().await.during(RETIRE)?;
        self.keyring.install_if_used(&keys, ctx.now);
        let has_successor = signer_of(&keys, own, ctx.now).is_some();
        Ok(Retirement { key: describe_one(&keys, kid, own, ctx.now)?, has_successor })
    }

    /// Reads the keys, makes one if none signs, and deletes those that ended long ago. Each server does this every
    /// minute.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn reload(&self, ctx: &CallContext) -> Result<()> {
        ctx.require(Permission::ManageSigningKeys)?;
        let keys = self.keyring.read_now(ctx.now, self.read(ctx.now)).await?;
        let oldest = ctx.now - KEEP_ENDED;
        if keys.iter().all(|key| key.verifies_until.is_none_or(|end| end >= oldest)) {
            return Ok(());
        }
        let tx = self.db.public().await.during("delete old signing keys")?;
        let deleted = rows::delete_ended(&tx, oldest).await?;
        if !deleted.is_empty() {
            note(&tx, ctx, AuditAction::SigningKeyDelete, None, json!({ "kids": deleted })).await?;
        }
        tx.commit().await.during("delete old signing keys")
    }

    /// Returns the public keys that verify access tokens, as a JSON Web Key Set. Checks no rights: every service that
    /// checks tokens fetches them. While the database is away it returns those that were read last.
    ///
    /// # Errors
    /// [`Error::Internal`] if they cannot be written as JSON.
    pub async fn published_unauthorized(&self, now: OffsetDateTime) -> Result<Value> {
        match tokio::time::timeout(PUBLISH_WITHIN, self.refresh(now)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(error = %error.chain(), "failed to read the signing keys");
            }
            Err(_elapsed) => tracing::warn!("failed to read the signing keys in time"),
        }
        self.keyring.issuer().jwks(now)
    }

    /// Signs the manifest of an archive, and keeps the public half of the key for as long as archives are read.
    ///
    /// # Errors
    /// [`Error::Internal`] with a [`SecretProblem`] without the secret that the keys are encrypted with.
    pub(super) async fn sign_archive(
        &self,
        manifest: &[u8],
        now: OffsetDateTime,
    ) -> Result<String> {
        const DURING: &str = "sign an archive";
        self.keyring.secret().map_err(|problem| Error::internal(DURING, problem))?;
        self.refresh(now).await?;
        let signed = self.keyring.issuer().sign_detached(manifest, now)?;
        let tx = self.db.public().await.during(DURING)?;
        archive_keys::keep_key(&tx, &signed.kid, &signed.public, now).await?;
        tx.commit().await.during(DURING)?;
        Ok(signed.jws)
    }

    /// Returns what signs access tokens and checks them.
    pub(super) fn issuer(&self) -> &Issuer {
        self.keyring.issuer()
    }

    /// Checks an access token, with keys that were read less than a minute ago.
    pub(super) async fn check(&self, token: &str, now: OffsetDateTime) -> Result<AccessClaims> {
        self.refresh(now).await?;
        match self.keyring.issuer().check(token, now) {
            Err(_) if self.look_for_key(token, now).await? => {
                self.keyring.issuer().check(token, now)
            }
            checked => checked,
        }
    }

    /// Returns the user and the session of an access token of ours, which may have expired.
    pub(super) async fn session_of(
        &self,
        token: &str,
        now: OffsetDateTime,
    ) -> Result<Option<(UserId, Uuid)>> {
        self.refresh(now).await?;
        match self.keyring.issuer().session_of(token, now) {
            None if self.look_for_key(token, now).await? => {
                Ok(self.keyring.issuer().session_of(token, now))
            }
            found => Ok(found),
        }
    }

    /// Reads the keys once more for a token of a key that is not among them, if that was not done a moment ago. Returns
    /// whether it did.
    async fn look_for_key(&self, token: &str, now: OffsetDateTime) -> Result<bool> {
        if !self.keyring.issuer().names_unknown_key(token) || !self.keyring.may_look(now) {
            return Ok(false);
        }
        let keys = self.clone();
        to_its_end(async move { keys.keyring.look(now, keys.read(now)).await }.boxed()).await?;
        Ok(true)
    }

    /// Reads the keys if that is a minute ago. To be called before a transaction begins.
    pub(super) async fn refresh(&self, now: OffsetDateTime) -> Result<()> {
        if !self.keyring.is_stale(now) {
            return Ok(());
        }
        let keys = self.clone();
        to_its_end(async move { keys.keyring.refresh(now, keys.read(now)).await }.boxed()).await
    }

    /// Reads the keys, and makes one if none signs.
    async fn read(&self, now: OffsetDateTime) -> Result<Vec<rows::StoredKey>> {
        let tx = self.db.public().await.during("read signing keys")?;
        let keys = rows::list(&tx).await?;
        let own = self.keyring.lifetime_seconds();
        match self.keyring.secret() {
            Ok(secret) if signer_of(&keys, own, now).is_none() => {
                make_missing(tx, secret, own, now).boxed().await
            }
            _ => Ok(keys),
        }
    }
}

/// Makes a key that signs at once, unless another process has just made one, and returns all keys.
async fn make_missing(
    tx: PublicTx,
    secret: &SecretKey,
    own_lifetime: i64,
    now: OffsetDateTime,
) -> Result<Vec<rows::StoredKey>> {
    rows::lock(&tx).await?;
    let mut keys = rows::list(&tx).await?;
    if signer_of(&keys, own_lifetime, now).is_none() {
        let ctx = CallContext::of_operator(now);
        let key = insert_new(&tx, &ctx, secret, own_lifetime, &keys).await?;
        tracing::warn!(kid = key.kid, "no signing key was left; made a new one");
        keys.push(key);
    }
    tx.commit().await.during("write signing key")?;
    Ok(keys)
}

/// Inserts a new key. It signs at once if none of the others does; then it is noted in the audit trail, unless it is the
/// first key of all.
async fn insert_new(
    tx: &PublicTx,
    ctx: &CallContext,
    secret: &SecretKey,
    own_lifetime: i64,
    others: &[rows::StoredKey],
) -> Result<rows::StoredKey> {
    let key = SigningKey::generate()?.to_stored();
    let is_needed_now = signer_of(others, own_lifetime, ctx.now).is_none();
    let signs_from = if is_needed_now { ctx.now } else { ctx.now + rotation::PUBLISHED_BEFORE };
    let key = rows::StoredKey {
        private_key: secret.wrap(&key.kid, key.private.expose_secret())?,
        kid: key.kid,
        wrapped_by: Some(secret.fingerprint().to_owned()),
        created_at: ctx.now,
        signs_from,
        verifies_until: None,
        token_lifetime_seconds: lifetime_of(others, own_lifetime, ctx.now),
    };
    rows::insert(tx, &key).await?;
    if is_needed_now && !others.is_empty() {
        note(tx, ctx, AuditAction::SigningKeyCreate, None, json!({ "kid": key.kid })).await?;
    }
    Ok(key)
}

/// Runs a read in a task of its own: a client that disconnects must not cancel the read that other requests wait for.
/// Boxed, so that the future of a request does not grow by what few requests do.
async fn to_its_end(read: BoxFuture<'static, Result<()>>) -> Result<()> {
    tokio::spawn(read).await.map_err(|error| Error::unavailable("read signing keys", error))?
}

/// Returns whether a key is encrypted and has not ended.
fn is_wrapped(key: &rows::StoredKey, now: OffsetDateTime) -> bool {
    key.wrapped_by.is_some() && verifies(key, now)
}

/// Encrypts the keys that an earlier version stored in clear.
async fn wrap_those_in_clear(
    tx: &PublicTx,
    ctx: &CallContext,
    secret: &SecretKey,
    keys: &mut [rows::StoredKey],
) -> Result<()> {
    let mut kids = Vec::new();
    for key in keys.iter_mut().filter(|key| key.wrapped_by.is_none()) {
        // A row that is not a key is refused here; encryption does not hide it.
        SigningKey::from_stored(&key.kid, &key.private_key)?;
        let wrapped = secret.wrap(&key.kid, &key.private_key)?;
        rows::wrap(tx, &key.kid, &wrapped, secret.fingerprint()).await?;
        key.private_key = wrapped;
        key.wrapped_by = Some(secret.fingerprint().to_owned());
        kids.push(key.kid.clone());
    }
    if kids.is_empty() {
        return Ok(());
    }
    tracing::warn!(
        count = kids.len(),
        "encrypted the signing keys, which an earlier version stored in clear; backups from before still hold them: \
         run `rowhouse key rotate`"
    );
    note(tx, ctx, AuditAction::SigningKeyWrap, None, json!({ "kids": kids })).await
}

fn describe_one(
    keys: &[rows::StoredKey],
    kid: &str,
    own_lifetime: i64,
    now: OffsetDateTime,
) -> Result<KeyInfo> {
    let all = rotation::describe(keys, own_lifetime, now);
    all.into_iter().find(|key| key.kid == kid).ok_or(Error::NotFound(Noun::SigningKey))
}

fn to_text(at: OffsetDateTime) -> String {
    at.format(&time::format_description::well_known::Rfc3339).unwrap_or_else(|_| at.to_string())
}
