//! Signs and checks access tokens: JSON web tokens under Ed25519, with the header type of RFC 9068.
//!
//! Promises: the bearer of a bad token learns only that it is not valid, or that it has expired; the latter only if
//! signature, issuer and audience are right. One algorithm is accepted, whatever the token's header says, and only our
//! own keys: a key or a key URL inside a token is ignored. Time is an argument.
//!
//! Must not know: where the keys are stored, whether a session still exists. A token is valid until it expires, so it
//! lives for minutes only.
//!
//! To rotate the key: create one, put it first and keep the old one behind it for as long as its last token lives
//! ([`Settings::access_lifetime`] and [`Settings::leeway`]).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use secrecy::SecretSlice;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::error::{AuthProblem, Error, Result};
use crate::domain::names::UserId;

/// Default lifetime of an access token: a revoked session stays valid for at most this long, and a client renews four
/// times an hour.
const ACCESS_LIFETIME: Duration = Duration::from_mins(15);
/// Largest difference between the clocks of two of our processes.
const LEEWAY: Duration = Duration::from_secs(30);
/// Longest token that is parsed, in bytes; ours have about 500.
pub const TOKEN_MAX: usize = 4096;

/// The `typ` of an access token (RFC 9068, 2.1), so that no other kind of token is accepted as one.
const TYPE: &str = "at+jwt";
/// The required claims; without this list `jsonwebtoken` checks only those that are present.
const REQUIRED: &[&str] = &["iss", "aud", "sub", "exp", "nbf"];

const READ_KEY: &str = "read signing key";

/// A key pair that signs access tokens.
pub struct SigningKey {
    public: Jwk,
    kid: String,
    encoding: EncodingKey,
    decoding: DecodingKey,
}

/// A signing key as it is stored.
#[derive(Debug)]
pub struct StoredKey {
    /// The key's id: the thumbprint of its public half (RFC 7638).
    pub kid: String,
    /// The private half, PKCS#8 in DER.
    pub private: SecretSlice<u8>,
}

