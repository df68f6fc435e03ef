//! The status of the pools, for the metrics: connections by purpose, and how often a tenant gets a connection that
//! has served it before.
//!
//! Must not know: how a connection is opened or checked out.

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
    /// Returns the label value in the metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The sum over all pools of one purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolStatus {
    /// What the pools are for.
    pub purpose: Purpose,
    /// Connections that they may open.
    pub budget: usize,
    /// Open connections.
    pub open: usize,
    /// Open connections that are not in use.
    pub idle: usize,
    /// Callers waiting for a connection.
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

/// How often a tenant gets a connection that has served it before, in all runtimes of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharingStatus {
    /// Transactions on the connection that served their tenant last.
    pub on_last: u64,
    /// Transactions on a connection that had served their tenant earlier, because the last one was busy.
    pub on_earlier: u64,
    /// Transactions on a connection that had never served their tenant.
    pub on_other: u64,
    /// Connections that were replaced because they had served many tenants.
    pub retired: u64,
    /// Replacements that failed because the database accepted no new connection. The old one stays in use.
    pub not_retired: u64,
    /// The number of distinct tenants that each open connection has served, summed over the connections.
    pub tenants: usize,
    /// The largest number of distinct tenants that one open connection has served.
    pub tenants_at_most: usize,
}
