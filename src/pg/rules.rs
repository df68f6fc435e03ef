//! The rules that every transaction follows: isolation, statements, time limits, sharing of connections.

pub mod engine;
pub mod exposure;

use std::fmt::Write as _;
use std::num::NonZeroUsize;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio_postgres::Socket;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres_rustls::MakeRustlsConnect;

use self::engine::Engine;
use self::exposure::Exposures;

/// The login that serves requests. It owns nothing, cannot read any table of `public`, and can only become the
/// role of a tenant.
pub const RUNTIME_LOGIN: &str = "rowhouse_runtime";

/// The role that the files of tenants' migrations run as. It owns the objects in the schemas of tenants, and has no
/// right on `public`, on other objects of the database or on roles.
pub const MIGRATOR: &str = "rowhouse_migrator";

/// How the names of a server's connections begin (`application_name`). The number of connections that it may open follows,
/// and a name of its own: `rowhouse-server/40/web-1:5f3a09c2`.
pub const SERVER_NAME: &str = "rowhouse-server";

/// How the database isolates tenants from each other.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    serde::Deserialize,
    serde::Serialize,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantNames,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Isolation {
    /// A role for each tenant, with privileges on its own schema only: the server refuses everything else.
    #[default]
    Role,
    /// One shared role and the search path, for engines where one role a tenant costs too much. A query that
    /// names another tenant's schema is not refused.
    SearchPath,
}

impl Isolation {
    /// Returns the value in the settings and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// How statements are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Statements {
    /// Parsed each time: one round trip, works behind every pooler, no stale plans.
    #[default]
    Unnamed,
    /// Prepared once a connection: faster for short queries, fails behind old poolers.
    Cached,
}

/// Time limits of the database. Each transaction sets them, unless the sessions of the runtime login have the
/// same limits by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeLimits {
    /// Longest wait for a free connection, and for a new one to open.
    pub connect: Duration,
    /// Longest run of one statement (`statement_timeout`).
    pub statement: Duration,
    /// Longest wait for a lock (`lock_timeout`).
    pub lock: Duration,
    /// Longest pause inside a transaction (`idle_in_transaction_session_timeout`).
    pub idle_in_transaction: Duration,
    /// How often the server looks whether the client of a running query is still there
    /// (`client_connection_check_interval`); none where a request cancels an abandoned query.
    pub client_check: Option<Duration>,
}

impl Default for TimeLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            statement: Duration::from_secs(30),
            lock: Duration::from_secs(5),
            idle_in_transaction: Duration::from_secs(30),
            client_check: None,
        }
    }
}

/// How many statement limits the server has to answer a message, before the connection is taken for dead. A message may
/// hold several statements, and what it waits for on the way is not in the limit of the server.
const ANSWER: u32 = 2;

impl TimeLimits {
    /// Returns how long a message waits for its answer at most. The server keeps to its own limits; but a network can
    /// forget a connection, and a machine between the two can acknowledge what it does not deliver.
    pub(in crate::pg) fn answer(&self) -> Duration {
        self.statement.saturating_mul(ANSWER)
    }
}

/// How many connections each kind of pool may open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolSizes {
    /// Connections that log in as the owner.
    pub control: usize,
    /// Connections that log in as the runtime login.
    pub runtime: usize,
}

/// How the connections of one runtime are divided among tenants that want more than there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fairness {
    /// The percentage of the connections that a tenant which holds one for long leaves to the others; half of it is left
    /// by every tenant that holds one. 0 for none.
    pub reserve: usize,
    /// How long a tenant holds a connection before it counts as one that holds it for long.
    pub slow_after: Duration,
}

impl Default for Fairness {
    fn default() -> Self {
        Self { reserve: 20, slow_after: Duration::from_millis(100) }
    }
}

/// How tenants share the connections of the runtime login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sharing {
    /// Who gets a connection when there are too few.
    pub fairness: Fairness,
    /// The number of distinct tenants that a connection serves before it is replaced. None: it is never replaced,
    /// and its backend's memory grows with every tenant.
    pub tenants_per_connection: Option<NonZeroUsize>,
    /// Whether a tenant gets an idle connection that has served it before, if there is one. False only in the
    /// benchmark that measures the gain.
    #[doc(hidden)]
    pub by_affinity: bool,
}

impl Default for Sharing {
    fn default() -> Self {
        Self { fairness: Fairness::default(), tenants_per_connection: None, by_affinity: true }
    }
}

impl Sharing {
    /// Returns how many connections of the budget are reserved for the replacement of others.
    #[must_use]
    pub fn reserve(self) -> usize {
        usize::from(self.tenants_per_connection.is_some())
    }
}

/// One login on one server.
#[derive(Clone)]
pub struct Endpoint {
    /// Host, database, user, password.
    pub config: tokio_postgres::Config,
    /// The TLS to use if the configuration asks for it.
    pub tls: Tls,
}

/// The TLS of connections, which can be replaced while the process runs; clones are replaced too. A connection that is
/// open keeps its own.
#[derive(Clone)]
pub struct Tls(Arc<RwLock<MakeRustlsConnect>>);

impl Tls {
    /// Wraps a connector.
    #[must_use]
    pub fn new(connector: MakeRustlsConnect) -> Self {
        Self(Arc::new(RwLock::new(connector)))
    }

