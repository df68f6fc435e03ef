//! Signs and checks access tokens: JSON web tokens under Ed25519, with the header type of RFC 9068.
//!
//! Promises: the bearer of a bad token learns only that it is not valid, or that it has expired; the latter only if
//! signature, issuer and audience are right. One algorithm is accepted, whatever the token's header says, and only our
//! own keys: a key or a key URL inside a token is ignored. A token that was not issued with our lifetime is refused even
//! if its signature is right. Time is an argument.
//!
//! Must not know: where the keys are stored, when they are read, whether a session still exists. A token is valid until
//! it expires, so it lives for minutes only.

mod signing_key;

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, Header, Validation};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::auth::detached::Signed;
use crate::domain::error::{AuthProblem, Error, Result};
use crate::domain::names::UserId;

pub use signing_key::{SigningKey, StoredKey, Term, signer};

/// Default lifetime of an access token: a revoked session stays valid for at most this long, and a client renews four
/// times an hour.
const ACCESS_LIFETIME: Duration = Duration::from_mins(15);
/// Largest difference between the clocks of two of our processes.
const LEEWAY: Duration = Duration::from_secs(30);
/// How long other services may keep the published keys before they fetch them again.
pub const JWKS_MAX_AGE: Duration = Duration::from_mins(5);
/// Longest token that is parsed, in bytes; ours have about 500.
pub const TOKEN_MAX: usize = 4096;

/// The `typ` of an access token (RFC 9068, 2.1), so that no other kind of token is accepted as one.
const TYPE: &str = "at+jwt";
/// The required claims; without this list `jsonwebtoken` checks only those that are present.
const REQUIRED: &[&str] = &["iss", "aud", "sub", "exp", "nbf"];

/// The claims and times that every token is issued with and checked against.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The `iss` of tokens: the public name of this service.
    pub issuer: String,
    /// The `aud` of tokens: this service's API.
    pub audience: String,
    /// The lifetime of a token.
    pub access_lifetime: Duration,
    /// The tolerance where a time of a token is compared with the clock. The lifetime itself has none.
    pub leeway: Duration,
}

impl Settings {
    /// Returns settings with these names and the default times.
    pub fn new(issuer: impl Into<String>, audience: impl Into<String>) -> Self {
        Self {
            issuer: issuer.into(),
            audience: audience.into(),
            access_lifetime: ACCESS_LIFETIME,
            leeway: LEEWAY,
        }
    }
}

/// The facts that a valid token proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccessClaims {
    /// The user.
    pub user: UserId,
    /// The session.
    pub session: Uuid,
    /// When the token was issued, to the second.
    pub issued_at: OffsetDateTime,
    /// When it expires, to the second, without the leeway.
    pub expires_at: OffsetDateTime,
}

/// The claims on the wire. All are required; the times are whole seconds since 1970.
#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: Uuid,
    sid: Uuid,
    iat: i64,
    nbf: i64,
    exp: i64,
    jti: Uuid,
}

#[derive(Debug, thiserror::Error)]
#[error("there is no key that signs")]
struct NoKey;

/// Issues access tokens and checks them. Clones share the keys.
#[derive(Clone)]
pub struct Issuer(Arc<Inner>);

struct Inner {
    settings: Settings,
    validation: Validation,
    /// Few enough for a linear search. Replaced as a whole.
    keys: RwLock<Arc<[(SigningKey, Term)]>>,
}

