//! Pools of connections: which request gets one next, and which one a tenant gets.

pub(in crate::pg) mod affinity;
pub(in crate::pg) mod check;
mod checkout;
pub(in crate::pg) mod control;
pub(in crate::pg) mod counts;
pub(in crate::pg) mod permits;
mod queue;
pub(in crate::pg) mod retirement;
pub(in crate::pg) mod shortage;
mod status;

pub use self::status::{PoolStatus, Purpose, SharingStatus};

use deadpool_postgres::{
    Manager, ManagerConfig, Object, Pool, QueueMode, RecyclingMethod, Runtime,
};

use self::check::RestCheck;
use super::connect::open::{OpenCount, PoolConnect};
use super::error::Failure;
use super::rules::{Endpoint, TimeLimits};

pub(in crate::pg) fn build(
    endpoint: &Endpoint,
    size: usize,
    limits: TimeLimits,
    check: &RestCheck,
    count: &OpenCount,
) -> Result<Pool, deadpool_postgres::BuildError> {
    let config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let connect = PoolConnect { tls: endpoint.tls.clone(), count: count.clone() };
    let manager = Manager::from_connect(endpoint.config.clone(), connect, config);
    Pool::builder(manager)
        // The connection that was used last has the most in its backend's caches.
        .queue_mode(QueueMode::Lifo)
        .max_size(size)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(limits.connect))
        .create_timeout(Some(limits.connect))
        .pre_recycle(check.hook(limits.connect))
        .build()
}

#[expect(clippy::disallowed_methods, reason = "the only place where a scope gets its connection")]
pub(in crate::pg) async fn take(pool: &Pool) -> Result<Object, Failure> {
    Ok(pool.get().await?)
}
