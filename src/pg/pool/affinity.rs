//! Owns which connection of the runtime login a tenant gets.
//!
//! A *slot* is room for one connection: a deadpool pool of one, which opens it, recycles it and drops it.
//! A backend keeps what it has looked up of each tenant that it has served, so a tenant is best served by
//! a connection that knows it. [`Slots::take`] therefore picks among the idle slots:
//!
//! 1. the one that served this tenant last;
//! 2. else an open one, rather than let the caller wait for a connect; of those the one that has served
//!    the fewest tenants, so that tenants spread evenly, and of those the one that rested longest;
//! 3. else one that has no connection yet.
//!
//! Nobody waits for a certain slot: whoever comes when a slot is idle gets one, and whoever does not waits
//! in line for any, no longer than the connect timeout. There are as many permits as slots, and the line
//! is the semaphore's, which is fair. The choice is one look at each slot of this runtime, a handful, under
//! a lock that is never held over an await.
//!
//! A connection that has served too many tenants is replaced: see [`retirement`](crate::pg::pool::retirement).

use std::cmp::Reverse;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deadpool_postgres::{ClientWrapper, Object, Pool, PoolError, TimeoutType};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

use crate::domain::names::TenantId;
use crate::pg::error::Failure;
use crate::pg::pool::retirement::{Opener, Retiring, Successor};
use crate::pg::pool::{PoolStatus, Purpose, take};
use crate::pg::rules::Sharing;

/// What the slots of all runtimes of this process have in common.
pub(in crate::pg) struct Common {
    pub(in crate::pg) opener: Opener,
    pub(in crate::pg) sharing: Sharing,
    /// Longest wait for a connection.
    pub(in crate::pg) wait_timeout: Duration,
    pub(in crate::pg) counts: Counts,
    /// The one connection of the budget that is kept free, for the replacement of another.
    pub(in crate::pg) reserve: Arc<Semaphore>,
}

/// What happened since the start.
#[derive(Default)]
pub(in crate::pg) struct Counts {
    pub(in crate::pg) last: AtomicU64,
    pub(in crate::pg) earlier: AtomicU64,
    pub(in crate::pg) none: AtomicU64,
    pub(in crate::pg) retired: AtomicU64,
    pub(in crate::pg) not_retired: AtomicU64,
}

/// The connections of the runtime login that one runtime has.
pub(in crate::pg) struct Slots {
    pub(in crate::pg) common: Arc<Common>,
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
    state: Mutex<State>,
}

/// What changes under the lock.
pub(in crate::pg) struct State {
    pub(in crate::pg) slots: Vec<Slot>,
    /// Counts loans; when each slot served each tenant is told by it.
    turn: u64,
    /// A new connection that waits for a slot to come back whose connection has served enough.
    pub(in crate::pg) successor: Option<Successor>,
    /// Whether a task is opening new connections.
    pub(in crate::pg) is_retiring: bool,
}

/// Room for one connection.
pub(in crate::pg) struct Slot {
    pub(in crate::pg) pool: Pool,
    pub(in crate::pg) is_busy: bool,
    is_open: bool,
    /// The turn of its last loan.
    used: u64,
    /// The tenants that this connection has served, each with the turn of the last time.
    pub(in crate::pg) served: HashMap<TenantId, u64>,
}

/// What was known of a tenant where it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    /// The connection that served it last.
    Last,
    /// One that served it earlier; the last one is busy.
    Earlier,
    /// One that did not.
    Nothing,
}

impl Slot {
    fn new(pool: Pool) -> Self {
        Self { pool, is_busy: false, is_open: false, used: 0, served: HashMap::new() }
    }

    /// Gives the slot another connection, which has served nobody.
    pub(in crate::pg) fn renew(&mut self, pool: Pool) -> Pool {
        self.served = HashMap::new();
        self.is_open = true;
        std::mem::replace(&mut self.pool, pool)
    }

    /// Whether the connection has served more tenants than it should.
    pub(in crate::pg) fn is_due(&self, most: Option<NonZeroUsize>) -> bool {
        most.is_some_and(|most| self.served.len() > most.get())
    }
}

impl State {
    /// The best idle slot. There is one: whoever calls has a permit.
    fn pick(&mut self, tenant: Option<TenantId>, by_affinity: bool) -> (usize, Pool, Found) {
        let turn_of = |slot: &Slot| tenant.and_then(|tenant| slot.served.get(&tenant).copied());
        let idle = self.slots.iter().enumerate().filter(|(_, slot)| !slot.is_busy);
        let best = if by_affinity {
            idle.max_by_key(|(_, slot)| {
                (turn_of(slot), slot.is_open, Reverse(slot.served.len()), Reverse(slot.used))
            })
        } else {
            idle.max_by_key(|(_, slot)| (None::<u64>, slot.is_open, Reverse(0), Reverse(slot.used)))
        };
        let (index, slot) = best.expect("there are as many permits as slots");
        let found = match turn_of(slot) {
            None => Found::Nothing,
            known if known == self.slots.iter().filter_map(turn_of).max() => Found::Last,
            Some(_) => Found::Earlier,
        };
        let slot = &mut self.slots[index];
        slot.is_busy = true;
        (index, slot.pool.clone(), found)
    }

    fn note(&mut self, index: usize, tenant: Option<TenantId>, is_new: bool) {
        self.turn += 1;
        let (turn, slot) = (self.turn, &mut self.slots[index]);
        slot.used = turn;
        slot.is_open = true;
        if is_new {
            slot.served = HashMap::new();
        }
        if let Some(tenant) = tenant {
            slot.served.insert(tenant, turn);
        }
    }
}

