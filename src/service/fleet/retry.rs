//! Which failures are worth another attempt, and how long to wait before it.

use std::time::Duration;

use uuid::Uuid;

use crate::pg::error::Failure;
use crate::pg::schema::error::ApplyError;

/// How often something that failed for a transient reason is tried.
pub(super) const TRIES: u32 = 6;

/// The pause after the first of these attempts; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Does work up to `most` times, with a pause after each attempt, as long as it fails for a reason that may pass.
///
/// # Errors
/// The last error.
pub(super) async fn retry<T, E, F>(
    most: u32,
    may_pass: impl Fn(&E) -> bool,
    work: impl Fn() -> F,
) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    let mut tries = 1;
    loop {
        match work().await {
            Err(error) if tries < most && may_pass(&error) => {
                tokio::time::sleep(pause_after(tries)).await;
                tries += 1;
            }
            outcome => return outcome,
        }
    }
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
pub(super) fn is_transient(failure: &Failure) -> bool {
    failure.is_retryable() || failure.is_unavailable() || matches!(failure, Failure::Late)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_is_repeated_while_its_error_may_pass_and_no_more_often_than_said() {
        for (most, passes_after, outcome, attempts) in [
            (6, 0, Ok(0), 1),
            (6, 2, Ok(2), 3),
            (6, 5, Ok(5), 6),
            (6, 6, Err("away"), 6),
            (1, 1, Err("away"), 1),
        ] {
            let tries = Cell::new(0);
            let work = || async {
                let before = tries.replace(tries.get() + 1);
                if before < passes_after { Err("away") } else { Ok(before) }
            };
            assert_eq!(retry(most, |error| *error == "away", work).await, outcome);
            assert_eq!(tries.get(), attempts, "{most} at most, passes after {passes_after}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_that_stays_is_returned_at_once() {
        let tries = Cell::new(0);
        let work = || async {
            let before = tries.replace(tries.get() + 1);
            Err::<(), _>(if before == 0 { "away" } else { "wrong" })
        };
        assert_eq!(retry(6, |error| *error == "away", work).await, Err("wrong"));
        assert_eq!(tries.get(), 2);
    }

    #[test]
    fn each_pause_is_twice_as_long_as_the_one_before_or_up_to_half_as_much_again() {
        for (tries, least) in [(1, 100), (2, 200), (5, 1600)] {
            let least = Duration::from_millis(least);
            assert!((least..=least * 3 / 2).contains(&pause_after(tries)), "after {tries}");
        }
    }
}
