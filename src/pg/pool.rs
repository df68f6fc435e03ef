//! Owns the connections: who logs in, how many there are, and how a transaction gets one.
//!
//! Two logins, two kinds of pool. The *owner* runs control-plane statements and DDL; the *runtime* login
//! owns nothing and can only become a tenant role. Each actix worker has a small pool of each, because a
//! connection is driven by the runtime that opened it and a shared pool would stall one worker behind
//! another; the main runtime has pools of its own for provisioning and jobs. All of them are counted
//! against one budget and seen in one list, for the metrics.
//!
//! Control-plane statements run on any connection of a pool. Which one of the runtime login's a tenant
//! gets, and when one has served enough of them, is decided in [`lanes`](super::lanes) and
//! [`retirement`](super::retirement).
//!
//! The raw pools are private to `pg`: everything else asks [`Db`] for a scope.

mod status;

use std::fmt::Write as _;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deadpool_postgres::{
    Manager, ManagerConfig, Object, Pool, QueueMode, RecyclingMethod, Runtime,
};
use tokio::sync::Semaphore;
use tokio_postgres_rustls::MakeRustlsConnect;

pub use self::status::{PoolStatus, Purpose, SharingStatus};
use super::error::Failure;
use super::lanes::{Common, Counts, Lanes, Loan};
use super::retirement::Opener;
use super::scope::{Entry, PublicTx, TenantTx};
use crate::domain::names::{SchemaName, TenantId};

/// How a tenant is kept apart from the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// A role for each tenant, with rights on its own schema alone: the database refuses the rest.
    #[default]
    Role,
    /// One shared role and the search path; for engines where a role a tenant costs too much. A
    /// qualified name of another tenant's table is not refused.
    SearchPath,
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
    /// [`bootstrap::standing_limits`](super::bootstrap::standing_limits).
    pub limits_stand: bool,
}

impl Rules {
    /// All statements travel in one way, and each transaction sets its time limits.
    #[must_use]
    pub const fn new(isolation: Isolation, statements: Statements, limits: TimeLimits) -> Self {
        Self { isolation, statements, control_statements: statements, limits, limits_stand: false }
    }
}

/// The database as the whole process sees it; makes a [`Db`] for each runtime.
#[derive(Clone)]
pub struct Database(Arc<Shared>);

struct Shared {
    owner: Endpoint,
    common: Arc<Common>,
    pools: Mutex<Pools>,
}

#[derive(Default)]
struct Pools {
    control: Vec<Pool>,
    runtime: Vec<Arc<Lanes>>,
}

impl Database {
    /// Remembers how to connect; opens nothing yet. Connections are kept, however many tenants they
    /// serve.
    #[must_use]
    pub fn new(owner: Endpoint, runtime: Endpoint, rules: Rules) -> Self {
        Self::with_sharing(owner, runtime, rules, Sharing::default())
    }

    /// As [`Database::new`], and says how tenants share connections.
    #[must_use]
    pub fn with_sharing(
        owner: Endpoint,
        runtime: Endpoint,
        rules: Rules,
        sharing: Sharing,
    ) -> Self {
        let patience = rules.limits.connect;
        let opener = Opener { endpoint: runtime, rules: Arc::new(rules), plain: Arc::default() };
        let reserve = Arc::new(Semaphore::new(sharing.reserve()));
        let common = Common { opener, sharing, patience, counts: Counts::default(), reserve };
        Self(Arc::new(Shared { owner, common: Arc::new(common), pools: Mutex::default() }))
    }

    /// Pools for the runtime that calls this. Connections open when first needed.
    ///
    /// # Errors
    /// Only where a pool cannot be configured.
    pub fn pools(&self, sizes: PoolSizes) -> Result<Db, deadpool_postgres::BuildError> {
        let common = &self.0.common;
        let control = build(&self.0.owner, sizes.control, self.rules().limits)?;
        let lanes = (0..sizes.runtime).map(|_| common.opener.lane()).collect::<Result<_, _>>()?;
        let runtime = Lanes::new(Arc::clone(common), lanes);
        let mut pools = self.lock();
        pools.control.push(control.clone());
        pools.runtime.push(Arc::clone(&runtime));
        Ok(Db { control, runtime, common: Arc::clone(common) })
    }