impl Slots {
    /// Slots for these pools of one connection each.
    pub(in crate::pg) fn new(common: Arc<Common>, pools: Vec<Pool>) -> Arc<Self> {
        let permits = Arc::new(Semaphore::new(pools.len()));
        let slots = pools.into_iter().map(Slot::new).collect();
        let state = State { slots, turn: 0, successor: None, is_retiring: false };
        Arc::new(Self { common, permits, waiting: AtomicUsize::new(0), state: Mutex::new(state) })
    }

    /// A connection for this tenant, or for nobody in particular.
    ///
    /// # Errors
    /// [`Failure::Pool`] where none can be had in time.
    pub(in crate::pg) async fn take(
        self: &Arc<Self>,
        tenant: Option<TenantId>,
    ) -> Result<CheckedOut, Failure> {
        let waits = Waits::begin(&self.waiting);
        let permit = self.permit().await?;
        let (index, pool, found) = self.state().pick(tenant, self.common.sharing.by_affinity);
        // From here on whatever happens to this future gives the slot back.
        let permit = SlotPermit { slots: Arc::clone(self), index, _permit: permit };
        let object = take(&pool).await?;
        drop(waits);
        let is_new = Object::metrics(&object).recycle_count == 0;
        self.state().note(index, tenant, is_new);
        if tenant.is_some() {
            self.common.counts.count(if is_new { Found::Nothing } else { found });
        }
        Ok(CheckedOut { object, permit: Some(permit) })
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, PoolError> {
        match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => return Ok(permit),
            Err(TryAcquireError::Closed) => return Err(PoolError::Closed),
            Err(TryAcquireError::NoPermits) => {}
        }
        let in_line = Arc::clone(&self.permits).acquire_owned();
        match tokio::time::timeout(self.common.wait_timeout, in_line).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_closed)) => Err(PoolError::Closed),
            Err(_elapsed) => Err(PoolError::Timeout(TimeoutType::Wait)),
        }
    }

    fn give_back(self: &Arc<Self>, index: usize) {
        let mut state = self.state();
        let slot = &mut state.slots[index];
        slot.is_busy = false;
        slot.is_open = slot.pool.status().size > 0;
        if !slot.is_open {
            slot.served = HashMap::new();
        }
        let replaced = self.settle(&mut state);
        let retiring = Retiring::if_due(self, &mut state);
        drop(state);
        drop(replaced);
        if let Some(retiring) = retiring {
            retiring.start();
        }
    }

    pub(in crate::pg) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many connections there are, in which state.
    pub(in crate::pg) fn status(&self) -> PoolStatus {
        let state = self.state();
        let mut status = PoolStatus::none(Purpose::Runtime);
        status.budget = state.slots.len();
        status.open = usize::from(state.successor.is_some());
        status.waiting = self.waiting.load(Ordering::Relaxed);
        for slot in &state.slots {
            let open = slot.pool.status().size;
            status.open += open;
            status.idle += if slot.is_busy { 0 } else { open };
        }
        status
    }

    /// The numbers of tenants that each connection has served.
    pub(in crate::pg) fn tenants_served(&self) -> Vec<usize> {
        self.state().slots.iter().map(|slot| slot.served.len()).collect()
    }

    /// Closes every idle connection, and each busy one when it comes back.
    pub(in crate::pg) fn close(&self) {
        let mut state = self.state();
        self.permits.close();
        let successor = state.successor.take();
        for slot in &state.slots {
            slot.pool.close();
        }
        drop(state);
        drop(successor);
    }

    pub(in crate::pg) fn is_closed(&self) -> bool {
        self.permits.is_closed()
    }
}

impl Counts {
    pub(in crate::pg) fn note_retired(&self) {
        self.retired.fetch_add(1, Ordering::Relaxed);
    }

    pub(in crate::pg) fn note_not_retired(&self) {
        self.not_retired.fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self, found: Found) {
        let counter = match found {
            Found::Last => &self.last,
            Found::Earlier => &self.earlier,
            Found::Nothing => &self.none,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts a caller for as long as it has no connection.
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn begin(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A slot that is taken.
struct SlotPermit {
    slots: Arc<Slots>,
    index: usize,
    /// Dropped last: whoever is let in by it finds the slot idle.
    _permit: OwnedSemaphorePermit,
}

impl Drop for SlotPermit {
    fn drop(&mut self) {
        self.slots.give_back(self.index);
    }
}

/// A connection on loan. Dropped, it goes back to where it came from.
pub struct CheckedOut {
    // Dropped in this order: the connection is back in its slot when the slot is idle again.
    object: Object,
    /// None where the connection is of no slot.
    permit: Option<SlotPermit>,
}

impl CheckedOut {
    /// A connection of a pool that prefers none of them.
    pub(in crate::pg) const fn without_slot(object: Object) -> Self {
        Self { object, permit: None }
    }

    /// Gives the connection up: it is not lent again, and closed when what is handed out here is dropped.
    pub(in crate::pg) fn discard(self) -> ClientWrapper {
        let Self { object, permit } = self;
        let discarded = Object::take(object);
        drop(permit);
        discarded
    }
}

impl Deref for CheckedOut {
    type Target = Object;

    fn deref(&self) -> &Object {
        &self.object
    }
}
