//! Owns which connection of the runtime login a tenant gets.
//!
//! A *lane* is room for one connection: a deadpool pool of one, which opens it, recycles it and drops it.
//! A backend keeps what it has looked up of each tenant that it has served, so a tenant is best served by
//! a connection that knows it. [`Lanes::take`] therefore picks among the idle lanes:
//!
//! 1. the one that served this tenant last;
//! 2. else an open one, rather than let the caller wait for a connect; of those the one that has served
//!    the fewest tenants, so that tenants spread evenly, and of those the one that rested longest;
//! 3. else one that has no connection yet.
//!
//! Nobody waits for a certain lane: whoever comes when a lane is idle gets one, and whoever does not waits
//! in line for any, no longer than the connect timeout. There are as many permits as lanes, and the line
//! is the semaphore's, which is fair. The choice is one look at each lane of this runtime, a handful, under
//! a lock that is never held over an await.
//!
//! A connection that has served too many tenants is replaced: see [`retirement`](super::retirement).

use std::cmp::Reverse;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deadpool_postgres::{ClientWrapper, Object, Pool, PoolError, TimeoutType};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

use super::error::Failure;
use super::pool::{PoolStatus, Purpose, Sharing, take};
use super::retirement::{Opener, Retiring, Successor};
use crate::domain::names::TenantId;

/// What the lanes of all runtimes of this process have in common.
pub(super) struct Common {
    pub(super) opener: Opener,
    pub(super) sharing: Sharing,
    /// Longest wait for a connection.
    pub(super) patience: Duration,
    pub(super) counts: Counts,
    /// The one connection of the budget that is kept free, for the replacement of another.
    pub(super) reserve: Arc<Semaphore>,
}

/// What happened since the start.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) last: AtomicU64,
    pub(super) earlier: AtomicU64,
    pub(super) none: AtomicU64,
    pub(super) retired: AtomicU64,
    pub(super) not_retired: AtomicU64,
}

/// The connections of the runtime login that one runtime has.
pub(super) struct Lanes {
    pub(super) common: Arc<Common>,
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
    state: Mutex<State>,
}

/// What changes under the lock.
pub(super) struct State {
    pub(super) lanes: Vec<Lane>,
    /// Counts loans; when each lane served each tenant is told by it.
    turn: u64,
    /// A new connection that waits for a lane to come back whose connection has served enough.
    pub(super) successor: Option<Successor>,
    /// Whether a task is opening new connections.
    pub(super) is_retiring: bool,
}

/// Room for one connection.
pub(super) struct Lane {
    pub(super) pool: Pool,
    pub(super) is_busy: bool,
    is_open: bool,
    /// The turn of its last loan.
    used: u64,
    /// The tenants that this connection has served, each with the turn of the last time.
    pub(super) served: HashMap<TenantId, u64>,
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

impl Lane {
    fn new(pool: Pool) -> Self {
        Self { pool, is_busy: false, is_open: false, used: 0, served: HashMap::new() }
    }

    /// Gives the lane another connection, which has served nobody.
    pub(super) fn renew(&mut self, pool: Pool) -> Pool {
        self.served = HashMap::new();
        self.is_open = true;
        std::mem::replace(&mut self.pool, pool)
    }

    /// Whether the connection has served more tenants than it should.
    pub(super) fn is_due(&self, most: Option<NonZeroUsize>) -> bool {
        most.is_some_and(|most| self.served.len() > most.get())
    }
}

impl State {
    /// The best idle lane. There is one: whoever calls has a permit.
    fn pick(&mut self, tenant: Option<TenantId>, by_affinity: bool) -> (usize, Pool, Found) {
        let turn_of = |lane: &Lane| tenant.and_then(|tenant| lane.served.get(&tenant).copied());
        let idle = self.lanes.iter().enumerate().filter(|(_, lane)| !lane.is_busy);
        let best = if by_affinity {
            idle.max_by_key(|(_, lane)| {
                (turn_of(lane), lane.is_open, Reverse(lane.served.len()), Reverse(lane.used))
            })
        } else {
            idle.max_by_key(|(_, lane)| (None::<u64>, lane.is_open, Reverse(0), Reverse(lane.used)))
        };
        let (index, lane) = best.expect("there are as many permits as lanes");
        let found = match turn_of(lane) {
            None => Found::Nothing,
            known if known == self.lanes.iter().filter_map(turn_of).max() => Found::Last,
            Some(_) => Found::Earlier,
        };
        let lane = &mut self.lanes[index];
        lane.is_busy = true;
        (index, lane.pool.clone(), found)
    }

