//! What becomes of permits when requests are cancelled, panic, time out or come at the same moment.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::{join_all, poll_immediate};
use uuid::Uuid;

use super::*;

/// Rounds of requests that finish, panic, are cancelled or give up.
const ROUNDS: usize = 100_000;

/// Longer than all that a test does.
const LONG: Duration = Duration::from_mins(10);

#[expect(clippy::unnecessary_wraps, reason = "a request may be of no tenant")]
fn tenant(number: u128) -> Option<TenantId> {
    Some(TenantId::new(Uuid::from_u128(number)))
}

async fn acquire(permits: &Arc<Permits>, number: u128, wait: Duration) -> Result<Permit, Denied> {
    permits.acquire(&mut Request::new(tenant(number), wait)).await
}

/// Takes all permits at once, each for another tenant, and returns how many there are.
async fn count_free(permits: &Arc<Permits>, total: usize) -> usize {
    let taken =
        join_all((0..=total).map(|number| {
            poll_immediate(Box::pin(acquire(permits, 1_000 + number as u128, LONG)))
        }));
    taken.await.into_iter().flatten().flatten().count()
}

/// Ends a task as a handler that panics does, without a message on stderr.
fn panic_quietly() -> ! {
    std::panic::resume_unwind(Box::new("a handler"))
}

/// One request; what becomes of it is random.
async fn round(permits: Arc<Permits>, held: Arc<AtomicUsize>, total: usize, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let number = random.u128(..4);
    let wait = match random.u8(..10) {
        0 => Duration::ZERO,
        1 => Duration::from_micros(random.u64(..2_000)),
        _ => LONG,
    };
    let polls = random.usize(..40);
    let work = async {
        let Ok(permit) = acquire(&permits, number, wait).await else { return };
        let at_once = held.fetch_add(1, Ordering::SeqCst) + 1;
        let guard = Held(&held);
        assert!(at_once <= total, "{at_once} of {total} permits are used");
        match random.u8(..20) {
            0 => tokio::time::sleep(Duration::from_micros(500)).await,
            1..8 => tokio::task::yield_now().await,
            8 | 9 => panic_quietly(),
            _ => {}
        }
        drop(guard);
        drop(permit);
    };
    // A client that hangs up: the future is dropped wherever it is.
    if polls < 10 {
        let mut work = Box::pin(work);
        for _ in 0..polls {
            if poll_immediate(&mut work).await.is_some() {
                return;
            }
            tokio::task::yield_now().await;
        }
    } else {
        work.await;
    }
}

