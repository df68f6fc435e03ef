//! Parses `DATABASE_URL` once: the server, the database, the login, and the required TLS.
//!
//! Accepts both forms of libpq (`postgres://` URLs and `key=value` strings) with libpq's meaning. The text is
//! parsed here and not in `tokio_postgres`, which knows three of the six SSL modes, splits a URL at the first `@`
//! wherever it is, and adds a second `host` to the first instead of replacing it.
//!
//! Promises: no error, no [`DatabaseUrl::redacted`] and no `Debug` shows a password or a part of one;
//! every error names the parameter to correct. A character that would move a part of an unencoded password
//! into the host or the database name is refused.
//!
//! Differences from libpq, on purpose:
//! - nothing is read from `PG*` variables, `~/.pgpass`, `~/.postgresql` or service files; a host and a
//!   database must be given (the database defaults to the user's name);
//! - `verify-ca` and `verify-full` without `sslrootcert` use the system's roots;
//! - `allow` is `prefer`: libpq would try without TLS first, which is only less safe;
//! - `prefer` continues without TLS if the server has none, but not, as libpq would, after a failed handshake
//!   or a login that failed with TLS;
//! - the certificate is always checked against a given `sslrootcert` file, also with `prefer`; `disable` never
//!   reads the file;
//! - a network that drops a connection without a word is noticed in seconds: keepalive and `tcp_user_timeout` have
//!   [values of ours](NETWORK_DEFAULTS), where libpq leaves them to the operating system, which takes minutes or hours;
//! - `options` is refused: it is session state, which is lost or refused behind a transaction pooler.
//!
//! To support one more parameter that `tokio_postgres` knows, add a line to [`PASSED_ON`].

mod error;
mod mode;
mod ssl;
mod text;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{self, Host};

pub use error::UrlError;
pub use mode::SslMode;
pub use ssl::{ClientFiles, Roots, SslSettings, Verification};

/// The port of PostgreSQL if none is given.
const DEFAULT_PORT: u16 = 5432;

/// Parameters that are passed to `tokio_postgres`, with what their value must be.
const PASSED_ON: &[(&str, &str)] = &[
    ("application_name", "a name"),
    ("channel_binding", "disable, prefer or require"),
    ("connect_timeout", "a number of seconds"),
    ("dbname", "the name of a database"),
    ("host", "host names or socket directories, separated by commas"),
    ("hostaddr", "IP addresses, separated by commas"),
    ("keepalives", "0 or 1"),
    ("keepalives_idle", "a number of seconds"),
    ("keepalives_interval", "a number of seconds"),
    ("keepalives_retries", "a number of probes"),
    ("load_balance_hosts", "disable or random"),
    ("port", "port numbers, separated by commas"),
    ("sslnegotiation", "postgres or direct"),
    ("target_session_attrs", "any, read-write or read-only"),
    ("user", "the name of a login"),
];

/// What is set where the URL does not say: a connection without an answer is probed after 10 s, and is broken 3 s later;
/// one whose bytes are not acknowledged is broken after 10 s. A value of 0 leaves `tcp_user_timeout` to the operating
/// system, and `keepalives=0` switches the probes off. A Unix socket has none of them.
const NETWORK_DEFAULTS: [(&str, &str); 4] = [
    ("keepalives_idle", "10"),
    ("keepalives_interval", "3"),
    ("keepalives_retries", "3"),
    ("tcp_user_timeout", "10000"),
];

/// Parameters that are parsed here.
const PARSED_HERE: &[&str] =
    &["password", "sslcert", "sslkey", "sslmode", "sslrootcert", "tcp_user_timeout"];

/// A database, a login and the TLS settings, parsed and valid.
#[derive(Clone)]
pub struct DatabaseUrl {
    config: Config,
    /// The same without the password, because a `Config` cannot drop one.
    without_password: Config,
    ssl: SslSettings,
}

impl DatabaseUrl {
    /// Parses a `postgres://` URL or a `key=value` string.
    ///
    /// # Errors
    /// [`UrlError`] for the first parameter that is invalid, missing or unknown. Files are read later, by
    /// [`Connector::new`](crate::pg::connect::tls::Connector::new).
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let mut parameters = collect(text::read(text)?)?;
        let password = parameters.remove("password");
        let ssl = SslSettings::take(&mut parameters)?;
        let without_password = build(parameters, ssl.mode())?;

