//! Tells the time to whoever is given one; the only place that asks the operating system.

use std::sync::Arc;

use time::OffsetDateTime;

/// A source of the current time, handed in at the composition root so that tests can turn it.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> OffsetDateTime + Send + Sync>);

impl Clock {
    /// The operating system's clock, in UTC.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one door to the system clock")]
    pub fn system() -> Self {
        Self(Arc::new(OffsetDateTime::now_utc))
    }

    /// A clock that answers what `read` says; for tests.
    pub fn from_fn(read: impl Fn() -> OffsetDateTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// The time now, in whole microseconds, which is as fine as PostgreSQL keeps it.
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
