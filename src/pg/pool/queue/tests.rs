//! The rule, one sentence at a time.

use uuid::Uuid;

use super::*;

const MILLI: Duration = Duration::from_millis(1);

#[expect(clippy::unnecessary_wraps, reason = "a request may be of no tenant")]
pub(super) fn tenant(number: u128) -> Option<TenantId> {
    Some(TenantId::new(Uuid::from_u128(number)))
}

/// A queue whose time is told in milliseconds since its start.
struct Test {
    queue: Queue<&'static str>,
    begin: Instant,
}

impl Test {
    fn new(total: usize) -> Self {
        Self::with(total, Fairness::default())
    }

    fn with(total: usize, fairness: Fairness) -> Self {
        Self { queue: Queue::new(total, fairness), begin: Instant::now() }
    }

    fn at(&self, millis: u32) -> Instant {
        self.begin + MILLI * millis
    }

    /// Takes one connection for good, after another that is given back at once: the tenant is known to be quick.
    fn be_quick(&mut self, number: u128, millis: u32) {
        assert_eq!(self.take(number, 2, millis), 2);
        self.give_back(number, millis, millis);
    }

    /// Takes as many connections as the tenant can have at once, up to this number.
    fn take(&mut self, number: u128, most: usize, millis: u32) -> usize {
        let now = self.at(millis);
        (0..most).take_while(|_| self.queue.try_take(tenant(number), now)).count()
    }

    fn wait(&mut self, number: u128, waiter: &'static str, millis: u32) -> Ticket {
        let now = self.at(millis);
        self.queue.sightings.note(tenant(number), now);
        self.queue.enqueue(tenant(number), None, waiter, now)
    }

    fn give_back(&mut self, number: u128, since: u32, millis: u32) {
        let (since, now) = (self.at(since), self.at(millis));
        self.queue.give_back(tenant(number), since, now);
    }

    fn next(&mut self, millis: u32) -> Option<&'static str> {
        let now = self.at(millis);
        self.queue.take_next(now).map(|(_, waiter)| waiter)
    }
}

#[test]
fn of_those_who_wait_the_tenant_with_the_fewest_connections_goes_first() {
    let mut test = Test::with(3, Fairness { reserve: 0, ..Fairness::default() });
    assert_eq!((test.take(1, 2, 0), test.take(2, 1, 1)), (2, 1));
    for (number, waiter) in [(1, "holds two"), (2, "holds one"), (3, "holds none")] {
        test.wait(number, waiter, 2);
    }
    test.wait(4, "holds none, and came later", 3);
    test.wait(3, "its second request", 3);
    assert_eq!(test.next(4), None, "none is free");
    let order: Vec<_> = (0..5)
        .map(|_| {
            test.give_back(9, 0, 5); // of a tenant that holds none: only the number is of interest
            test.queue.held -= 1;
            test.next(5).unwrap()
        })
        .collect();
    let expected = [
        "holds none",
        "holds none, and came later",
        "holds one",
        "its second request",
        "holds two",
    ];
    assert_eq!(order, expected);
}

#[test]
fn the_last_tenth_is_for_tenants_that_hold_none() {
    let mut test = Test::new(10);
    assert_eq!(test.take(2, 1, 0), 1);
    test.give_back(2, 0, 1);
    test.be_quick(1, 2);
    assert_eq!(test.take(1, 10, 2), 8, "and one before");
    test.wait(1, "its tenth", 3);
    assert_eq!(test.next(3), None);
    test.wait(2, "its first", 4);
    assert_eq!((test.next(4), test.next(4)), (Some("its first"), None));
}

#[test]
fn a_tenant_that_holds_one_for_long_leaves_a_fifth() {
    let mut test = Test::new(10);
    test.take(2, 1, 0);
    test.give_back(2, 0, 1);
    test.be_quick(1, 2);
    assert_eq!(test.take(1, 6, 2), 6);
    // Not yet: 100 ms is the limit.
    assert_eq!(test.take(1, 1, 102), 1);
    assert_eq!(test.take(1, 1, 103), 0, "two are left");
    assert_eq!(test.take(3, 2, 103), 1, "the last is for those that hold none");
    assert_eq!(test.take(4, 2, 103), 1);
}

#[test]
fn a_tenant_that_held_them_for_long_on_average_is_slow_at_once() {
    let mut test = Test::new(10);
    test.take(2, 1, 0);
    test.take(1, 1, 0);
    test.give_back(1, 0, 200);
    assert_eq!(test.take(1, 10, 201), 7, "one is held by the other, two are left");
    // After some quick ones it is not slow any more.
    for _ in 0..6 {
        test.give_back(1, 201, 202);
    }
    assert_eq!(test.take(1, 10, 203), 7, "it holds one, and one is left");
}

#[test]
fn a_tenant_alone_gets_all_connections() {
    let mut test = Test::new(10);
    assert_eq!(test.take(1, 11, 0), 10);
    let mut test = Test::new(10);
    test.take(2, 1, 0);
    test.give_back(2, 0, 0);
    test.be_quick(1, 10_000);
    assert_eq!(test.take(1, 10, 10_000), 8, "the other was there ten seconds ago");
    test.wait(1, "its tenth", 10_000);
    assert_eq!((test.next(10_000), test.next(10_001)), (None, Some("its tenth")));
}