    /// Replaces the connector.
    pub(super) fn replace(&self, connector: MakeRustlsConnect) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = connector;
    }
}

impl MakeTlsConnect<Socket> for Tls {
    type Stream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;
    type TlsConnect = <MakeRustlsConnect as MakeTlsConnect<Socket>>::TlsConnect;
    type Error = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Error;

    fn make_tls_connect(&mut self, domain: &str) -> Result<Self::TlsConnect, Self::Error> {
        let mut connector = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        <MakeRustlsConnect as MakeTlsConnect<Socket>>::make_tls_connect(&mut connector, domain)
    }
}

/// Whether the connections of each login reach the server itself, and not a pooler before it. A query that was abandoned
/// is cancelled only on a direct connection: a pooler gives the connection to another client, and some end when they are
/// asked to cancel. Elsewhere the server looks itself whether the client is still there ([`TimeLimits::client_check`]),
/// and `statement_timeout` ends the query at the latest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Direct {
    /// Those of the owner.
    pub owner: bool,
    /// Those of the runtime login.
    pub runtime: bool,
}

impl Default for Direct {
    fn default() -> Self {
        Self { owner: true, runtime: true }
    }
}

/// The rules that every transaction follows, fixed at start.
#[derive(Debug, Clone)]
pub struct Rules {
    /// How tenants are isolated.
    pub isolation: Isolation,
    /// How statements of tenants are sent.
    pub statements: Statements,
    /// How the single-statement transactions of the control plane are sent.
    pub control_statements: Statements,
    /// Time limits.
    pub limits: TimeLimits,
    /// Whether every session of the runtime login has these limits by default, so that a tenant's
    /// transaction need not set them; see
    /// [`bootstrap::ensure_login_limits`](crate::pg::bootstrap::ensure_login_limits).
    pub login_has_limits: bool,
    /// What executes the statements.
    pub engine: Engine,
    /// Which logins reach the server itself.
    pub direct: Direct,
    /// Whether what is created stays on the server, and reaches no node of a cluster: a schema that is built to be compared
    /// with others, and rolled back, needs no node.
    pub ddl_is_local: bool,
    /// The exposures that the settings accept.
    pub accepted: Exposures,
    /// The exposures that are open. If there are any, the guard reads each statement of a tenant and refuses what
    /// uses them, and a tenant's transaction begins with a reset of the session.
    pub open: Exposures,
}

impl Rules {
    /// Returns rules that send all statements in one way and set the time limits in each transaction.
    #[must_use]
    pub fn new(isolation: Isolation, statements: Statements, limits: TimeLimits) -> Self {
        Self {
            isolation,
            statements,
            control_statements: statements,
            limits,
            login_has_limits: false,
            engine: Engine::default(),
            direct: Direct::default(),
            ddl_is_local: false,
            accepted: Exposures::default(),
            open: Exposures::default(),
        }
    }
}

impl Rules {
    /// The role that the files of tenants' migrations run as; `None` for the owner itself. A node of Citus shows what a
    /// transaction has done to no session of another role, so that there one role does all of a set-up.
    #[must_use]
    pub const fn migrator(&self) -> Option<&'static str> {
        if self.engine.is_citus() { None } else { Some(MIGRATOR) }
    }

    /// Returns the statement that keeps what a transaction creates on the server; `None` if it need not be kept there.
    #[must_use]
    pub const fn keep_ddl_here(&self) -> Option<&'static str> {
        if self.ddl_is_local && self.engine.is_citus() {
            Some("SET LOCAL citus.enable_ddl_propagation = off")
        } else {
            None
        }
    }

    /// Returns a statement as it is run on the coordinator of a cluster alone. The nodes need not know which roles the
    /// runtime login can become, because the coordinator connects to them as the role that it has become; and Citus grants
    /// a role on the nodes only where they know all roles of the member, those of other databases among them.
    #[must_use]
    pub fn only_here(&self, statement: &str) -> String {
        if self.engine.is_citus() && !self.ddl_is_local {
            format!(
                "SET LOCAL citus.enable_ddl_propagation = off; {statement}; \
                 SET LOCAL citus.enable_ddl_propagation = on"
            )
        } else {
            statement.to_owned()
        }
    }

    /// Whether the settings of a tenant's transaction must be sent on to the tenant's node: the session there is the
    /// tenant's own, which has no limits by default, or the runtime login has others.
    #[must_use]
    pub fn sets_must_reach_nodes(&self) -> bool {
        self.engine.is_citus() && (self.isolation == Isolation::Role || !self.login_has_limits)
    }
}

/// Appends the time limits as `SET LOCAL` statements.
pub(super) fn write_limits(out: &mut String, limits: &TimeLimits) {
    let _ = write!(
        out,
        "; SET LOCAL statement_timeout = {}; SET LOCAL lock_timeout = {}\
         ; SET LOCAL idle_in_transaction_session_timeout = {}",
        limits.statement.as_millis(),
        limits.lock.as_millis(),
        limits.idle_in_transaction.as_millis(),
    );
    if let Some(interval) = limits.client_check {
        let interval = interval.as_millis();
        let _ = write!(out, "; SET LOCAL client_connection_check_interval = {interval}");
    }
}
