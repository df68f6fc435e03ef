//! Owns the user, who can log in. (A person's record inside a tenant is a profile.)

use super::access::Role;
use super::names::{Email, PersonName, UserId};

/// Whether a command created an account or linked one that existed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr, strum::EnumString)]
#[strum(serialize_all = "lowercase")]
pub enum AccountOrigin {
    /// The command created it.
    Created,
    /// It existed.
    Linked,
}

impl AccountOrigin {
    /// Returns the word for answers and audit events.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// A person who can log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Immutable.
    pub id: UserId,
    /// Unique, compared without case.
    pub email: Email,
    /// Given name, as given.
    pub first_name: PersonName,
    /// Family name, as given.
    pub last_name: PersonName,
    /// The role that holds in every tenant and outside of all; most users have none.
    pub platform_role: Option<Role>,
}
