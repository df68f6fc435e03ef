//! What every transaction is told at start: isolation, statements, time limits, sharing.

use std::fmt::Write as _;
use std::num::NonZeroUsize;
use std::time::Duration;

use tokio_postgres_rustls::MakeRustlsConnect;

/// The login that requests work through: owns nothing, may read no table of `public`, can only become
/// the role of a tenant.
pub const RUNTIME_LOGIN: &str = "rowhouse_runtime";

/// How a tenant is kept apart from the others.
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
    /// A role for each tenant, with rights on its own schema alone: the database refuses the rest.
    #[default]
    Role,
    /// One shared role and the search path; for engines where a role a tenant costs too much. A
    /// qualified name of another tenant's table is not refused.
    SearchPath,
}

impl Isolation {
    /// Returns the word in the settings and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// How statements travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Statements {
    /// Parsed anew each time: one round trip, right behind every pooler, no stale plans.
    #[default]
    Unnamed,
    /// Prepared once a connection: faster for short queries, wrong behind old poolers.
    Cached,
}

/// Time limits of the database side. They hold in each transaction: by its own settings, or where the
/// runtime login has the same limits by itself, by those.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeLimits {
    /// Longest wait for a free connection, and for a new one to open.
    pub connect: Duration,
    /// Longest single statement.
    pub statement: Duration,
    /// Longest wait for a lock.
    pub lock: Duration,
    /// Longest pause inside a transaction.
    pub idle_in_transaction: Duration,
}

impl Default for TimeLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            statement: Duration::from_secs(30),
            lock: Duration::from_secs(5),
            idle_in_transaction: Duration::from_secs(30),
        }
    }
}

/// How many connections each kind of pool may open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolSizes {
    /// Logged in as the owner.
    pub control: usize,
    /// Logged in as the runtime login.
    pub runtime: usize,
}

/// How tenants share the connections of the runtime login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sharing {
    /// Distinct tenants that a connection serves before another takes its place; none: it is kept, and
    /// its backend's memory grows with every tenant.
    pub tenants_per_connection: Option<NonZeroUsize>,
    /// Whether a tenant gets, where one is idle, a connection that served it before. Always, but for the
    /// benchmark that measures what it is good for.
    #[doc(hidden)]
    pub by_affinity: bool,
}

impl Default for Sharing {
    fn default() -> Self {
        Self { tenants_per_connection: None, by_affinity: true }
    }
}

impl Sharing {
    /// Connections of the budget that are kept free for the replacement of others.
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
    /// How TLS is done, where the configuration asks for it.
    pub tls: MakeRustlsConnect,
}

/// What every transaction needs to know, fixed at start.
#[derive(Debug, Clone)]
pub struct Rules {
    /// How tenants are kept apart.
    pub isolation: Isolation,
    /// How statements of tenants travel.
    pub statements: Statements,
    /// How those of the control plane do that are a transaction by themselves.
    pub control_statements: Statements,
    /// Time limits.
    pub limits: TimeLimits,
    /// Whether every session of the runtime login has these limits by itself, so that a tenant's
    /// transaction need not set them; see
    /// [`bootstrap::standing_limits`](crate::pg::bootstrap::standing_limits).
    pub limits_stand: bool,
}

impl Rules {
    /// All statements travel in one way, and each transaction sets its time limits.
    #[must_use]
    pub const fn new(isolation: Isolation, statements: Statements, limits: TimeLimits) -> Self {
        Self { isolation, statements, control_statements: statements, limits, limits_stand: false }
    }
}

/// The time limits as `SET LOCAL` statements.
pub(super) fn write_limits(out: &mut String, limits: &TimeLimits) {
    let _ = write!(
        out,
        "; SET LOCAL statement_timeout = {}; SET LOCAL lock_timeout = {}\
         ; SET LOCAL idle_in_transaction_session_timeout = {}",
        limits.statement.as_millis(),
        limits.lock.as_millis(),
        limits.idle_in_transaction.as_millis(),
    );
}
