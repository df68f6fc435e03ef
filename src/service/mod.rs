//! The use cases: rights check first, then a readable list of steps, then one commit.
//!
//! Promises: every public method takes a [`CallContext`](crate::auth::CallContext) and begins with its
//! rights check, so that HTTP and the command line share it; a method either does all that it says or
//! changes nothing. Must not know: which dialect asks, what a status code is.
//!
//! To add a use case: a method on the service of its noun, a command struct where it takes more than two
//! values, an audit event in the same transaction where it changes anything.

pub mod api_keys;
pub mod audit;
pub mod doctor;
pub mod fleet;
pub mod health;
pub mod identity;
pub mod lint;
pub mod members;
pub mod passwords;
pub mod profiles;
pub mod provisioning;
pub mod sessions;
pub mod system;
pub mod tenants;
pub mod tokens;
pub mod vacancies;

pub use api_keys::ApiKeys;
pub use audit::Audit;
pub use doctor::Doctor;
pub use fleet::Fleet;
pub use health::Health;
pub use identity::Identity;
pub use members::Members;
pub use passwords::Passwords;
pub use profiles::Profiles;
pub use provisioning::Provisioning;
pub use sessions::Sessions;
pub use system::System;
pub use tenants::Tenants;
pub use tenants::lifecycle::Lifecycle;
pub use tenants::registry::Registry;
pub use tokens::Tokens;
pub use vacancies::Vacancies;

/// All use cases over one set of pools. Cheap to clone.
#[derive(Clone)]
pub struct Services {
    /// Who is calling.
    pub identity: Identity,
    /// Making tenants.
    pub provisioning: Provisioning,
    /// Houses that are built ahead of time.
    pub vacancies: Vacancies,
    /// Logging in and staying so.
    pub sessions: Sessions,
    /// Reading tenants.
    pub tenants: Tenants,
    /// Tenants as the control plane shows and changes them.
    pub registry: Registry,
    /// Suspending, deleting, purging tenants.
    pub lifecycle: Lifecycle,
    /// Who belongs to a tenant, and as what.
    pub members: Members,
    /// API tokens.
    pub tokens: Tokens,
    /// API keys, which work in one tenant.
    pub api_keys: ApiKeys,
    /// Other people's passwords.
    pub passwords: Passwords,
    /// People inside tenants.
    pub profiles: Profiles,
    /// Unlocks, and people across tenants.
    pub system: System,
    /// Who did what.
    pub audit: Audit,
    /// All tenants at once.
    pub fleet: Fleet,
    /// Whether all is as it should be.
    pub doctor: Doctor,
    /// Whether this process can serve.
    pub health: Health,
}
