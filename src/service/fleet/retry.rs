//! Which failures are worth another attempt, and how long to wait before it.

use std::time::Duration;

use uuid::Uuid;

use crate::pg::error::Failure;
use crate::pg::schema::error::ApplyError;

/// How often something that failed for a transient reason is tried.
pub(super) const TRIES: u32 = 6;

/// The pause after the first of these attempts; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Repeats work that has failed, at most `most` times and as long as the failure is transient.
///
/// # Errors
/// The last [`Failure`].
pub(super) async fn retry<T, F>(
    mut failure: Failure,
    most: u32,
    work: impl Fn() -> F,
) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    for tries in 1..=most {
        if !is_transient(&failure) {
            break;
        }
        tokio::time::sleep(pause_after(tries)).await;
        match work().await {
            Ok(done) => return Ok(done),
            Err(again) => failure = again,
        }
    }
    Err(failure)
}

/// The pause after an attempt: twice as long each time, with jitter.
pub(super) fn pause_after(tries: u32) -> Duration {
    let pause = FIRST_PAUSE * 2_u32.saturating_pow(tries.saturating_sub(1));
    let draw = Uuid::new_v4().into_bytes().first().copied().unwrap_or(0);
    pause + pause * u32::from(draw) / 512
}

/// Whether a migration failed for a reason that may pass.
pub(super) fn is_worth_retrying(error: &ApplyError) -> bool {
    match error {
        ApplyError::Interrupted { failure, .. } => is_transient(failure) && !failure.is_cancelled(),
        ApplyError::Database(failure) => is_transient(failure),
        _ => false,
    }
}

/// Whether a file was cancelled. Migrations have no time limit of ours, so the file had set one, or an operator
/// cancelled it: the next attempt would end in the same way.
pub(super) fn is_cancelled(error: &ApplyError) -> bool {
    matches!(error, ApplyError::Interrupted { failure, .. } if failure.is_cancelled())
}

/// Whether the same work may succeed a moment later: a lock that was not granted, a connection that broke, a lease
/// that was not renewed in time.
fn is_transient(failure: &Failure) -> bool {
    failure.is_retryable() || failure.is_unavailable() || matches!(failure, Failure::Late)
}
