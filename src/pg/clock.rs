//! The time of the database, as this process computes it: read from the database, and advanced by the monotonic clock.
//!
//! What is stored with an end (a grace period, a token, a session, a lease) ends by this time for every server, whatever
//! the clock of its machine shows. Promises: never ahead of the database by more than its clock drifts between two
//! readings; behind it by at most one round trip, and by the time that the machine slept since the last reading.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use time::OffsetDateTime;

use crate::domain::Clock;
use crate::pg::db::Db;
use crate::pg::error::Failure;

/// A difference to the last reading that is worth a line in the log, in seconds.
const STEP: f64 = 5.0;

/// The clock of a database. Cheap to clone; the clones share the last reading.
#[derive(Clone)]
pub struct DatabaseClock {
    db: Db,
    last: Arc<RwLock<Reading>>,
}

/// What the database's clock showed, and when this process learned it.
#[derive(Debug, Clone, Copy)]
struct Reading {
    at: OffsetDateTime,
    learned: Instant,
}

impl Reading {
    async fn take(db: &Db) -> Result<Self, Failure> {
        let tx = db.public().await?;
        let rows = tx.query_and_commit("SELECT clock_timestamp() AS now", &[]).await?;
        let row = rows.first().ok_or(Failure::RowCount)?;
        Ok(Self { at: row.get("now"), learned: Instant::now() })
    }

    fn now(&self) -> OffsetDateTime {
        self.at + self.learned.elapsed()
    }
}

impl DatabaseClock {
    /// Reads the clock of the database.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn read(db: &Db) -> Result<Self, Failure> {
        let last = Arc::new(RwLock::new(Reading::take(db).await?));
        Ok(Self { db: db.clone(), last })
    }

    /// Reads it again: the clocks drift, the machine may have slept, and another server may be the primary by now.
    ///
    /// # Errors
    /// [`Failure`]; the last reading stays.
    pub async fn read_again(&self) -> Result<(), Failure> {
        let reading = Reading::take(&self.db).await?;
        let step = (reading.at - self.now()).as_seconds_f64();
        if step.abs() > STEP {
            tracing::warn!(
                step_s = step,
                "the clock of the database differs from what it was to show by now"
            );
        }
        *self.last.write().unwrap_or_else(PoisonError::into_inner) = reading;
        Ok(())
    }

    /// Returns it as the source of the time of all services.
    #[must_use]
    pub fn clock(&self) -> Clock {
        let this = self.clone();
        Clock::from_fn(move || this.now())
    }

    fn now(&self) -> OffsetDateTime {
        self.last.read().unwrap_or_else(PoisonError::into_inner).now()
    }
}
