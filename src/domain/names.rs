//! Owns the newtypes of everything that has a name: parsed once, valid for ever after.
//!
//! Promises: a value can be stored in PostgreSQL, compared, and logged without harm ([`Password`]
//! redacts itself). [`SchemaName`] can be made from a [`TenantId`] and from nothing else, which is why
//! no user text ever becomes an SQL identifier.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use uuid::Uuid;
use validator::ValidateEmail;

use super::rule::Rule;

/// Longest name of a tenant or a person, in characters.
pub const NAME_MAX: usize = 255;
/// Longest slug: it must fit one label of a host name (RFC 1035, 2.3.4).
pub const SLUG_MAX: usize = 63;
/// Longest e-mail address (RFC 5321, 4.5.3.1.3).
pub const EMAIL_MAX: usize = 254;
/// Shortest password, in characters (NIST SP 800-63B).
const PASSWORD_MIN: usize = 8;
/// Longest password, in bytes: the hash must not be a way to keep us busy.
pub const PASSWORD_MAX: usize = 1024;
/// Longest key that makes a retry safe, in bytes.
pub const IDEMPOTENCY_KEY_MAX: usize = 255;

/// Slugs that mean something in a host name, in a path or to PostgreSQL.
const RESERVED_SLUGS: &[&str] = &[
    "admin",
    "api",
    "app",
    "auth",
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

/// Words that PostgreSQL keeps for itself at the start of a name.
const RESERVED_SLUG_PREFIXES: &[&str] = &["pg-", "pg_"];

/// Makes an id newtype over a UUID that we generate.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps a UUID that came from our own tables or was made just now.
            #[must_use]
            pub const fn new(id: Uuid) -> Self {
                Self(id)
            }

            /// A fresh one, in order of time, so that indexes grow at their end.
            #[must_use]
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }

            /// The UUID inside.
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
    /// Names a tenant for ever, whatever its slug becomes.
    TenantId
);
id!(
    /// Names a user.
    UserId
);
id!(
    /// Names an API token; not the token itself.
    TokenId
);

/// The schema (and, where each tenant has a role, the role) of one tenant: `tenant_` and the id's 32
/// hex digits. Needs no quoting, fits PostgreSQL's 63 bytes, holds nothing a user wrote.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SchemaName(String);

impl SchemaName {
    /// The schema of a tenant.
    #[must_use]
    pub fn of(tenant: TenantId) -> Self {
        Self(format!("tenant_{}", tenant.uuid().simple()))
    }

    /// The identifier, safe to write into SQL as it is.
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

/// Makes a text newtype with the usual reading methods.
macro_rules! text {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The text inside.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Takes what our own tables hold; it was parsed before it was stored.
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
    /// A tenant's url-friendly unique name: lower-case ASCII letters, digits and single hyphens, a
    /// letter or digit at both ends, at most 63 characters, none of the reserved words.
    Slug
);
text!(
    /// The name of a tenant that people read: 1 to 255 characters of any script, kept as given.
    TenantName
);
text!(
    /// A given or family name: 1 to 255 characters of any script, kept as given.
    PersonName
);
text!(
    /// What a caller's own system calls a tenant: 1 to 255 characters of any script, kept as given.
    ExternalId
);
text!(
    /// What a token is for, in its maker's words: 1 to 255 characters of any script.
    TokenName
);
text!(
    /// An e-mail address, trimmed and in lower case: addresses that differ only in case are one.
    Email
);

impl Slug {
    /// Reads a slug.
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
    /// Reads a tenant's name.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn parse(given: &str) -> Result<Self, Rule> {
        visible_name(given).map(Self)
    }
}

impl ExternalId {
    /// Reads a caller's own id.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn parse(given: &str) -> Result<Self, Rule> {
        visible_name(given).map(Self)
    }
}

impl TokenName {
    /// Reads what a token is for.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn parse(given: &str) -> Result<Self, Rule> {
        visible_name(given).map(Self)
    }
}

impl PersonName {
    /// Reads a given or family name.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn parse(given: &str) -> Result<Self, Rule> {
        visible_name(given).map(Self)
    }
}

impl Email {
    /// Reads an e-mail address, by the rule of the HTML standard (`validator`).
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn parse(given: &str) -> Result<Self, Rule> {
        // Checked before the case is folded: KELVIN SIGN becomes a plain k, and would make of a look-alike
        // the address of somebody else. In the domain the two are the same name (UTS 46).
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

/// A password in clear: wiped from memory when dropped, redacted wherever it might be printed.
#[derive(Clone)]
pub struct Password(SecretString);

impl Password {
    /// Reads a password: at least 8 characters, at most 1,024 bytes, any characters but NUL.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn parse(given: &str) -> Result<Self, Rule> {
        if given.is_empty() {
            Err(Rule::Required)
        } else if given.chars().count() < PASSWORD_MIN {
            Err(Rule::TooShort(PASSWORD_MIN))
        } else if given.len() > PASSWORD_MAX {
            Err(Rule::TooLong(PASSWORD_MAX))
        } else if given.contains('\0') {
            Err(Rule::ControlCharacter)
        } else {
            Ok(Self(SecretString::from(given)))
        }
    }

    /// The clear text, for the hash and for nothing else.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(redacted)")
    }
}

/// A name that people read: something visible, of a sane length, without control characters.
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
