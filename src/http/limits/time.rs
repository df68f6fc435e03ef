//! The time source of the buckets: the injected clock, made monotonic.

use std::sync::{Arc, Mutex, PoisonError};

use governor::clock::Clock as TimeSource;
use governor::nanos::Nanos;

use crate::domain::Clock;

/// The time that has passed on a [`Clock`]. If the clock is set back, no time passes, and counting goes on from there, so
/// that no client waits for the clock to catch up.
#[derive(Debug, Clone)]
pub(super) struct Steady {
    clock: Clock,
    /// The last reading of the clock, and the time that had passed then; nanoseconds.
    seen: Arc<Mutex<(i128, u64)>>,
}

impl Steady {
    pub(super) fn new(clock: Clock) -> Self {
        let now = clock.now().unix_timestamp_nanos();
        Self { clock, seen: Arc::new(Mutex::new((now, 0))) }
    }
}

impl TimeSource for Steady {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        let now = self.clock.now().unix_timestamp_nanos();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, passed) = *seen;
        let passed = passed.saturating_add(u64::try_from(now - last).unwrap_or(0));
        *seen = (now, passed);
        Nanos::new(passed)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use time::OffsetDateTime;

    use super::*;

    #[test]
    fn a_clock_that_is_set_back_stops_no_time() {
        let seconds = Arc::new(AtomicI64::new(1_000_000));
        let reading = Arc::clone(&seconds);
        let steady = Steady::new(Clock::from_fn(move || {
            OffsetDateTime::from_unix_timestamp(reading.load(Ordering::SeqCst)).unwrap()
        }));
        let mut last = 0;
        for (turn, passed) in [(10, 10), (-3600, 10), (5, 15), (3600, 3615)] {
            seconds.fetch_add(turn, Ordering::SeqCst);
            let now = steady.now().as_u64() / 1_000_000_000;
            assert_eq!(now, passed);
            assert!(now >= last);
            last = now;
        }
    }
}
