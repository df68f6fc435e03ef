//! Owns what a tenant stores about a person: its id, its keys, the [`Document`] and the [`Lifetime`].
//!
//! Databunker calls a profile's id a "token". Here it is a [`ProfileId`], and a token is a credential.

mod document;
mod key;
mod lifetime;
mod limits;
mod patch;
mod pointer;
mod text;

use std::fmt;

use serde::Serialize;
use uuid::Uuid;

use self::key::parse_key;
use super::rule::{FieldProblem, Rule};

pub use document::Document;
pub use key::{KEY_MAX, KeyKind, Keys};
pub use lifetime::{Lifetime, MonthOrMinute, parse_length};

/// The id of a profile, unique within its tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ProfileId(Uuid);

impl ProfileId {
    /// Wraps a UUID from our own tables or from a request.
    #[must_use]
    pub const fn new(id: Uuid) -> Self {
        Self(id)
    }

    /// Creates a random id, which does not reveal when the person was stored.
    #[must_use]
    pub fn generate() -> Self {
        Self(Uuid::new_v4())
    }

    /// Returns the UUID.
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

/// The way in which a request names a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// By the profile's own id.
    Id(ProfileId),
    /// By one of the keys, normalised.
    Key(KeyKind, String),
}

impl Identity {
    /// Parses a mode and an identity.
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
        let kind: KeyKind =
            mode.parse().map_err(|_unknown| FieldProblem::new("mode", Rule::OneOf(MODES)))?;
        let key = parse_key(kind, identity).map_err(|rule| FieldProblem::new("identity", rule))?;
        key.map(|key| Self::Key(kind, key)).ok_or(FieldProblem::new("identity", Rule::Required))
    }
}

#[cfg(test)]
mod tests;
