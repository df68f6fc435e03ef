//! What to examine, what to do with orphans, and what a process may use of the server.

use crate::domain::names::TenantId;
use crate::service::tenants::TenantRef;

/// What to examine.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Only these tenants, and nothing beside them; everything if the list is empty.
    pub tenants: Vec<TenantRef>,
}

/// What to do with schemas and roles that belong to no tenant and no vacancy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Orphans {
    /// Report them.
    Keep,
    /// Drop all of them with everything in them.
    Drop,
    /// Drop those with these ids in their names.
    DropThese(Vec<TenantId>),
}

impl Orphans {
    pub(super) fn drops(&self, id: TenantId) -> bool {
        match self {
            Self::Keep => false,
            Self::Drop => true,
            Self::DropThese(ids) => ids.contains(&id),
        }
    }
}

/// What a process may use of the server, from its settings.
#[derive(Debug, Clone)]
pub struct Budget {
    /// Connections of all its pools together.
    pub connections: usize,
    /// Set-ups at the same time.
    pub setups_at_once: usize,
    /// After how many distinct tenants it retires a connection; `None` if it never does.
    pub tenants_per_connection: Option<usize>,
}
