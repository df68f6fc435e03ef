//! Reads `DATABASE_URL` once: where the database is, who logs in, and how far TLS must go.
//!
//! Takes both forms that libpq takes (`postgres://` URLs and `key=value` strings) and means by them
//! what libpq means. The text is taken apart here rather than in `tokio_postgres`, which knows three of
//! the six SSL modes, splits a URL at the first `@` wherever it stands, and adds a second `host` to the
//! first instead of replacing it.
//!
//! Promises: no error, no [`DatabaseUrl::redacted`] and no `Debug` shows a password or a piece of one;
//! every error names the parameter to mend. A character that would move part of an unencoded password
//! into the host or the database name is refused instead.
//!
//! Where we differ from libpq, on purpose:
//! - nothing is read from `PG*` variables, `~/.pgpass`, `~/.postgresql` or service files; a host and a
//!   database are named or refused (the database may be left to be the user's name);
//! - `verify-ca` and `verify-full` without `sslrootcert` use the system's roots;
//! - `allow` is `prefer`: libpq would try without TLS first, which only ever buys less safety;
//! - `prefer` goes on without TLS where the server has none, and not, as libpq would, after a handshake
//!   or a login that failed with it;
//! - a given `sslrootcert` file is always checked against, in `prefer` too; `disable` never looks at it;
//! - `options` is refused: it is session state, and lost or refused behind a transaction pooler.
//!
//! To take one more parameter that `tokio_postgres` knows, add its line to [`PASSED_ON`].

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

/// What PostgreSQL listens on when no port is named.
const DEFAULT_PORT: u16 = 5432;

/// Parameters that `tokio_postgres` reads for us, with what their value must be.
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

/// Parameters that are read here.
const OUR_OWN: &[&str] =
    &["password", "sslcert", "sslkey", "sslmode", "sslrootcert", "tcp_user_timeout"];

/// A database, a login and the TLS between: parsed once, whole from then on.
#[derive(Clone)]
pub struct DatabaseUrl {
    config: Config,
    /// The same without the password, because a `Config` cannot forget one.
    bare: Config,
    ssl: SslSettings,
}

impl DatabaseUrl {
    /// Reads a `postgres://` URL or a `key=value` string.
    ///
    /// # Errors
    /// Names the first parameter that is wrong, missing or not known. Files are not opened yet; that
    /// is for [`Connector::new`](crate::pg::connect::tls::Connector::new).
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let mut parameters = collect(text::read(text)?)?;
        let password = parameters.remove("password");
        let ssl = SslSettings::take(&mut parameters)?;
        let bare = build(parameters, ssl.mode())?;

        let mut config = bare.clone();
        if let Some(password) = password {
            config.password(password);
        }
        Ok(Self { config, bare, ssl })
    }

    /// What `tokio_postgres` and the pool need. Its `ssl_mode` goes with [`DatabaseUrl::ssl`]; use both.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// What TLS must prove, for [`Connector::new`](crate::pg::connect::tls::Connector::new).
    #[must_use]
    pub const fn ssl(&self) -> &SslSettings {
        &self.ssl
    }

    /// The same server, database and TLS (a client certificate too) for another login.
    #[must_use]
    pub fn with_login(&self, user: &str, password: Option<&str>) -> Self {
        let mut bare = self.bare.clone();
        bare.user(user);
        let mut config = bare.clone();
        if let Some(password) = password {
            config.password(password);
        }
        Self { config, bare, ssl: self.ssl.clone() }
    }

    /// The same server and login, another database.
    #[must_use]
    pub fn with_database(&self, name: &str) -> Self {
        let mut other = self.clone();
        other.config.dbname(name);
        other.bare.dbname(name);
        other
    }

    /// The URL without its password, for logs and errors.
    #[must_use]
    pub fn redacted(&self) -> String {
        let mut shown = "postgres://".to_owned();
        if let Some(user) = self.bare.get_user() {
            shown.push_str(&text::encode(user));
            shown.push('@');
        }
        let (authority, query) = self.places();
        shown.push_str(&authority);
        shown.push('/');
        shown.push_str(&text::encode(self.bare.get_dbname().unwrap_or_default()));
        shown.push('?');
        shown.push_str(&query);
        shown.push_str("sslmode=");
        shown.push_str(self.ssl.mode().as_str());
        shown
    }

    /// Hosts and ports, before the path where a URL can say so, as parameters where sockets are
    /// involved.
    fn places(&self) -> (String, String) {
        let hosts = self.bare.get_hosts();
        let ports = (0..hosts.len()).map(|index| self.port_of(index));
        if hosts.iter().all(|host| matches!(host, Host::Tcp(_))) {
            let places = hosts.iter().zip(ports).map(|(host, port)| match host {
                Host::Tcp(name) if name.contains(':') => format!("[{name}]:{port}"),
                host => format!("{}:{port}", host_text(host)),
            });
            (places.collect::<Vec<_>>().join(","), String::new())
        } else {
            let hosts = hosts.iter().map(host_text).collect::<Vec<_>>().join(",");
            let ports = ports.map(|port| port.to_string()).collect::<Vec<_>>().join(",");
            (String::new(), format!("host={hosts}&port={ports}&"))
        }
    }

    fn port_of(&self, index: usize) -> u16 {
        let ports = self.bare.get_ports();
        ports.get(index).or_else(|| ports.first()).copied().unwrap_or(DEFAULT_PORT)
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DatabaseUrl").field(&self.redacted()).finish()
    }
}