    /// The rules that all transactions follow.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.0.common.opener.rules
    }

    /// The owner's login, for what needs a connection of its own.
    #[must_use]
    pub fn owner(&self) -> &Endpoint {
        &self.0.owner
    }

    /// Closes every idle connection, and each busy one when it comes back.
    pub fn close(&self) {
        self.0.common.reserve.close();
        let pools = self.lock();
        for pool in &pools.control {
            pool.close();
        }
        for lanes in &pools.runtime {
            lanes.close();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pools> {
        self.0.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn build(
    endpoint: &Endpoint,
    size: usize,
    limits: TimeLimits,
) -> Result<Pool, deadpool_postgres::BuildError> {
    let config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_config(endpoint.config.clone(), endpoint.tls.clone(), config);
    Pool::builder(manager)
        // What one backend has just looked up is of use to the next who asks it.
        .queue_mode(QueueMode::Lifo)
        .max_size(size)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(limits.connect))
        .create_timeout(Some(limits.connect))
        .build()
}

/// The door to the database for one runtime: hands out scopes, never connections.
#[derive(Clone)]
pub struct Db {
    control: Pool,
    runtime: Arc<Lanes>,
    common: Arc<Common>,
}

impl Db {
    /// A transaction that sees the control plane.
    ///
    /// # Errors
    /// [`Failure::Pool`] where no connection can be had.
    pub async fn public(&self) -> Result<PublicTx, Failure> {
        self.public_within(&self.rules().limits).await
    }

    /// As [`Db::public`], with time limits of its own.
    pub(crate) async fn public_within(&self, limits: &TimeLimits) -> Result<PublicTx, Failure> {
        let (connection, tls) = self.owners().await?;
        Ok(PublicTx::new(connection, self.rules(), limits, tls))
    }

    /// A connection of the owner's, and what a cancel request on it needs.
    async fn owners(&self) -> Result<(Loan, MakeRustlsConnect), Failure> {
        let connection = Loan::of_no_lane(take(&self.control).await?);
        Ok((connection, self.common.opener.endpoint.tls.clone()))
    }

    /// A transaction of the owner's that begins inside of a schema, and locks it.
    pub(super) async fn inside(
        &self,
        schema: &SchemaName,
        entry: Entry,
    ) -> Result<PublicTx, Failure> {
        let (connection, tls) = self.owners().await?;
        Ok(PublicTx::inside(connection, schema, entry, self.rules(), tls))
    }

    /// Several transactions of the owner's that each begin inside of a schema, lock it, run a script and commit,
    /// one behind the other on one connection; what became of each.
    pub(super) async fn each_inside(
        &self,
        scripts: &[(SchemaName, String)],
        entry: Entry,
    ) -> Result<Vec<Result<(), Failure>>, Failure> {
        let (connection, tls) = self.owners().await?;
        Ok(PublicTx::one_behind_the_other(connection, scripts, entry, self.rules(), tls).await)
    }

    /// A transaction that sees one tenant and nothing else.
    ///
    /// The tenant's id must come from a caller who was found entitled to it: this is the inside of the
    /// door, the check stands before it.
    ///
    /// # Errors
    /// [`Failure::Pool`] where no connection can be had.
    pub async fn tenant(&self, tenant: TenantId) -> Result<TenantTx, Failure> {
        let connection = self.runtime.take(Some(tenant)).await?;
        Ok(self.common.opener.enter(connection, tenant))
    }

    /// A bare connection of the runtime login, to try what it may not do.
    pub(super) async fn bare_for_self_test(&self) -> Result<Loan, Failure> {
        self.runtime.take(None).await
    }

    /// The rules that all transactions follow.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.common.opener.rules
    }

    /// A connection of the runtime login with no guard at all, as the baseline that the benchmark
    /// measures the guard against. Not for use: nothing keeps what runs here inside a tenant.
    ///
    /// # Errors
    /// [`Failure::Pool`] where no connection can be had.
    #[doc(hidden)]
    pub async fn unguarded_for_benchmarks(&self) -> Result<Loan, Failure> {
        self.runtime.take(None).await
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the scopes take their connections here and nowhere else"
)]
pub(super) async fn take(pool: &Pool) -> Result<Object, Failure> {
    Ok(pool.get().await?)
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
