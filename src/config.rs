//! Owns the settings: where they come from, what they may be, what they are called.
//!
//! A flag beats the environment, the environment beats the file, the file beats the default. In the
//! environment a setting is `ROWHOUSE_<SECTION>__<KEY>` (`ROWHOUSE_DATABASE__ISOLATION`), in the file
//! `rowhouse.toml` it is `key` under `[section]`. Every bad value, unknown key and unknown variable is
//! named at once, and secrets print as `redacted`.
//!
//! To add a setting: a line in [`KEYS`], a field, a line in [`Settings::read`].

mod reader;
mod unknown;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use self::reader::Reader;
use self::unknown::{unknown_keys, unknown_variables};
use crate::domain::names::{Email, Password};
use crate::http::client_address::{ForwardedHeader, Proxies};
use crate::http::cors;
use crate::http::limits;

/// Every setting there is, as it is called in the file, with what it means. The README's table and the
/// check for unknown keys both come from here.
pub const KEYS: &[(&str, &str, &str)] = &[
    ("listen", "127.0.0.1:8080", "address and port; port 0 picks a free one"),
    ("data_dir", ".rowhouse", "where the embedded server and the generated secrets live"),
    (
        "root_token",
        "",
        "a UUID that may do everything; where it is not set, one is made and kept in the data dir",
    ),
    (
        "root_token_command",
        "",
        "how a shell prints the root token, for the curl line that serve prints; for containers, whose data \
         dir the shell outside does not see",
    ),
    ("admin_email", "", "a SUPER_ADMIN who can log in; the settings are the truth at every start"),
    ("admin_password", "", "that user's password"),
    ("tenant_migrations", "", "a folder that replaces the built-in tenant migrations"),
    ("base_domain", "", "tenants are resolved from <slug>.<base domain>"),
    ("default_owner", "", "who owns a WebFluss tenant that names no owner; else the admin above"),
    (
        "database.url",
        "",
        "the owner's login; also DATABASE_URL. Without one, PostgreSQL is embedded",
    ),
    ("database.runtime_url", "", "the runtime login, where it is not derived from the owner's URL"),
    ("database.bin_dir", "", "folder of the PostgreSQL server binaries for the embedded server"),
    ("database.isolation", "role", "a role for each tenant, or one shared role and the path alone"),
    ("database.statements", "unnamed", "unnamed or cached"),
    (
        "database.max_connections",
        "40",
        "connections of this process, all pools together; at least 10",
    ),
    (
        "database.tenants_per_connection",
        "500",
        "distinct tenants that a connection serves before a new one takes its place, since PostgreSQL keeps \
         memory for each; 0 for no end",
    ),
    ("database.connect_timeout", "5s", "longest wait for a connection"),
    ("database.statement_timeout", "30s", "longest single statement"),
    ("database.lock_timeout", "5s", "longest wait for a lock"),
    ("database.idle_in_transaction_timeout", "30s", "longest pause inside a transaction"),
    ("auth.issuer", "rowhouse", "the iss of access tokens"),
    ("auth.audience", "rowhouse", "the aud of access tokens"),
    ("auth.access_lifetime", "15m", "how long an access token is good"),
    ("auth.refresh_lifetime", "7d", "how long a refresh cookie is good"),
    (
        "auth.cookie_secure",
        "auto",
        "true, false, or auto: true unless listening on a loopback address",
    ),
    ("auth.hash_memory_kib", "19456", "argon2id memory (OWASP)"),
    ("auth.hash_iterations", "2", "argon2id passes (OWASP)"),
    ("auth.hash_queue", "256", "password hashes that may wait; beyond it the answer is 503"),
    ("http.workers", "", "threads that serve requests; the number of cores by default"),
    ("http.max_body_bytes", "1048576", "largest request body"),
    ("http.request_timeout", "30s", "longest time for one request; beyond it the answer is 503"),
    ("http.shutdown_timeout", "8s", "how long requests may finish after a stop signal"),
    (
        "http.trusted_proxies",
        "",
        "networks, with commas between, whose word about a client's address is taken; nobody's by default",
    ),
    (
        "http.forwarded_header",
        "x-forwarded-for",
        "the header that they write: x-forwarded-for or forwarded",
    ),
    (
        "http.cors_origins",
        "",
        "origins, with commas between, whose pages may call from a browser; none by default",
    ),
    ("http.cors_max_age", "1h", "how long a browser may remember that it was let in"),
    (
        "limits.login_pair",
        "3/10",
        "wrong passwords for one account from one address: so many a minute / at once; 0 is no limit",
    ),
    (
        "limits.login_account",
        "6/30",
        "wrong passwords for one account from addresses where nobody has logged in to it",
    ),
    ("limits.login_address", "60/120", "wrong passwords from one address"),
    (
        "limits.token_address",
        "60/120",
        "wrong tokens, API keys and refresh cookies from one address",
    ),
    ("limits.requests_token", "30000/3000", "requests of one token or user"),
    ("limits.requests_tenant", "60000/6000", "requests of one tenant's tokens and users together"),
    ("profiles.erase_interval", "10m", "how often profiles that have run out are erased"),
    (
        "tenants.grace_period",
        "7d",
        "how long a deleted tenant can be restored; after it, it is purged",
    ),
    ("tenants.purge_interval", "1m", "how often it is looked for tenants to purge"),
    (
        "tenants.vacancies",
        "8",
        "schemas that are built ahead of time, so that a set-up need not wait for one; 0 for none",
    ),
    (
        "fleet.workers",
        "4",
        "tenants that a fleet migration works on at the same time; a server gives it at most a tenth of \
         database.max_connections",
    ),
    (
        "fleet.lease",
        "15s",
        "how long after its last sign of life whoever runs a fleet migration is taken for gone",
    ),
    (
        "fleet.take_up_interval",
        "30s",
        "how often a server looks for a fleet migration whose process is gone, and goes on with it; 0 for never",
    ),
    (
        "fleet.ledger_retention",
        "90d",
        "how long after a fleet migration has ended it is kept what became of each tenant; the counts stay; 0 for \
         ever",
    ),
    ("log.format", "text", "text or json"),
    (
        "log.filter",
        "info,refinery_core=warn,actix_http=off,actix_server=warn,tokio_postgres=warn",
        "such as info,rowhouse=debug",
    ),
];

