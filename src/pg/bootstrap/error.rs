//! The reasons why a database cannot be used, with the server's message and the remedy.

use tokio_postgres::Config;

use super::exposure::{Exposure, list, statements};
use super::nodes::NodesWithoutRight;
use crate::pg::error::{Failure, server_message};
use crate::pg::rules::exposure::Exposures;
use crate::pg::rules::{MIGRATOR, RUNTIME_LOGIN};
use crate::pg::schema::error::ApplyError;

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The server does not answer, or refuses the login.
    #[error("cannot connect to the database at {at}: {reason}")]
    Connect {
        /// Host, port and database, without the password.
        at: String,
        /// The message of the server or the network.
        reason: String,
    },
    /// The server is too old.
    #[error("the server is PostgreSQL {found}; rowhouse needs 15 or newer")]
    TooOld {
        /// Its version.
        found: String,
    },
    /// The database accepts no changes.
    #[error("the database at {at} is read-only: {why}")]
    ReadOnly {
        /// Host, port and database, without the password.
        at: String,
        /// The cause and the remedy.
        why: String,
    },
    /// The encoding of the database cannot represent every character.
    #[error(
        "the encoding of the database is {found}, which cannot represent every name; create one with: \
         CREATE DATABASE {database} ENCODING 'UTF8' TEMPLATE template0, under another name if this one \
         is to be kept"
    )]
    Encoding {
        /// Its encoding.
        found: String,
        /// Its name, quoted as an identifier.
        database: String,
    },
    /// The owner may not create roles, which isolation by role needs.
    #[error(
        "the login {owner} may not create roles, and isolation = role creates one for each tenant; let a \
         superuser run: ALTER ROLE {owner} CREATEROLE; or set ROWHOUSE_DATABASE__ISOLATION=search_path, \
         which isolates tenants by search path only"
    )]
    MayNotCreateRoles {
        /// The login, quoted as an identifier.
        owner: String,
    },
    /// The owner may not create schemas, or tables in `public`.
    #[error(
        "the login {owner} may not {what}; let the owner of the database or a superuser run: {statements}"
    )]
    MayNotCreate {
        /// The login, quoted as an identifier.
        owner: String,
        /// What it may not do.
        what: String,
        /// The statements that grant it.
        statements: String,
    },
    /// Exposures are open, and the settings do not accept them.
    #[error(
        "the database leaves open what the isolation of tenants needs closed, and {owner} may not close it:{}\n\
         There are two ways out. Either let a superuser run this once in the database:{}\n\
         or, where no superuser can be had, accept what is open:\n  \
         ROWHOUSE_DATABASE__ACCEPT_EXPOSURES={accept}\n\
         Tenants' statements are then read, and those that use what is open are refused; docs/isolation.md tells \
         what remains.",
        list(.refused), statements(.refused)
    )]
    Exposed {
        /// The owner's login, quoted as an identifier.
        owner: String,
        /// What is open and not accepted.
        refused: Vec<Exposure>,
        /// The setting that would accept all that is open.
        accept: Exposures,
    },
    /// The runtime login does not exist and the owner may not create it.
    #[error(
        "the login {RUNTIME_LOGIN} does not exist and {owner} may not create it; let a superuser run: \
         CREATE ROLE {RUNTIME_LOGIN} LOGIN NOINHERIT PASSWORD '..'; and set ROWHOUSE_DATABASE__RUNTIME_URL"
    )]
    NoRuntimeLogin {
        /// The login, quoted as an identifier.
        owner: String,
    },
    /// The role that migrations run as does not exist, or the owner cannot become it.
    #[error(
        "migrations of tenants run as the role {MIGRATOR}, which {owner} may not create or become; let a superuser \
         run: CREATE ROLE {MIGRATOR} NOLOGIN NOINHERIT; (if there is no such role) GRANT {MIGRATOR} TO {owner}"
    )]
    NoMigrator {
        /// The login, quoted as an identifier.
        owner: String,
    },
    /// The runtime login exists, and logging in as it fails.
    #[error(
        "cannot log in as {RUNTIME_LOGIN}: {reason}; name a working login in ROWHOUSE_DATABASE__RUNTIME_URL, \
         or let the server accept {RUNTIME_LOGIN} as it accepts the owner (pg_hba.conf)"
    )]
    RuntimeLogin {
        /// The message of the server.
        reason: String,
    },
    /// The database is a node of a Citus cluster that is not its coordinator.
    #[error(
        "the database at {at} is a worker of a Citus cluster, which cannot create schemas; connect to the coordinator, \
         which its nodes know as {coordinator} (SELECT nodename, nodeport FROM pg_dist_node WHERE groupid = 0)"
    )]
    NotCoordinator {
        /// Host, port and database, without the password.
        at: String,
        /// The coordinator's host and port as the nodes know it.
        coordinator: String,
    },
    /// Every schema would be a distributed one, those of the control plane and of extensions too.
    #[error(
        "citus.enable_schema_based_sharding is on for this login or database, and then every schema is distributed, that \
         of the extensions too; rowhouse switches it on for the schema of each tenant alone; run: {statement}"
    )]
    ShardingForAll {
        /// The statement that switches it off.
        statement: String,
    },
    /// A commit that spans nodes could not be prepared.
    #[error(
        "max_prepared_transactions is 0 on {nodes}, and a commit that spans the nodes of a cluster is prepared on each; \
         run on each of these nodes, as a superuser: ALTER SYSTEM SET max_prepared_transactions = 200; and restart it"
    )]
    NoPreparedTransactions {
        /// The nodes, by host and port.
        nodes: String,
    },
    /// The nodes of the cluster do not know roles that own tables.
    #[error(
        "the cluster does not know {roles}, created before its nodes were added or in another database, so that no \
         distributed table of theirs can be created; let a superuser run, one statement at a time: {statements}"
    )]
    UnknownRoles {
        /// The roles, quoted as identifiers.
        roles: String,
        /// The statements that make them known.
        statements: String,
    },
    /// The owner may not run statements on the nodes of the cluster.
    #[error(
        "the owner {owner} may not run statements on the nodes of the cluster, which a start and rowhouse cluster need; let a \
         superuser run on the coordinator: {statement}"
    )]
    NodesClosed {
        /// The owner, quoted as an identifier.
        owner: String,
        /// The statement that grants it.
        statement: String,
    },
    /// The owner may not create schemas on some nodes of the cluster.
    #[error("{}; {}", .0.what(), .0.remedy())]
    NoSchemasOnNodes(NodesWithoutRight),
    /// Isolation by role would keep a connection to a node for each session and tenant.
    #[error(
        "isolation = role on Citus keeps a connection to a node for each session and each tenant that it has served, \
         until the nodes have none left; either leave ROWHOUSE_DATABASE__ISOLATION unset, which isolates tenants by search \
         path; or let no connection be kept, which makes a read about twice as slow: {statement}"
    )]
    RoleIsolationOnCitus {
        /// The statement with which no connection is kept.
        statement: String,
    },
    /// The database has no control plane.
    #[error(
        "the database at {at} has no control plane yet; `rowhouse migrate` or `rowhouse serve` creates it"
    )]
    NotPrepared {
        /// Host, port and database, without the password.
        at: String,
    },
    /// The control plane is older than this program.
    #[error(
        "the control plane is at version {found} and this program needs {known}; `rowhouse migrate` migrates it"
    )]
    Behind {
        /// Version in the database.
        found: i32,
        /// Highest version in the set.
        known: i32,
    },
    /// The runtime URL names another login than the one that the tenants' roles are granted to.
    #[error(
        "ROWHOUSE_DATABASE__RUNTIME_URL logs in as {found}, and must log in as {RUNTIME_LOGIN}, \
         the only login that can become each tenant and no other role"
    )]
    OtherRuntimeLogin {
        /// The login of that URL.
        found: String,
    },
    /// The runtime login has attributes that defeat the isolation of tenants.
    #[error("the login {RUNTIME_LOGIN} is {found}; let a superuser run: {statement}")]
    RuntimeLoginTooStrong {
        /// The attributes of `CREATE ROLE` that it must not have.
        found: String,
        /// The statement that removes them.
        statement: String,
    },
    /// The self-test could run a statement that the server must refuse.
    #[error("isolation is broken: {role} could run {statement}; refusing to serve")]
    IsolationBroken {
        /// The login or role that ran it.
        role: String,
        /// The statement that must be refused.
        statement: String,
    },
    /// The control plane's tables could not be migrated.
    #[error("cannot migrate the control plane: {0}")]
    Migrate(#[from] ApplyError),
    /// A step failed.
    #[error("failed to {during}: {reason}")]
    Step {
        /// What was being done, as an imperative.
        during: &'static str,
        /// The message of the server.
        reason: String,
    },
}

pub(super) fn step(during: &'static str) -> impl Fn(tokio_postgres::Error) -> BootstrapError {
    move |error| BootstrapError::Step { during, reason: server_message(&error) }
}

/// Describes the host, port and database of a configuration, without its password.
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
