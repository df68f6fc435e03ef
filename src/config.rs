//! Owns the settings: their names, their sources, their valid values.
//!
//! A flag takes precedence over the environment, the environment over the file, the file over the default. In the
//! environment a setting is `ROWHOUSE_<SECTION>__<KEY>` (`ROWHOUSE_DATABASE__ISOLATION`), in the file
//! `rowhouse.toml` it is `key` under `[section]`. Every bad value, unknown key and unknown variable is reported at once,
//! and secrets print as `redacted`.
//!
//! To add a setting: a line in [`KEYS`] (`keys`), a field (`sections`), a line in [`Settings::read`].

mod environment;
mod keys;
mod own;
mod reader;
mod secret_file;
mod sections;
mod unknown;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use self::environment::{database_url, environment};
use self::reader::Reader;
use self::unknown::{unknown_keys, unknown_variables};
use crate::auth::secret_key::SECRET_MIN;
use crate::domain::names::{Email, NewPassword};
use crate::http::client_address::Proxies;
use crate::http::host::{ServerHosts, host_name};
use crate::http::{cors, limits};
use crate::pg::rules::Fairness;
use crate::service::overview::Setting;

pub use self::environment::{ServerVariables, server_variables, tenant_admin_password, token_file};
pub use self::keys::KEYS;
pub use self::own::{Own, OwnValues};
pub use self::sections::{
    AccessLog, Admin, Archives, Auth, CachedStatements, Console, Database, Fleet, ForcedEngine,
    Http, Log, Management, Slugs, Tenants, Tokens,
};
#[cfg(feature = "testing")]
pub(crate) use self::unknown::variable_of;

/// The longest overlap of a rotation, which a request must not exceed either.
const ROTATION_OVERLAP_MAX: Duration = Duration::from_hours(30 * 24);

/// All settings, validated.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Address and port to listen on.
    pub listen: SocketAddr,
    /// The folder of the embedded server and the generated secrets.
    pub data_dir: PathBuf,
    /// The root token as given.
    pub root_token: Option<SecretString>,
    /// The file that holds the root token, if it was given as one.
    pub root_token_file: Option<PathBuf>,
    /// The root token that is accepted beside it, as given.
    pub root_token_previous: Option<SecretString>,
    /// The secret that encrypts the signing keys.
    pub secret_key: Option<SecretString>,
    /// The shell command that prints the root token, if it is not `cat` on the data dir.
    pub root_token_command: Option<String>,
    /// The admin who must exist.
    pub admin: Option<Admin>,
    /// The folder that replaces the built-in tenant migrations.
    pub tenant_migrations: Option<PathBuf>,
    /// The domain whose subdomains are tenants.
    pub base_domain: Option<String>,
    /// The server's own host names.
    pub server_hosts: ServerHosts,
    /// The owner of a tenant that is created without one.
    pub default_owner: Option<Email>,
    /// The database.
    pub database: Database,
    /// Authentication.
    pub auth: Auth,
    /// The HTTP server.
    pub http: Http,
    /// The pages for people.
    pub console: Console,
    /// The rate limits.
    pub limits: limits::Settings,
    /// Who gets a database connection when there are too few.
    pub fairness: Fairness,
    /// The interval at which expired profiles are deleted.
    pub erase_interval: Duration,
    /// The interval of the search for audit events to seal.
    pub seal_interval: Duration,
    /// The lifecycle of tenants.
    pub tenants: Tenants,
    /// API tokens and the other stored credentials.
    pub tokens: Tokens,
    /// The slugs of tenants.
    pub slugs: Slugs,
    /// Fleet migrations.
    pub fleet: Fleet,
    /// The archives that a server keeps.
    pub archives: Archives,
    /// The log.
    pub log: Log,
    /// The sections of an application.
    pub own: OwnValues,
    /// Every setting as it was given, without secrets.
    pub in_force: Arc<[Setting]>,
}

/// The settings on the command line, which take precedence over all others.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// The file to read instead of `rowhouse.toml`.
    pub file: Option<PathBuf>,
    /// Pairs of a key from [`KEYS`] and its value.
    pub values: Vec<(&'static str, String)>,
    /// What an application adds to the settings.
    pub own: Own,
}

