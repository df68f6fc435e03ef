//! Pools of connections, and which connection a tenant gets.

pub(in crate::pg) mod affinity;
pub(in crate::pg) mod retirement;
mod status;

pub use self::status::{PoolStatus, Purpose, SharingStatus};

use deadpool_postgres::{
    Manager, ManagerConfig, Object, Pool, QueueMode, RecyclingMethod, Runtime,
};

use super::error::Failure;
use super::rules::{Endpoint, TimeLimits};

pub(in crate::pg) fn build(
    endpoint: &Endpoint,
    size: usize,
    limits: TimeLimits,
) -> Result<Pool, deadpool_postgres::BuildError> {
    let config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_config(endpoint.config.clone(), endpoint.tls.clone(), config);
    Pool::builder(manager)
        // What one backend has just looked up is of use to the next who asks it.
        .queue_mode(QueueMode::Lifo)
        .max_size(size)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(limits.connect))
        .create_timeout(Some(limits.connect))
        .build()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the scopes take their connections here and nowhere else"
)]
pub(in crate::pg) async fn take(pool: &Pool) -> Result<Object, Failure> {
    Ok(pool.get().await?)
}
