//! A job on the connections of this process.

use std::time::Duration;

use futures_util::FutureExt;

use super::{Job, Next};
use crate::pg::db::Database;

/// The longest interval between two searches for unused connections.
const SEARCH_INTERVAL: Duration = Duration::from_secs(30);

/// Closes connections that were not used for `idle`, so that other servers can have them, and others as soon as a pool of
/// this process can open none.
pub(super) fn close_unused(database: &Database, idle: Option<Duration>) -> Job {
    let every = idle.unwrap_or(SEARCH_INTERVAL).min(SEARCH_INTERVAL);
    Job::new("close_unused_connections", every, database, move |database, _ctx| async move {
        let closed = database.close_unused(idle);
        if closed > 0 {
            tracing::debug!(closed, "closed unused connections");
        }
        Ok(Next::When(async move { database.shortage().await }.boxed()))
    })
}
