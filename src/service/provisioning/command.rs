//! The command that makes a tenant: the tenant, its first admin, and the fields that only the control plane sets.

use sha2::{Digest, Sha256};

use crate::domain::json::{Map, Value};
use crate::domain::names::{
    Email, ExternalId, NewPassword, Password, PersonName, Slug, TenantName,
};
use crate::domain::{Document, End};

/// The command to make a tenant, the same from every dialect.
#[derive(Debug, Clone)]
pub struct ProvisionTenant {
    /// Display name.
    pub name: TenantName,
    /// Unique url-friendly name.
    pub slug: Slug,
    /// Its first admin.
    pub admin: Admin,
    /// The organisation behind it, if the dialect has that field.
    pub org: Option<String>,
    /// Address of that organisation.
    pub contact: Option<Email>,
    /// Whether the answer carries a token with all permissions in the tenant.
    pub with_token: bool,
    /// The caller's key for safe retries.
    pub idempotency_key: Option<String>,
    /// Whether the admin's password may be tried on an account whose address is not proven. A wrong one is answered
    /// as [`AdminUnproven`](crate::domain::error::Conflict::AdminUnproven), so each try is a guess, which the caller
    /// counts.
    pub tries_password: bool,
}

/// The first admin of a tenant.
#[derive(Debug, Clone)]
pub enum Admin {
    /// No user; the tenant is reached with a token.
    None,
    /// The user with this address, who must exist.
    Existing(Email),
    /// The user with this address, or a new one.
    NewOrExisting(NewAdmin),
}

impl Admin {
    /// The address of the admin.
    #[must_use]
    pub const fn email(&self) -> Option<&Email> {
        match self {
            Self::None => None,
            Self::Existing(email) => Some(email),
            Self::NewOrExisting(admin) => Some(&admin.email),
        }
    }

    /// The password of an admin who may be new.
    pub(super) const fn password(&self) -> Option<&Password> {
        match self {
            Self::NewOrExisting(admin) => Some(admin.password.as_password()),
            Self::None | Self::Existing(_) => None,
        }
    }
}

/// An admin who may be new. If the address has a user already, that user is linked: with password and names
/// unchanged if the address is proven; else only by the account's own password, or by a caller that vouches for the
/// address, whose password then replaces the account's.
#[derive(Debug, Clone)]
pub struct NewAdmin {
    /// Address, with which they log in.
    pub email: Email,
    /// Password for a new user.
    pub password: NewPassword,
    /// Given name of a new user.
    pub first_name: PersonName,
    /// Family name of a new user.
    pub last_name: PersonName,
}

/// The fields of a new tenant that only the control plane sets.
#[derive(Debug, Clone)]
pub struct Extras {
    /// Its id in the caller's own system.
    pub external_id: Option<ExternalId>,
    /// Initial settings.
    pub settings: Document,
    /// When it ends and is purged.
    pub end: Option<End>,
}

impl Default for Extras {
    fn default() -> Self {
        let settings = Document::stored(Value::object());
        Self { external_id: None, settings, end: None }
    }
}

impl Extras {
    fn is_empty(&self) -> bool {
        let no_settings = self.settings.as_value().as_object().is_none_or(Map::is_empty);
        self.external_id.is_none() && no_settings && self.end.is_none()
    }
}

impl ProvisionTenant {
    /// Returns a command with the required fields; a dialect sets the others.
    #[must_use]
    pub const fn new(name: TenantName, slug: Slug, admin: Admin) -> Self {
        Self {
            name,
            slug,
            admin,
            org: None,
            contact: None,
            with_token: false,
            idempotency_key: None,
            tries_password: false,
        }
    }

    /// A digest of the whole command except the password, of which no fast digest must be stored.
    pub(super) fn digest(&self, extras: &Extras) -> Vec<u8> {
        let mut hash = Sha256::new();
        let mut add = |part: &str| {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        };
        add(self.name.as_str());
        add(self.slug.as_str());
        match &self.admin {
            Admin::None => {}
            Admin::Existing(email) => add(email.as_str()),
            Admin::NewOrExisting(admin) => {
                add(admin.email.as_str());
                add(admin.first_name.as_str());
                add(admin.last_name.as_str());
            }
        }
        if !extras.is_empty() {
            add(extras.external_id.as_ref().map_or("", ExternalId::as_str));
            add(&extras.settings.as_value().to_string());
            // As it was written: a length of time leads to another point in time each time that it is sent.
            match extras.end {
                None => {}
                Some(End::At(at)) => add(&format!("at {}", at.unix_timestamp_nanos())),
                Some(End::In(length)) => add(&format!("in {}", length.whole_nanoseconds())),
            }
        }
        hash.finalize().to_vec()
    }
}
