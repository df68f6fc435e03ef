//! Signs access tokens and checks them: JSON web tokens under Ed25519, of the header type of RFC 9068.
//!
//! Promises: whatever is wrong with a token, its bearer learns that it is not valid, or that it was
//! valid once; the latter only where signature, issuer and audience are right. One algorithm is
//! accepted, whatever a token says of itself, and keys are ours alone: a key or an address of one
//! inside a token is not looked at. Time is an argument.
//!
//! Must not know: where the keys are kept, whether a session still stands. A token is good until it
//! ends, which is why it lives for minutes only.
//!
//! To change the key: make one, put it first and leave the old one behind it for as long as its last
//! token lives ([`Settings::access_lifetime`] and [`Settings::leeway`]).

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

/// How long an access token lives unless the settings say otherwise: a revoked session stays good for
/// as long as this at most, and a client renews four times an hour.
const ACCESS_LIFETIME: Duration = Duration::from_mins(15);
/// How far apart the clocks of two of our processes may be.
const LEEWAY: Duration = Duration::from_secs(30);
/// Longest token that is read at all; ours have about 500 bytes.
pub const TOKEN_MAX: usize = 4096;

/// The `typ` of an access token (RFC 9068, 2.1), so that no other kind of token is taken for one.
const TYPE: &str = "at+jwt";
/// The claims without which the verdict of `jsonwebtoken` would be none: it checks those it finds.
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
    /// The key's name: the thumbprint of its public half (RFC 7638).
    pub kid: String,
    /// The private half, PKCS#8 in DER.
    pub private: SecretSlice<u8>,
}

impl SigningKey {
    /// A fresh one.
    ///
    /// # Errors
    /// [`Error::Internal`] where the system has no randomness to give.
    pub fn generate() -> Result<Self> {
        // Version 1 of PKCS#8: the form that every other tool reads.
        let pkcs8 = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new())
            .map_err(|e| Error::internal("make signing key", e))?;
        Self::read(pkcs8.as_ref())
    }

    /// Takes what our own tables hold.
    ///
    /// # Errors
    /// [`Error::Internal`] where it is no Ed25519 key, or not the one that the name says.
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

    /// The key's name.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The key in the form in which it is stored.
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

/// The public half with everything that a reader of the key set needs, and its thumbprint.
fn published(key: &DecodingKey) -> jsonwebtoken::errors::Result<(Jwk, String)> {
    let mut public = Jwk::from_decoding_key(key, Some(Algorithm::EdDSA))?;
    let kid = public.thumbprint(ThumbprintHash::SHA256)?;
    public.common.public_key_use = Some(PublicKeyUse::Signature);
    public.common.key_id = Some(kid.clone());
    Ok((public, kid))
}

/// What is written into every token and demanded of it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Who issues: this service, by the name that others know it by.
    pub issuer: String,
    /// Whom tokens are for: this service's API.
    pub audience: String,
    /// How long a token lives.
    pub access_lifetime: Duration,
    /// How much earlier or later than written it is still accepted.
    pub leeway: Duration,
}

impl Settings {
    /// These names, and the usual times.
    pub fn new(issuer: impl Into<String>, audience: impl Into<String>) -> Self {
        Self {
            issuer: issuer.into(),
            audience: audience.into(),
            access_lifetime: ACCESS_LIFETIME,
            leeway: LEEWAY,
        }
    }
}

/// What a good token proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccessClaims {
    /// Who logged in.
    pub user: UserId,
    /// Under which session.
    pub session: Uuid,
    /// When the token was issued, in whole seconds.
    pub issued_at: OffsetDateTime,
    /// When it ends, in whole seconds, without the leeway.
    pub expires_at: OffsetDateTime,
}

/// The claims as they are written. All are required; the times are whole seconds since 1970.
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
    /// By name; few enough to be looked through.
    verifying: Vec<(String, DecodingKey)>,
    published: serde_json::Value,
    validation: Validation,
}

impl Issuer {
    /// Signs with the first key, accepts what any of them signed.
    ///
    /// # Errors
    /// [`Error::Internal`] without any key.
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

    /// A token for a user's session, good from now on.
    ///
    /// # Errors
    /// [`Error::Internal`] where signing fails.
    pub fn issue(&self, user: UserId, session: Uuid, now: OffsetDateTime) -> Result<String> {
        let Inner { settings, header, signing, .. } = &*self.0;
        let iat = now.unix_timestamp();
        let claims = Claims {
            iss: settings.issuer.clone(),
            aud: settings.audience.clone(),
            sub: user.uuid(),
            sid: session,
            iat,
            nbf: iat,
            exp: iat.saturating_add_unsigned(settings.access_lifetime.as_secs()),
            jti: Uuid::new_v4(),
        };
        jsonwebtoken::encode(header, &claims, signing)
            .map_err(|e| Error::internal("sign access token", e))
    }

    /// What the token proves, if anything.
    ///
    /// # Errors
    /// [`AuthProblem::Expired`] for a token of ours that has ended, [`AuthProblem::Invalid`] for
    /// everything else.
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

    /// The claims of a token that one of our keys signed, for us, in our form; times not looked at.
    fn verified(&self, token: &str) -> Option<Claims> {
        if token.len() > TOKEN_MAX {
            return None;
        }
        let header = jsonwebtoken::decode_header(token).ok()?;
        // `crit` names extensions that a reader must understand or refuse (RFC 7515, 4.1.11); we know
        // of none, and jsonwebtoken does not look.
        if header.typ.as_deref() != Some(TYPE) || header.crit.is_some() {
            return None;
        }
        let kid = header.kid?;
        let (_, key) = self.0.verifying.iter().find(|(name, _)| *name == kid)?;
        jsonwebtoken::decode(token, key, &self.0.validation).ok().map(|token| token.claims)
    }

    /// The public halves of all keys as a JWK set (RFC 7517, 5), for others to check tokens with.
    #[must_use]
    pub fn jwks(&self) -> serde_json::Value {
        self.0.published.clone()
    }

    /// How long a token lives, for the answer to a login.
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

/// One algorithm, our issuer, our audience. The times are checked in [`Issuer::check`]: here it would
/// be against a clock of the library's own.
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
