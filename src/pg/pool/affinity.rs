//! Chooses the connection of the runtime login that a tenant gets.
//!
//! A *slot* holds at most one connection: it is a deadpool pool of size one, which opens, recycles and closes the
//! connection. A backend caches the catalog entries of each tenant that it has served, so a tenant is served
//! fastest by a connection that has served it before. [`Slots::take`] therefore chooses among the idle slots:
//!
//! 1. the one that served this tenant last;
//! 2. else an open one, so that the caller does not wait for a connect; of those the one that has served
//!    the fewest tenants, so that tenants spread evenly, and of those the one that was used least recently;
//! 3. else one that has no connection yet.
//!
//! A caller never waits for a certain slot. It gets an idle slot if there is one, else it waits for any, at most
//! for the connect timeout. There is one [permit](super::permits) a slot, and which tenant gets the next one is decided
//! in [`queue`](super::queue). The choice of the slot reads each slot of this runtime (a handful) under a lock that is
//! never held across an await.
//!
//! If the server has no connection left, the slot stays closed for a moment and the caller waits for one that is open;
//! see [`shortage`](super::shortage).
//!
//! A connection that has served too many tenants is replaced: see [`retirement`](crate::pg::pool::retirement).

use std::cmp::Reverse;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deadpool_postgres::{ClientWrapper, Object, Pool};
use foldhash::fast::RandomState;
use tokio::sync::Semaphore;

use crate::domain::names::TenantId;
use crate::pg::error::Failure;
use crate::pg::pool::checkout::check_out;
use crate::pg::pool::counts::{Affinity, Counts, Waiting};
use crate::pg::pool::permits::{Permit, Permits, Request};
use crate::pg::pool::retirement::{Opener, ReplacementTask, Successor};
use crate::pg::pool::shortage::Shortage;
use crate::pg::pool::{PoolStatus, Purpose};
use crate::pg::rules::Sharing;
use crate::telemetry::ConnectionWaits;

/// What the slots of all runtimes of this process share.
pub(in crate::pg) struct SharedBySlots {
    pub(in crate::pg) opener: Opener,
    pub(in crate::pg) sharing: Sharing,
    pub(in crate::pg) counts: Counts,
    pub(in crate::pg) waits: ConnectionWaits,
    pub(in crate::pg) shortage: Shortage,
    /// The one connection of the budget that is reserved for the replacement of another.
    pub(in crate::pg) reserve: Arc<Semaphore>,
}

/// The connections of the runtime login in one runtime.
pub(in crate::pg) struct Slots {
    pub(in crate::pg) shared: Arc<SharedBySlots>,
    permits: Arc<Permits>,
    waiting: AtomicUsize,
    state: Mutex<State>,
}

/// The state under the lock.
pub(in crate::pg) struct State {
    pub(in crate::pg) slots: Vec<Slot>,
    /// The number of checkouts so far: the logical time of each.
    checkouts: u64,
    /// A new connection that waits until a slot is released whose connection is due.
    pub(in crate::pg) successor: Option<Successor>,
    /// Whether a [`ReplacementTask`] is running.
    pub(in crate::pg) is_replacing: bool,
}

/// A pool of at most one connection, and what is known about that connection.
pub(in crate::pg) struct Slot {
    pub(in crate::pg) pool: Pool,
    pub(in crate::pg) is_busy: bool,
    is_open: bool,
    /// The number of its last checkout.
    last_checkout: u64,
    /// The tenants that this connection has served, each with the number of the last checkout for it.
    pub(in crate::pg) served: HashMap<TenantId, u64, RandomState>,
    /// The tenant that this connection served last.
    last_tenant: Option<TenantId>,
}

/// When a connection was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opened {
    /// For this checkout.
    Now,
    /// For an earlier checkout.
    Before,
}

impl Slot {
    fn new(pool: Pool) -> Self {
        Self {
            pool,
            is_busy: false,
            is_open: false,
            last_checkout: 0,
            served: HashMap::default(),
            last_tenant: None,
        }
    }

    /// Puts a new connection into the slot, which has served no tenant, and returns the pool of the old one.
    pub(in crate::pg) fn replace_connection(&mut self, pool: Pool) -> Pool {
        self.served = HashMap::default();
        // The tenant that it was warmed for drew no random numbers.
        self.last_tenant = None;
        self.is_open = true;
        std::mem::replace(&mut self.pool, pool)
    }

