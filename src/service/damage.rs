//! Knows how many tenants are damaged: those that lack their schema or their role, and those in which a request found that
//! something is missing.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use time::{Duration, OffsetDateTime};
use tokio::sync::Notify;

use crate::auth::CallContext;
use crate::domain::Permission;
use crate::domain::error::Result;
use crate::domain::names::TenantId;
use crate::pg::catalog::unreachable::list_unreachable;
use crate::pg::{Db, During};

/// How long a tenant counts as damaged after a request has found that.
const REMEMBERED: Duration = Duration::minutes(10);

/// The most tenants that are remembered.
const REMEMBERED_MAX: usize = 10_000;

/// The damaged tenants, as far as this process knows. Cheap to clone; the clones share what is known.
#[derive(Clone)]
pub struct Damage(Arc<Inner>);

struct Inner {
    db: Db,
    known: Mutex<Known>,
    /// Notified when a request has found a damaged tenant that was not known.
    found: Notify,
}

#[derive(Default)]
struct Known {
    /// Those that cannot be entered, at the last check.
    unreachable: HashSet<TenantId>,
    /// Those in which a request found it, and when it last did.
    found: HashMap<TenantId, OffsetDateTime>,
    /// The number that was logged last.
    logged: usize,
}

impl Known {
    fn count(&mut self, now: OffsetDateTime) -> usize {
        self.found.retain(|_, at| *at + REMEMBERED > now);
        let others = self.found.keys().filter(|id| !self.unreachable.contains(id)).count();
        self.unreachable.len() + others
    }
}

impl Damage {
    /// Nothing is known until the first [`check`](Self::check).
    #[must_use]
    pub fn new(db: Db) -> Self {
        Self(Arc::new(Inner { db, known: Mutex::default(), found: Notify::new() }))
    }

    /// Notes that a request found a tenant damaged. Checks no right: it tells nothing.
    pub fn note_unauthorized(&self, tenant: TenantId, now: OffsetDateTime) {
        let mut known = self.known();
        let is_new = !known.found.contains_key(&tenant);
        if !is_new || known.found.len() < REMEMBERED_MAX {
            known.found.insert(tenant, now);
        }
        drop(known);
        if is_new {
            self.0.found.notify_one();
        }
    }

    /// Returns how many tenants are damaged, as far as is known. Checks no right: load balancers ask without a credential,
    /// and are told a number.
    #[must_use]
    pub fn count_unauthorized(&self, now: OffsetDateTime) -> usize {
        self.known().count(now)
    }

    /// Looks for tenants that cannot be entered, and logs the number of damaged ones if it has changed.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn check(&self, ctx: &CallContext) -> Result<usize> {
        ctx.require(Permission::ViewTenants)?;
        let tx = self.0.db.public().await.during("look for damaged tenants")?;
        let isolation = self.0.db.rules().isolation;
        let found = list_unreachable(&tx, isolation).await.during("look for damaged tenants")?;
        drop(tx); // a read needs no commit
        let mut known = self.known();
        known.unreachable = found.into_iter().map(|tenant| tenant.id).collect();
        let (count, last) = (known.count(ctx.now), known.logged);
        known.logged = count;
        drop(known);
        match count {
            _ if count == last => {}
            0 => tracing::info!("no tenant is damaged any more"),
            _ => tracing::warn!(
                count,
                "tenants are damaged and answer 503; `rowhouse doctor` lists them, and `rowhouse doctor --fix` repairs \
                 roles and rights"
            ),
        }
        Ok(count)
    }

    /// Waits until a request has found a damaged tenant that was not known. Checks no right: it tells nothing.
    pub async fn found_unauthorized(&self) {
        self.0.found.notified().await;
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
