//! The validated settings by section. Must not know: their sources.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use secrecy::SecretString;

use super::KEYS;
use crate::domain::names::{Email, NewPassword};
use crate::http::client_address::Proxies;
use crate::http::cors;
use crate::pg::rules::Isolation;
use crate::pg::rules::exposure::Exposures;
use crate::service::tenants::slugs::ReservedWords;
use crate::telemetry::Format;

/// The admin who must exist.
#[derive(Debug, Clone)]
pub struct Admin {
    /// Address.
    pub email: Email,
    /// Password.
    pub password: NewPassword,
}

/// An engine that the settings name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumString, strum::VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum ForcedEngine {
    /// Citus, also where the extension is not there.
    Citus,
}

/// The statements that are prepared and cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, strum::EnumString, strum::VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum CachedStatements {
    /// Those of the control plane if there is no pooler before the server, which makes a set-up a third cheaper. Not
    /// those of tenants: the server plans anew whenever a connection changes tenants, so caching makes many tenants
    /// slower.
    #[default]
    Auto,
    /// None.
    #[strum(serialize = "unnamed")]
    Never,
    /// All.
    #[strum(serialize = "cached")]
    Always,
}

/// The database.
#[derive(Debug, Clone)]
pub struct Database {
    /// The owner's URL; `None` starts the embedded server.
    pub url: Option<SecretString>,
    /// The runtime login's URL, if it is not derived from the owner's.
    pub runtime_url: Option<SecretString>,
    /// Folder of the server binaries.
    pub bin_dir: Option<PathBuf>,
    /// How tenants are isolated from each other; `None` for what suits the engine.
    pub isolation: Option<Isolation>,
    /// The engine to take the database for, whatever it is; for the test suite alone.
    pub forced_engine: Option<ForcedEngine>,
    /// The exposures with which a server starts all the same.
    pub accept_exposures: Exposures,
    /// The statements that are prepared and cached.
    pub statements: CachedStatements,
    /// Largest number of connections of this process.
    pub max_connections: usize,
    /// Distinct tenants that a connection serves before it is replaced; `None` for no limit.
    pub tenants_per_connection: Option<NonZeroUsize>,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest wait of a start for a database that is not up yet.
    pub wait: Duration,
    /// How long a connection is unused before it is closed; `None` for never.
    pub idle_timeout: Option<Duration>,
    /// Time limit of one statement.
    pub statement_timeout: Duration,
    /// Longest wait for a lock.
    pub lock_timeout: Duration,
    /// Longest pause inside a transaction.
    pub idle_in_transaction_timeout: Duration,
}

/// Authentication.
#[derive(Debug, Clone)]
pub struct Auth {
    /// The `iss` of access tokens.
    pub issuer: String,
    /// The `aud` of access tokens.
    pub audience: String,
    /// Lifetime of an access token.
    pub access_lifetime: Duration,
    /// Lifetime of a refresh cookie.
    pub refresh_lifetime: Duration,
    /// Longest lifetime of a session.
    pub session_lifetime: Duration,
    /// Whether the cookie is sent over TLS only.
    pub cookie_secure: bool,
    /// argon2id memory in KiB.
    pub hash_memory_kib: u32,
    /// argon2id passes.
    pub hash_iterations: u32,
    /// Largest number of waiting password hashes.
    pub hash_queue: usize,
}

/// The HTTP server.
#[derive(Debug, Clone)]
pub struct Http {
    /// Threads that serve requests.
    pub workers: usize,
    /// Largest request body in bytes.
    pub max_body_bytes: usize,
    /// Time limit of one request.
    pub request_timeout: Duration,
    /// How long a connection stays open without a request; `None` if it is closed after each answer.
    pub keep_alive: Option<Duration>,
    /// How long a server that was told to stop is not ready and still serves.
    pub drain_delay: Duration,
    /// Time that requests have to finish after that.
    pub shutdown_timeout: Duration,
    /// The proxies that are trusted to report the client's address and the host.
    pub proxies: Proxies,
    /// Where the metrics, the OpenAPI document and its page are served.
    pub management: Management,
    /// The origins that may call from a browser.
    pub cors: cors::Settings,
}