    /// Whether the connection has served more tenants than the settings allow.
    pub(in crate::pg) fn is_due(&self, most: Option<NonZeroUsize>) -> bool {
        most.is_some_and(|most| self.served.len() > most.get())
    }
}

impl State {
    /// Marks the best idle slot as busy and returns it. There is one, because the caller holds a permit.
    fn pick(&mut self, tenant: Option<TenantId>, sharing: Sharing) -> (usize, Pool, Affinity) {
        let served_at = |slot: &Slot| tenant.and_then(|tenant| slot.served.get(&tenant).copied());
        let idle = self.slots.iter().enumerate().filter(|(_, slot)| !slot.is_busy);
        let best = if sharing.by_affinity {
            idle.max_by_key(|(_, slot)| {
                let fewest_tenants = Reverse(slot.served.len());
                (served_at(slot), slot.is_open, fewest_tenants, Reverse(slot.last_checkout))
            })
        } else {
            idle.max_by_key(|(_, slot)| {
                (None::<u64>, slot.is_open, Reverse(0), Reverse(slot.last_checkout))
            })
        };
        let (index, slot) = best.expect("there are as many permits as slots");
        let affinity = match served_at(slot) {
            None => Affinity::None,
            latest if latest == self.slots.iter().filter_map(served_at).max() => Affinity::Last,
            Some(_) => Affinity::Earlier,
        };
        let slot = &mut self.slots[index];
        slot.is_busy = true;
        (index, slot.pool.clone(), affinity)
    }

    /// Records a checkout, and returns whether the connection served another tenant before.
    fn record_checkout(&mut self, index: usize, tenant: Option<TenantId>, opened: Opened) -> bool {
        self.checkouts += 1;
        let (checkout, slot) = (self.checkouts, &mut self.slots[index]);
        slot.last_checkout = checkout;
        slot.is_open = true;
        if opened == Opened::Now {
            slot.served = HashMap::default();
            slot.last_tenant = None;
        }
        let Some(tenant) = tenant else { return false };
        slot.served.insert(tenant, checkout);
        slot.last_tenant.replace(tenant).is_some_and(|last| last != tenant)
    }
}

impl Slots {
    /// Makes slots of pools with one connection each.
    pub(in crate::pg) fn new(shared: Arc<SharedBySlots>, pools: Vec<Pool>) -> Arc<Self> {
        let permits = Permits::new(pools.len(), shared.sharing.fairness);
        let slots = pools.into_iter().map(Slot::new).collect();
        let state = State { slots, checkouts: 0, successor: None, is_replacing: false };
        Arc::new(Self { shared, permits, waiting: AtomicUsize::new(0), state: Mutex::new(state) })
    }

    /// Checks out a connection for this tenant, or for no certain tenant.
    ///
    /// # Errors
    /// [`Failure::TenantBusy`] or [`Failure::NoConnection`] if none is free in time, [`Failure::Pool`] if a new one
    /// cannot be opened.
    pub(in crate::pg) async fn take(
        self: &Arc<Self>,
        tenant: Option<TenantId>,
    ) -> Result<CheckedOut, Failure> {
        let waiting = Waiting::begin(&self.waiting);
        let mut request = Request::new(tenant, self.shared.opener.limits.connect);
        let open = || self.open();
        let choose = |permit| {
            let (index, pool, affinity) = self.state().pick(tenant, self.shared.sharing);
            // From here on the slot is released even if this future is dropped.
            (SlotPermit { slots: Arc::clone(self), index, affinity, permit }, pool)
        };
        let shortage = &self.shared.shortage;
        let taken = check_out(&self.permits, &mut request, shortage, open, choose).await;
        self.shared.waits.observe(request.holds_some, request.asked_at.elapsed());
        drop(waiting);
        taken.map(|(permit, object)| self.checked_out(object, permit, tenant))
    }

    fn checked_out(
        &self,
        object: Object,
        permit: SlotPermit,
        tenant: Option<TenantId>,
    ) -> CheckedOut {
        let is_new = Object::metrics(&object).recycle_count == 0;
        let (opened, affinity) =
            if is_new { (Opened::Now, Affinity::None) } else { (Opened::Before, permit.affinity) };
        let served_another = self.state().record_checkout(permit.index, tenant, opened);
        if tenant.is_some() {
            self.shared.counts.count(affinity);
        }
        CheckedOut { object, slot: Some(permit), permit: None, served_another }
    }

