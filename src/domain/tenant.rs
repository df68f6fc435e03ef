//! Owns what a tenant is and how its status may move.

use std::str::FromStr;

use time::OffsetDateTime;

use super::names::{Slug, TenantId, TenantName};

/// One customer's isolated space: a row in `public` and a schema of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Never changes; the schema is named by it.
    pub id: TenantId,
    /// What some clients know it by instead of the id; the main tenant is 1. Never changes, never comes twice.
    pub number: i64,
    /// Url-friendly unique name; may change.
    pub slug: Slug,
    /// The name people read; any script.
    pub name: TenantName,
    /// The organisation behind it, where a dialect asked for one.
    pub org: Option<String>,
    /// Whether it answers.
    pub status: TenantStatus,
    /// When it was set up.
    pub created_at: OffsetDateTime,
}

/// Where a tenant is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TenantStatus {
    /// Answers.
    Active,
    /// Kept, answers nothing until resumed.
    Suspended,
    /// Deleted, restorable until its grace period ends.
    Deleting,
}

impl TenantStatus {
    /// The word in the database and on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Deleting => "deleting",
        }
    }
}

/// A word that is no tenant status.
#[derive(Debug, thiserror::Error)]
#[error("no tenant status is called {0:?}")]
pub struct UnknownStatus(String);

impl FromStr for TenantStatus {
    type Err = UnknownStatus;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        [Self::Active, Self::Suspended, Self::Deleting]
            .into_iter()
            .find(|status| status.as_str() == given)
            .ok_or_else(|| UnknownStatus(given.to_owned()))
    }
}
