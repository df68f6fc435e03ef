//! Owns the opaque credentials: API tokens, refresh tokens and the root token.
//!
//! Promises: a token is shown once and kept as a digest; whoever reads the tables cannot log in. A
//! token has 256 random bits, so that a plain SHA-256 is enough: there is no dictionary to try.
//! Must not know: which table holds a digest, which header carries a token.
//!
//! To add a kind: a variant of [`Kind`] with a prefix of its own, and, where it may be presented as a
//! bearer token, a variant of [`Presented`].

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::domain::rule::Rule;

/// Random bytes in a token.
const RANDOM_LEN: usize = 32;
/// The same in base64 without padding.
const RANDOM_TEXT_LEN: usize = 43;
/// Characters of the random part in a hint: enough to tell a list of tokens apart, and it leaves 232
/// bits to guess.
const HINT_LEN: usize = 4;
/// The same for an API key, of which Reten's clients show so many; it leaves 208 bits.
const API_KEY_HINT_LEN: usize = 8;

/// What an opaque token is good for. The prefix tells scanners of leaked secrets what they found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Calls the API.
    Api,
    /// Calls the API in one tenant, in a header of its own: Reten's API key.
    ApiKey,
    /// Is exchanged for the next access token, and calls nothing.
    Refresh,
    /// Calls the API in Databunker's dialect, whose clients expect a UUID: an xtoken, an unlock.
    Uuid,
}

impl Kind {
    /// What tokens of this kind begin with. A UUID begins with nothing and is told by its form.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Api => "rh_",
            Self::ApiKey => "rtn_sk_",
            Self::Refresh => "rhr_",
            Self::Uuid => "",
        }
    }

    /// Whether the text has the form of a token of this kind.
    fn has_form(self, text: &str) -> bool {
        let in_alphabet = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        text.strip_prefix(self.prefix()).is_some_and(|random| {
            random.len() == RANDOM_TEXT_LEN && random.bytes().all(in_alphabet)
        })
    }
}

/// A token in clear, as it is handed out: wiped from memory when dropped, redacted wherever it might
/// be printed.
pub struct OpaqueToken {
    kind: Kind,
    text: SecretString,
}

impl OpaqueToken {
    /// A fresh one: the kind's prefix and 43 random characters, or a random UUID.
    #[must_use]
    pub fn generate(kind: Kind) -> Self {
        if kind == Kind::Uuid {
            return Self { kind, text: SecretString::from(Uuid::new_v4().to_string()) };
        }
        let mut random = Zeroizing::new([0_u8; RANDOM_LEN]);
        fill(&mut *random);
        // Sized beforehand: growing would leave a copy behind that nobody wipes.
        let mut text = String::with_capacity(kind.prefix().len() + RANDOM_TEXT_LEN);
        text.push_str(kind.prefix());
        URL_SAFE_NO_PAD.encode_string(*random, &mut text);
        Self { kind, text: SecretString::from(text) }
    }

    /// The token itself, to be shown once.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.text.expose_secret()
    }

    /// What is stored in its place.
    #[must_use]
    pub fn digest(&self) -> TokenDigest {
        TokenDigest::of(self.expose())
    }

    /// The beginning, by which its owner knows it again in a listing: `rh_ab12…`.
    #[must_use]
    pub fn hint(&self) -> String {
        let of_the_random_part = match self.kind {
            Kind::ApiKey => API_KEY_HINT_LEN,
            Kind::Api | Kind::Refresh | Kind::Uuid => HINT_LEN,
        };
        let shown = self.kind.prefix().len() + of_the_random_part;
        self.expose().chars().take(shown).chain(['…']).collect()
    }
}

impl fmt::Debug for OpaqueToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OpaqueToken(redacted)")
    }
}

/// The SHA-256 of a token. Equality takes the same time wherever two digests differ.
#[derive(Clone, Copy)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// The digest of a token as somebody presents it: byte for byte, but a UUID however it is written.
    #[must_use]
    pub fn of(presented: &str) -> Self {
        match Uuid::try_parse(presented) {
            Ok(uuid) => Self(Sha256::digest(uuid.hyphenated().to_string()).into()),
            Err(_not_a_uuid) => Self(Sha256::digest(presented).into()),
        }
    }

    /// Takes what our own tables hold.
    #[must_use]
    pub const fn stored(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, for storage and look-up.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq for TokenDigest {
    fn eq(&self, other: &Self) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Eq for TokenDigest {}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest(redacted)")
    }
}

/// The operator's credential: a UUID, because that is the form in which Databunker's clients send it.
pub struct RootToken {
    text: SecretString,
    digest: TokenDigest,
}

impl RootToken {
    /// A fresh one: 122 random bits.
    #[must_use]
    pub fn generate() -> Self {
        Self::of(Uuid::new_v4())
    }

    /// Reads what the operator set, in any form that a UUID is written in. The nil and the max UUID
    /// are refused: they are what a placeholder looks like.
    ///
    /// # Errors
    /// [`Rule::UuidFormat`].
    pub fn parse(given: &str) -> Result<Self, Rule> {
        match Uuid::try_parse(given) {
            Ok(id) if !id.is_nil() && !id.is_max() => Ok(Self::of(id)),
            _ => Err(Rule::UuidFormat),
        }
    }

    fn of(id: Uuid) -> Self {
        let text = SecretString::from(id.hyphenated().to_string());
        let digest = TokenDigest::of(text.expose_secret());
        Self { text, digest }
    }

    /// Whether this is the token, in any form that a UUID is written in.
    #[must_use]
    pub fn matches(&self, presented: &str) -> bool {
        Uuid::try_parse(presented).is_ok_and(|id| Self::of(id).digest == self.digest)
    }

    /// The token in lower case with hyphens, to be shown once or written to its file.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.text.expose_secret()
    }
}

impl fmt::Debug for RootToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RootToken(redacted)")
    }
}

/// What a presented credential is by its form; nothing is proven yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presented {
    /// A UUID: the root token, or Databunker's word for an opaque token, an xtoken.
    Uuid,
    /// An API token.
    Api,
    /// An API key of Reten's.
    ApiKey,
    /// An access token, signed.
    AccessToken,
    /// None that can be presented. Refresh tokens are among these: they open no door.
    Unknown,
}

impl Presented {
    /// Tells the forms apart, so that each credential is looked up in one place.
    #[must_use]
    pub fn classify(presented: &str) -> Self {
        if Kind::Api.has_form(presented) {
            Self::Api
        } else if Kind::ApiKey.has_form(presented) {
            Self::ApiKey
        } else if looks_like_jwt(presented) {
            Self::AccessToken
        } else if Uuid::try_parse(presented).is_ok() {
            Self::Uuid
        } else {
            Self::Unknown
        }
    }
}

/// Three parts with a dot between each, none of them empty.
fn looks_like_jwt(text: &str) -> bool {
    let mut parts = text.split('.');
    let three = parts.by_ref().take(3).filter(|part| !part.is_empty()).count() == 3;
    three && parts.next().is_none()
}

/// Random bytes from the operating system.
fn fill(bytes: &mut [u8]) {
    aws_lc_rs::rand::fill(bytes)
        .expect("aws-lc ends the process rather than return without entropy");
}

#[cfg(test)]
mod tests;
