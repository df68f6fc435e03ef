//! Owns what a tenant stores about a person: how it is named and found; the [`Document`] and the [`Lifetime`]
//! each have a file of their own.
//!
//! In Databunker's words a profile's id is a "token"; here it is a [`ProfileId`], and a token is a
//! credential.

mod document;
mod lifetime;

use std::fmt;

use serde::Serialize;
use uuid::Uuid;

use super::error::{FieldProblem, Rule};

pub use document::Document;
pub use lifetime::{Lifetime, MonthOrMinute, parse_length};

/// Longest key or identity, in characters: it must fit an index entry (a third of an 8 KiB page).
pub const KEY_MAX: usize = 512;

/// Names a profile within its tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ProfileId(Uuid);

impl ProfileId {
    /// Wraps a UUID that came from our own tables or from a caller who asks for it.
    #[must_use]
    pub const fn new(id: Uuid) -> Self {
        Self(id)
    }

    /// A fresh one, random: it must not tell when the person was stored.
    #[must_use]
    pub fn generate() -> Self {
        Self(Uuid::new_v4())
    }

    /// The UUID inside.
    #[must_use]
    pub const fn uuid(self) -> Uuid {
        self.0
    }
}

impl fmt::Display for ProfileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The keys that a person can be found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// E-mail address; compared in lower case.
    Email,
    /// Log-in name.
    Login,
    /// Telephone number; compared without spaces and punctuation.
    Phone,
    /// Whatever else the application knows the person by.
    Custom,
}

impl KeyKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Email, Self::Login, Self::Phone, Self::Custom];

    /// The field of the document, the column, and the mode on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Login => "login",
            Self::Phone => "phone",
            Self::Custom => "custom",
        }
    }

    /// The form in which a key is stored and looked for.
    #[must_use]
    pub fn normalize(self, given: &str) -> String {
        match self {
            Self::Email => given.trim().chars().flat_map(fold).collect(),
            Self::Login | Self::Custom => given.trim().to_owned(),
            Self::Phone => {
                given.chars().filter(|c| !c.is_whitespace() && !"-().".contains(*c)).collect()
            }
        }
    }
}

/// How a request names a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// By the profile's own id.
    Id(ProfileId),
    /// By one of the keys, normalised.
    Key(KeyKind, String),
}

impl Identity {
    /// Reads a mode and an identity.
    ///
    /// # Errors
    /// The field and the rule that it breaks.
    pub fn parse(mode: &str, identity: &str) -> Result<Self, FieldProblem> {
        const MODES: &[&str] = &["token", "login", "email", "phone", "custom"];
        if mode == "token" {
            return Uuid::try_parse(identity)
                .map(|id| Self::Id(ProfileId::new(id)))
                .map_err(|_no_uuid| FieldProblem::new("identity", Rule::TokenUuid));
        }
        let kind = KeyKind::ALL
            .into_iter()
            .find(|kind| kind.as_str() == mode)
            .ok_or(FieldProblem::new("mode", Rule::OneOf(MODES)))?;
        let key =
            readable_key(kind, identity).map_err(|rule| FieldProblem::new("identity", rule))?;
        key.map(|key| Self::Key(kind, key)).ok_or(FieldProblem::new("identity", Rule::Required))
    }
}

/// The keys of one profile, normalised.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Keys {
    /// E-mail address.
    pub email: Option<String>,
    /// Log-in name.
    pub login: Option<String>,
    /// Telephone number.
    pub phone: Option<String>,
    /// Anything else.
    pub custom: Option<String>,
}

impl Keys {
    /// The keys that there are.
    pub fn iter(&self) -> impl Iterator<Item = (KeyKind, String)> {
        let all = [
            (KeyKind::Email, &self.email),
            (KeyKind::Login, &self.login),
            (KeyKind::Phone, &self.phone),
            (KeyKind::Custom, &self.custom),
        ];
        all.into_iter().filter_map(|(kind, key)| Some((kind, key.clone()?)))
    }
}

/// A key in the form that it is stored in; nothing where nothing is left of it.
fn readable_key(kind: KeyKind, given: &str) -> Result<Option<String>, Rule> {
    if given.contains('\0') {
        return Err(Rule::ControlCharacter);
    }
    if given.chars().count() > KEY_MAX {
        return Err(Rule::TooLong(KEY_MAX));
    }
    let key = kind.normalize(given);
    Ok((!key.is_empty()).then_some(key))
}

/// A character of an address without its case. A letter outside of ASCII that would become one inside (the
/// Kelvin sign, a k) stays as it is: folded, a look-alike would be somebody else's address.
fn fold(c: char) -> impl Iterator<Item = char> {
    let crosses = !c.is_ascii() && c.to_lowercase().any(|lower| lower.is_ascii());
    let folded = (!crosses).then(|| c.to_lowercase());
    folded.into_iter().flatten().chain(crosses.then_some(c))
}

#[cfg(test)]
mod tests;
