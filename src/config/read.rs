//! Reads every setting into its field.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::Settings;
use super::own::OwnValues;
use super::reader::Reader;
use super::sections::{
    Admin, Archives, Auth, Console, Database, Fleet, Http, Log, Slugs, Tenants, Tokens,
};
use crate::auth::secret_key::SECRET_MIN;
use crate::domain::names::{Email, NewPassword};
use crate::http::client_address::Proxies;
use crate::http::host::host_name;
use crate::http::{cors, limits};
use crate::pg::rules::Fairness;

/// The longest overlap of a rotation, which a request must not exceed either.
const ROTATION_OVERLAP_MAX: Duration = Duration::from_hours(30 * 24);

impl Settings {
    /// Reads the settings; `None` if a value without which there are none is missing. `r` has the problems.
    #[expect(clippy::too_many_lines, reason = "a flat list: one line for each setting")]
    pub(super) fn read(r: &mut Reader) -> Option<Self> {
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
