//! The job that reads the clock of the database again.

use std::time::Duration;

use super::{Job, Next};
use crate::pg::During;
use crate::pg::clock::DatabaseClock;

/// Between two readings. A machine that slept is behind the database for this long at most.
const EVERY: Duration = Duration::from_secs(10);

/// Reads the clock of the database.
pub(super) fn read(clock: &DatabaseClock) -> Job {
    Job::new("read_clock", EVERY, clock, |clock, _ctx| async move {
        clock.read_again().await.during("read the clock of the database")?;
        Ok(Next::AfterInterval)
    })
    .not_at_start()
}