impl Issuer {
    /// Creates an issuer without keys, which signs nothing and accepts nothing.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let keys = RwLock::new(Arc::from(Vec::new()));
        Self(Arc::new(Inner { validation: validation(&settings), keys, settings }))
    }

    /// Replaces the keys.
    pub fn set_keys(&self, keys: Vec<(SigningKey, Term)>) {
        *self.0.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::from(keys);
    }

    fn keys(&self) -> Arc<[(SigningKey, Term)]> {
        Arc::clone(&self.0.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Issues a token for a user's session, valid from `now` and never beyond the session's end, with the key that
    /// signs at `now`.
    ///
    /// # Errors
    /// [`Error::Internal`] if there is no such key, or signing fails.
    pub fn issue(
        &self,
        user: UserId,
        session: Uuid,
        now: OffsetDateTime,
        session_end: OffsetDateTime,
    ) -> Result<String> {
        const DURING: &str = "sign access token";
        let settings = &self.0.settings;
        let keys = self.keys();
        let terms = keys.iter().map(|(key, term)| (key.kid(), *term));
        let lifetime = time::Duration::try_from(settings.access_lifetime)
            .map_err(|error| Error::internal(DURING, error))?;
        let (key, _) = signer(terms, lifetime, now)
            .and_then(|index| keys.get(index))
            .ok_or_else(|| Error::internal(DURING, NoKey))?;
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some(TYPE.to_owned());
        header.kid = Some(key.kid.clone());
        let iat = now.unix_timestamp();
        let claims = Claims {
            iss: settings.issuer.clone(),
            aud: settings.audience.clone(),
            sub: user.uuid(),
            sid: session,
            iat,
            nbf: iat,
            exp: iat
                .saturating_add_unsigned(settings.access_lifetime.as_secs())
                .min(session_end.unix_timestamp()),
            jti: Uuid::new_v4(),
        };
        jsonwebtoken::encode(&header, &claims, &key.encoding)
            .map_err(|e| Error::internal(DURING, e))
    }

    /// Signs what is not a token, with the key that signs tokens at `now`.
    ///
    /// # Errors
    /// [`Error::Internal`] if there is no such key, or signing fails.
    pub fn sign_detached(&self, payload: &[u8], now: OffsetDateTime) -> Result<Signed> {
        let keys = self.keys();
        let terms = keys.iter().map(|(key, term)| (key.kid(), *term));
        let (key, _) = signer(terms, time::Duration::ZERO, now)
            .and_then(|index| keys.get(index))
            .ok_or_else(|| Error::internal("sign an archive", NoKey))?;
        super::detached::sign(payload, &key.public, &key.kid, &key.encoding)
    }

    /// Checks a token.
    ///
    /// # Errors
    /// [`AuthProblem::Expired`] for a token of ours that has expired, [`AuthProblem::Invalid`] for every other fault.
    pub fn check(&self, token: &str, now: OffsetDateTime) -> Result<AccessClaims> {
        let claims = self.verified(token, now).ok_or(INVALID)?;
        let read = |seconds| OffsetDateTime::from_unix_timestamp(seconds).ok();
        let (Some(issued_at), Some(expires_at)) = (read(claims.iat), read(claims.exp)) else {
            return Err(INVALID);
        };
        let (now, leeway) = (now.unix_timestamp(), self.0.settings.leeway.as_secs());
        let latest_begin = now.saturating_add_unsigned(leeway);
        let longest = claims.iat.saturating_add_unsigned(self.0.settings.access_lifetime.as_secs());
        if claims.nbf > latest_begin || claims.iat > latest_begin || claims.exp > longest {
            return Err(INVALID);
        }
        if now >= claims.exp.saturating_add_unsigned(leeway) {
            return Err(Error::Unauthenticated(AuthProblem::Expired));
        }
        Ok(AccessClaims {
            user: UserId::new(claims.sub),
            session: claims.sid,
            issued_at,
            expires_at,
        })
    }

    /// Returns the user and the session of a token of ours, whether or not it has expired: enough to end the session.
    /// `None` if its key has ended.
    #[must_use]
    pub fn session_of(&self, token: &str, now: OffsetDateTime) -> Option<(UserId, Uuid)> {
        self.verified(token, now).map(|claims| (UserId::new(claims.sub), claims.sid))
    }

    /// Returns the claims of a token with a signature, issuer, audience and form of ours; does not check its times.
    fn verified(&self, token: &str, now: OffsetDateTime) -> Option<Claims> {
        let kid = key_id(token)?;
        let keys = self.keys();
        let (key, _) = keys.iter().find(|(key, term)| key.kid == kid && term.verifies(now))?;
        jsonwebtoken::decode(token, &key.decoding, &self.0.validation)
            .ok()
            .map(|token| token.claims)
    }

    /// Returns whether a token has our form and names a key that is not among the keys here: one that another server
    /// made since they were read, or none at all.
    #[must_use]
    pub fn names_unknown_key(&self, token: &str) -> bool {
        key_id(token).is_some_and(|kid| !self.keys().iter().any(|(key, _)| key.kid == kid))
    }

    /// Returns the public halves of all keys that verify now as a JWK set (RFC 7517, 5), with which other services check
    /// tokens. A key that does not sign yet is among them.
    ///
    /// # Errors
    /// [`Error::Internal`] if they cannot be written as JSON.
    pub fn jwks(&self, now: OffsetDateTime) -> Result<serde_json::Value> {
        let keys = self.keys();
        let verifying = keys.iter().filter(|(_, term)| term.verifies(now));
        let set = JwkSet { keys: verifying.map(|(key, _)| key.public.clone()).collect() };
        serde_json::to_value(set).map_err(|e| Error::internal("publish signing keys", e))
    }

    /// Returns the lifetime of a token.
    #[must_use]
    pub fn access_lifetime(&self) -> Duration {
        self.0.settings.access_lifetime
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer").field("settings", &self.0.settings).finish_non_exhaustive()
    }
}

const INVALID: Error = Error::Unauthenticated(AuthProblem::Invalid);

/// Returns the key id in the header of a token of our form; checks nothing else.
fn key_id(token: &str) -> Option<String> {
    if token.len() > TOKEN_MAX {
        return None;
    }
    let header = jsonwebtoken::decode_header(token).ok()?;
    // `crit` names extensions that a reader must understand or refuse (RFC 7515, 4.1.11). We support none, and
    // jsonwebtoken does not check.
    if header.typ.as_deref() != Some(TYPE) || header.crit.is_some() {
        return None;
    }
    header.kid
}

/// Returns the rules of the signature check: one algorithm, our issuer, our audience. [`Issuer::check`] checks the times,
/// because the library would use its own clock.
fn validation(settings: &Settings) -> Validation {
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_required_spec_claims(REQUIRED);
    validation.set_issuer(&[&settings.issuer]);
    validation.set_audience(&[&settings.audience]);
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation
}

#[cfg(test)]
mod tests;