    fn note(&mut self, index: usize, tenant: Option<TenantId>, is_new: bool) {
        self.turn += 1;
        let (turn, lane) = (self.turn, &mut self.lanes[index]);
        lane.used = turn;
        lane.is_open = true;
        if is_new {
            lane.served = HashMap::new();
        }
        if let Some(tenant) = tenant {
            lane.served.insert(tenant, turn);
        }
    }
}

impl Lanes {
    /// Lanes for these pools of one connection each.
    pub(super) fn new(common: Arc<Common>, pools: Vec<Pool>) -> Arc<Self> {
        let permits = Arc::new(Semaphore::new(pools.len()));
        let lanes = pools.into_iter().map(Lane::new).collect();
        let state = State { lanes, turn: 0, successor: None, is_retiring: false };
        Arc::new(Self { common, permits, waiting: AtomicUsize::new(0), state: Mutex::new(state) })
    }

    /// A connection for this tenant, or for nobody in particular.
    ///
    /// # Errors
    /// [`Failure::Pool`] where none can be had in time.
    pub(super) async fn take(self: &Arc<Self>, tenant: Option<TenantId>) -> Result<Loan, Failure> {
        let waits = Waits::begin(&self.waiting);
        let permit = self.permit().await?;
        let (index, pool, found) = self.state().pick(tenant, self.common.sharing.by_affinity);
        // From here on whatever happens to this future gives the lane back.
        let seat = Seat { lanes: Arc::clone(self), index, _permit: permit };
        let object = take(&pool).await?;
        drop(waits);
        let is_new = Object::metrics(&object).recycle_count == 0;
        self.state().note(index, tenant, is_new);
        if tenant.is_some() {
            self.common.counts.count(if is_new { Found::Nothing } else { found });
        }
        Ok(Loan { object, seat: Some(seat) })
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, PoolError> {
        match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => return Ok(permit),
            Err(TryAcquireError::Closed) => return Err(PoolError::Closed),
            Err(TryAcquireError::NoPermits) => {}
        }
        let in_line = Arc::clone(&self.permits).acquire_owned();
        match tokio::time::timeout(self.common.patience, in_line).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_closed)) => Err(PoolError::Closed),
            Err(_elapsed) => Err(PoolError::Timeout(TimeoutType::Wait)),
        }
    }

    fn give_back(self: &Arc<Self>, index: usize) {
        let mut state = self.state();
        let lane = &mut state.lanes[index];
        lane.is_busy = false;
        lane.is_open = lane.pool.status().size > 0;
        if !lane.is_open {
            lane.served = HashMap::new();
        }
        let let_go = self.settle(&mut state);
        let retiring = Retiring::if_due(self, &mut state);
        drop(state);
        drop(let_go);
        if let Some(retiring) = retiring {
            retiring.start();
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many connections there are, in which state.
    pub(super) fn status(&self) -> PoolStatus {
        let state = self.state();
        let mut status = PoolStatus::none(Purpose::Runtime);
        status.budget = state.lanes.len();
        status.open = usize::from(state.successor.is_some());
        status.waiting = self.waiting.load(Ordering::Relaxed);
        for lane in &state.lanes {
            let open = lane.pool.status().size;
            status.open += open;
            status.idle += if lane.is_busy { 0 } else { open };
        }
        status
    }

    /// The numbers of tenants that each connection has served.
    pub(super) fn tenants_served(&self) -> Vec<usize> {
        self.state().lanes.iter().map(|lane| lane.served.len()).collect()
    }

    /// Closes every idle connection, and each busy one when it comes back.
    pub(super) fn close(&self) {
        let mut state = self.state();
        self.permits.close();
        let successor = state.successor.take();
        for lane in &state.lanes {
            lane.pool.close();
        }
        drop(state);
        drop(successor);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.permits.is_closed()
    }
}

impl Counts {
    pub(super) fn note_retired(&self) {
        self.retired.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn note_not_retired(&self) {
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

/// A lane that is taken.
struct Seat {
    lanes: Arc<Lanes>,
    index: usize,
    /// Dropped last: whoever is let in by it finds the lane idle.
    _permit: OwnedSemaphorePermit,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.lanes.give_back(self.index);
    }
}

/// A connection on loan. Dropped, it goes back to where it came from.
pub struct Loan {
    // Dropped in this order: the connection is back in its lane when the lane is idle again.
    object: Object,
    /// None where the connection is of no lane.
    seat: Option<Seat>,
}

impl Loan {
    /// A connection of a pool that prefers none of them.
    pub(super) const fn of_no_lane(object: Object) -> Self {
        Self { object, seat: None }
    }

    /// Gives the connection up: it is not lent again, and closed when what is handed out here is dropped.
    pub(super) fn give_up(self) -> ClientWrapper {
        let Self { object, seat } = self;
        let given_up = Object::take(object);
        drop(seat);
        given_up
    }
}

impl Deref for Loan {
    type Target = Object;

    fn deref(&self) -> &Object {
        &self.object
    }
}
