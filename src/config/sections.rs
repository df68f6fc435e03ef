//! The settings by section, once they are checked. Must not know: where they came from.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::KEYS;
use crate::domain::names::{Email, Password};
use crate::http::client_address::Proxies;
use crate::http::cors;
use crate::pg::rules::Isolation;
use crate::telemetry::Format;

/// The admin who must exist.
#[derive(Debug, Clone)]
pub struct Admin {
    /// Address.
    pub email: Email,
    /// Password.
    pub password: Password,
}

/// Which prepared statements are cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, strum::EnumString, strum::VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum CachedStatements {
    /// Those of the control plane where no pooler stands before the server: a set-up is a third cheaper by it.
    /// None of tenants: the server plans anew whenever a connection changes tenants, so it is many tenants that
    /// lose by it.
    #[default]
    Auto,
    /// None.
    #[strum(serialize = "unnamed")]
    Never,
    /// All.
    #[strum(serialize = "cached")]
    Always,
}

/// The database side.
#[derive(Debug, Clone)]
pub struct Database {
    /// The owner's login; none means embedded.
    pub url: Option<SecretString>,
    /// The runtime login, where it is not derived.
    pub runtime_url: Option<SecretString>,
    /// Folder of the server binaries.
    pub bin_dir: Option<PathBuf>,
    /// How tenants are isolated from each other.
    pub isolation: Isolation,
    /// Which prepared statements are cached.
    pub statements: CachedStatements,
    /// Connections of this process.
    pub max_connections: usize,
    /// Distinct tenants that a connection serves before another takes its place; none: no end.
    pub tenants_per_connection: Option<NonZeroUsize>,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest single statement.
    pub statement_timeout: Duration,
    /// Longest wait for a lock.
    pub lock_timeout: Duration,
    /// Longest pause inside a transaction.
    pub idle_in_transaction_timeout: Duration,
}

/// Proofs of identity.
#[derive(Debug, Clone)]
pub struct Auth {
    /// The `iss` of access tokens.
    pub issuer: String,
    /// The `aud` of access tokens.
    pub audience: String,
    /// How long an access token is good.
    pub access_lifetime: Duration,
    /// How long a refresh cookie is good.
    pub refresh_lifetime: Duration,
    /// Whether the cookie is sent over TLS alone.
    pub cookie_secure: bool,
    /// argon2id memory in KiB.
    pub hash_memory_kib: u32,
    /// argon2id passes.
    pub hash_iterations: u32,
    /// Password hashes that may wait.
    pub hash_queue: usize,
}

/// The listening side.
#[derive(Debug, Clone)]
pub struct Http {
    /// Threads that serve requests.
    pub workers: usize,
    /// Largest request body in bytes.
    pub max_body_bytes: usize,
    /// Longest time for one request.
    pub request_timeout: Duration,
    /// How long requests may finish after a stop signal.
    pub shutdown_timeout: Duration,
    /// Whose word about a client's address is taken.
    pub proxies: Proxies,
    /// Whose pages may call from a browser.
    pub cors: cors::Settings,
}

/// The lives of tenants.
#[derive(Debug, Clone)]
pub struct Tenants {
    /// How long a deleted one can be restored.
    pub grace_period: Duration,
    /// How often it is looked for some to purge.
    pub purge_interval: Duration,
    /// How many schemas are built ahead of time.
    pub vacancies: usize,
}

/// Fleet migrations.
#[derive(Debug, Clone)]
pub struct Fleet {
    /// Tenants at the same time.
    pub workers: usize,
    /// How long a runner that says nothing keeps an operation.
    pub lease: Duration,
    /// How often it is looked for an operation whose runner is gone; none: never.
    pub take_up_interval: Option<Duration>,
    /// How long it is kept what became of each tenant of an operation that ended; none: for ever.
    pub ledger_retention: Option<Duration>,
}

/// What is logged, and how.
#[derive(Debug, Clone)]
pub struct Log {
    /// The form of a log line.
    pub format: Format,
    /// Such as `info,rowhouse=debug`.
    pub filter: String,
}

impl Log {
    /// What a command that ends by itself logs: its own output says the rest, and names the tenants
    /// that failed. A filter that somebody chose holds for all.
    #[must_use]
    pub fn filter_of_commands(&self) -> &str {
        let is_default =
            KEYS.iter().any(|(key, default, _)| *key == "log.filter" && *default == self.filter);
        if is_default { "warn,rowhouse::service::fleet=error" } else { &self.filter }
    }
}
