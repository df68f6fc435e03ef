//! Owns why a database cannot be used, and the server's words in it.

use tokio_postgres::Config;

use crate::pg::error::{Failure, server_message};
use crate::pg::rules::RUNTIME_LOGIN;
use crate::pg::schema::error::ApplyError;

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// Nobody answers, or the login is refused.
    #[error("cannot connect to the database at {at}: {reason}")]
    Connect {
        /// Where, without the password.
        at: String,
        /// What went wrong.
        reason: String,
    },
    /// The server is too old.
    #[error("the server is PostgreSQL {found}; rowhouse needs 15 or newer")]
    TooOld {
        /// Its version.
        found: String,
    },
    /// The database cannot hold every text.
    #[error(
        "the database keeps text as {found}, which cannot hold every name in the world; make one with: \
         CREATE DATABASE {database} ENCODING 'UTF8' TEMPLATE template0, under another name if this one \
         must stay"
    )]
    Encoding {
        /// What it keeps text as.
        found: String,
        /// Its name, quoted where it must be.
        database: String,
    },
    /// The owner may not make roles, which isolation by role needs.
    #[error(
        "the login {owner} may not create roles, and isolation = role makes one for each tenant; let a \
         superuser run: ALTER ROLE {owner} CREATEROLE; or set ROWHOUSE_DATABASE__ISOLATION=search_path, \
         which keeps tenants apart by search path alone"
    )]
    MayNotCreateRoles {
        /// The login, quoted as an identifier.
        owner: String,
    },
    /// The runtime login is missing and the owner may not make it.
    #[error(
        "the login {RUNTIME_LOGIN} does not exist and {owner} may not create it; let a superuser run: \
         CREATE ROLE {RUNTIME_LOGIN} LOGIN NOINHERIT PASSWORD '..'; and set ROWHOUSE_DATABASE__RUNTIME_URL"
    )]
    NoRuntimeLogin {
        /// The login, quoted as an identifier.
        owner: String,
    },
    /// The runtime login exists and does not let us in.
    #[error(
        "cannot log in as {RUNTIME_LOGIN}: {reason}; name a working login in ROWHOUSE_DATABASE__RUNTIME_URL, \
         or let the server accept {RUNTIME_LOGIN} as it accepts the owner (pg_hba.conf)"
    )]
    RuntimeLogin {
        /// What the server said.
        reason: String,
    },
    /// Nothing of ours is in the database.
    #[error(
        "the database at {at} holds no control plane yet; `rowhouse migrate` makes one, and so does `rowhouse serve`"
    )]
    NotPrepared {
        /// Where, without the password.
        at: String,
    },
    /// The control plane is older than this program.
    #[error(
        "the control plane is at version {found}, this program works on {known}; `rowhouse migrate` brings it there"
    )]
    Behind {
        /// Version in the database.
        found: i32,
        /// Highest version in the set.
        known: i32,
    },
    /// The runtime URL leads to another login than the one that the tenants' roles are granted to.
    #[error(
        "ROWHOUSE_DATABASE__RUNTIME_URL logs in as {found}, and must log in as {RUNTIME_LOGIN}: it is the \
         login that can become each tenant and nobody else"
    )]
    OtherRuntimeLogin {
        /// Who we are with that URL.
        found: String,
    },
    /// The runtime login may do what would make the walls between tenants worthless.
    #[error("the login {RUNTIME_LOGIN} is {found}; let a superuser run: {statement}")]
    RuntimeLoginTooStrong {
        /// The words of `CREATE ROLE` that it should not have.
        found: String,
        /// What mends it.
        statement: String,
    },
    /// The self-test got where no tenant may get.
    #[error("the walls do not hold: {who} could run {statement}; nothing is served like this")]
    Crossed {
        /// As whom.
        who: String,
        /// What should have been refused.
        statement: String,
    },
    /// The control plane's tables could not be brought up to date.
    #[error("cannot migrate the control plane: {0}")]
    Migrate(#[from] ApplyError),
    /// A step failed.
    #[error("failed to {during}: {reason}")]
    Step {
        /// What was being done.
        during: &'static str,
        /// What the server said.
        reason: String,
    },
}

pub(super) fn step(during: &'static str) -> impl Fn(tokio_postgres::Error) -> BootstrapError {
    move |error| BootstrapError::Step { during, reason: server_message(&error) }
}

/// Where a configuration points, without its password.
pub(super) fn describe(config: &Config) -> String {
    let hosts: Vec<String> = config
        .get_hosts()
        .iter()
        .map(|host| match host {
            tokio_postgres::config::Host::Tcp(name) => name.clone(),
            #[cfg(unix)]
            tokio_postgres::config::Host::Unix(path) => path.display().to_string(),
        })
        .collect();
    let port = config.get_ports().first().copied().unwrap_or(5432);
    format!("{}:{port}, database {}", hosts.join(","), config.get_dbname().unwrap_or("(default)"))
}

impl From<Failure> for BootstrapError {
    fn from(failure: Failure) -> Self {
        Self::Migrate(failure.into())
    }
}