    /// Returns the number of open connections.
    fn open(&self) -> usize {
        self.state().slots.iter().map(|slot| slot.pool.status().size).sum()
    }

    /// Closes idle connections that were not used for this long, those that were used least recently first, while more
    /// than `keep` are open. Returns how many.
    pub(in crate::pg) fn close_idle(&self, unused_for: Duration, keep: usize) -> usize {
        let mut state = self.state();
        let mut open = state.slots.iter().filter(|slot| slot.pool.status().size > 0).count();
        let mut idle: Vec<_> = state.slots.iter_mut().filter(|slot| !slot.is_busy).collect();
        idle.sort_by_key(|slot| slot.last_checkout);
        let mut closed = Vec::new();
        for slot in idle {
            if open <= keep {
                break;
            }
            let removed = slot.pool.retain(|_, metrics| metrics.last_used() < unused_for).removed;
            if !removed.is_empty() {
                open -= 1;
                slot.is_open = false;
                slot.served = HashMap::default();
                closed.extend(removed);
            }
        }
        drop(state);
        closed.len()
    }

    /// Marks a slot as idle, and replaces its connection if that is due.
    fn release(self: &Arc<Self>, index: usize) {
        let mut state = self.state();
        let slot = &mut state.slots[index];
        slot.is_busy = false;
        let mut closed = Vec::new();
        if slot.pool.status().available > 0 && self.shared.shortage.takes_one() {
            closed = slot.pool.retain(|_, _| false).removed;
        }
        slot.is_open = slot.pool.status().size > 0;
        if !slot.is_open {
            slot.served = HashMap::default();
        }
        let replaced = self.replace_if_ready(&mut state);
        let task = ReplacementTask::if_due(self, &mut state);
        drop(state);
        drop((replaced, closed));
        if let Some(task) = task {
            task.start();
        }
    }

    pub(in crate::pg) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the connections by state.
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

    /// Returns the number of tenants that each connection has served.
    pub(in crate::pg) fn tenants_served(&self) -> Vec<usize> {
        self.state().slots.iter().map(|slot| slot.served.len()).collect()
    }

    /// Closes every idle connection now, and each busy one when it is released.
    pub(in crate::pg) fn close(&self) {
        self.permits.close();
        let mut state = self.state();
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

/// The right to use one slot. Dropped, it releases the slot.
struct SlotPermit {
    slots: Arc<Slots>,
    index: usize,
    /// Whether the connection had served the tenant when it was chosen.
    affinity: Affinity,
    /// Dropped last, so that the caller that gets the permit next finds the slot idle.
    permit: Permit,
}

impl AsMut<Permit> for SlotPermit {
    fn as_mut(&mut self) -> &mut Permit {
        &mut self.permit
    }
}

impl Drop for SlotPermit {
    fn drop(&mut self) {
        self.slots.release(self.index);
    }
}

/// A checked-out connection. Dropped, it returns to its pool.
pub struct CheckedOut {
    // Dropped in this order: the connection is back in its pool before the slot is idle.
    object: Object,
    /// None if the connection belongs to no slot.
    slot: Option<SlotPermit>,
    /// The permit of a pool without slots.
    permit: Option<Permit>,
    served_another: bool,
}

impl CheckedOut {
    /// Wraps a connection that no other caller can get.
    pub(in crate::pg) const fn alone(object: Object) -> Self {
        Self { object, slot: None, permit: None, served_another: false }
    }

    /// Wraps a connection of a pool without slots.
    pub(in crate::pg) const fn with_permit(object: Object, permit: Permit) -> Self {
        Self { object, slot: None, permit: Some(permit), served_another: false }
    }

    /// Whether the connection served another tenant before the one that it is checked out for. Behind a pooler that
    /// says nothing of the server's session.
    pub(in crate::pg) const fn served_another(&self) -> bool {
        self.served_another
    }

    /// Removes the connection from its pool: it is not checked out again, and is closed when the returned client is
    /// dropped.
    pub(in crate::pg) fn discard(self) -> ClientWrapper {
        let Self { object, slot, permit, served_another: _ } = self;
        let discarded = Object::take(object);
        drop((slot, permit));
        discarded
    }
}

impl Deref for CheckedOut {
    type Target = Object;

    fn deref(&self) -> &Object {
        &self.object
    }
}