/// Everything that can be set, checked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Address and port to listen on.
    pub listen: SocketAddr,
    /// Where the embedded server and the generated secrets live.
    pub data_dir: PathBuf,
    /// The root token as it was given.
    pub root_token: Option<SecretString>,
    /// How a shell prints the root token, where that is not `cat` on the data dir.
    pub root_token_command: Option<String>,
    /// The admin who must exist.
    pub admin: Option<Admin>,
    /// The folder that replaces the built-in tenant migrations.
    pub tenant_migrations: Option<PathBuf>,
    /// The domain whose subdomains are tenants.
    pub base_domain: Option<String>,
    /// Who owns a tenant that is created without an owner.
    pub default_owner: Option<Email>,
    /// The database side.
    pub database: Database,
    /// Proofs of identity.
    pub auth: Auth,
    /// The listening side.
    pub http: Http,
    /// How often is too often.
    pub limits: limits::Settings,
    /// How often profiles that have run out are erased.
    pub erase_interval: Duration,
    /// The lives of tenants.
    pub tenants: Tenants,
    /// Fleet migrations.
    pub fleet: Fleet,
    /// What is logged, and how.
    pub log: Log,
}

/// The admin who must exist.
#[derive(Debug, Clone)]
pub struct Admin {
    /// Address.
    pub email: Email,
    /// Password.
    pub password: Password,
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
    /// Keep tenants apart by roles (or by search path alone).
    pub isolation_by_role: bool,
    /// Cache prepared statements.
    pub cached_statements: bool,
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
    /// One JSON object a line instead of text.
    pub json: bool,
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

/// What the command line says; beats everything else.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// The file to read instead of `rowhouse.toml`.
    pub file: Option<PathBuf>,
    /// Pairs of a key from [`KEYS`] and its value.
    pub values: Vec<(&'static str, String)>,
}

/// The settings cannot be used. Lists everything that is wrong.
#[derive(Debug, thiserror::Error)]
#[error("the settings cannot be used:{}", .0.iter().fold(String::new(), |all, problem| all + "\n  " + problem))]
pub struct SettingsError(pub Vec<String>);

impl Settings {
    /// Reads flags, environment, file and defaults, in this order of precedence.
    ///
    /// # Errors
    /// Every bad value, every unknown key and every unknown variable of ours, at once.
    pub fn load(overrides: &Overrides) -> Result<Self, SettingsError> {
        let file = overrides.file.clone().unwrap_or_else(|| PathBuf::from("rowhouse.toml"));
        let must_exist = overrides.file.is_some();
        let from_file = config::Config::builder()
            .add_source(
                config::File::from(file.clone())
                    .format(config::FileFormat::Toml)
                    .required(must_exist),
            )
            .build()
            .map_err(|error| fail(format!("{}: {error}", file.display())))?;
        let mut builder = defaults()?;
        // Empty is unset: it is what `NAME=` in an env file and a bare name in a compose file give.
        let environment = config::Environment::with_prefix("ROWHOUSE")
            .prefix_separator("_")
            .separator("__")
            .ignore_empty(true);
        builder = builder
            .add_source(from_file.clone())
            .add_source(database_url())
            .add_source(environment);
        let mut problems = unknown_keys(&from_file, &file);
        problems.extend(unknown_variables(std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            (!value.is_empty()).then_some(name)
        })));
        Self::finish(builder, &overrides.values, problems)
    }

    /// Takes these values and the defaults, whatever the file and the environment say; for tests, and
    /// for programs that have settings of their own.
    ///
    /// # Errors
    /// Every bad value at once.
    pub fn from_values(values: &[(&'static str, String)]) -> Result<Self, SettingsError> {
        Self::finish(defaults()?, values, Vec::new())
    }

    fn finish(
        mut builder: Builder,
        values: &[(&'static str, String)],
        problems: Vec<String>,
    ) -> Result<Self, SettingsError> {
        for (key, value) in values {
            builder = builder
                .set_override(key, value.as_str())
                .map_err(|error| fail(error.to_string()))?;
        }
        let merged = builder.build().map_err(|error| fail(error.to_string()))?;
        let mut reader = Reader { merged, problems };
        let settings = Self::read(&mut reader);
        match (settings, reader.problems.is_empty()) {
            (Some(settings), true) => Ok(settings),
            (_, _) => Err(SettingsError(reader.problems)),
        }
    }

    #[expect(clippy::too_many_lines, reason = "a flat list: one line a setting, best read whole")]
    fn read(r: &mut Reader) -> Option<Self> {
        let listen =
            r.parsed::<SocketAddr>("listen", "an address and a port, such as 127.0.0.1:8080");
        let admin_email = r.text("admin_email");
        let admin_password = r.text("admin_password");
        let admin = read_admin(r, admin_email, admin_password);
        let default_owner =
            read_email(r, "default_owner").or_else(|| admin.as_ref().map(|a| a.email.clone()));
        let isolation_by_role = r.choice("database.isolation", &["role", "search_path"]) == Some(0);
        let cached_statements = r.choice("database.statements", &["unnamed", "cached"]) == Some(1);
        let cookie_secure = match r.choice("auth.cookie_secure", &["true", "false", "auto"]) {
            Some(2) => !listen.is_some_and(|at| at.ip().is_loopback()),
            chosen => chosen == Some(0),
        };
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let data_dir = r.text("data_dir").map(PathBuf::from)?;
        let database = Database {
            url: r.text("database.url").map(SecretString::from),
            runtime_url: r.text("database.runtime_url").map(SecretString::from),
            bin_dir: r.text("database.bin_dir").map(PathBuf::from),
            isolation_by_role,
            cached_statements,
            max_connections: r.number("database.max_connections", 10, 10_000),
            tenants_per_connection: NonZeroUsize::new(r.number(
                "database.tenants_per_connection",
                0,
                1_000_000,
            )),
            connect_timeout: r.duration("database.connect_timeout"),
            statement_timeout: r.duration("database.statement_timeout"),
            lock_timeout: r.duration("database.lock_timeout"),
            idle_in_transaction_timeout: r.duration("database.idle_in_transaction_timeout"),
        };
        let auth = Auth {
            issuer: r.text("auth.issuer").unwrap_or_default(),
            audience: r.text("auth.audience").unwrap_or_default(),
            access_lifetime: r.duration("auth.access_lifetime"),
            refresh_lifetime: r.duration("auth.refresh_lifetime"),
            cookie_secure,
            hash_memory_kib: r.number("auth.hash_memory_kib", 8, 1 << 22),
            hash_iterations: r.number("auth.hash_iterations", 1, 100),
            hash_queue: r.number("auth.hash_queue", 1, 1_000_000),
        };
        let http = Http {
            workers: if r.text("http.workers").is_some() {
                r.number("http.workers", 1, 1024)
            } else {
                cores
            },
            max_body_bytes: r.number("http.max_body_bytes", 1024, 1 << 30),
            request_timeout: r.duration("http.request_timeout"),
            shutdown_timeout: r.duration("http.shutdown_timeout"),
            proxies: Proxies {
                trusted: r.list("http.trusted_proxies"),
                header: match r.choice("http.forwarded_header", &["x-forwarded-for", "forwarded"]) {
                    Some(1) => ForwardedHeader::Forwarded,
                    _ => ForwardedHeader::XForwardedFor,
                },
            },
            cors: cors::Settings {
                origins: r.list("http.cors_origins"),
                max_age: r.duration("http.cors_max_age"),
            },
        };
        let limits = limits::Settings {
            login_pair: r.limit("limits.login_pair"),
            login_account: r.limit("limits.login_account"),
            login_address: r.limit("limits.login_address"),
            token_address: r.limit("limits.token_address"),
            requests_token: r.limit("limits.requests_token"),
            requests_tenant: r.limit("limits.requests_tenant"),
        };
        let tenants = Tenants {
            grace_period: r.duration("tenants.grace_period"),
            purge_interval: r.duration("tenants.purge_interval"),
            vacancies: r.number("tenants.vacancies", 0, 1000),
        };
        let fleet = Fleet {
            workers: r.number("fleet.workers", 1, 1024),
            lease: r.duration("fleet.lease"),
            take_up_interval: r.duration_or_never("fleet.take_up_interval"),
            ledger_retention: r.duration_or_never("fleet.ledger_retention"),
        };
        let log = Log {
            json: r.choice("log.format", &["text", "json"]) == Some(1),
            filter: r.text("log.filter").unwrap_or_default(),
        };
        Some(Self {
            listen: listen?,
            data_dir,
            root_token: r.text("root_token").map(SecretString::from),
            root_token_command: r.text("root_token_command"),
            admin,
            default_owner,
            tenant_migrations: r.text("tenant_migrations").map(PathBuf::from),
            base_domain: r
                .text("base_domain")
                .map(|domain| domain.trim_matches('.').to_lowercase()),
            database,
            auth,
            http,
            limits,
            erase_interval: r.duration("profiles.erase_interval"),
            tenants,
            fleet,
            log,
        })
    }

    /// The owner's URL in clear, for the connection and for nothing else.
    #[must_use]
    pub fn database_url(&self) -> Option<&str> {
        self.database.url.as_ref().map(ExposeSecret::expose_secret)
    }
}

type Builder = config::ConfigBuilder<config::builder::DefaultState>;

fn fail(what: String) -> SettingsError {
    SettingsError(vec![what])
}

fn defaults() -> Result<Builder, SettingsError> {
    let mut builder = config::Config::builder();
    for (key, default, _) in KEYS.iter().filter(|(_, default, _)| !default.is_empty()) {
        builder = builder.set_default(key, *default).map_err(|error| fail(error.to_string()))?;
    }
    Ok(builder)
}

/// `DATABASE_URL`, which other tools set too; our own variable beats it.
fn database_url() -> config::Environment {
    // Without a source of its own it would read every variable there is as a setting, LISTEN and
    // DATA_DIR among them.
    let source = variable("DATABASE_URL").map(|url| ("database.url".to_owned(), url));
    config::Environment::default().source(Some(source.into_iter().collect()))
}

/// The password for the admin of `tenant create`, which must not stand on a command line. It belongs to
/// one command and is no setting.
#[must_use]
pub fn tenant_admin_password() -> Option<SecretString> {
    variable("ROWHOUSE_TENANT_ADMIN_PASSWORD").map(SecretString::from)
}

#[expect(clippy::disallowed_methods, reason = "this is the file that reads the environment")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn read_email(r: &mut Reader, key: &str) -> Option<Email> {
    let email = Email::parse(&r.text(key)?);
    email
        .map_err(|rule| r.problems.push(format!("{key}: is no e-mail address ({})", rule.code())))
        .ok()
}

fn read_admin(r: &mut Reader, email: Option<String>, password: Option<String>) -> Option<Admin> {
    match (email, password) {
        (None, None) => None,
        (Some(_), None) => {
            r.problems.push("admin_password: is needed beside admin_email".to_owned());
            None
        }
        (None, Some(_)) => {
            r.problems.push("admin_email: is needed beside admin_password".to_owned());
            None
        }
        (Some(email), Some(password)) => {
            let email = Email::parse(&email).map_err(|rule| {
                r.problems.push(format!("admin_email: is no e-mail address ({})", rule.code()));
            });
            let password = Password::parse(&password).map_err(|rule| {
                r.problems.push(format!("admin_password: is not fit for use ({})", rule.code()));
            });
            Some(Admin { email: email.ok()?, password: password.ok()? })
        }
    }
}

#[cfg(test)]
mod tests;
