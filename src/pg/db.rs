//! Owns the connections: the logins, the number of connections, and how a transaction gets one.
//!
//! There are two logins and a kind of pool for each. The *owner* runs control-plane statements and DDL; the
//! *runtime* login owns nothing and can only become a tenant role. Each actix worker has a small pool of each,
//! because a connection is driven by the runtime that opened it, and a shared pool would stall one worker behind
//! another; the main runtime has pools of its own for provisioning and jobs. All pools count against one budget
//! and are reported together in the metrics.
//!
//! Control-plane statements run on any connection of a pool. Which connection of the runtime login a tenant
//! gets is decided in [`affinity`](crate::pg::pool::affinity), and when a connection is replaced in
//! [`retirement`](crate::pg::pool::retirement).
//!
//! The raw pools are private to `pg`: all other code asks [`Db`] for a scope.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::error::Failure;
use super::pool::affinity::{CheckedOut, SharedBySlots, Slots};
use super::pool::check::RestCheck;
use super::pool::control::ControlPool;
use super::pool::counts::Counts;
use super::pool::retirement::{Opener, WarmUp};
use super::pool::shortage::Shortage;
use super::pool::{PoolStatus, Purpose, SharingStatus, build};
use super::rules::{Endpoint, PoolSizes, Rules, Sharing, TimeLimits};
use super::scope::guard::Guard;
use super::scope::{
    Beside, BuiltinTypes, Entry, EventSignal, Left, LockHolders, PublicTx, Script, SharedTx,
    TenantTx,
};
use crate::domain::Access;
use crate::domain::names::{SchemaName, TenantId};
use crate::telemetry::ConnectionWaits;

/// The database of the whole process. It makes a [`Db`] for each runtime.
#[derive(Clone)]
pub struct Database(Arc<Shared>);

struct Shared {
    owner: Endpoint,
    check: RestCheck,
    scopes: Arc<TenantScopes>,
    slots: Arc<SharedBySlots>,
    pools: Mutex<Pools>,
}

/// What a transaction inside a tenant needs besides its connection.
struct TenantScopes {
    rules: Rules,
    beside: Beside,
    builtin_types: Arc<BuiltinTypes>,
    /// Reads the statements of tenants; none if nothing is open in the database.
    guard: Option<Arc<Guard>>,
    /// Raised by control-plane transactions that write audit events.
    events: EventSignal,
}

impl TenantScopes {
    fn enter(&self, connection: CheckedOut, tenant: TenantId, access: Access) -> TenantTx {
        let builtin_types = Arc::clone(&self.builtin_types);
        let (beside, guard) = (self.beside.clone(), self.guard.clone());
        TenantTx::new(connection, tenant, access, &self.rules, beside, builtin_types, guard)
    }

    /// Returns the function that warms a new connection by one transaction inside a tenant.
    fn warm_up(self: Arc<Self>) -> WarmUp {
        Box::new(move |connection, tenant| {
            let tx = self.enter(connection, tenant, Access::Read);
            Box::pin(async move { tx.query_and_commit("SELECT 1", &[]).await.map(drop) })
        })
    }
}

#[derive(Default)]
struct Pools {
    control: Vec<ControlPool>,
    runtime: Vec<Arc<Slots>>,
}

impl Database {
    /// Stores how to connect; opens no connection yet. Connections are never replaced, however many tenants they
    /// serve.
    #[must_use]
    pub fn new(owner: Endpoint, runtime: Endpoint, rules: Rules) -> Self {
        Self::with_sharing(owner, runtime, rules, Sharing::default())
    }

    /// As [`Database::new`], with settings for how tenants share connections.
    #[must_use]
    pub fn with_sharing(
        owner: Endpoint,
        runtime: Endpoint,
        rules: Rules,
        sharing: Sharing,
    ) -> Self {
        let limits = rules.limits;
        let lock_holders = Arc::new(LockHolders::new(owner.clone()));
        let beside = Beside { tls: runtime.tls.clone(), lock_holders };
        let guard = Guard::new(&rules.open).map(Arc::new);
        let (builtin_types, events) = (Arc::default(), EventSignal::default());
        let scopes = Arc::new(TenantScopes { rules, beside, builtin_types, guard, events });
        let warm_up = Arc::clone(&scopes).warm_up();
        let shortage = Shortage::default();
        let (check, count) = (RestCheck::default(), shortage.count().clone());
        let slots = SharedBySlots {
            opener: Opener { endpoint: runtime, limits, check, count, warm_up },
            sharing,
            counts: Counts::default(),
            waits: ConnectionWaits::default(),
            shortage,
            reserve: Arc::new(Semaphore::new(sharing.reserve())),
        };
        let slots = Arc::new(slots);
        let (check, pools) = (RestCheck::default(), Mutex::default());
        let database = Self(Arc::new(Shared { owner, check, scopes, slots, pools }));
        let weak = Arc::downgrade(&database.0);
        database.0.slots.shortage.closed_by(move |unused_for| {
            if let Some(shared) = weak.upgrade() {
                Self(shared).close_idle(unused_for, 0);
            }
        });
        database
    }

