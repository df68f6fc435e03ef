//! Reports whether the process can serve requests, and its load.

use crate::auth::password::Hasher;
use crate::domain::error::Result;
use crate::migrations::HISTORY_TABLE;
use crate::pg::db::Database;
use crate::pg::{Db, During};
use crate::service::new_tenants::NewTenants;
use crate::telemetry::{self, Metrics};

/// Readiness and load.
#[derive(Clone)]
pub struct Health {
    db: Db,
    database: Database,
    hasher: Hasher,
    public_version: i32,
    new_tenants: NewTenants,
}

impl Health {
    /// Creates the service on `db`, whose control plane must be at version `public_version`.
    #[must_use]
    pub fn new(
        db: Db,
        database: Database,
        hasher: Hasher,
        public_version: i32,
        new_tenants: NewTenants,
    ) -> Self {
        Self { db, database, hasher, public_version, new_tenants }
    }

    /// Returns whether new tenants can be made from this program's migrations, as far as is known.
    #[must_use]
    pub fn makes_tenants_unauthorized(&self) -> bool {
        self.new_tenants.are_possible()
    }

    /// Returns whether the control plane in the database has the version that this process knows. Checks no
    /// rights: load balancers ask without a credential.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn ready_unauthorized(&self) -> Result<bool> {
        let tx = self.db.public().await.during("reach the database")?;
        let sql = format!("SELECT max(version) AS version FROM {HISTORY_TABLE}");
        let rows =
            tx.query_and_commit(&sql, &[]).await.during("read the version of the control plane")?;
        let version: Option<i32> = rows.first().and_then(|row| row.get("version"));
        Ok(version == Some(self.public_version))
    }

    /// Writes the present state of the pools, of the hasher and of the log into the metrics.
    pub fn measure(&self, metrics: &Metrics) {
        metrics.set_log_lines_dropped(telemetry::dropped_lines());
        for pool in self.database.status() {
            let purpose = pool.purpose.as_str();
            metrics.set_connections(purpose, "budget", pool.budget);
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
