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
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;

use super::error::Failure;
use super::lanes::{Lanes, Loan, State};
use super::pool::{Endpoint, Rules, build, take};
use super::scope::{PlainStatements, TenantTx};
use crate::domain::names::{SchemaName, TenantId};

/// The pause after a first connection that could not be opened; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How a connection of the runtime login is opened.
pub(super) struct Opener {
    pub(super) endpoint: Endpoint,
    pub(super) rules: Arc<Rules>,
    pub(super) plain: Arc<PlainStatements>,
}

impl Opener {
    /// Room for one connection, which opens when it is first needed.
    pub(super) fn lane(&self) -> Result<Pool, BuildError> {
        build(&self.endpoint, 1, self.rules.limits)
    }

    /// A transaction inside a tenant.
    pub(super) fn enter(&self, connection: Loan, tenant: TenantId) -> TenantTx {
        let (schema, plain) = (SchemaName::of(tenant), Arc::clone(&self.plain));
        TenantTx::new(connection, &schema, &self.rules, self.endpoint.tls.clone(), plain)
    }

    /// Opens a connection and warms it.
    async fn open(&self, tenant: TenantId) -> Result<Pool, Failure> {
        let pool = self.lane().map_err(|_unbuilt| PoolError::NoRuntimeSpecified)?;
        let connection = Loan::of_no_lane(take(&pool).await?);
        let warm_up = self.enter(connection, tenant).query_and_commit("SELECT 1", &[]);
        let outcome = match tokio::time::timeout(self.rules.limits.statement, warm_up).await {
            Ok(outcome) => outcome.map(|_rows| ()),
            Err(_elapsed) => Err(PoolError::Timeout(TimeoutType::Create).into()),
        };
        match outcome {
            // The tenant may be gone meanwhile, with its role. The connection is as good without.
            Err(failure) if pool.status().size == 0 => Err(failure),
            _ => Ok(pool),
        }
    }
}

/// A new connection, and its place in the budget until it has another's.
pub(super) struct Successor {
    pool: Pool,
    reserve: OwnedSemaphorePermit,
}

/// A connection that is closed when this is dropped, and then its place is free.
pub(super) struct LetGo {
    pool: Pool,
    _reserve: OwnedSemaphorePermit,
}

impl Drop for LetGo {
    fn drop(&mut self) {
        self.pool.close();
    }
}

impl Lanes {
    /// Lets the new connection, if one is ready, change places with one that is due and idle. What is
    /// given back is to be dropped without the lock.
    pub(super) fn settle(&self, state: &mut State) -> Option<LetGo> {
        let successor = state.successor.take()?;
        let most = self.common.sharing.tenants_per_connection;
        if !state.lanes.iter().any(|lane| lane.is_due(most)) {
            // The one that it was for broke meanwhile.
            return Some(LetGo { pool: successor.pool, _reserve: successor.reserve });
        }
        let idle = state.lanes.iter_mut().filter(|lane| lane.is_due(most) && !lane.is_busy);
        // With the first that is found, others could be passed over for ever.
        if let Some(lane) = idle.max_by_key(|lane| lane.served.len()) {
            let served = lane.served.len();
            let pool = lane.renew(successor.pool);
            self.common.counts.note_retired();
            tracing::debug!(tenants = served, "replaced a connection that has served many tenants");
            return Some(LetGo { pool, _reserve: successor.reserve });
        }
        state.successor = Some(successor);
        None
    }

    /// Opens a new connection and lets it take the place of one that is due.
    async fn replace_one(&self, warm_for: TenantId) -> Result<(), Failure> {
        let reserve = Arc::clone(&self.common.reserve).acquire_owned();
        let reserve = reserve.await.map_err(|_closed| PoolError::Closed)?;
        let pool = self.common.opener.open(warm_for).await?;
        let let_go = {
            let mut state = self.state();
            if self.is_closed() {
                Some(LetGo { pool, _reserve: reserve })
            } else {
                state.successor = Some(Successor { pool, reserve });
                self.settle(&mut state)
            }
        };
        drop(let_go);
        Ok(())
    }
}

/// The task that opens new connections for one runtime's lanes; there is one at most.
pub(super) struct Retiring {
    lanes: Weak<Lanes>,
    /// Whether it is still this one that the lanes know of.
    is_on: bool,
}

impl Retiring {
    /// Where a connection is due and idle and nobody is at it.
    pub(super) fn if_due(lanes: &Arc<Lanes>, state: &mut State) -> Option<Self> {
        if state.is_retiring || due_and_idle(lanes, state).is_none() {
            return None;
        }
        state.is_retiring = true;
        Some(Self { lanes: Arc::downgrade(lanes), is_on: true })
    }

    /// Works in the background. With no runtime to work on, the next loan that ends tries again.
    pub(super) fn start(self) {
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(self.work());
        }
    }

    async fn work(mut self) {
        let mut pause = FIRST_PAUSE;
        while let Some((lanes, tenant)) = self.next() {
            match lanes.replace_one(tenant).await {
                Ok(()) => pause = FIRST_PAUSE,
                Err(_) if lanes.is_closed() => return,
                Err(failure) => {
                    lanes.common.counts.note_not_retired();
                    drop(lanes); // nothing is kept alive by waiting
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
    fn next(&mut self) -> Option<(Arc<Lanes>, TenantId)> {
        let lanes = self.lanes.upgrade()?;
        let mut state = lanes.state();
        let Some(tenant) = due_and_idle(&lanes, &state) else {
            state.is_retiring = false;
            self.is_on = false;
            return None;
        };
        drop(state);
        Some((lanes, tenant))
    }
}

impl Drop for Retiring {
    fn drop(&mut self) {
        // Its runtime ended, or never was: another may begin.
        if self.is_on
            && let Some(lanes) = self.lanes.upgrade()
        {
            lanes.state().is_retiring = false;
        }
    }
}

/// Of the connection that is due and idle and has served the most tenants, the tenant that it served last.
/// Nothing where a new connection is ready already and waits for one to come back.
fn due_and_idle(lanes: &Lanes, state: &State) -> Option<TenantId> {
    if state.successor.is_some() || lanes.is_closed() {
        return None;
    }
    let most = lanes.common.sharing.tenants_per_connection;
    let due = state.lanes.iter().filter(|lane| !lane.is_busy && lane.is_due(most));
    let lane = due.max_by_key(|lane| lane.served.len())?;
    lane.served.iter().max_by_key(|(_, turn)| **turn).map(|(tenant, _)| *tenant)
}
