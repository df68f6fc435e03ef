//! What is wished for: a tenant, who will run it, and what only the control plane adds.

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::domain::Document;
use crate::domain::names::{Email, ExternalId, Password, PersonName, Slug, TenantName};

/// The wish for a tenant, the same from every dialect.
#[derive(Debug, Clone)]
pub struct ProvisionTenant {
    /// The name people read.
    pub name: TenantName,
    /// The unique url-friendly name.
    pub slug: Slug,
    /// Who will run it.
    pub admin: Admin,
    /// The organisation behind it, where the dialect asks for one.
    pub org: Option<String>,
    /// How to reach that organisation.
    pub contact: Option<Email>,
    /// Whether the answer carries a token that may do everything in the tenant.
    pub with_token: bool,
    /// The caller's key for safe retries.
    pub idempotency_key: Option<String>,
}

/// Who will run a tenant.
#[derive(Debug, Clone)]
pub enum Admin {
    /// No user; a credential of its own does.
    Nobody,
    /// The user who has this address already.
    Existing(Email),
    /// The user who has this address, or a new one.
    NewOrExisting(NewAdmin),
}

impl Admin {
    /// The password of whoever may be new.
    pub(super) const fn password(&self) -> Option<&Password> {
        match self {
            Self::NewOrExisting(admin) => Some(&admin.password),
            Self::Nobody | Self::Existing(_) => None,
        }
    }
}

/// A person who will run a tenant. Where the address has a user already, that user is linked as it is,
/// password and names untouched.
#[derive(Debug, Clone)]
pub struct NewAdmin {
    /// Address, which is how they log in.
    pub email: Email,
    /// Password for a new user.
    pub password: Password,
    /// Given name of a new user.
    pub first_name: PersonName,
    /// Family name of a new user.
    pub last_name: PersonName,
}

/// What the control plane alone gives a new tenant.
#[derive(Debug, Clone)]
pub struct Extras {
    /// What its maker's own system calls it.
    pub external_id: Option<ExternalId>,
    /// Its first settings.
    pub settings: Document,
}

impl Default for Extras {
    fn default() -> Self {
        let settings = Document::stored(json!({}));
        Self { external_id: None, settings }
    }
}

impl Extras {
    fn is_empty(&self) -> bool {
        let no_settings =
            self.settings.as_value().as_object().is_none_or(serde_json::Map::is_empty);
        self.external_id.is_none() && no_settings
    }
}

impl ProvisionTenant {
    /// The least that makes a tenant; what else a dialect asks for is set on it.
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
        }
    }

    /// A digest of all that was asked, except the password: a fast digest of that must not be kept.
    pub(super) fn digest(&self, extras: &Extras) -> Vec<u8> {
        let mut hash = Sha256::new();
        let mut add = |part: &str| {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        };
        add(self.name.as_str());
        add(self.slug.as_str());
        match &self.admin {
            Admin::Nobody => {}
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
        }
        hash.finalize().to_vec()
    }
}