/// Parameters by their names, none of them empty.
type Parameters = BTreeMap<&'static str, String>;

/// Checks every name; the last of two equal ones wins, and an empty value means none.
fn collect(pairs: Vec<text::Pair>) -> Result<Parameters, UrlError> {
    let mut parameters = Parameters::new();
    let mut after_password = false;
    for (name, value) in pairs {
        let known = match name.as_str() {
            "options" if value.is_empty() => continue,
            "options" => return Err(UrlError::Options),
            // libpq's word for what tokio_postgres calls retries.
            "keepalives_count" => Some("keepalives_retries"),
            name => PASSED_ON
                .iter()
                .map(|(known, _)| *known)
                .chain(OUR_OWN.iter().copied())
                .find(|known| *known == name),
        };
        let Some(known) = known else { return Err(unknown(name, after_password)) };
        after_password = known == "password";
        parameters.insert(known, value);
    }
    parameters.retain(|_, value| !value.is_empty());
    Ok(parameters)
}

/// A name is repeated to the operator only if it cannot be the rest of an unquoted password.
fn unknown(name: String, after_password: bool) -> UrlError {
    let is_word = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if after_password {
        UrlError::Syntax(
            "an unknown parameter stands after `password`; a password with spaces must be quoted, \
             in a URL percent-encoded",
        )
    } else if is_word {
        UrlError::Unknown { parameter: name }
    } else {
        UrlError::Syntax("the name of a parameter has characters that no parameter has")
    }
}

fn build(mut parameters: Parameters, mode: SslMode) -> Result<Config, UrlError> {
    settle_names(&mut parameters)?;

    let tcp_user_timeout = parameters.remove("tcp_user_timeout");
    // Grown by one parameter at a time, so that the one that is refused can be named.
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

/// Fills in the names that libpq would.
fn settle_names(parameters: &mut Parameters) -> Result<(), UrlError> {
    if !parameters.contains_key("host") {
        // An address alone is its own name: this is what a certificate is then compared with.
        let address = parameters.remove("hostaddr").ok_or(UrlError::Missing {
            parameter: "host",
            hint: "name a host, or the directory of a socket (host=/var/run/postgresql)",
        })?;
        parameters.insert("host", address);
    }
    if !parameters.contains_key("dbname") {
        // Written down, so that another login does not mean another database.
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

/// The three modes that `tokio_postgres` tells apart: whether to ask for TLS, and whether to insist.
fn wire_mode(config: &Config, mode: SslMode) -> Result<config::SslMode, UrlError> {
    // No server offers TLS on a socket, and libpq does not ask there, whatever the mode.
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

/// libpq counts this one in milliseconds; `tokio_postgres` reads seconds.
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
