//! Time that a test has moved, for the requests of that test alone.
//!
//! The tests of one process share a server. A header of a request says how far ahead the time of its test is, and the
//! clock of the server is ahead by as much while that request is answered.
//!
//! Promises: a process that runs no tests ignores the header, also if it was built with the feature `testing`.

use std::sync::atomic::{AtomicBool, Ordering};

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use time::Duration;

use crate::domain::Clock;

/// The header that says how many milliseconds the time of a test is ahead.
pub(crate) const HEADER: &str = "x-rowhouse-test-time-ahead";

static IS_ALLOWED: AtomicBool = AtomicBool::new(false);

tokio::task_local! {
    /// How far ahead the time is for the request that this task answers.
    static AHEAD: Duration;
}

/// Lets the requests of this process say how far ahead the time is.
pub(crate) fn allow() {
    IS_ALLOWED.store(true, Ordering::Relaxed);
}

/// Returns a clock that is ahead of another by what the current request says, if requests may say so.
pub(crate) fn movable(clock: Clock) -> Clock {
    if !IS_ALLOWED.load(Ordering::Relaxed) {
        return clock;
    }
    Clock::from_fn(move || clock.now() + AHEAD.try_with(|ahead| *ahead).unwrap_or(Duration::ZERO))
}

/// Answers a request at the time of its test.
pub(crate) async fn at_time_of_test<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, actix_web::Error> {
    let ahead = request.headers().get(HEADER).filter(|_| IS_ALLOWED.load(Ordering::Relaxed));
    let ahead = ahead.and_then(|value| value.to_str().ok()?.parse().ok());
    let ahead = ahead.map_or(Duration::ZERO, Duration::milliseconds);
    AHEAD.scope(ahead, next.call(request)).await
}