impl SigningKey {
    /// Creates a random key pair.
    ///
    /// # Errors
    /// [`Error::Internal`] if the system provides no randomness.
    pub fn generate() -> Result<Self> {
        // Version 1 of PKCS#8, which every other tool reads.
        let pkcs8 = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new())
            .map_err(|e| Error::internal("make signing key", e))?;
        Self::read(pkcs8.as_ref())
    }

    /// Parses a key from our own tables.
    ///
    /// # Errors
    /// [`Error::Internal`] if it is not an Ed25519 key, or does not have the thumbprint that it is stored under.
    pub fn from_stored(kid: &str, private: &[u8]) -> Result<Self> {
        let key = Self::read(private)?;
        if key.kid == kid { Ok(key) } else { Err(Error::internal(READ_KEY, OtherKey)) }
    }

    fn read(pkcs8: &[u8]) -> Result<Self> {
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8).map_err(|e| Error::internal(READ_KEY, e))?;
        // "DER" in name only: the verifier takes the 32 bytes as they are.
        let decoding = DecodingKey::from_ed_der(pair.public_key().as_ref());
        let (public, kid) = published(&decoding).map_err(|e| Error::internal(READ_KEY, e))?;
        Ok(Self { public, kid, encoding: EncodingKey::from_ed_der(pkcs8), decoding })
    }

    /// Returns the key's id.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Returns the key as it is stored.
    #[must_use]
    pub fn to_stored(&self) -> StoredKey {
        let private = SecretSlice::from(self.encoding.as_bytes().to_vec());
        StoredKey { kid: self.kid.clone(), private }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the key does not have the thumbprint that it is stored under")]
struct OtherKey;

#[derive(Debug, thiserror::Error)]
#[error("there is no key")]
struct NoKey;

/// Returns the public half as a JWK, with its thumbprint as the id.
fn published(key: &DecodingKey) -> jsonwebtoken::errors::Result<(Jwk, String)> {
    let mut public = Jwk::from_decoding_key(key, Some(Algorithm::EdDSA))?;
    let kid = public.thumbprint(ThumbprintHash::SHA256)?;
    public.common.public_key_use = Some(PublicKeyUse::Signature);
    public.common.key_id = Some(kid.clone());
    Ok((public, kid))
}

/// The claims and times that every token is issued with and checked against.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The `iss` of tokens: the public name of this service.
    pub issuer: String,
    /// The `aud` of tokens: this service's API.
    pub audience: String,
    /// The lifetime of a token.
    pub access_lifetime: Duration,
    /// The tolerance at both ends of the lifetime.
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

/// Issues access tokens and checks them. Clones share the keys.
#[derive(Clone)]
pub struct Issuer(Arc<Inner>);

struct Inner {
    settings: Settings,
    header: Header,
    signing: EncodingKey,
    /// The keys with their ids; few enough for a linear search.
    verifying: Vec<(String, DecodingKey)>,
    published: serde_json::Value,
    validation: Validation,
}

impl Issuer {
    /// Creates an issuer that signs with the first key and accepts signatures of all of them.
    ///
    /// # Errors
    /// [`Error::Internal`] if there is no key.
    pub fn new(settings: Settings, keys: Vec<SigningKey>) -> Result<Self> {
        const DURING: &str = "set up access tokens";
        let Some(first) = keys.first() else { return Err(Error::internal(DURING, NoKey)) };
        let published = JwkSet { keys: keys.iter().map(|key| key.public.clone()).collect() };
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some(TYPE.to_owned());
        header.kid = Some(first.kid.clone());
        Ok(Self(Arc::new(Inner {
            header,
            signing: first.encoding.clone(),
            published: serde_json::to_value(published).map_err(|e| Error::internal(DURING, e))?,
            verifying: keys.into_iter().map(|key| (key.kid, key.decoding)).collect(),
            validation: validation(&settings),
            settings,
        })))
    }

    /// Issues a token for a user's session, valid from `now` and never beyond the session's end.
    ///
    /// # Errors
    /// [`Error::Internal`] if signing fails.
    pub fn issue(
        &self,
        user: UserId,
        session: Uuid,
        now: OffsetDateTime,
        session_end: OffsetDateTime,
    ) -> Result<String> {
        let Inner { settings, header, signing, .. } = &*self.0;
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
        jsonwebtoken::encode(header, &claims, signing)
            .map_err(|e| Error::internal("sign access token", e))
    }

    /// Checks a token.
    ///
    /// # Errors
    /// [`AuthProblem::Expired`] for a token of ours that has expired, [`AuthProblem::Invalid`] for every other fault.
    pub fn check(&self, token: &str, now: OffsetDateTime) -> Result<AccessClaims> {
        let claims = self.verified(token).ok_or(INVALID)?;
        let read = |seconds| OffsetDateTime::from_unix_timestamp(seconds).ok();
        let (Some(issued_at), Some(expires_at)) = (read(claims.iat), read(claims.exp)) else {
            return Err(INVALID);
        };
        let (now, leeway) = (now.unix_timestamp(), self.0.settings.leeway.as_secs());
        if claims.nbf > now.saturating_add_unsigned(leeway) {
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
    #[must_use]
    pub fn session_of(&self, token: &str) -> Option<(UserId, Uuid)> {
        self.verified(token).map(|claims| (UserId::new(claims.sub), claims.sid))
    }

    /// Returns the claims of a token with a signature, issuer, audience and form of ours; does not check the times.
    fn verified(&self, token: &str) -> Option<Claims> {
        if token.len() > TOKEN_MAX {
            return None;
        }
        let header = jsonwebtoken::decode_header(token).ok()?;
        // `crit` names extensions that a reader must understand or refuse (RFC 7515, 4.1.11). We support none, and
        // jsonwebtoken does not check.
        if header.typ.as_deref() != Some(TYPE) || header.crit.is_some() {
            return None;
        }
        let kid = header.kid?;
        let (_, key) = self.0.verifying.iter().find(|(name, _)| *name == kid)?;
        jsonwebtoken::decode(token, key, &self.0.validation).ok().map(|token| token.claims)
    }

    /// Returns the public halves of all keys as a JWK set (RFC 7517, 5), with which other services check tokens.
    #[must_use]
    pub fn jwks(&self) -> serde_json::Value {
        self.0.published.clone()
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
