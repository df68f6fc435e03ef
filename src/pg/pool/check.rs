//! Checks a connection before it is used again, if it was not used for some time.
//!
//! A network can forget a connection without a word, and a server can hang: the pool sees neither, and the request that
//! gets the connection waits. So a connection that rested is asked first, and discarded if it does not answer soon. The
//! others that were not used since then are taken for dead as well, so that a request pays for one check and not for
//! each connection of the pool.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use deadpool_postgres::{Hook, HookError, Metrics};
use tokio_postgres::Client;

/// How long a connection rests before it is checked. One that is in steady use costs nothing.
const RESTS: Duration = Duration::from_secs(1);

/// The longest time for the answer, which takes one round trip.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// The check of all pools of one login.
#[derive(Clone, Default)]
pub(in crate::pg) struct RestCheck {
    /// Connections that were last used before this time are dead.
    dead_before: Arc<Mutex<Option<Instant>>>,
}

impl RestCheck {
    /// Returns the check for a pool whose callers wait `connect` for a connection.
    pub(super) fn hook(&self, connect: Duration) -> Hook {
        let (check, within) = (self.clone(), ANSWERS_WITHIN.min(connect / 2));
        Hook::async_fn(move |client, metrics| {
            let (check, used) = (check.clone(), last_use(metrics));
            Box::pin(async move { check.run(client, used, within).await })
        })
    }

    async fn run(&self, client: &Client, used: Instant, within: Duration) -> Result<(), HookError> {
        let now = Instant::now();
        if now.duration_since(used) < RESTS || client.is_closed() {
            return Ok(());
        }
        if self.dead_before().is_some_and(|time| used < time) {
            return Err(HookError::message("another connection did not answer"));
        }
        match tokio::time::timeout(within, client.simple_query("")).await {
            Ok(answer) => answer.map(drop).map_err(HookError::Backend),
            Err(_elapsed) => {
                *self.dead_before() = Some(now);
                let rested_s = now.duration_since(used).as_secs();
                tracing::warn!(rested_s, "a database connection does not answer; it is replaced");
                Err(HookError::message("no answer in time"))
            }
        }
    }

    fn dead_before(&self) -> MutexGuard<'_, Option<Instant>> {
        self.dead_before.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When the connection was checked out last, or opened.
fn last_use(metrics: &Metrics) -> Instant {
    metrics.recycled.unwrap_or(metrics.created)
}
