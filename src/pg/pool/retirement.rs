//! Replaces connections that have served too many tenants.
//!
//! A backend never frees what it has cached of a tenant: its memory grows with every tenant that it serves, and
//! is freed only when the backend ends. So a connection that has served more distinct tenants than the settings
//! allow is *due*. It stays in use until a new connection is open and warm, which then replaces it while it is
//! idle. No request waits for that. If the database accepts no new connection, the old one stays in use and the
//! replacement is tried again after a pause that doubles.
//!
//! One connection of the budget, for the whole process, is reserved for the new connection. So the budget holds,
//! and connections are replaced one at a time. The limit on tenants is therefore exceeded by what a connection
//! serves meanwhile: the requests of a few milliseconds. (A closed backend may take a moment to leave
//! `pg_stat_activity`.)
//!
//! Warm means that the new connection has run a transaction inside the tenant that the old one served last: the
//! first change of role in a backend is slow if there are thousands of roles, and no request should pay for it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use deadpool_postgres::{BuildError, Pool, PoolError, TimeoutType};
use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;

use super::affinity::{CheckedOut, Slots, State};
use super::check::RestCheck;
use super::{build, take};
use crate::domain::names::TenantId;
use crate::pg::connect::open::OpenCount;
use crate::pg::error::Failure;
use crate::pg::rules::{Endpoint, TimeLimits};

/// The pause after the first failed replacement; each further failure doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Runs one transaction inside a tenant on a new connection. The caller hands it in, because this module
/// knows no transactions.
pub(in crate::pg) type WarmUp =
    Box<dyn Fn(CheckedOut, TenantId) -> BoxFuture<'static, Result<(), Failure>> + Send + Sync>;

/// Opens connections of the runtime login.
pub(in crate::pg) struct Opener {
    pub(in crate::pg) endpoint: Endpoint,
    pub(in crate::pg) limits: TimeLimits,
    pub(in crate::pg) check: RestCheck,
    pub(in crate::pg) count: OpenCount,
    pub(in crate::pg) warm_up: WarmUp,
}

impl Opener {
    /// Returns a pool of one connection, which opens when it is first needed.
    pub(in crate::pg) fn pool_of_one(&self) -> Result<Pool, BuildError> {
        build(&self.endpoint, 1, self.limits, &self.check, &self.count)
    }

    /// Opens a connection and warms it.
    async fn open(&self, tenant: TenantId) -> Result<Pool, Failure> {
        let pool = self.pool_of_one().map_err(|_unbuilt| PoolError::NoRuntimeSpecified)?;
        let connection = CheckedOut::alone(take(&pool).await?);
        let warm_up = (self.warm_up)(connection, tenant);
        let outcome = match tokio::time::timeout(self.limits.statement, warm_up).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => Err(PoolError::Timeout(TimeoutType::Create).into()),
        };
        match outcome {
            // The tenant and its role may have been dropped meanwhile. The connection is usable all the same.
            Err(failure) if pool.status().size == 0 => Err(failure),
            _ => Ok(pool),
        }
    }
}

/// A new connection that is ready to replace another, and the reserve of the budget that it uses until then.
pub(in crate::pg) struct Successor {
    pool: Pool,
    reserve: OwnedSemaphorePermit,
}