/// The settings are not valid. Lists every problem.
#[derive(Debug, thiserror::Error)]
#[error("the settings are not valid:{}", .0.iter().fold(String::new(), |all, problem| all + "\n  " + problem))]
pub struct SettingsError(pub Vec<String>);

impl Settings {
    /// Reads flags, environment, file and defaults, in this order of precedence.
    ///
    /// # Errors
    /// Every bad value, every unknown key and every unknown `ROWHOUSE_` variable, at once.
    pub fn load(overrides: &Overrides) -> Result<Self, SettingsError> {
        Self::load_with(overrides, environment()?)
    }

    /// As [`Settings::load`], with these variables for the environment.
    ///
    /// # Errors
    /// As [`Settings::load`].
    pub fn load_with(
        overrides: &Overrides,
        environment: config::Map<String, String>,
    ) -> Result<Self, SettingsError> {
        let file = overrides.file.clone().unwrap_or_else(|| PathBuf::from("rowhouse.toml"));
        // A file that is there and may not be read must not be passed over.
        let is_there = file
            .try_exists()
            .map_err(|error| fail(format!("{}: cannot be read: {error}", file.display())))?;
        let must_exist = overrides.file.is_some() || is_there;
        let from_file = config::Config::builder()
            .add_source(
                config::File::from(file.clone())
                    .format(config::FileFormat::Toml)
                    .required(must_exist),
            )
            .build()
            .map_err(|error| fail(format!("{}: {error}", file.display())))?;
        let mut builder = defaults()?;
        // Empty counts as unset: `NAME=` in an env file and a bare name in a compose file are empty.
        let mut problems = unknown_keys(&from_file, &file, &overrides.own);
        problems.extend(unknown_variables(
            environment.iter().filter(|(_, value)| !value.is_empty()).map(|(name, _)| name.clone()),
            &overrides.own,
        ));
        builder = builder.add_source(from_file).add_source(database_url(&environment));
        builder = builder.add_source(overrides.own.variables(&environment)).add_source(
            config::Environment::with_prefix("ROWHOUSE")
                .prefix_separator("_")
                .separator("__")
                .ignore_empty(true)
                .source(Some(environment)),
        );
        Self::finish(builder, &overrides.values, problems)
    }

