//! Owns the connections: who logs in, how many there are, and how a transaction gets one.
//!
//! Two logins, two kinds of pool. The *owner* runs control-plane statements and DDL; the *runtime* login
//! owns nothing and can only become a tenant role. Each actix worker has a small pool of each, because a
//! connection is driven by the runtime that opened it and a shared pool would stall one worker behind
//! another; the main runtime has pools of its own for provisioning and jobs. All of them are counted
//! against one budget and seen in one list, for the metrics.
//!
//! Control-plane statements run on any connection of a pool. Which one of the runtime login's a tenant
//! gets, and when one has served enough of them, is decided in [`slots`](crate::pg::pool::affinity) and
//! [`retirement`](crate::pg::pool::retirement).
//!
//! The raw pools are private to `pg`: everything else asks [`Db`] for a scope.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use deadpool_postgres::Pool;
use tokio::sync::Semaphore;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::error::Failure;
use super::pool::affinity::{CheckedOut, Common, Counts, Slots};
use super::pool::retirement::{Opener, WarmUp};
use super::pool::{PoolStatus, Purpose, SharingStatus, build, take};
use super::rules::{Endpoint, PoolSizes, Rules, Sharing};
use super::scope::{Entry, PlainStatements, PublicTx, TenantTx};
use crate::domain::names::{SchemaName, TenantId};

/// The database as the whole process sees it; makes a [`Db`] for each runtime.
#[derive(Clone)]
pub struct Database(Arc<Shared>);

struct Shared {
    owner: Endpoint,
    scopes: Arc<TenantScopes>,
    common: Arc<Common>,
    pools: Mutex<Pools>,
}

/// Everything but the connection that a transaction inside of a tenant is made of.
struct TenantScopes {
    rules: Rules,
    tls: MakeRustlsConnect,
    plain: Arc<PlainStatements>,
}

impl TenantScopes {
    fn enter(&self, connection: CheckedOut, tenant: TenantId) -> TenantTx {
        let (schema, plain) = (SchemaName::of(tenant), Arc::clone(&self.plain));
        TenantTx::new(connection, &schema, &self.rules, self.tls.clone(), plain)
    }

    /// Warms a new connection: runs one transaction inside of a tenant.
    fn warm_up(self: Arc<Self>) -> WarmUp {
        Box::new(move |connection, tenant| {
            let tx = self.enter(connection, tenant);
            Box::pin(async move { tx.query_and_commit("SELECT 1", &[]).await.map(drop) })
        })
    }
}

#[derive(Default)]
struct Pools {
    control: Vec<Pool>,
    runtime: Vec<Arc<Slots>>,
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
        let limits = rules.limits;
        let scopes =
            Arc::new(TenantScopes { rules, tls: runtime.tls.clone(), plain: Arc::default() });
        let warm_up = Arc::clone(&scopes).warm_up();
        let common = Common {
            opener: Opener { endpoint: runtime, limits, warm_up },
            sharing,
            wait_timeout: limits.connect,
            counts: Counts::default(),
            reserve: Arc::new(Semaphore::new(sharing.reserve())),
        };
        let common = Arc::new(common);
        Self(Arc::new(Shared { owner, scopes, common, pools: Mutex::default() }))
    }

    /// Pools for the runtime that calls this. Connections open when first needed.
    ///
    /// # Errors
    /// Only where a pool cannot be configured.
    pub fn pools(&self, sizes: PoolSizes) -> Result<Db, deadpool_postgres::BuildError> {
        let common = &self.0.common;
        let control = build(&self.0.owner, sizes.control, self.rules().limits)?;
        let slots = (0..sizes.runtime).map(|_| common.opener.slot()).collect::<Result<_, _>>()?;
        let runtime = Slots::new(Arc::clone(common), slots);
        let mut pools = self.lock();
        pools.control.push(control.clone());
        pools.runtime.push(Arc::clone(&runtime));
        Ok(Db { control, runtime, scopes: Arc::clone(&self.0.scopes) })
    }

    /// The rules that all transactions follow.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.0.scopes.rules
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
        for slots in &pools.runtime {
            slots.close();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pools> {
        self.0.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds up the pools by purpose.
    #[must_use]
    pub fn status(&self) -> Vec<PoolStatus> {
        let pools = self.lock();
        let mut control = PoolStatus::none(Purpose::Control);
        for pool in &pools.control {
            let status = pool.status();
            control.add(PoolStatus {
                purpose: Purpose::Control,
                budget: status.max_size,
                open: status.size,
                idle: status.available,
                waiting: status.waiting,
            });
        }
        let mut runtime = PoolStatus::none(Purpose::Runtime);
        runtime.budget = self.0.common.sharing.reserve();
        for slots in &pools.runtime {
            runtime.add(slots.status());
        }
        vec![control, runtime]
    }

    /// How well connections and tenants find each other.
    #[must_use]
    pub fn sharing_status(&self) -> SharingStatus {
        let pools = self.lock();
        let served: Vec<_> =
            pools.runtime.iter().flat_map(|slots| slots.tenants_served()).collect();
        let counts = &self.0.common.counts;
        SharingStatus {
            on_last: counts.last.load(Ordering::Relaxed),
            on_earlier: counts.earlier.load(Ordering::Relaxed),
            on_other: counts.none.load(Ordering::Relaxed),
            retired: counts.retired.load(Ordering::Relaxed),
            not_retired: counts.not_retired.load(Ordering::Relaxed),
            tenants: served.iter().sum(),
            tenants_at_most: served.iter().copied().max().unwrap_or_default(),
        }
    }
}

/// The door to the database for one runtime: hands out scopes, never connections.
#[derive(Clone)]
pub struct Db {
    control: Pool,
    runtime: Arc<Slots>,
    scopes: Arc<TenantScopes>,
}

impl Db {
    /// A transaction that sees the control plane.
    ///
    /// # Errors
    /// [`Failure::Pool`] where no connection can be had.
    pub async fn public(&self) -> Result<PublicTx, Failure> {
        let (connection, tls) = self.owners().await?;
        Ok(PublicTx::new(connection, self.rules(), tls))
    }

    /// A connection of the owner's, and what a cancel request on it needs.
    async fn owners(&self) -> Result<(CheckedOut, MakeRustlsConnect), Failure> {
        let connection = CheckedOut::without_slot(take(&self.control).await?);
        Ok((connection, self.scopes.tls.clone()))
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
        Ok(self.scopes.enter(connection, tenant))
    }

    /// A bare connection of the runtime login, to try what it may not do.
    pub(super) async fn bare_for_self_test(&self) -> Result<CheckedOut, Failure> {
        self.runtime.take(None).await
    }

    /// The rules that all transactions follow.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.scopes.rules
    }

    /// A connection of the runtime login with no guard at all, as the baseline that the benchmark
    /// measures the guard against. Not for use: nothing keeps what runs here inside a tenant.
    ///
    /// # Errors
    /// [`Failure::Pool`] where no connection can be had.
    #[doc(hidden)]
    pub async fn unguarded_for_benchmarks(&self) -> Result<CheckedOut, Failure> {
        self.runtime.take(None).await
    }
}
