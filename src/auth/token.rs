//! Owns the opaque credentials: API tokens, refresh tokens and the root token.
//!
//! Promises: a token is shown once and stored as a digest, so that read access to the tables gives no login. A token has
//! 256 random bits, so a plain SHA-256 is enough: a dictionary attack has no dictionary. It ends with a checksum, so
//! that a mistyped one is refused without a look-up and a scanner for leaked secrets can tell a token from other text.
//! Must not know: which table holds a digest, which header carries a token.
//!
//! To add a kind: a variant of [`Kind`] with a prefix of its own, and, if it can be presented as a bearer token, a
//! variant of [`Presented`].

use std::fmt;
use std::sync::Arc;

use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::auth::random;
use crate::domain::rule::Rule;

/// The digits of base62, in the order of their values.
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Random characters in a token. In base62 they hold 256 bits; tokens that are older than the checksum have as many in
/// base64.
const RANDOM_TEXT_LEN: usize = 43;
/// Characters of the checksum: a CRC32 of the random characters in base62.
const CHECKSUM_LEN: usize = 6;
/// Characters of the random part in a hint: enough to tell the tokens of a list apart; 232 bits remain secret.
const HINT_LEN: usize = 4;
/// Characters of the random part in the hint of an API key, as many as Reten's clients show; 208 bits remain secret.
const API_KEY_HINT_LEN: usize = 8;

/// The kinds of opaque tokens. The prefix identifies the kind to scanners for leaked secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An API token.
    Api,
    /// Reten's API key: calls the API in one tenant, in a header of its own.
    ApiKey,
    /// A refresh token: is exchanged for the next access token, and calls no endpoint.
    Refresh,
    /// A UUID, which the clients of Databunker's dialect expect: an xtoken, an unlock.
    Uuid,
    /// The token of an invitation: is used once, and calls no endpoint.
    Invitation,
    /// The secret of a session of the console: is in a cookie, and calls no endpoint of an API.
    Console,
}

impl Kind {
    /// Returns the prefix of tokens of this kind. A UUID has none and is recognised by its form.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Api => "rh_",
            Self::ApiKey => "rtn_sk_",
            Self::Refresh => "rhr_",
            Self::Uuid => "",
            Self::Invitation => "rhi_",
            Self::Console => "rhc_",
        }
    }

    /// Returns whether the text has the form of a token of this kind, and its checksum is right if it has one.
    fn has_form(self, text: &str) -> bool {
        text.strip_prefix(self.prefix()).is_some_and(|rest| is_checked(rest) || is_unchecked(rest))
    }
}

/// A token in clear text: wiped from memory when dropped, redacted in `Debug`.
pub struct OpaqueToken {
    kind: Kind,
    text: SecretString,
}

impl OpaqueToken {
    /// Creates a token: the kind's prefix, 43 random characters and 6 of a checksum; or a random UUID.
    #[must_use]
    pub fn generate(kind: Kind) -> Self {
        if kind == Kind::Uuid {
            return Self { kind, text: SecretString::from(Uuid::new_v4().to_string()) };
        }
        let prefix = kind.prefix();
        // Allocated in full size: growing would leave an unwiped copy in memory.
        let mut text = String::with_capacity(prefix.len() + RANDOM_TEXT_LEN + CHECKSUM_LEN);
        text.push_str(prefix);
        push_random(&mut text, RANDOM_TEXT_LEN);
        let sum = checksum(text.strip_prefix(prefix).unwrap_or_default().as_bytes());
        text.extend(sum.map(char::from));
        Self { kind, text: SecretString::from(text) }
    }

