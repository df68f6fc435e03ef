//! The use cases: rights check first, then a readable list of steps, then one commit.
//!
//! Promises: every public method takes a [`CallContext`](crate::auth::CallContext) and begins with its
//! rights check, so that HTTP and the command line share the check. A method that checks nothing has a name that
//! ends in `_unauthorized`. `tests/layering/` enforces both. A method either does everything that it says or
//! changes nothing. Must not know: which dialect calls, what a status code is.
//!
//! To add a use case: a method on the service of its noun, a command struct where it takes more than two
//! values, an audit event in the same transaction where it changes anything.

mod accounts;
pub mod api_keys;
pub mod archives;
pub mod audit;
pub mod cluster;
pub mod console_sessions;
pub mod damage;
pub mod doctor;
pub mod events;
pub mod examinations;
pub mod fleet;
pub mod health;
pub mod identity;
pub mod invitations;
mod keyed;
pub mod leases;
pub mod lint;
pub mod me;
pub mod members;
pub mod new_tenants;
pub mod overview;
pub mod passwords;
pub mod profiles;
pub mod provisioning;
mod reference;
pub mod refusals;
pub mod sealing;
pub mod sessions;
pub mod signing_keys;
pub mod stored_archives;
pub mod system;
pub mod tenants;
pub mod tokens;
pub mod vacancies;

pub use crate::pg::scope::Commits;
pub use api_keys::ApiKeys;
pub use archives::Archives;
pub use audit::Audit;
pub use cluster::Cluster;
pub use console_sessions::ConsoleSessions;
pub use damage::Damage;
pub use doctor::Doctor;
pub use events::Events;
pub use examinations::Examinations;
pub use fleet::Fleet;
pub use health::Health;
pub use identity::Identity;
pub use invitations::Invitations;
pub use leases::Leases;
pub use me::Me;
pub use members::Members;
pub use overview::Overview;
pub use passwords::Passwords;
pub use profiles::Profiles;
pub use provisioning::Provisioning;
pub use refusals::Refusals;
pub use sessions::Sessions;
pub use signing_keys::SigningKeys;
pub use stored_archives::StoredArchives;
pub use system::System;
pub use tenants::Tenants;
pub use tenants::lifecycle::Lifecycle;
pub use tenants::registry::Registry;
pub use tokens::Tokens;
pub use vacancies::Vacancies;

/// All use cases over one set of pools. Cheap to clone.
#[derive(Clone)]
pub struct Services {
    /// Authenticates callers.
    pub identity: Identity,
    /// Sets up tenants.
    pub provisioning: Provisioning,
    /// Keeps schemas ready for tenants to come.
    pub vacancies: Vacancies,
    /// Opens, refreshes and ends sessions.
    pub sessions: Sessions,
    /// Signs callers in to the console.
    pub console_sessions: ConsoleSessions,
    /// What callers do with their own account.
    pub me: Me,
    /// Rotates the keys that sign access tokens.
    pub signing_keys: SigningKeys,
    /// Reads tenants.
    pub tenants: Tenants,
    /// Creates and changes tenants.
    pub registry: Registry,
    /// Suspends, deletes and purges tenants.
    pub lifecycle: Lifecycle,
    /// Manages the members of tenants and their roles.
    pub members: Members,
    /// Invites people to tenants.
    pub invitations: Invitations,
    /// Manages API tokens.
    pub tokens: Tokens,
    /// Manages API keys, which work in one tenant.
    pub api_keys: ApiKeys,
    /// Resets the passwords of other users.
    pub passwords: Passwords,
    /// Stores the profiles of people inside tenants.
    pub profiles: Profiles,
    /// Issues unlocks, and finds people across tenants.
    pub system: System,
    /// Writes tenants to archives, and makes tenants of archives.
    pub archives: Archives,
    /// Keeps archives: exports in the background, and uploads.
    pub stored_archives: StoredArchives,
    /// Reads and seals the audit trail.
    pub audit: Audit,
    /// Reads the feed of events.
    pub events: Events,
    /// Counts refused callers for the audit trail.
    pub refusals: Refusals,
    /// Shows the nodes of a cluster, and moves tenants between them.
    pub cluster: Cluster,
    /// Migrates all tenants.
    pub fleet: Fleet,
    /// Checks and repairs schemas.
    pub doctor: Doctor,
    /// Examinations that run in the background.
    pub examinations: Examinations,
    /// What an operator wants to see first.
    pub overview: Overview,
    /// Gives out the leases of an application's jobs.
    pub leases: Leases,
    /// Knows how many tenants are damaged.
    pub damage: Damage,
    /// Reports whether this process can serve.
    pub health: Health,
}
