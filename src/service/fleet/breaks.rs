//! Tells a file that ends its connection from a database that is away.
//!
//! A file may end the connection each time that it runs: it crashes its backend, or tells it to end. If that were taken
//! for a lost database, the run would wait for it, end, and be recovered by a server without end. So each time that the
//! connection ends while a file runs, a fresh connection is tried: if the database answers, the file is counted, and
//! after [`MOST`] times the tenant has failed. A database that does not answer is waited for as after any failure, and
//! one that says that it recovers, for as long as that takes: a crash is followed by a recovery.

use std::time::Duration;

use tokio::sync::watch;

use crate::pg::error::Failure;
use crate::pg::schema::error::ApplyError;
use crate::service::fleet::engine::Engine;
use crate::service::fleet::retry::{TRIES, pause_after};
use crate::service::fleet::stop::StopReason;

/// How often the connection may end while a file runs in a tenant.
const MOST: u32 = 3;

/// How often to ask a server that starts or recovers, which takes a few minutes at the most.
const TRIES_IF_STARTING: u32 = 1200;

/// The pause between two of these.
const PAUSE_IF_STARTING: Duration = Duration::from_millis(500);

/// Counts how often the connection ended while a file ran in one tenant.
#[derive(Default)]
pub(super) struct Breaks(u32);

impl Breaks {
    /// Counts an attempt that ended in this error. Returns why the tenant has failed, if the file is to blame.
    pub(super) async fn blame(
        &mut self,
        engine: &Engine,
        stopped: &watch::Receiver<Option<StopReason>>,
        error: &ApplyError,
    ) -> Option<String> {
        let ApplyError::Interrupted { file, line, failure } = error else { return None };
        if !failure.has_ended_connection() || !engine.answers(stopped).await {
            return None;
        }
        self.0 += 1;
        (self.0 >= MOST).then(|| {
            let (times, message) = (self.0, failure.server_message());
            let line = line.map(|line| format!(", line {line}")).unwrap_or_default();
            format!(
                "{file}{line}: the connection ended {times} times while this file ran: {message}"
            )
        })
    }
}

impl Engine {
    /// Waits until the database answers. Returns false if it is away for as long as other failures are retried, or if
    /// the run stops.
    async fn answers(&self, stopped: &watch::Receiver<Option<StopReason>>) -> bool {
        let (mut tries, mut starting) = (1, 1);
        loop {
            let Err(failure) = self.ask().await else { return true };
            let pause = if failure.is_starting() && starting < TRIES_IF_STARTING {
                starting += 1;
                PAUSE_IF_STARTING
            } else if tries < TRIES {
                tries += 1;
                pause_after(tries)
            } else {
                return false;
            };
            let mut stopped = stopped.clone();
            if tokio::time::timeout(pause, stopped.wait_for(Option::is_some)).await.is_ok() {
                return false;
            }
        }
    }

    async fn ask(&self) -> Result<(), Failure> {
        self.db.public().await?.query_and_commit("SELECT 1", &[]).await.map(drop)
    }
}
