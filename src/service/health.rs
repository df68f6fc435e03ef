//! Reports whether the process can serve requests, and its load.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::auth::password::Hasher;
use crate::domain::error::Result;
use crate::migrations::MigrationSet;
use crate::pg::bootstrap::version;
use crate::pg::control::tenant_counts;
use crate::pg::db::Database;
use crate::pg::{Db, During};
use crate::service::new_tenants::NewTenants;
use crate::telemetry::{self, Metrics};

/// How long a count of the tenants is good for, so that a client that reads the metrics in a loop does not keep the
/// database busy.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// How long the metrics wait for a count. Without one they have the last.
const COUNT_TIMEOUT: Duration = Duration::from_secs(1);

/// What the workers of a process share: whether it was told to stop, and when it last counted the tenants.
#[derive(Clone, Default)]
pub struct Serving(Arc<State>);

#[derive(Default)]
struct State {
    is_stopping: AtomicBool,
    counted_at: Mutex<Option<Instant>>,
}

/// Whether a process can serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// It can.
    Ready,
    /// It was told to stop.
    Stopping,
    /// It does not work with the version of the control plane.
    OtherVersion,
}

/// Readiness and load.
#[derive(Clone)]
pub struct Health {
    db: Db,
    database: Database,
    hasher: Hasher,
    public_version: i32,
    tenant_set: Arc<MigrationSet>,
    new_tenants: NewTenants,
    serving: Serving,
}

impl Health {
    /// Creates the service on `db`, for a program whose newest migration of the control plane is `public_version`.
    #[must_use]
    pub fn new(
        db: Db,
        database: Database,
        hasher: Hasher,
        public_version: i32,
        tenant_set: Arc<MigrationSet>,
        new_tenants: NewTenants,
        serving: Serving,
    ) -> Self {
        Self { db, database, hasher, public_version, tenant_set, new_tenants, serving }
    }

    /// Returns whether new tenants can be made from this program's migrations, as far as is known.
    #[must_use]
    pub fn makes_tenants_unauthorized(&self) -> bool {
        self.new_tenants.are_possible()
    }

    /// Reports from now on that the process is stopping, in all workers.
    pub fn stop(&self) {
        self.serving.0.is_stopping.store(true, Ordering::Relaxed);
    }

    /// Returns whether the process was told to stop.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.serving.0.is_stopping.load(Ordering::Relaxed)
    }

    /// Returns whether the process can serve: it was not told to stop, the database answers, and this program works with
    /// the control plane there. Checks no rights: load balancers ask without a credential.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn ready_unauthorized(&self) -> Result<Readiness> {
        if self.is_stopping() {
            return Ok(Readiness::Stopping);
        }
        let tx = self.db.public().await.during("reach the database")?;
        let fit = version::fit(&tx, self.public_version).await;
        if fit.during("read the version of the control plane")?.works() {
            Ok(Readiness::Ready)
        } else {
            Ok(Readiness::OtherVersion)
        }
    }

    /// Counts the tenants for the metrics, at most once a second in the whole process. If the database does not answer at
    /// once, the last figures stay.
    pub async fn count_tenants_unauthorized(&self, metrics: &Metrics) {
        if !self.serving.counts_now() {
            return;
        }
        let counting = async {
            let tx = self.db.public().await.during("count tenants")?;
            tenant_counts::count(tx, &self.tenant_set).await
        };
        match tokio::time::timeout(COUNT_TIMEOUT, counting).await {
            Ok(Ok(counts)) => {
                for (status, count) in counts.by_status {
                    metrics.set_tenants(status, count);
                }
                metrics.set_tenants_behind(counts.behind);
            }
            Ok(Err(error)) => tracing::debug!(error = %error.chain(), "failed to count tenants"),
            Err(_elapsed) => tracing::debug!("failed to count tenants in time"),
        }
    }

    /// Writes the present state of the pools, of the hasher and of the log into the metrics.
    pub fn measure(&self, metrics: &Metrics) {
        metrics.set_log_lines_dropped(telemetry::dropped_lines());
        for pool in self.database.status() {
            let purpose = pool.purpose.as_str();
            metrics.set_connections_max(purpose, pool.budget);
            metrics.set_connections(purpose, "open", pool.open);
            metrics.set_connections(purpose, "idle", pool.idle);
            metrics.set_connections(purpose, "waiting", pool.waiting);
        }
        let sharing = self.database.sharing_status();
        metrics.set_affinity("last", sharing.on_last);
        metrics.set_affinity("earlier", sharing.on_earlier);
        metrics.set_affinity("never", sharing.on_other);
        metrics.set_retired("done", sharing.retired);
        metrics.set_retired("failed", sharing.not_retired);
        metrics.set_tenants_served("all", sharing.tenants);
        metrics.set_tenants_served("most", sharing.tenants_at_most);
        metrics.set_new_tenants_blocked(!self.new_tenants.are_possible());
        let load = self.hasher.load();
        metrics.set_hashes("running", load.running);
        metrics.set_hashes("waiting", load.waiting);
        metrics.set_hashes_computed(load.computed);
    }
}

impl Serving {
    /// Returns whether it is time to count, and begins the time until the next count.
    fn counts_now(&self) -> bool {
        let mut counted_at = self.0.counted_at.lock().unwrap_or_else(PoisonError::into_inner);
        if counted_at.is_some_and(|at| at.elapsed() < COUNT_EVERY) {
            return false;
        }
        *counted_at = Some(Instant::now());
        true
    }
}
