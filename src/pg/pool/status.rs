//! Owns how the pools stand, for the metrics: connections by purpose, and how well they and the tenants find each
//! other.
//!
//! Must not know: how a connection is had.

use std::sync::atomic::Ordering;

use super::Database;

/// What a pool is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Control-plane statements, as the owner.
    Control,
    /// Tenant statements, as the runtime login.
    Runtime,
}

impl Purpose {
    /// The word in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Runtime => "runtime",
        }
    }
}

/// The state of all pools of one purpose, added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolStatus {
    /// What they are for.
    pub purpose: Purpose,
    /// Connections they may open.
    pub budget: usize,
    /// Connections open now.
    pub open: usize,
    /// Connections open and not in use.
    pub idle: usize,
    /// Callers waiting for one.
    pub waiting: usize,
}

impl PoolStatus {
    pub(in crate::pg) const fn none(purpose: Purpose) -> Self {
        Self { purpose, budget: 0, open: 0, idle: 0, waiting: 0 }
    }

    fn add(&mut self, other: Self) {
        self.budget += other.budget;
        self.open += other.open;
        self.idle += other.idle;
        self.waiting += other.waiting;
    }
}

/// How well connections and tenants find each other, in all runtimes of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharingStatus {
    /// Transactions on the connection that served their tenant last.
    pub on_last: u64,
    /// Transactions on one that had served their tenant before, the last one being busy.
    pub on_earlier: u64,
    /// Transactions on one that had not.
    pub on_other: u64,
    /// Connections that were replaced because they had served many tenants.
    pub retired: u64,
    /// Tries to do so that failed: the database took no new connection. The old one serves on.
    pub not_retired: u64,
    /// Distinct tenants that each open connection has served, added up.
    pub tenants: usize,
    /// The same of the connection with the most.
    pub tenants_at_most: usize,
}

impl Database {
    /// Adds up the pools by purpose.
    #[must_use]
    pub fn status(&self) -> Vec<PoolStatus> {
        let pools = self.lock();
        let mut control = PoolStatus::none(Purpose::Control);
        for pool in &pools.control {
            let status = pool.status();
            control.add(PoolStatus {
                purpose: Purpose::Control,
                budget: status.max_size,
                open: status.size,
                idle: status.available,
                waiting: status.waiting,
            });
        }
        let mut runtime = PoolStatus::none(Purpose::Runtime);
        runtime.budget = self.0.common.sharing.reserve();
        for lanes in &pools.runtime {
            runtime.add(lanes.status());
        }
        vec![control, runtime]
    }

    /// How well connections and tenants find each other.
    #[must_use]
    pub fn sharing_status(&self) -> SharingStatus {
        let pools = self.lock();
        let served: Vec<_> =
            pools.runtime.iter().flat_map(|lanes| lanes.tenants_served()).collect();
        let counts = &self.0.common.counts;
        SharingStatus {
            on_last: counts.last.load(Ordering::Relaxed),
            on_earlier: counts.earlier.load(Ordering::Relaxed),
            on_other: counts.none.load(Ordering::Relaxed),
            retired: counts.retired.load(Ordering::Relaxed),
            not_retired: counts.not_retired.load(Ordering::Relaxed),
            tenants: served.iter().sum(),
            tenants_at_most: served.iter().copied().max().unwrap_or_default(),
        }
    }
}
