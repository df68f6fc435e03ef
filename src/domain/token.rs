//! Owns the kinds of stored credentials.

use serde::Serialize;

/// The kind of a stored credential. It decides the form of the secret and the header that carries it.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Serialize,
    strum::Display,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantNames,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum TokenKind {
    /// An API token.
    Token,
    /// An API key, which works in one tenant.
    ApiKey,
    /// A tenant's own token in Databunker's dialect.
    Xtoken,
    /// A person's token in Databunker's dialect, which reads that person's profile.
    Person,
}

impl TokenKind {
    /// The names of all kinds, in order of declaration.
    pub const NAMES: &'static [&'static str] = <Self as strum::VariantNames>::VARIANTS;

    /// Returns the name on the wire and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The kind of credential that a session of the console stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum ConsoleCredential {
    /// The session of a user.
    User,
    /// An API token.
    Token,
    /// A root token.
    Root,
}

impl ConsoleCredential {
    /// Returns the word in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}
