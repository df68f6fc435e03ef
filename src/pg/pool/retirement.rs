//! Owns the replacement of connections that have served too many tenants.
//!
//! A backend never gives back what it has cached of a tenant; its memory grows with every one that it
//! serves, and goes when it goes. So a connection that has served more distinct tenants than the settings
//! say is *due*. It goes on serving until another is open and warm, and then changes places with it while
//! it is idle. No request waits for that, and where the database takes no new connections, nothing
//! changes: it is tried again, after longer and longer pauses, and the old one serves.
//!
//! The new connection has a place of its own in the budget, one for the whole process, so that the budget
//! holds: connections are replaced one after the other. The bound on tenants is therefore soft by what a
//! connection serves meanwhile, a few milliseconds' requests. (A backend that was let go may need a moment
//! to leave the server's list.)
//!
//! Warm means that it has been inside of the tenant that the old one served last: the first change of role
//! of a backend is slow where there are thousands of roles, and a request should not pay for it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use deadpool_postgres::{BuildError, Pool, PoolError, TimeoutType};
use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;

use super::affinity::{CheckedOut, Slots, State};
use super::{build, take};
use crate::domain::names::TenantId;
use crate::pg::error::Failure;
use crate::pg::rules::{Endpoint, TimeLimits};

/// The pause after a first connection that could not be opened; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Runs one transaction inside of a tenant on a new connection. The function is handed in, because this module
/// knows no transactions.
pub(in crate::pg) type WarmUp =
    Box<dyn Fn(CheckedOut, TenantId) -> BoxFuture<'static, Result<(), Failure>> + Send + Sync>;

/// Opens connections of the runtime login.
pub(in crate::pg) struct Opener {
    pub(in crate::pg) endpoint: Endpoint,
    pub(in crate::pg) limits: TimeLimits,
    pub(in crate::pg) warm_up: WarmUp,
}

impl Opener {
    /// A pool of one connection, which opens when it is first needed.
    pub(in crate::pg) fn slot(&self) -> Result<Pool, BuildError> {
        build(&self.endpoint, 1, self.limits)
    }

    /// Opens a connection and warms it.
    async fn open(&self, tenant: TenantId) -> Result<Pool, Failure> {
        let pool = self.slot().map_err(|_unbuilt| PoolError::NoRuntimeSpecified)?;
        let connection = CheckedOut::without_slot(take(&pool).await?);
        let warm_up = (self.warm_up)(connection, tenant);
        let outcome = match tokio::time::timeout(self.limits.statement, warm_up).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => Err(PoolError::Timeout(TimeoutType::Create).into()),
        };
        match outcome {
            // The tenant and its role may have been dropped meanwhile. The connection is usable without.
            Err(failure) if pool.status().size == 0 => Err(failure),
            _ => Ok(pool),
        }
    }
}

/// A new connection, and its place in the budget until it has another's.
pub(in crate::pg) struct Successor {
    pool: Pool,
    reserve: OwnedSemaphorePermit,
}

/// A connection that is closed when this is dropped, and then its place is free.
pub(in crate::pg) struct Replaced {
    pool: Pool,
    _reserve: OwnedSemaphorePermit,
}

impl Drop for Replaced {
    fn drop(&mut self) {
        self.pool.close();
    }
}

impl Slots {
    /// Lets the new connection, if one is ready, change places with one that is due and idle. What is
    /// given back is to be dropped without the lock.
    pub(in crate::pg) fn settle(&self, state: &mut State) -> Option<Replaced> {
        let successor = state.successor.take()?;
        let most = self.common.sharing.tenants_per_connection;
        if !state.slots.iter().any(|slot| slot.is_due(most)) {
            // The one that it was for broke meanwhile.
            return Some(Replaced { pool: successor.pool, _reserve: successor.reserve });
        }
        let idle = state.slots.iter_mut().filter(|slot| slot.is_due(most) && !slot.is_busy);
        // With the first that is found, others could be passed over for ever.
        if let Some(slot) = idle.max_by_key(|slot| slot.served.len()) {
            let served = slot.served.len();
            let pool = slot.renew(successor.pool);
            self.common.counts.note_retired();
            tracing::debug!(tenants = served, "replaced a connection that has served many tenants");
            return Some(Replaced { pool, _reserve: successor.reserve });
        }
        state.successor = Some(successor);
        None
    }

    /// Opens a new connection and lets it take the place of one that is due.
    async fn replace_one(&self, warm_for: TenantId) -> Result<(), Failure> {
        let reserve = Arc::clone(&self.common.reserve).acquire_owned();
        let reserve = reserve.await.map_err(|_closed| PoolError::Closed)?;
        let pool = self.common.opener.open(warm_for).await?;
        let replaced = {
            let mut state = self.state();
            if self.is_closed() {
                Some(Replaced { pool, _reserve: reserve })
            } else {
                state.successor = Some(Successor { pool, reserve });
                self.settle(&mut state)
            }
        };
        drop(replaced);
        Ok(())
    }
}

/// The task that opens new connections for one runtime's slots; there is one at most.
pub(in crate::pg) struct Retiring {
    slots: Weak<Slots>,
    /// Whether it is still this one that the slots know of.
    is_on: bool,
}

impl Retiring {
    /// Where a connection is due and idle and nobody is at it.
    pub(in crate::pg) fn if_due(slots: &Arc<Slots>, state: &mut State) -> Option<Self> {
        if state.is_retiring || due_and_idle(slots, state).is_none() {
            return None;
        }
        state.is_retiring = true;
        Some(Self { slots: Arc::downgrade(slots), is_on: true })
    }

    /// Works in the background. With no runtime to work on, the next loan that ends tries again.
    pub(in crate::pg) fn start(self) {
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(self.work());
        }
    }

    async fn work(mut self) {
        let mut pause = FIRST_PAUSE;
        while let Some((slots, tenant)) = self.next() {
            match slots.replace_one(tenant).await {
                Ok(()) => pause = FIRST_PAUSE,
                Err(_) if slots.is_closed() => return,
                Err(failure) => {
                    slots.common.counts.note_not_retired();
                    drop(slots); // nothing is kept alive by waiting
                    tracing::warn!(
                        error = &failure as &dyn std::error::Error,
                        "a connection that has served many tenants could not be replaced yet"
                    );
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// The tenant to be warm for, as long as there is something to do. That there is nothing more is
    /// decided under the lock under which the next loan's end looks whether somebody is at it.
    fn next(&mut self) -> Option<(Arc<Slots>, TenantId)> {
        let slots = self.slots.upgrade()?;
        let mut state = slots.state();
        let Some(tenant) = due_and_idle(&slots, &state) else {
            state.is_retiring = false;
            self.is_on = false;
            return None;
        };
        drop(state);
        Some((slots, tenant))
    }
}

impl Drop for Retiring {
    fn drop(&mut self) {
        // Its runtime ended, or never was: another may begin.
        if self.is_on
            && let Some(slots) = self.slots.upgrade()
        {
            slots.state().is_retiring = false;
        }
    }
}

/// Of the connection that is due and idle and has served the most tenants, the tenant that it served last.
/// Nothing where a new connection is ready already and waits for one to come back.
fn due_and_idle(slots: &Slots, state: &State) -> Option<TenantId> {
    if state.successor.is_some() || slots.is_closed() {
        return None;
    }
    let most = slots.common.sharing.tenants_per_connection;
    let due = state.slots.iter().filter(|slot| !slot.is_busy && slot.is_due(most));
    let slot = due.max_by_key(|slot| slot.served.len())?;
    slot.served.iter().max_by_key(|(_, turn)| **turn).map(|(tenant, _)| *tenant)
}
