//! Owns the secret outside of the database that encrypts ("wraps") the private signing keys in it.
//!
//! Promises: a wrapped key can be read, or replaced by another, only with the secret. AES-256-GCM with a random nonce;
//! the key's id is authenticated with it, so that a wrapped key cannot be moved to another row. The cipher's key and
//! the fingerprint are derived from the secret by HKDF (RFC 5869), which needs a random secret: nothing here slows down
//! the search for a weak one.
//! Must not know: where the secret comes from, which table holds a wrapped key.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Prk, Salt};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::zeroize::Zeroizing;
use secrecy::{SecretSlice, SecretString};

use crate::auth::random;
use crate::domain::error::{Error, Result};
use crate::domain::rule::Rule;

/// Fewest characters of a secret: those of 24 random bytes in base64. One that we generate has 44.
pub const SECRET_MIN: usize = 32;
/// Random bytes of a generated secret.
const RANDOM_LEN: usize = 32;
/// The length of the derived keys, in bytes.
const DERIVED_LEN: usize = 32;
/// Bytes of the fingerprint: enough to tell two secrets apart.
const FINGERPRINT_LEN: usize = 8;
/// The first byte of a wrapped key. The DER of a key in clear begins with another.
const FORMAT: u8 = 1;

const WRAP: &str = "wrap a signing key";

/// The secret, as the keys that are derived from it.
pub struct SecretKey {
    cipher: RandomizedNonceKey,
    fingerprint: String,
}

impl SecretKey {
    /// Reads a secret, which is any text of at least [`SECRET_MIN`] characters.
    ///
    /// # Errors
    /// [`Rule::TooShort`].
    pub fn parse(text: &str) -> Result<Self, Rule> {
        if text.chars().count() < SECRET_MIN {
            return Err(Rule::TooShort(SECRET_MIN));
        }
        Ok(Self::derived_from(text))
    }

    /// Returns the text of a new random secret.
    #[must_use]
    pub fn generate() -> SecretString {
        let mut random = Zeroizing::new([0_u8; RANDOM_LEN]);
        random::fill(&mut *random);
        SecretString::from(STANDARD.encode(*random))
    }

    fn derived_from(text: &str) -> Self {
        let secret = Salt::new(HKDF_SHA256, b"rowhouse secret key").extract(text.as_bytes());
        let key = derive(&secret, b"wrap signing keys");
        let cipher = RandomizedNonceKey::new(&AES_256_GCM, &*key)
            .expect("the derived key has the length of the cipher's");
        let fingerprint = derive(&secret, b"fingerprint");
        let fingerprint = hex::encode(fingerprint.get(..FINGERPRINT_LEN).unwrap_or_default());
        Self { cipher, fingerprint }
    }

    /// Returns a name of the secret that does not reveal it, to tell two secrets apart.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Encrypts the private half of the signing key `kid`.
    ///
    /// # Errors
    /// [`Error::Internal`] if the cipher fails.
    pub fn wrap(&self, kid: &str, private: &[u8]) -> Result<Vec<u8>> {
        let mut text = private.to_vec();
        let nonce = self
            .cipher
            .seal_in_place_append_tag(bound_to(kid), &mut text)
            .map_err(|error| Error::internal(WRAP, error))?;
        Ok([&[FORMAT][..], nonce.as_ref(), &text].concat())
    }

    /// Decrypts what [`SecretKey::wrap`] returned for `kid`; `None` if it was wrapped with another secret, for another
    /// key, or was changed.
    #[must_use]
    pub fn unwrap(&self, kid: &str, wrapped: &[u8]) -> Option<SecretSlice<u8>> {
        let sealed = wrapped.strip_prefix(&[FORMAT])?;
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut text = Zeroizing::new(sealed.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let private = self.cipher.open_in_place(nonce, bound_to(kid), &mut text).ok()?;
        Some(SecretSlice::from(private.to_vec()))
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretKey").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

fn derive(secret: &Prk, purpose: &[u8]) -> Zeroizing<[u8; DERIVED_LEN]> {
    let mut out = Zeroizing::new([0_u8; DERIVED_LEN]);
    secret
        .expand(&[purpose], HKDF_SHA256)
        .and_then(|key| key.fill(&mut *out))
        .expect("the length is that of one digest");
    out
}

/// Returns the data that is authenticated with a wrapped key.
fn bound_to(kid: &str) -> Aad<String> {
    Aad::from(format!("rowhouse signing key {kid}"))
}

#[cfg(test)]
mod tests;