/// A connection that was replaced. Dropped, it is closed, and then the reserve is free again.
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
    /// Replaces a connection that is due and idle with the successor, if one is ready. The caller must drop the
    /// returned value after it has released the lock.
    pub(in crate::pg) fn replace_if_ready(&self, state: &mut State) -> Option<Replaced> {
        let successor = state.successor.take()?;
        let most = self.shared.sharing.tenants_per_connection;
        if !state.slots.iter().any(|slot| slot.is_due(most)) {
            // The connection that it was opened for broke meanwhile.
            return Some(Replaced { pool: successor.pool, _reserve: successor.reserve });
        }
        let idle = state.slots.iter_mut().filter(|slot| slot.is_due(most) && !slot.is_busy);
        // Taking the first one could pass over others for ever.
        if let Some(slot) = idle.max_by_key(|slot| slot.served.len()) {
            let served = slot.served.len();
            let pool = slot.replace_connection(successor.pool);
            self.shared.counts.count_retired();
            tracing::debug!(tenants = served, "replaced a connection that has served many tenants");
            return Some(Replaced { pool, _reserve: successor.reserve });
        }
        state.successor = Some(successor);
        None
    }

    /// Opens a new connection and replaces one that is due with it, now or when one is released.
    async fn replace_one(&self, warm_for: TenantId) -> Result<(), Failure> {
        let reserve = Arc::clone(&self.shared.reserve).acquire_owned();
        let reserve = reserve.await.map_err(|_closed| PoolError::Closed)?;
        let pool = self.shared.opener.open(warm_for).await?;
        let replaced = {
            let mut state = self.state();
            if self.is_closed() {
                Some(Replaced { pool, _reserve: reserve })
            } else {
                state.successor = Some(Successor { pool, reserve });
                self.replace_if_ready(&mut state)
            }
        };
        drop(replaced);
        Ok(())
    }
}

/// The task that opens new connections for one runtime's slots. There is at most one for each runtime.
pub(in crate::pg) struct ReplacementTask {
    slots: Weak<Slots>,
    /// Whether [`State::is_replacing`] was set by this task.
    is_registered: bool,
}

impl ReplacementTask {
    /// Returns a task if a connection is due and idle and no task is running.
    pub(in crate::pg) fn if_due(slots: &Arc<Slots>, state: &mut State) -> Option<Self> {
        if state.is_replacing || due_and_idle(slots, state).is_none() {
            return None;
        }
        state.is_replacing = true;
        Some(Self { slots: Arc::downgrade(slots), is_registered: true })
    }

    /// Spawns the task. Outside a runtime it does nothing; the next connection that is released tries again.
    pub(in crate::pg) fn start(self) {
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(self.run());
        }
    }

    async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        while let Some((slots, tenant)) = self.next() {
            match slots.replace_one(tenant).await {
                Ok(()) => pause = FIRST_PAUSE,
                Err(_) if slots.is_closed() => return,
                Err(failure) => {
                    slots.shared.counts.count_not_retired();
                    drop(slots); // the pause must not keep the slots alive
                    tracing::warn!(
                        error = &failure as &dyn std::error::Error,
                        "failed to replace a connection that has served many tenants"
                    );
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Returns the tenant to warm the next connection for, or none if no connection is due. That is decided under
    /// the same lock as in [`ReplacementTask::if_due`], so that no released connection is missed.
    fn next(&mut self) -> Option<(Arc<Slots>, TenantId)> {
        let slots = self.slots.upgrade()?;
        let mut state = slots.state();
        let Some(tenant) = due_and_idle(&slots, &state) else {
            state.is_replacing = false;
            self.is_registered = false;
            return None;
        };
        drop(state);
        Some((slots, tenant))
    }
}

impl Drop for ReplacementTask {
    fn drop(&mut self) {
        // Its runtime ended, or there was none: another task may start.
        if self.is_registered
            && let Some(slots) = self.slots.upgrade()
        {
            slots.state().is_replacing = false;
        }
    }
}

/// Returns the tenant served last by the connection that is due and idle and has served the most tenants. None if
/// a successor is already waiting for a connection to be released.
fn due_and_idle(slots: &Slots, state: &State) -> Option<TenantId> {
    if state.successor.is_some() || slots.is_closed() {
        return None;
    }
    let most = slots.shared.sharing.tenants_per_connection;
    let due = state.slots.iter().filter(|slot| !slot.is_busy && slot.is_due(most));
    let slot = due.max_by_key(|slot| slot.served.len())?;
    slot.served.iter().max_by_key(|(_, checkout)| **checkout).map(|(tenant, _)| *tenant)
}