        let mut config = without_password.clone();
        if let Some(password) = password {
            config.password(password);
        }
        Ok(Self { config, without_password, ssl })
    }

    /// Returns the configuration for `tokio_postgres` and the pool. Use it together with [`DatabaseUrl::ssl`].
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Returns the TLS settings, for [`Connector::new`](crate::pg::connect::tls::Connector::new).
    #[must_use]
    pub const fn ssl(&self) -> &SslSettings {
        &self.ssl
    }

    /// Returns the same server, database and TLS settings (with the client certificate) for another login.
    #[must_use]
    pub fn with_login(&self, user: &str, password: Option<&str>) -> Self {
        let mut without_password = self.without_password.clone();
        without_password.user(user);
        let mut config = without_password.clone();
        if let Some(password) = password {
            config.password(password);
        }
        Self { config, without_password, ssl: self.ssl.clone() }
    }

    /// Returns the same server and login with another database.
    #[must_use]
    pub fn with_database(&self, name: &str) -> Self {
        let mut other = self.clone();
        other.config.dbname(name);
        other.without_password.dbname(name);
        other
    }

    /// Returns the URL without its password, for logs and errors.
    #[must_use]
    pub fn redacted(&self) -> String {
        let mut shown = "postgres://".to_owned();
        if let Some(user) = self.without_password.get_user() {
            shown.push_str(&text::encode(user));
            shown.push('@');
        }
        let (authority, query) = self.hosts();
        shown.push_str(&authority);
        shown.push('/');
        shown.push_str(&text::encode(self.without_password.get_dbname().unwrap_or_default()));
        shown.push('?');
        shown.push_str(&query);
        shown.push_str("sslmode=");
        shown.push_str(self.ssl.mode().as_str());
        shown
    }

    /// Returns hosts and ports: as the authority of a URL, or as query parameters if one is a socket.
    fn hosts(&self) -> (String, String) {
        let hosts = self.without_password.get_hosts();
        let ports = (0..hosts.len()).map(|index| self.port_of(index));
        if hosts.iter().all(|host| matches!(host, Host::Tcp(_))) {
            let entries = hosts.iter().zip(ports).map(|(host, port)| match host {
                Host::Tcp(name) if name.contains(':') => format!("[{name}]:{port}"),
                host => format!("{}:{port}", host_text(host)),
            });
            (entries.collect::<Vec<_>>().join(","), String::new())
        } else {
            let hosts = hosts.iter().map(host_text).collect::<Vec<_>>().join(",");
            let ports = ports.map(|port| port.to_string()).collect::<Vec<_>>().join(",");
            (String::new(), format!("host={hosts}&port={ports}&"))
        }
    }

    fn port_of(&self, index: usize) -> u16 {
        let ports = self.without_password.get_ports();
        ports.get(index).or_else(|| ports.first()).copied().unwrap_or(DEFAULT_PORT)
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DatabaseUrl").field(&self.redacted()).finish()
    }
}

/// Parameters by name; none is empty.
type Parameters = BTreeMap<&'static str, String>;

/// Checks every name. The last of two equal ones wins, and an empty value means that it is not given.
fn collect(pairs: Vec<text::Pair>) -> Result<Parameters, UrlError> {
    let mut parameters = Parameters::new();
    let mut previous = None;
    for (name, value) in pairs {
        let known = match name.as_str() {
            "options" if value.is_empty() => continue,
            "options" => return Err(UrlError::Options),
            // libpq's name for the `keepalives_retries` of tokio_postgres.
            "keepalives_count" => Some("keepalives_retries"),
            name => PASSED_ON
                .iter()
                .map(|(known, _)| *known)
                .chain(PARSED_HERE.iter().copied())
                .find(|known| *known == name),
        };
        let Some(known) = known else { return Err(unknown(name, previous)) };
        previous = Some(known);
        parameters.insert(known, value);
    }
    parameters.retain(|_, value| !value.is_empty());
    Ok(parameters)
}

