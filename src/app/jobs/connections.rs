//! A job on the connections of this process.

use std::time::Duration;

use super::{Job, Next};
use crate::pg::db::Database;

/// The longest interval between two searches for unused connections.
const SEARCH_INTERVAL: Duration = Duration::from_secs(30);

/// Closes connections that were not used for `idle`, so that other servers can have them.
pub(super) fn close_unused(database: &Database, idle: Duration) -> Job {
    let every = idle.min(SEARCH_INTERVAL);
    Job::new("close_unused_connections", every, database, move |database, _ctx| async move {
        let closed = database.close_unused(idle);
        if closed > 0 {
            tracing::debug!(closed, "closed unused connections");
        }
        Ok(Next::AfterInterval)
    })
}
