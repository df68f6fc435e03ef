//! The engine that runs operations, one for the whole process, and its limits.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Mutex;

use crate::domain::Clock;
use crate::migrations::MigrationSet;
use crate::pg::Db;
use crate::pg::connect::cancelling;
use crate::pg::db::Database;
use crate::service::fleet::job::Tally;
use crate::service::fleet::stop::Runs;
use crate::service::new_tenants::NewTenants;

/// What runs operations, one for the whole process.
pub struct Engine {
    /// The runtime to which the pools of `db` belong.
    pub(super) runtime: Handle,
    pub(super) db: Db,
    pub(super) database: Database,
    pub(super) set: Arc<MigrationSet>,
    pub(super) new_tenants: NewTenants,
    pub(super) clock: Clock,
    pub(super) limits: Limits,
    /// Host name and process id, as other processes are told them.
    pub(super) host: String,
    pub(super) pid: i32,
    pub(super) tally: Tally,
    pub(super) runs: Runs,
    /// Held during a rehearsal, so that there is one at a time.
    pub(super) rehearsing: Mutex<()>,
}

/// How much one process does at a time.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Tenants at the same time, unless the request says how many.
    pub workers: usize,
    /// The most tenants at the same time: as many as there are connections.
    pub max_workers: usize,
    /// How long a runner's lease lasts after its last heartbeat.
    pub lease: Duration,
    /// Whether another process may recover an operation that this process released because it stops. Not when an
    /// operator watches the run: then stopping the process is meant to stop the migration.
    pub allow_recovery: bool,
}

impl Engine {
    /// Runs operations on `runtime`, to which the pools of `db` belong, towards `set`.
    #[must_use]
    #[expect(clippy::too_many_arguments, reason = "each is a part of its own, given once")]
    pub fn new(
        runtime: Handle,
        db: Db,
        database: Database,
        set: Arc<MigrationSet>,
        new_tenants: NewTenants,
        clock: Clock,
        limits: Limits,
        host: String,
    ) -> Self {
        let pid = i32::try_from(std::process::id()).unwrap_or(0);
        let (tally, runs, rehearsing) = (Tally::default(), Runs::default(), Mutex::new(()));
        Self {
            runtime,
            db,
            database,
            set,
            new_tenants,
            clock,
            limits,
            host,
            pid,
            tally,
            runs,
            rehearsing,
        }
    }

    /// Stops the runs of this process between tenants and releases their operations; any process can continue them.
    pub async fn stop(&self) {
        self.runs.stop().await;
    }

    /// As [`stop`](Self::stop), and does not wait for the tenants that are begun: they are rolled back.
    pub async fn stop_at_once(&self) {
        self.runs.stop_at_once().await;
        cancelling::settle(self.db.rules().limits.connect).await;
    }
}
