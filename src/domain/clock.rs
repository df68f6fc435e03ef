//! Owns the clock, the only place that reads the time from the operating system.

use std::sync::Arc;

use time::OffsetDateTime;

/// A source of the current time, injected at the composition root so that tests can set it.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> OffsetDateTime + Send + Sync>);

impl Clock {
    /// Returns the operating system's clock, in UTC; for tests. A server takes the time from its database, because the
    /// clocks of its machine and of others may be wrong.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the only use of the system clock")]
    pub fn system() -> Self {
        Self(Arc::new(OffsetDateTime::now_utc))
    }

    /// Returns a clock that reads `read`; for tests.
    pub fn from_fn(read: impl Fn() -> OffsetDateTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// Returns the time in whole microseconds, PostgreSQL's resolution.
    #[must_use]
    pub fn now(&self) -> OffsetDateTime {
        let now = (self.0)();
        now.replace_microsecond(now.microsecond()).unwrap_or(now)
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}
