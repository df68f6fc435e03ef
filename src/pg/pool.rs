//! Owns the connections: who logs in, how many there are, and how a transaction gets one.
//!
//! Two logins, two kinds of pool. The *owner* runs control-plane statements and DDL; the *runtime* login
//! owns nothing and can only become a tenant role. Each actix worker has a small pool of each, because a
//! connection is driven by the runtime that opened it and a shared pool would stall one worker behind
//! another; the main runtime has pools of its own for provisioning and jobs. All of them are counted
//! against one budget and seen in one list, for the metrics.
//!
//! The raw pools are private to `pg`: everything else asks [`Db`] for a scope.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::error::Failure;
use super::scope::{PlainStatements, PublicTx, TenantTx};
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
    /// How statements travel.
    pub statements: Statements,
    /// Time limits.
    pub limits: TimeLimits,
    /// Whether every session of the runtime login has these limits by itself, so that a tenant's
    /// transaction need not set them; see
    /// [`bootstrap::standing_limits`](super::bootstrap::standing_limits).
    pub limits_stand: bool,
}

/// The database as the whole process sees it; makes a [`Db`] for each runtime.
#[derive(Clone)]
pub struct Database(Arc<Shared>);

struct Shared {
    owner: Endpoint,
    runtime: Endpoint,
    rules: Arc<Rules>,
    plain: Arc<PlainStatements>,
    pools: Mutex<Vec<(Purpose, Pool)>>,
}

/// What a pool is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Control-plane statements, as the owner.
    Control,
    /// Tenant statements, as the runtime login.
    Runtime,
}

impl Purpose {
    /// The word in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Runtime => "runtime",
        }
    }
}

/// The state of all pools of one purpose, added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolStatus {
    /// What they are for.
    pub purpose: Purpose,
    /// Connections they may open.
    pub budget: usize,
    /// Connections open now.
    pub open: usize,
    /// Connections open and not in use.
    pub idle: usize,
    /// Callers waiting for one.
    pub waiting: usize,
}

impl Database {
    /// Remembers how to connect; opens nothing yet.
    #[must_use]
    pub fn new(owner: Endpoint, runtime: Endpoint, rules: Rules) -> Self {
        Self(Arc::new(Shared {
            owner,
            runtime,
            rules: Arc::new(rules),
            plain: Arc::default(),
            pools: Mutex::default(),
        }))
    }

    /// Pools for the runtime that calls this. Connections open when first needed.
    ///
    /// # Errors
    /// Only where a pool cannot be configured.
    pub fn pools(&self, sizes: PoolSizes) -> Result<Db, deadpool_postgres::BuildError> {
        let limits = self.0.rules.limits;
        let control = build(&self.0.owner, sizes.control, limits)?;
        let runtime = build(&self.0.runtime, sizes.runtime, limits)?;
        let mut pools = self.0.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.push((Purpose::Control, control.clone()));
        pools.push((Purpose::Runtime, runtime.clone()));
        let tls = self.0.runtime.tls.clone();
        let (rules, plain) = (Arc::clone(&self.0.rules), Arc::clone(&self.0.plain));
        Ok(Db { control, runtime, rules, tls, plain })
    }

    /// The rules that all transactions follow.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.0.rules
    }

    /// The owner's login, for what needs a connection of its own.
    pub(super) fn owner(&self) -> &Endpoint {
        &self.0.owner
    }

    /// Adds up the pools by purpose.
    #[must_use]
    pub fn status(&self) -> Vec<PoolStatus> {
        let pools = self.0.pools.lock().unwrap_or_else(PoisonError::into_inner);
        [Purpose::Control, Purpose::Runtime]
            .into_iter()
            .map(|purpose| {
                let mut sum = PoolStatus { purpose, budget: 0, open: 0, idle: 0, waiting: 0 };
                for (_, pool) in pools.iter().filter(|(p, _)| *p == purpose) {
                    let status = pool.status();
                    sum.budget += status.max_size;
                    sum.open += status.size;
                    sum.idle += status.available;
                    sum.waiting += status.waiting;
                }
                sum
            })
            .collect()
    }

    /// Closes every idle connection, and each busy one when it comes back.
    pub fn close(&self) {
        let pools = self.0.pools.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, pool) in pools.iter() {
            pool.close();
        }
    }
}

fn build(
    endpoint: &Endpoint,
    size: usize,
    limits: TimeLimits,
) -> Result<Pool, deadpool_postgres::BuildError> {
    let config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_config(endpoint.config.clone(), endpoint.tls.clone(), config);
    Pool::builder(manager)
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
    runtime: Pool,
    rules: Arc<Rules>,
    tls: MakeRustlsConnect,
    plain: Arc<PlainStatements>,
}

impl Db {
    /// A transaction that sees the control plane.
    ///
    /// # Errors
    /// [`Failure::Pool`] where no connection can be had.
    pub async fn public(&self) -> Result<PublicTx, Failure> {
        let connection = take(&self.control).await?;
        Ok(PublicTx::new(connection, &self.rules, self.tls.clone()))
    }

    /// A transaction of the owner's that begins inside of a schema.
    pub(super) async fn inside(&self, schema: &SchemaName) -> Result<PublicTx, Failure> {
        let connection = take(&self.control).await?;
        Ok(PublicTx::inside(connection, schema, &self.rules, self.tls.clone()))
    }

    /// A transaction that sees one tenant and nothing else.
    ///
    /// The tenant's id must come from a caller who was found entitled to it: this is the inside of the
    /// door, the check stands before it.
    ///
    /// # Errors
    /// [`Failure::Pool`] where no connection can be had.
    pub async fn tenant(&self, tenant: TenantId) -> Result<TenantTx, Failure> {
        let connection = take(&self.runtime).await?;
        let (schema, plain) = (SchemaName::of(tenant), Arc::clone(&self.plain));
        Ok(TenantTx::new(connection, &schema, &self.rules, self.tls.clone(), plain))
    }

    /// A bare connection of the runtime login, to try what it may not do.
    pub(super) async fn bare_for_self_test(&self) -> Result<Object, Failure> {
        take(&self.runtime).await
    }

    /// The rules that all transactions follow.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The runtime pool with no guard at all, as the baseline that the benchmark measures the guard
    /// against. Not for use: nothing keeps what runs here inside a tenant.
    #[doc(hidden)]
    #[must_use]
    pub fn unguarded_for_benchmarks(&self) -> &Pool {
        &self.runtime
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the scopes take their connections here and nowhere else"
)]
async fn take(pool: &Pool) -> Result<Object, Failure> {
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