    /// Returns the clear text, to be shown once.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.text.expose_secret()
    }

    /// Returns the digest that is stored instead.
    #[must_use]
    pub fn digest(&self) -> TokenDigest {
        TokenDigest::of(self.expose())
    }

    /// Returns the beginning, by which its owner recognises it in a list: `rh_ab12…`.
    #[must_use]
    pub fn hint(&self) -> String {
        let of_the_random_part = match self.kind {
            Kind::ApiKey => API_KEY_HINT_LEN,
            Kind::Api | Kind::Refresh | Kind::Uuid | Kind::Invitation | Kind::Console => HINT_LEN,
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

/// The SHA-256 of a token, compared in constant time.
#[derive(Clone, Copy)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// Computes the digest of a presented token: of its bytes, or of the canonical form of a UUID.
    #[must_use]
    pub fn of(presented: &str) -> Self {
        match Uuid::try_parse(presented) {
            Ok(uuid) => Self(Sha256::digest(uuid.hyphenated().to_string()).into()),
            Err(_not_a_uuid) => Self(Sha256::digest(presented).into()),
        }
    }

    /// Wraps a digest from our own tables.
    #[must_use]
    pub const fn stored(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes, for storage and look-up.
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

/// The operator's credential: a UUID, because Databunker's clients send one.
pub struct RootToken {
    text: SecretString,
    digest: TokenDigest,
}

impl RootToken {
    /// Creates a token of 122 random bits.
    #[must_use]
    pub fn generate() -> Self {
        Self::of(Uuid::new_v4())
    }

    /// Parses the operator's setting, in any notation of a UUID. The nil and the max UUID are refused, because they are
    /// placeholders.
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

    /// Returns whether this is the token, in any notation of a UUID.
    #[must_use]
    pub fn matches(&self, presented: &str) -> bool {
        Uuid::try_parse(presented).is_ok_and(|id| Self::of(id).digest == self.digest)
    }

    /// Returns the token in lower case with hyphens, to be shown once or written to its file.
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

/// The root tokens that are accepted: the present one, and while it is being replaced, the previous one.
#[derive(Debug)]
pub struct RootTokens {
    present: Arc<RootToken>,
    previous: Option<RootToken>,
}

impl RootTokens {
    /// Accepts the present token, and the previous one if there is one.
    #[must_use]
    pub const fn new(present: Arc<RootToken>, previous: Option<RootToken>) -> Self {
        Self { present, previous }
    }

    /// Returns whether this is the digest of one of the tokens.
    #[must_use]
    pub fn has_digest(&self, digest: &[u8]) -> bool {
        let is_of = |token: &RootToken| {
            aws_lc_rs::constant_time::verify_slices_are_equal(token.digest.as_bytes(), digest)
                .is_ok()
        };
        is_of(&self.present) || self.previous.as_ref().is_some_and(is_of)
    }

    /// Returns whether this is one of the tokens, in any notation of a UUID.
    #[must_use]
    pub fn matches(&self, presented: &str) -> bool {
        self.present.matches(presented)
            || self.previous.as_ref().is_some_and(|previous| previous.matches(presented))
    }
}

/// The kind of a presented credential by its form; it is not checked yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presented {
    /// A UUID: the root token, or an xtoken of Databunker's dialect.
    Uuid,
    /// An API token.
    Api,
    /// An API key of Reten's.
    ApiKey,
    /// A signed access token.
    AccessToken,
    /// None that can be presented; a refresh token is among these.
    Unknown,
}

impl Presented {
    /// Classifies a credential by its form, so that each is looked up in one place.
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

/// Returns whether the text is three non-empty parts separated by dots.
fn looks_like_jwt(text: &str) -> bool {
    let mut parts = text.split('.');
    let three = parts.by_ref().take(3).filter(|part| !part.is_empty()).count() == 3;
    three && parts.next().is_none()
}

/// Returns whether the text, which followed a prefix, ends with the checksum of the rest.
fn is_checked(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric())
        && text.len() == RANDOM_TEXT_LEN + CHECKSUM_LEN
        && text
            .as_bytes()
            .split_last_chunk::<CHECKSUM_LEN>()
            .is_some_and(|(random, sum)| checksum(random) == *sum)
}

/// Returns whether the text, which followed a prefix, has the form from before tokens had a checksum.
fn is_unchecked(text: &str) -> bool {
    let in_alphabet = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    text.len() == RANDOM_TEXT_LEN && text.bytes().all(in_alphabet)
}

/// Returns the CRC32 of the random characters as six digits of base62, the form that GitHub's tokens made known.
fn checksum(random: &[u8]) -> [u8; CHECKSUM_LEN] {
    let mut rest = crc32fast::hash(random);
    let mut digits = [b'0'; CHECKSUM_LEN];
    for place in digits.iter_mut().rev() {
        *place = digit(rest % 62);
        rest /= 62;
    }
    digits
}

/// Appends random characters of base62, each with the same probability.
fn push_random(text: &mut String, count: usize) {
    /// The largest multiple of 62 in a byte: with the values from here on, some digits would be more probable.
    const REFUSED_FROM: u8 = 248;
    let mut missing = count;
    let mut random = Zeroizing::new([0_u8; 64]);
    while missing > 0 {
        random::fill(&mut *random);
        for byte in random.iter().filter(|byte| **byte < REFUSED_FROM).take(missing) {
            text.push(char::from(digit(u32::from(byte % 62))));
            missing -= 1;
        }
    }
}

/// Returns the digit of base62 with this value, which is below 62.
fn digit(value: u32) -> u8 {
    usize::try_from(value).ok().and_then(|value| ALPHABET.get(value)).copied().unwrap_or(b'0')
}

#[cfg(test)]
mod tests;