/// Where the metrics, the OpenAPI document and the page that shows it are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Management {
    /// At the server's own listener.
    #[default]
    Shared,
    /// At a second listener on this address.
    At(SocketAddr),
    /// Nowhere.
    Off,
}

impl FromStr for Management {
    type Err = std::net::AddrParseError;

    /// # Errors
    /// The text is neither empty nor `off` nor an address and a port.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "" => Ok(Self::Shared),
            "off" => Ok(Self::Off),
            address => address.parse().map(Self::At),
        }
    }
}

/// The pages for people.
#[derive(Debug, Clone)]
pub struct Console {
    /// Whether they are served.
    pub enabled: bool,
    /// The only host name at which they are served; `None` for every one that is no tenant's.
    pub host: Option<String>,
}

/// The slugs of tenants.
#[derive(Debug, Clone)]
pub struct Slugs {
    /// Words that no tenant can take.
    pub reserved: ReservedWords,
    /// How long a freed slug cannot be taken by another tenant.
    pub quarantine: Duration,
}

/// The lifecycle of tenants.
#[derive(Debug, Clone)]
pub struct Tenants {
    /// How long a deleted tenant can be restored.
    pub grace_period: Duration,
    /// The interval of the search for tenants to purge.
    pub purge_interval: Duration,
    /// The number of schemas that are built ahead of time.
    pub vacancies: usize,
}

/// API tokens, API keys and the other stored credentials.
#[derive(Debug, Clone)]
pub struct Tokens {
    /// Longest lifetime of one that is made; `None` for no limit.
    pub max_lifetime: Option<Duration>,
    /// Lifetime of one whose maker asks for no end; `None` for no end.
    pub default_lifetime: Option<Duration>,
    /// How long the secret before a rotation stays good.
    pub rotation_overlap: Duration,
}

/// Fleet migrations.
#[derive(Debug, Clone)]
pub struct Fleet {
    /// Tenants that are migrated at the same time.
    pub workers: usize,
    /// How long a silent runner keeps the lease of an operation.
    pub lease: Duration,
    /// The interval of the search for operations whose runner is gone; `None` for never.
    pub take_up_interval: Option<Duration>,
    /// How long the rows of an ended operation's tenants are kept; `None` for ever.
    pub ledger_retention: Option<Duration>,
}

/// The archives that a server keeps.
#[derive(Debug, Clone)]
pub struct Archives {
    /// The folder that they are in.
    pub store: PathBuf,
    /// The most bytes of one.
    pub max_bytes: u64,
    /// The most bytes of all of them; 0 for as many as fit on the disk.
    pub total_bytes: u64,
    /// How long an export is kept; `None` for until it is deleted.
    pub keep_exports: Option<Duration>,
    /// How many are written at the same time.
    pub workers: usize,
    /// The level of compression.
    pub level: i32,
}

/// Whether each request has a line in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, strum::EnumString, strum::VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum AccessLog {
    /// Only those that an operator should look at.
    #[default]
    #[strum(serialize = "off", serialize = "false")]
    Off,
    /// Each one.
    #[strum(serialize = "on", serialize = "true")]
    On,
}

/// The log.
#[derive(Debug, Clone)]
pub struct Log {
    /// The form of a log line.
    pub format: Format,
    /// Whether each request has a line.
    pub access: AccessLog,
    /// The filter, such as `info,rowhouse=debug`.
    pub filter: String,
    /// The collector of OpenTelemetry that spans are exported to.
    pub otlp_endpoint: Option<String>,
}

impl Log {
    /// Returns the filter of commands other than `serve`, whose output already reports the result and the failed
    /// tenants. A filter that is set applies to all commands.
    #[must_use]
    pub fn filter_of_commands(&self) -> &str {
        let is_default =
            KEYS.iter().any(|(key, default, _)| *key == "log.filter" && *default == self.filter);
        if is_default { "warn,rowhouse::service::fleet=error" } else { &self.filter }
    }
}