    /// Reads these values and the defaults, and neither the file nor the environment; for tests, and for programs that
    /// have settings of their own.
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
            // A flag overrides the same setting in either form.
            let twin = format!("{key}_file");
            let is_known = KEYS.iter().any(|(known, ..)| *known == twin);
            if is_known && values.iter().all(|(other, _)| *other != twin) {
                builder =
                    builder.set_override(twin, "").map_err(|error| fail(error.to_string()))?;
            }
        }
        let merged = builder.build().map_err(|error| fail(error.to_string()))?;
        let mut reader = Reader::new(merged, problems);
        let settings = Self::read(&mut reader);
        match (settings, reader.problems.is_empty()) {
            (Some(settings), true) => Ok(settings),
            (_, _) => Err(SettingsError(reader.problems)),
        }
    }

    #[expect(clippy::too_many_lines, reason = "a flat list: one line for each setting")]
    fn read(r: &mut Reader) -> Option<Self> {
        let listen =
            r.parsed::<SocketAddr>("listen", "an address and a port, such as 127.0.0.1:8080");
        let admin_email = r.text("admin_email");
        let admin_password = r.secret("admin_password");
        let admin = read_admin(r, admin_email, admin_password);
        let default_owner =
            read_email(r, "default_owner").or_else(|| admin.as_ref().map(|a| a.email.clone()));
        let cookie_secure = match r.choice("auth.cookie_secure") {
            CookieSecure::True => true,
            CookieSecure::False => false,
            CookieSecure::Auto => !listen.is_some_and(|at| at.ip().is_loopback()),
        };
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let data_dir = r.text("data_dir").map(PathBuf::from)?;
        let database = Database {
            url: r.secret("database.url"),
            runtime_url: r.secret("database.runtime_url"),
            bin_dir: r.text("database.bin_dir").map(PathBuf::from),
            isolation: r.choice_if_set("database.isolation"),
            forced_engine: r.choice_if_set("database.engine"),
            accept_exposures: r.list("database.accept_exposures"),
            statements: r.choice("database.statements"),
            max_connections: r.number("database.max_connections", 10, 10_000),
            tenants_per_connection: NonZeroUsize::new(r.number(
                "database.tenants_per_connection",
                0,
                1_000_000,
            )),
            connect_timeout: r.duration("database.connect_timeout"),
            wait: r.duration_or_never("database.wait").unwrap_or_default(),
            idle_timeout: r.duration_or_never("database.idle_timeout"),
            statement_timeout: r.duration("database.statement_timeout"),
            lock_timeout: r.duration("database.lock_timeout"),
            idle_in_transaction_timeout: r.duration("database.idle_in_transaction_timeout"),
        };
        let auth = Auth {
            issuer: r.text("auth.issuer").unwrap_or_default(),
            audience: r.text("auth.audience").unwrap_or_default(),
            access_lifetime: r.duration("auth.access_lifetime"),
            refresh_lifetime: r.duration("auth.refresh_lifetime"),
            session_lifetime: r.duration("auth.session_lifetime"),
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
            keep_alive: r.duration_or_never("http.keep_alive"),
            drain_delay: r.duration_or_never("http.drain_delay").unwrap_or_default(),
            shutdown_timeout: r.duration("http.shutdown_timeout"),
            proxies: Proxies {
                trusted: r.list("http.trusted_proxies"),
                header: r.choice("http.forwarded_header"),
            },
            management: r
                .parsed(
                    "http.management_listen",
                    "an address and a port, such as 127.0.0.1:9090, or off",
                )
                .unwrap_or_default(),
            cors: cors::Settings {
                origins: r.list("http.cors_origins"),
                max_age: r.duration("http.cors_max_age"),
            },
        };
        let console = Console {
            enabled: r.choice::<Switch>("console.enabled") == Switch::True,
            host: read_host(r, "console.host"),
        };
        let limits = limits::Settings {
            login_pair: r.limit("limits.login_pair"),
            login_account: r.limit("limits.login_account"),
            login_address: r.limit("limits.login_address"),
            token_address: r.limit("limits.token_address"),
            requests_token: r.limit("limits.requests_token"),
            requests_tenant: r.limit("limits.requests_tenant"),
            exports_tenant: r.limit("limits.exports_tenant"),
        };
        let fairness = Fairness {
            reserve: r.number("fairness.reserve", 0, 100),
            slow_after: r.duration("fairness.slow_after"),
        };
        let tenants = Tenants {
            grace_period: r.duration("tenants.grace_period"),
            purge_interval: r.duration("tenants.purge_interval"),
            vacancies: r.number("tenants.vacancies", 0, 1000),
        };
        let tokens = read_tokens(r);
        let slugs = Slugs {
            reserved: r.list("slugs.reserved"),
            quarantine: match r.text("slugs.quarantine") {
                Some(_) => r.duration_or_never("slugs.quarantine").unwrap_or_default(),
                None => tenants.grace_period,
            },
        };
        let fleet = Fleet {
            workers: r.number("fleet.workers", 1, 1024),
            lease: r.duration("fleet.lease"),
            take_up_interval: r.duration_or_never("fleet.take_up_interval"),
            ledger_retention: r.duration_or_never("fleet.ledger_retention"),
        };
        let archives = Archives {
            store: match r.text("archives.store") {
                Some(folder) => PathBuf::from(folder),
                None => data_dir.join("archives"),
            },
            max_bytes: r.number("archives.max_bytes", 1 << 20, 1 << 50),
            total_bytes: r.number("archives.total_bytes", 0, 1 << 60),
            keep_exports: r.duration_or_never("archives.keep_exports"),
            workers: r.number("archives.workers", 1, 64),
            level: r.number("archives.level", 1, 19),
        };
        let log = Log {
            format: r.choice("log.format"),
            access: r.choice("log.access"),
            filter: r.text("log.filter").unwrap_or_default(),
            otlp_endpoint: r.collector("log.otlp_endpoint"),
        };
        Some(Self {
            listen: listen?,
            data_dir,
            root_token: r.secret("root_token"),
            root_token_file: r.text("root_token_file").map(PathBuf::from),
            root_token_previous: r.secret("root_token_previous"),
            secret_key: r.long_secret("secret_key", SECRET_MIN),
            root_token_command: r.hidden_text("root_token_command"),
            admin,
            default_owner,
            tenant_migrations: r.text("tenant_migrations").map(PathBuf::from),
            base_domain: read_domain(r),
            server_hosts: r.list("server_hosts"),
            database,
            auth,
            http,
            console,
            limits,
            fairness,
            erase_interval: r.duration("profiles.erase_interval"),
            seal_interval: r.duration("events.seal_interval"),
            tenants,
            tokens,
            slugs,
            fleet,
            archives,
            log,
            own: OwnValues::of(&r.merged),
            in_force: r.listing(),
        })
    }

    /// Returns the owner's URL in clear text, for connecting only.
    #[must_use]
    pub fn database_url(&self) -> Option<&str> {
        self.database.url.as_ref().map(ExposeSecret::expose_secret)
    }
}

