//! A key pair that signs access tokens, and when it signs and verifies.

use std::fmt;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use jsonwebtoken::jwk::{Jwk, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use secrecy::SecretSlice;
use secrecy::zeroize::Zeroizing;
use time::{Duration, OffsetDateTime};

use crate::auth::random;
use crate::domain::error::{Error, Result};

pub(super) const READ_KEY: &str = "read signing key";

const MAKE_KEY: &str = "make signing key";

/// A key pair that signs access tokens.
pub struct SigningKey {
    pub(super) public: Jwk,
    pub(super) kid: String,
    pub(super) encoding: EncodingKey,
    pub(super) decoding: DecodingKey,
}

/// A signing key outside of this module, with its private half in clear.
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
    /// [`Error::Internal`] if the library refuses the key.
    pub fn generate() -> Result<Self> {
        // A private key of Ed25519 is 32 random bytes (RFC 8032, section 5.1.5).
        let mut seed = Zeroizing::new([0_u8; 32]);
        random::fill(&mut *seed);
        let pair = Ed25519KeyPair::from_seed_unchecked(&*seed)
            .map_err(|error| Error::internal(MAKE_KEY, error))?;
        // Version 1 of PKCS#8, which every other tool reads.
        let pkcs8 = pair.to_pkcs8v1().map_err(|error| Error::internal(MAKE_KEY, error))?;
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

    /// Returns the key with its private half in clear.
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

/// Returns the public half as a JWK, with its thumbprint as the id.
fn published(key: &DecodingKey) -> jsonwebtoken::errors::Result<(Jwk, String)> {
    let mut public = Jwk::from_decoding_key(key, Some(Algorithm::EdDSA))?;
    let kid = public.thumbprint(ThumbprintHash::SHA256)?;
    public.common.public_key_use = Some(PublicKeyUse::Signature);
    public.common.key_id = Some(kid.clone());
    Ok((public, kid))
}

/// The time in which a key signs and verifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term {
    /// The key signs from this time, until a key with a later one signs.
    pub signs_from: OffsetDateTime,
    /// The key verifies until this time; `None` if no other key succeeds it yet.
    pub verifies_until: Option<OffsetDateTime>,
}

impl Term {
    /// Returns whether the key verifies tokens at `now`. A key verifies before it signs, because the clock of another
    /// server may be ahead.
    #[must_use]
    pub fn verifies(self, now: OffsetDateTime) -> bool {
        self.verifies_until.is_none_or(|end| now < end)
    }

    /// Returns whether a token that is issued at `now` expires before the key ends.
    fn outlives(self, lifetime: Duration, now: OffsetDateTime) -> bool {
        self.verifies_until.is_none_or(|end| now.saturating_add(lifetime) <= end)
    }
}

/// Returns the index of the key that signs tokens of this lifetime at `now`: of those that still verify when the token
/// expires, the one that began to sign last. If none has begun, it is the one that begins first: the clock of the server
/// that made it is ahead, or its predecessor was retired. All servers with the same keys choose the same one.
#[must_use]
pub fn signer<'a>(
    keys: impl Iterator<Item = (&'a str, Term)>,
    lifetime: Duration,
    now: OffsetDateTime,
) -> Option<usize> {
    let usable = keys.enumerate().filter(|(_, (_, term))| term.outlives(lifetime, now));
    let usable: Vec<_> = usable.map(|(index, (kid, term))| (term.signs_from, kid, index)).collect();
    let begun = usable.iter().filter(|(signs_from, ..)| *signs_from <= now).max();
    begun.or_else(|| usable.iter().min()).map(|(.., index)| *index)
}