#[test]
fn a_tenant_that_holds_a_connection_or_waits_is_active_however_long() {
    let mut test = Test::new(10);
    test.take(2, 1, 0);
    test.be_quick(1, 60_000);
    assert_eq!(test.take(1, 10, 60_000), 7);
    let mut test = Test::new(10);
    test.take(1, 10, 0);
    test.wait(2, "the other", 1);
    test.give_back(1, 0, 60_000);
    assert_eq!((test.next(60_000), test.take(1, 1, 60_000)), (Some("the other"), 0));
}

#[test]
fn the_last_connection_is_reserved_however_few_there_are_unless_it_is_the_only_one() {
    for (total, quick, slow) in
        [(1, 1, 1), (2, 1, 1), (4, 3, 3), (5, 4, 4), (9, 8, 8), (10, 9, 8), (20, 18, 16)]
    {
        for (held_for, expected) in [(1, quick), (200, slow)] {
            let mut test = Test::new(total);
            test.wait(2, "the other", 0);
            test.next(0);
            test.give_back(2, 0, 0);
            assert_eq!(test.take(1, 1, 1), 1);
            // It is known to be quick.
            let share = test.queue.tenants.get_mut(&tenant(1)).unwrap();
            share.average = Some((MILLI, test.begin + MILLI));
            assert_eq!(1 + test.take(1, total, 1 + held_for), expected, "{total} connections");
        }
    }
}

#[test]
fn a_tenant_that_has_given_none_back_takes_no_more_than_it_leaves() {
    let mut test = Test::new(10);
    test.take(9, 1, 0);
    test.give_back(9, 0, 0);
    assert_eq!([1, 2, 3].map(|number| test.take(number, 10, 1)), [5, 3, 1]);
    assert_eq!(test.take(9, 2, 1), 1, "one is left for the fourth");
    // Alone, or once it has given one back, it takes more.
    let mut test = Test::new(10);
    assert_eq!(test.take(1, 10, 0), 10);
    let mut test = Test::new(10);
    test.take(9, 1, 0);
    test.give_back(9, 0, 0);
    test.be_quick(1, 1);
    assert_eq!(test.take(1, 10, 1), 8);
}

#[test]
fn without_a_reserve_only_the_order_is_fair() {
    let mut test = Test::with(10, Fairness { reserve: 0, ..Fairness::default() });
    test.take(2, 1, 0);
    test.give_back(2, 0, 0);
    assert_eq!(test.take(1, 10, 1), 10);
    test.wait(1, "holds ten", 2);
    test.wait(2, "holds none", 3);
    test.give_back(1, 1, 500);
    assert_eq!((test.next(500), test.next(500)), (Some("holds none"), None));
}

#[test]
fn work_of_no_tenant_counts_as_one_more_tenant() {
    let mut test = Test::new(2);
    let now = test.at(0);
    assert!(test.queue.try_take(None, now) && test.queue.try_take(None, now));
    test.queue.enqueue(None, None, "of no tenant", now);
    test.wait(1, "of a tenant", 1);
    test.queue.give_back(None, now, now);
    assert_eq!((test.next(2), test.next(2)), (Some("of a tenant"), None));
    test.give_back(1, 2, 3);
    assert_eq!(test.next(3), None, "the last connection is for tenants that hold none");
    test.queue.give_back(None, now, test.begin + MILLI * 4);
    assert_eq!(test.next(4), Some("of no tenant"));
}

#[test]
fn a_request_that_asks_again_keeps_its_position() {
    let mut test = Test::new(1);
    test.take(9, 1, 0);
    let first = test.wait(1, "first", 1);
    test.wait(1, "second", 2);
    test.give_back(9, 0, 3);
    assert_eq!(test.next(3), Some("first"));
    test.give_back(1, 3, 4);
    let (now, until) = (test.at(4), test.at(5));
    test.queue.withhold(until, now);
    test.queue.enqueue(tenant(1), Some(first.number), "first again", now);
    assert_eq!((test.next(4), test.next(5)), (None, Some("first again")));
}

#[test]
fn a_request_that_left_is_not_served() {
    let mut test = Test::new(1);
    test.take(9, 1, 0);
    let (first, second) = (test.wait(1, "first", 1), test.wait(1, "second", 1));
    let now = test.at(2);
    assert!(test.queue.cancel(first, now) && !test.queue.cancel(first, now));
    assert_eq!(test.queue.waiting(), 1);
    test.give_back(9, 0, 3);
    assert_eq!(test.next(3), Some("second"));
    assert!(!test.queue.cancel(second, now), "it was served");
}

#[test]
fn a_closed_queue_returns_those_who_wait_and_takes_back_what_is_held() {
    let mut test = Test::new(1);
    test.take(9, 1, 0);
    test.wait(1, "first", 1);
    test.wait(2, "second", 1);
    let now = test.at(2);
    let mut waiters = test.queue.close(now);
    waiters.sort_unstable();
    assert_eq!((waiters, test.queue.waiting()), (vec!["first", "second"], 0));
    test.give_back(9, 0, 3);
    assert_eq!((test.queue.held, test.queue.active), (0, 0));
}

#[test]
fn tenants_that_are_gone_are_forgotten() {
    let mut test = Test::new(2);
    for number in 0..10_000_u32 {
        // Every second one is slow, which is remembered for ten seconds.
        let (begin, held) = (number * 1_000, if number % 2 == 0 { 1 } else { 900 });
        assert_eq!(test.take(number.into(), 1, begin), 1);
        test.give_back(number.into(), begin, begin + held);
    }
    assert!(test.queue.tenants.len() <= SWEEP_AT_LEAST, "{}", test.queue.tenants.len());
    assert_eq!((test.queue.active, test.queue.held), (0, 0));
}