/// The words of `auth.cookie_secure`.
#[derive(Default, strum::EnumString, strum::VariantNames)]
#[strum(serialize_all = "lowercase")]
enum CookieSecure {
    #[default]
    True,
    False,
    /// True unless the server listens on a loopback address.
    Auto,
}

/// The words of a setting that is on or off.
#[derive(Default, PartialEq, Eq, strum::EnumString, strum::VariantNames)]
#[strum(serialize_all = "lowercase")]
enum Switch {
    #[default]
    True,
    False,
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

fn read_domain(r: &mut Reader) -> Option<String> {
    let domain = host_name(r.text("base_domain")?.trim_matches('.'));
    domain.map_err(|problem| r.problems.push(format!("base_domain: {problem}"))).ok()
}

fn read_host(r: &mut Reader, key: &str) -> Option<String> {
    let host = host_name(&r.text(key)?);
    host.map_err(|problem| r.problems.push(format!("{key}: {problem}"))).ok()
}

fn read_email(r: &mut Reader, key: &str) -> Option<Email> {
    let email = Email::parse(&r.text(key)?);
    email
        .map_err(|rule| r.problems.push(format!("{key}: not an e-mail address ({})", rule.code())))
        .ok()
}

fn read_tokens(r: &mut Reader) -> Tokens {
    let tokens = Tokens {
        max_lifetime: r.duration_or_never("tokens.max_lifetime"),
        default_lifetime: r.duration_or_never("tokens.default_lifetime"),
        rotation_overlap: r.duration_or_never("tokens.rotation_overlap").unwrap_or_default(),
    };
    if let (Some(default), Some(max)) = (tokens.default_lifetime, tokens.max_lifetime)
        && default > max
    {
        r.problems.push("tokens.default_lifetime: longer than tokens.max_lifetime".to_owned());
    }
    if tokens.rotation_overlap > ROTATION_OVERLAP_MAX {
        r.problems.push("tokens.rotation_overlap: longer than 30d".to_owned());
    }
    tokens
}

fn read_admin(
    r: &mut Reader,
    email: Option<String>,
    password: Option<SecretString>,
) -> Option<Admin> {
    match (email, password) {
        (None, None) => None,
        (Some(_), None) => {
            r.problems.push("admin_password: required with admin_email".to_owned());
            None
        }
        (None, Some(_)) => {
            r.problems.push("admin_email: required with admin_password".to_owned());
            None
        }
        (Some(email), Some(password)) => {
            let email = Email::parse(&email).map_err(|rule| {
                r.problems.push(format!("admin_email: not an e-mail address ({})", rule.code()));
            });
            let password = NewPassword::parse(password.expose_secret()).map_err(|rule| {
                r.problems.push(format!("admin_password: not a valid password ({})", rule.code()));
            });
            Some(Admin { email: email.ok()?, password: password.ok()? })
        }
    }
}

#[cfg(test)]
mod tests;