struct Held<'a>(&'a AtomicUsize);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Requests that wait for a permit without an end get one: if one was forgotten, this test would not end.
async fn no_permit_is_lost(total: usize) {
    let permits =
        Permits::new(total, Fairness { reserve: 40, slow_after: Duration::from_millis(1) });
    let held = Arc::new(AtomicUsize::new(0));
    let at_once = 24;
    for begin in (0..ROUNDS).step_by(ROUNDS / 100) {
        let (mut tasks, mut next) = (tokio::task::JoinSet::new(), begin);
        while next < begin + ROUNDS / 100 || !tasks.is_empty() {
            if next < begin + ROUNDS / 100 && tasks.len() < at_once {
                tasks.spawn(round(Arc::clone(&permits), Arc::clone(&held), total, next as u64));
                next += 1;
            } else if let Some(Err(error)) = tasks.join_next().await {
                let panic = error.into_panic();
                assert!(panic.is::<&str>(), "a check failed");
            }
        }
        assert_eq!((held.load(Ordering::SeqCst), permits.waiting()), (0, 0), "after {next} rounds");
        assert_eq!(count_free(&permits, total).await, total, "after {next} rounds");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_thousand_requests_of_all_kinds_lose_none_of_one_permit() {
    no_permit_is_lost(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_thousand_requests_of_all_kinds_lose_none_of_two_permits() {
    no_permit_is_lost(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_thousand_requests_of_all_kinds_lose_none_of_five_permits() {
    no_permit_is_lost(5).await;
}

/// The moment at which a permit is handed over: it was sent, and its request is dropped before it looks.
#[tokio::test]
async fn a_permit_that_was_handed_to_a_cancelled_request_goes_to_the_next() {
    let permits = Permits::new(1, Fairness::default());
    let first = acquire(&permits, 1, LONG).await.unwrap();
    let mut cancelled = Box::pin(acquire(&permits, 2, LONG));
    let mut next = Box::pin(acquire(&permits, 3, LONG));
    assert!(poll_immediate(&mut cancelled).await.is_none());
    assert!(poll_immediate(&mut next).await.is_none());
    drop(first);
    assert!(poll_immediate(&mut next).await.is_none(), "the earlier one has it");
    drop(cancelled);
    assert!(poll_immediate(&mut next).await.unwrap().is_ok());
    assert_eq!(permits.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_waited_in_vain_is_told_whether_its_own_tenant_is_the_reason() {
    let permits = Permits::new(2, Fairness::default());
    let held =
        [acquire(&permits, 1, LONG).await.unwrap(), acquire(&permits, 1, LONG).await.unwrap()];
    let wait = Duration::from_secs(5);
    assert_eq!(acquire(&permits, 1, wait).await.err(), Some(Denied::Busy));
    assert_eq!(acquire(&permits, 2, wait).await.err(), Some(Denied::Late));
    let of_none = permits.acquire(&mut Request::new(None, wait)).await;
    assert_eq!(of_none.err(), Some(Denied::Late));
    drop(held);
    assert!(acquire(&permits, 1, Duration::ZERO).await.is_ok(), "a free one needs no wait");
}

#[tokio::test(start_paused = true)]
async fn a_reserve_that_ends_as_time_passes_is_given_to_those_who_wait() {
    let permits = Permits::new(10, Fairness::default());
    drop(acquire(&permits, 2, LONG).await.unwrap());
    let _first = acquire(&permits, 1, LONG).await.unwrap();
    // One is given back at once, so that the tenant is known to be quick.
    drop(acquire(&permits, 1, LONG).await.unwrap());
    let held: Vec<_> = join_all((0..8).map(|_| acquire(&permits, 1, LONG))).await;
    assert!(held.iter().all(Result::is_ok));
    let begin = Instant::now();
    let tenth = acquire(&permits, 1, LONG).await;
    assert!(tenth.is_ok());
    let waited = begin.elapsed();
    assert!(Duration::from_secs(10) <= waited && waited < Duration::from_secs(11), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_withheld_permit_is_given_out_when_its_time_is_over() {
    let permits = Permits::new(1, Fairness::default());
    let mut request = Request::new(tenant(1), LONG);
    let mut permit = permits.acquire(&mut request).await.unwrap();
    permit.withhold(Duration::from_secs(1));
    let begin = Instant::now();
    drop(permit);
    assert!(permits.acquire(&mut request).await.is_ok());
    let waited = begin.elapsed();
    assert!(Duration::from_secs(1) <= waited && waited < Duration::from_secs(2), "{waited:?}");
}

#[tokio::test]
async fn closed_permits_refuse_those_who_wait_and_those_who_come() {
    let permits = Permits::new(1, Fairness::default());
    let held = acquire(&permits, 1, LONG).await.unwrap();
    let mut waiting = Box::pin(acquire(&permits, 2, LONG));
    assert!(poll_immediate(&mut waiting).await.is_none());
    permits.close();
    assert_eq!(waiting.await.err(), Some(Denied::Closed));
    assert_eq!(acquire(&permits, 3, LONG).await.err(), Some(Denied::Closed));
    drop(held);
    assert!(permits.is_closed());
}

#[tokio::test]
async fn requests_of_many_tenants_at_once_are_all_served() {
    let permits = Permits::new(3, Fairness::default());
    let served = join_all((0..1_000).map(|number| {
        let permits = Arc::clone(&permits);
        async move {
            let permit = acquire(&permits, number, LONG).await.unwrap();
            tokio::task::yield_now().await;
            drop(permit);
            number
        }
    }));
    assert_eq!(served.await.into_iter().collect::<HashSet<_>>().len(), 1_000);
}