/// Returns the error for an unknown parameter, after the parameter `previous`. The error repeats the name only if
/// it cannot be a part of an unquoted password.
fn unknown(name: String, previous: Option<&'static str>) -> UrlError {
    let is_word = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if previous == Some("password") {
        UrlError::Syntax(
            "an unknown parameter follows `password`; a password with spaces must be quoted, \
             in a URL percent-encoded",
        )
    } else if is_word {
        UrlError::Unknown { parameter: name }
    } else {
        UrlError::Syntax("the name of a parameter has characters that no parameter has")
    }
}

fn build(mut parameters: Parameters, mode: SslMode) -> Result<Config, UrlError> {
    fill_in_defaults(&mut parameters)?;
    for (name, value) in NETWORK_DEFAULTS {
        parameters.entry(name).or_insert_with(|| value.to_owned());
    }

    let tcp_user_timeout = parameters.remove("tcp_user_timeout");
    // One parameter is added at a time, so that the error can name the one that is refused.
    let mut accepted = String::new();
    let mut config = Config::new();
    for (name, expected) in PASSED_ON {
        let Some(value) = parameters.get(name) else { continue };
        let is_list_with_a_gap =
            matches!(*name, "host" | "hostaddr") && value.split(',').any(str::is_empty);
        accepted = format!("{accepted} {name}={}", text::quote(value));
        config = match accepted.parse() {
            Ok(config) if !is_list_with_a_gap => config,
            _ => return Err(UrlError::Value { parameter: name, expected }),
        };
    }

    if let Some(value) = tcp_user_timeout {
        config.tcp_user_timeout(milliseconds(&value)?);
    }
    check_counts(&config)?;
    config.ssl_mode(wire_mode(&config, mode)?);
    Ok(config)
}

/// Fills in the host and the database as libpq does.
fn fill_in_defaults(parameters: &mut Parameters) -> Result<(), UrlError> {
    if !parameters.contains_key("host") {
        // An address without a name is used as the name, which the certificate is then checked against.
        let address = parameters.remove("hostaddr").ok_or(UrlError::Missing {
            parameter: "host",
            hint: "name a host, or the directory of a socket (host=/var/run/postgresql)",
        })?;
        parameters.insert("host", address);
    }
    if !parameters.contains_key("dbname") {
        // Set here, so that another login does not change the database.
        let user = parameters.get("user").cloned().ok_or(UrlError::Missing {
            parameter: "dbname",
            hint: "name a database, or a user to whose name it defaults",
        })?;
        parameters.insert("dbname", user);
    }
    Ok(())
}

fn check_counts(config: &Config) -> Result<(), UrlError> {
    let hosts = config.get_hosts().len();
    if ![0, hosts].contains(&config.get_hostaddrs().len()) {
        return Err(UrlError::Count { parameter: "hostaddr" });
    }
    if ![0, 1, hosts].contains(&config.get_ports().len()) {
        return Err(UrlError::Count { parameter: "port" });
    }
    Ok(())
}

/// Returns the mode for `tokio_postgres`, which has three: whether to ask for TLS, and whether to require it.
fn wire_mode(config: &Config, mode: SslMode) -> Result<config::SslMode, UrlError> {
    // No server offers TLS on a socket, and libpq does not ask for it there, whatever the mode.
    let only_sockets = config.get_hostaddrs().is_empty()
        && config.get_hosts().iter().all(|host| !matches!(host, Host::Tcp(_)));
    let wire = match mode {
        _ if only_sockets => config::SslMode::Disable,
        SslMode::Disable => config::SslMode::Disable,
        SslMode::Allow | SslMode::Prefer => config::SslMode::Prefer,
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => config::SslMode::Require,
    };
    let direct = config.get_ssl_negotiation() == config::SslNegotiation::Direct;
    if direct && !only_sockets && wire != config::SslMode::Require {
        return Err(UrlError::WeakForDirectNegotiation { mode });
    }
    Ok(wire)
}

/// Parses milliseconds, as libpq does for this parameter; `tokio_postgres` would read seconds.
fn milliseconds(value: &str) -> Result<Duration, UrlError> {
    let expected = "a number of milliseconds";
    let wrong = UrlError::Value { parameter: "tcp_user_timeout", expected };
    value.parse().map(Duration::from_millis).or(Err(wrong))
}

fn host_text(host: &Host) -> String {
    match host {
        Host::Tcp(name) => name.clone(),
        #[cfg(unix)]
        Host::Unix(path) => Path::display(path).to_string(),
    }
}

#[cfg(test)]
mod tests;
