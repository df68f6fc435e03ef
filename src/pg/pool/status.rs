//! Owns how the pools stand, for the metrics: connections by purpose, and how well they and the tenants find each
//! other.
//!
//! Must not know: how a connection is had.

/// What a pool is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum Purpose {
    /// Control-plane statements, as the owner.
    Control,
    /// Tenant statements, as the runtime login.
    Runtime,
}

impl Purpose {
    /// The word in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
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

    pub(in crate::pg) fn add(&mut self, other: Self) {
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