    /// Makes the pools of the runtime that calls this. Connections open when they are first needed.
    ///
    /// # Errors
    /// Only if a pool cannot be configured.
    pub fn pools(&self, sizes: PoolSizes) -> Result<Db, deadpool_postgres::BuildError> {
        let shared = &self.0.slots;
        let limits = self.rules().limits;
        let (check, count) = (&self.0.check, shared.shortage.count());
        let control = build(&self.0.owner, sizes.control, limits, check, count)?;
        shared.shortage.add_pools(usize::from(sizes.control > 0) + usize::from(sizes.runtime > 0));
        let control =
            ControlPool::new(control, sizes.control, limits.connect, shared.shortage.clone());
        let runtime_pools =
            (0..sizes.runtime).map(|_| shared.opener.pool_of_one()).collect::<Result<_, _>>()?;
        let runtime = Slots::new(Arc::clone(shared), runtime_pools);
        let mut pools = self.lock();
        pools.control.push(control.clone());
        pools.runtime.push(Arc::clone(&runtime));
        Ok(Db { control, runtime, scopes: Arc::clone(&self.0.scopes) })
    }

    /// Returns the rules that all transactions follow.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.0.scopes.rules
    }

    /// Returns the owner's login, for work that needs a dedicated connection.
    #[must_use]
    pub fn owner(&self) -> &Endpoint {
        &self.0.owner
    }

    /// Closes every idle connection now, and each busy one when it is released.
    pub fn close(&self) {
        self.0.slots.reserve.close();
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

    /// Closes idle connections that were not used for `idle`, but for one in each pool. Returns how many.
    #[must_use]
    pub fn close_unused(&self, idle: Duration) -> usize {
        self.close_idle(idle, 1)
    }

    /// Has this process open no more connections than this, but one for each pool: the server gives fewer than the budget.
    pub fn keep_to(&self, most: usize) {
        self.0.slots.shortage.keep_to(most);
    }

    fn close_idle(&self, unused_for: Duration, keep: usize) -> usize {
        let pools = self.lock();
        let control = pools.control.iter().map(|pool| pool.close_idle(unused_for, keep));
        let runtime = pools.runtime.iter().map(|slots| slots.close_idle(unused_for, keep));
        control.chain(runtime).sum()
    }

    /// Returns how long requests waited for a connection of the runtime login.
    #[must_use]
    pub fn waits(&self) -> &ConnectionWaits {
        &self.0.slots.waits
    }

    /// Returns the status of all pools, summed by purpose.
    #[must_use]
    pub fn status(&self) -> Vec<PoolStatus> {
        let pools = self.lock();
        let mut control = PoolStatus::none(Purpose::Control);
        for pool in &pools.control {
            control.add(pool.status());
        }
        let mut runtime = PoolStatus::none(Purpose::Runtime);
        runtime.budget = self.0.slots.sharing.reserve();
        for slots in &pools.runtime {
            runtime.add(slots.status());
        }
        vec![control, runtime]
    }

    /// Returns how often tenants got a connection that had served them before.
    #[must_use]
    pub fn sharing_status(&self) -> SharingStatus {
        let pools = self.lock();
        let served: Vec<_> =
            pools.runtime.iter().flat_map(|slots| slots.tenants_served()).collect();
        let counts = &self.0.slots.counts;
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

/// Access to the database for one runtime: hands out scopes, never connections.
#[derive(Clone)]
pub struct Db {
    control: ControlPool,
    runtime: Arc<Slots>,
    scopes: Arc<TenantScopes>,
}

impl Db {
    /// Begins a transaction that sees the control plane.
    ///
    /// # Errors
    /// [`Failure::NoConnection`] if no connection is available in time.
    pub async fn public(&self) -> Result<PublicTx, Failure> {
        self.public_within(&self.rules().limits).await
    }

    /// As [`Db::public`], with time limits of its own.
    pub(crate) async fn public_within(&self, limits: &TimeLimits) -> Result<PublicTx, Failure> {
        let (connection, beside) = self.owner_connection().await?;
        Ok(PublicTx::new(connection, self.rules(), limits, beside, self.scopes.events.clone()))
    }

    /// Returns the signal that transactions of this process raise when they have written audit events.
    #[must_use]
    pub fn event_signal(&self) -> &EventSignal {
        &self.scopes.events
    }

    /// Checks out a connection of the owner, and returns what a transaction needs beside it.
    async fn owner_connection(&self) -> Result<(CheckedOut, Beside), Failure> {
        let connection = self.control.take().await?;
        Ok((connection, self.scopes.beside.clone()))
    }

    /// Begins a transaction of the owner inside a schema, and locks the schema.
    pub(super) async fn in_schema(
        &self,
        schema: &SchemaName,
        entry: Entry,
    ) -> Result<PublicTx, Failure> {
        let (connection, beside) = self.owner_connection().await?;
        Ok(PublicTx::in_schema(connection, schema, entry, self.rules(), beside))
    }

    /// Begins a snapshot of a schema and of the control plane, with these tables locked; see [`PublicTx::snapshot`].
    pub(super) async fn snapshot(
        &self,
        schema: &SchemaName,
        tables: &[String],
        access: Access,
    ) -> Result<PublicTx, Failure> {
        let (connection, beside) = self.owner_connection().await?;
        let events = self.scopes.events.clone();
        Ok(PublicTx::snapshot(connection, (schema, tables, access), self.rules(), beside, events))
    }

    /// Runs several transactions of the owner, pipelined on one connection. Each begins inside a schema, locks it,
    /// runs a script and commits. Returns the outcome of each.
    pub(super) async fn run_pipelined(
        &self,
        scripts: &[Script],
        entry: Entry,
    ) -> Result<Vec<Result<(), Failure>>, Failure> {
        let (connection, beside) = self.owner_connection().await?;
        Ok(PublicTx::run_pipelined(connection, scripts, entry, self.rules(), beside).await)
    }

    /// Begins a transaction that sees one tenant and nothing else, and may write.
    ///
    /// It does not check any right: the caller of this function must have checked that its own caller may enter the
    /// tenant.
    ///
    /// # Errors
    /// [`Failure::TenantBusy`] or [`Failure::NoConnection`] if no connection is available in time.
    pub async fn tenant(&self, tenant: TenantId) -> Result<TenantTx, Failure> {
        self.tenant_with(tenant, Access::Write).await
    }

    /// As [`Db::tenant`]; with [`Access::Read`] the database refuses every statement that would write.
    ///
    /// # Errors
    /// As [`Db::tenant`].
    pub async fn tenant_with(&self, tenant: TenantId, access: Access) -> Result<TenantTx, Failure> {
        let connection = self.runtime.take(Some(tenant)).await?;
        Ok(self.scopes.enter(connection, tenant, access))
    }

    /// Begins a transaction on the tables that all tenants of an application share.
    ///
    /// # Errors
    /// As [`Db::tenant`].
    pub async fn shared(&self, access: Access) -> Result<SharedTx, Failure> {
        let connection = self.runtime.take(None).await?;
        let TenantScopes { rules, beside, builtin_types, guard, .. } = &*self.scopes;
        let (beside, types) = (beside.clone(), Arc::clone(builtin_types));
        Ok(SharedTx::new(connection, access, rules, beside, types, guard.clone()))
    }

    /// Continues a transaction as a tenant that it has made, until [`leave_new_tenant`](Self::leave_new_tenant).
    ///
    /// # Errors
    /// [`Failure`]; the transaction is rolled back.
    pub(crate) async fn enter_new_tenant(
        &self,
        tx: PublicTx,
        tenant: TenantId,
    ) -> Result<(TenantTx, Left), Failure> {
        tx.enter_tenant(tenant, self.rules(), self.scopes.guard.clone()).await
    }

    /// Continues a transaction on the control plane that has entered a tenant.
    ///
    /// # Errors
    /// [`Failure`]; the transaction is rolled back.
    pub(crate) async fn leave_new_tenant(
        &self,
        inside: TenantTx,
        left: Left,
    ) -> Result<PublicTx, Failure> {
        PublicTx::leave_tenant(inside, left).await
    }

    /// Checks out a connection of the runtime login without a guard, to test that the server refuses what it must.
    pub(super) async fn unguarded_for_self_test(&self) -> Result<CheckedOut, Failure> {
        self.runtime.take(None).await
    }

    /// Returns the rules that all transactions follow.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.scopes.rules
    }

    /// Checks out a connection of the runtime login without a guard, as the baseline of the benchmark that measures
    /// the guard. For nothing else: statements on it are not confined to a tenant.
    ///
    /// # Errors
    /// [`Failure::Pool`] if no connection is available in time.
    #[doc(hidden)]
    pub async fn unguarded_for_benchmarks(&self) -> Result<CheckedOut, Failure> {
        self.runtime.take(None).await
    }
}
