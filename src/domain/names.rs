//! Owns the newtypes of everything that has a name: parsed once, valid from then on.
//!
//! Promises: a value can be stored in PostgreSQL, compared, and logged without harm ([`Password`]
//! redacts itself). [`SchemaName`] is made from a [`TenantId`] and from nothing else, so no user text ever becomes
//! an SQL identifier.

mod password;

use std::fmt;

use serde::Serialize;
use uuid::Uuid;
use validator::ValidateEmail;

use super::rule::Rule;

pub use password::{NewPassword, PASSWORD_MAX, Password};

/// Longest name of a tenant or a person, in characters.
pub const NAME_MAX: usize = 255;
/// Longest slug: it must fit one label of a host name (RFC 1035, 2.3.4).
pub const SLUG_MAX: usize = 63;
/// Longest e-mail address (RFC 5321, 4.5.3.1.3).
pub const EMAIL_MAX: usize = 254;
/// Longest idempotency key, in bytes.
pub const IDEMPOTENCY_KEY_MAX: usize = 255;

/// Slugs that have a meaning in a host name, in a path or in PostgreSQL.
const RESERVED_SLUGS: &[&str] = &[
    "admin",
    "api",
    "app",
    "auth",
    "by-external-id",
    "console",
    "control",
    "default",
    "docs",
    "extensions",
    "ftp",
    "health",
    "healthz",
    "information-schema",
    "internal",
    "localhost",
    "login",
    "mail",
    "main",
    "metrics",
    "ns1",
    "ns2",
    "public",
    "readyz",
    "root",
    "rowhouse",
    "smtp",
    "static",
    "status",
    "support",
    "system",
    "tenant",
    "tenants",
    "v1",
    "v2",
    "www",
];

/// Prefixes that PostgreSQL reserves for its own names.
const RESERVED_SLUG_PREFIXES: &[&str] = &["pg-", "pg_"];

/// Declares an id newtype over a UUID that this crate generates.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps a UUID from our own tables or a new one.
            #[must_use]
            pub const fn new(id: Uuid) -> Self {
                Self(id)
            }

            /// Creates an id that sorts by time (UUID version 7), so that indexes grow at their end.
            #[must_use]
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }

            /// Returns the UUID.
            #[must_use]
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// The id of a tenant, which stays when the slug changes.
    TenantId
);
id!(
    /// The id of a user.
    UserId
);
id!(
    /// The id of an API token; not the token itself.
    TokenId
);

id!(
    /// The id of an invitation; not its token.
    InvitationId
);

/// The schema of one tenant (and its role, where each tenant has one): `tenant_` and the id's 32 hex digits. Needs
/// no quoting, fits PostgreSQL's 63 bytes, holds no user text.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SchemaName(String);

impl SchemaName {
    /// Returns the schema of a tenant.
    #[must_use]
    pub fn of(tenant: TenantId) -> Self {
        Self(format!("tenant_{}", tenant.uuid().simple()))
    }

    /// Returns the schema of the tables that all tenants of an application share.
    #[must_use]
    pub fn shared() -> Self {
        Self("rowhouse_shared".to_owned())
    }

    /// Returns the identifier, safe to write into SQL unquoted.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SchemaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SchemaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Declares a text newtype with the usual accessors.
macro_rules! text {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Returns the text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Wraps a text from our own tables, which was parsed before it was stored.
            #[must_use]
            pub fn stored(text: String) -> Self {
                Self(text)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text!(
    /// A tenant's unique name in URLs: lower-case ASCII letters, digits and single hyphens, a letter or digit at both
    /// ends, at most 63 characters, no reserved word.
    Slug
);
text!(
    /// A tenant's display name: 1 to 255 characters of any script, kept as given.
    TenantName
);
text!(
    /// A given or family name: 1 to 255 characters of any script, kept as given.
    PersonName
);
text!(
    /// A tenant's id in the caller's own system: 1 to 255 characters of any script, kept as given.
    ExternalId
);
text!(
    /// The purpose of a token, in its creator's words: 1 to 255 characters of any script.
    TokenName
);
text!(
    /// An e-mail address, trimmed and in lower case: addresses that differ only in case are the same.
    Email
);

impl Slug {
    /// Parses a slug.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn parse(given: &str) -> Result<Self, Rule> {
        if given.is_empty() {
            return Err(Rule::Required);
        }
        if given.chars().count() > SLUG_MAX {
            return Err(Rule::TooLong(SLUG_MAX));
        }
        if RESERVED_SLUGS.contains(&given)
            || RESERVED_SLUG_PREFIXES.iter().any(|p| given.starts_with(p))
        {
            return Err(Rule::Reserved);
        }
        let bytes = given.as_bytes();
        let allowed = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
        let well_formed = bytes.iter().all(allowed)
            && !given.starts_with('-')
            && !given.ends_with('-')
            && !given.contains("--");
        if well_formed { Ok(Self(given.to_owned())) } else { Err(Rule::SlugFormat) }
    }
}

impl TenantName {
    /// Parses a tenant's name.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn parse(given: &str) -> Result<Self, Rule> {
        visible_name(given).map(Self)
    }
}

impl ExternalId {
    /// Parses an external id.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn parse(given: &str) -> Result<Self, Rule> {
        visible_name(given).map(Self)
    }
}

impl TokenName {
    /// Parses a token's name.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn parse(given: &str) -> Result<Self, Rule> {
        visible_name(given).map(Self)
    }
}

impl PersonName {
    /// Parses a given or family name.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn parse(given: &str) -> Result<Self, Rule> {
        visible_name(given).map(Self)
    }
}

impl Email {
    /// Parses an e-mail address by the rule of the HTML standard (`validator`).
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn parse(given: &str) -> Result<Self, Rule> {
        // Checked before the case is folded: KELVIN SIGN becomes a plain k, so a look-alike would become another
        // person's address. In the domain part the two are the same name (UTS 46).
        let local = given.rsplit_once('@').map_or(given, |(local, _)| local).trim();
        let email = given.trim().to_lowercase();
        if !local.is_ascii() {
            Err(Rule::EmailFormat)
        } else if email.is_empty() {
            Err(Rule::Required)
        } else if email.chars().count() > EMAIL_MAX {
            Err(Rule::TooLong(EMAIL_MAX))
        } else if email.validate_email() {
            Ok(Self(email))
        } else {
            Err(Rule::EmailFormat)
        }
    }
}

/// Parses a display name: not blank, at most [`NAME_MAX`] characters, no control characters.
fn visible_name(given: &str) -> Result<String, Rule> {
    if given.trim().is_empty() {
        Err(Rule::Required)
    } else if given.chars().count() > NAME_MAX {
        Err(Rule::TooLong(NAME_MAX))
    } else if given.chars().any(char::is_control) {
        Err(Rule::ControlCharacter)
    } else {
        Ok(given.to_owned())
    }
}

#[cfg(test)]
mod tests;
