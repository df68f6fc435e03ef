//! Every sequence of events up to a length, compared with the rule as it is written down: what the queue derives and
//! keeps up to date is computed here from the whole history each time.

use super::tests::tenant;
use super::*;

/// The longest sequence. There are about ten events, so one more makes the test ten times as long.
const LENGTH: usize = 6;

const TENANTS: [u128; 3] = [1, 2, 3];

#[derive(Debug, Clone, Copy)]
enum Event {
    Ask(u128),
    /// The connection that was taken first, or last, is returned.
    GiveBack(End),
    /// The request that came first, or last, is cancelled.
    Cancel(End),
    /// A connection could not be opened: it is returned, and not given out for 60 ms.
    Withhold,
    Pass(u64),
}

#[derive(Debug, Clone, Copy)]
enum End {
    First,
    Last,
}

const EVENTS: [Event; 10] = [
    Event::Ask(TENANTS[0]),
    Event::Ask(TENANTS[1]),
    Event::Ask(TENANTS[2]),
    Event::GiveBack(End::First),
    Event::GiveBack(End::Last),
    Event::Cancel(End::First),
    Event::Cancel(End::Last),
    Event::Withhold,
    Event::Pass(60),
    Event::Pass(10_001),
];

/// The queue, and what has happened to it.
#[derive(Clone)]
struct Model {
    queue: Queue<u64>,
    total: usize,
    fairness: Fairness,
    now: Instant,
    /// Connections that are held: the tenant, and since when.
    held: Vec<(Option<TenantId>, Instant)>,
    /// Requests that wait, in the order in which they came.
    waiting: Vec<Ticket>,
    seen: Vec<(Option<TenantId>, Instant)>,
    /// Connections that were returned: the tenant, how long it held it, and when it returned it. No length: the tenant
    /// was forgotten.
    returned: Vec<(Option<TenantId>, Option<Duration>, Instant)>,
    withheld: Vec<Instant>,
    history: Vec<Event>,
}

impl Model {
    fn new(total: usize) -> Self {
        let fairness = Fairness { reserve: 40, slow_after: Duration::from_millis(50) };
        Self {
            queue: Queue::new(total, fairness),
            total,
            fairness,
            now: Instant::now(),
            held: Vec::new(),
            waiting: Vec::new(),
            seen: Vec::new(),
            returned: Vec::new(),
            withheld: Vec::new(),
            history: Vec::new(),
        }
    }

    fn free(&self) -> usize {
        let withheld = self.withheld.iter().filter(|until| **until > self.now).count();
        self.total.saturating_sub(self.held.len() + withheld)
    }

    fn held_by(&self, tenant: Option<TenantId>) -> usize {
        self.held.iter().filter(|(other, _)| *other == tenant).count()
    }

    fn has_two_tenants(&self) -> bool {
        let is_late = |at: &Instant| self.now.duration_since(*at) <= ACTIVE_FOR;
        let seen = self.seen.iter().filter(|(_, at)| is_late(at)).map(|(tenant, _)| *tenant);
        let held = self.held.iter().map(|(tenant, _)| *tenant);
        let waiting = self.waiting.iter().map(|ticket| ticket.tenant);
        let all: BTreeSet<_> = seen.chain(held).chain(waiting).collect();
        all.len() >= 2
    }

    fn average(&self, tenant: Option<TenantId>) -> Option<Duration> {
        let mut average: Option<(Duration, Instant)> = None;
        for (_, took, at) in self.returned.iter().filter(|(other, ..)| *other == tenant) {
            let earlier = average.filter(|(_, last)| at.duration_since(*last) <= ACTIVE_FOR);
            average =
                took.map(|took| (earlier.map_or(took, |(before, _)| (before * 7 + took) / 8), *at));
        }
        let average = average.filter(|(_, at)| self.now.duration_since(*at) <= ACTIVE_FOR);
        average.map(|(average, _)| average)
    }

    fn is_slow(&self, tenant: Option<TenantId>) -> bool {
        let held = self.held.iter().filter(|(other, _)| *other == tenant);
        let longest = held.map(|(_, since)| self.now.duration_since(*since)).max();
        longest.max(self.average(tenant)).is_some_and(|time| time > self.fairness.slow_after)
    }

    /// Forgets the tenants that neither hold nor wait, unless they are slow.
    fn forget(&mut self) {
        for number in TENANTS {
            let tenant = tenant(number);
            let is_active = self.held_by(tenant) > 0
                || self.waiting.iter().any(|ticket| ticket.tenant == tenant);
            if !is_active && !self.is_slow(tenant) {
                self.returned.push((tenant, None, self.now));
            }
        }
    }

    fn may_take(&self, tenant: Option<TenantId>) -> bool {
        let least = usize::from(self.total != 1);
        let share = least.max(self.total * self.fairness.reserve / 100);
        let half = least.max(self.total * self.fairness.reserve / 200);
        let (held, is_known) = (self.held_by(tenant), self.average(tenant).is_some());
        if held > 0 && share > 0 && self.has_two_tenants() && !is_known && held >= self.free() {
            return false;
        }
        let reserved = match held {
            0 => 0,
            _ if !self.has_two_tenants() => 0,
            _ if self.is_slow(tenant) => share,
            _ => half,
        };
        self.free() > reserved
    }

    /// Returns the request that is next by the rule.
    fn next(&self) -> Option<Ticket> {
        let may = self.waiting.iter().filter(|ticket| self.may_take(ticket.tenant));
        may.min_by_key(|ticket| (self.held_by(ticket.tenant), ticket.number)).copied()
    }

    /// Has the queue give out all that it can, and checks each choice.
    fn hand_out(&mut self) -> usize {
        let mut count = 0;
        loop {
            let expected = self.next();
            let taken = self.queue.take_next(self.now);
            assert_eq!(
                taken.map(|(tenant, number)| Ticket { tenant, number }),
                expected,
                "{:?}",
                self.history
            );
            let Some(ticket) = expected else { return count };
            self.waiting.retain(|other| *other != ticket);
            self.held.push((ticket.tenant, self.now));
            count += 1;
        }
    }

    /// Lets an event happen; false if it cannot.
    fn happen(&mut self, event: Event) -> bool {
        self.history.push(event);
        let pick = |end, length: usize| match end {
            _ if length == 0 => None,
            End::First => Some(0),
            End::Last => Some(length - 1),
        };
        match event {
            Event::Ask(number) => {
                let tenant = tenant(number);
                self.seen.push((tenant, self.now));
                let expected = self.waiting.is_empty() && self.may_take(tenant);
                let is_taken = self.queue.try_take(tenant, self.now);
                assert_eq!(is_taken, expected, "{:?}", self.history);
                if is_taken {
                    self.held.push((tenant, self.now));
                } else {
                    let number = self.queue.next_number + 1;
                    let ticket = self.queue.enqueue(tenant, None, number, self.now);
                    self.waiting.push(ticket);
                }
            }
            Event::GiveBack(end) => {
                let Some(at) = pick(end, self.held.len()) else { return false };
                self.give_back(at);
            }
            Event::Withhold => {
                let Some(at) = pick(End::Last, self.held.len()) else { return false };
                self.give_back(at);
                let until = self.now + Duration::from_millis(60);
                self.withheld.push(until);
                self.queue.withhold(until, self.now);
            }
            Event::Cancel(end) => {
                let Some(at) = pick(end, self.waiting.len()) else { return false };
                let ticket = self.waiting.remove(at);
                assert!(self.queue.cancel(ticket, self.now));
                self.forget();
                // Nothing else happens when a request is cancelled, so nothing may become possible by it.
                assert_eq!(self.hand_out(), 0, "{:?}", self.history);
            }
            Event::Pass(millis) => self.now += Duration::from_millis(millis),
        }
        self.hand_out();
        self.check();
        true
    }

    fn give_back(&mut self, at: usize) {
        let (tenant, since) = self.held.remove(at);
        self.seen.push((tenant, self.now));
        self.returned.push((tenant, Some(self.now.duration_since(since)), self.now));
        self.queue.give_back(tenant, since, self.now);
        self.forget();
    }

    /// No connection is lost, and no request is forgotten.
    fn check(&self) {
        assert_eq!(self.queue.held, self.held.len(), "{:?}", self.history);
        assert_eq!(self.queue.waiting(), self.waiting.len(), "{:?}", self.history);
        assert_eq!(self.queue.free(self.now), self.free(), "{:?}", self.history);
        for number in TENANTS {
            let tenant = tenant(number);
            assert_eq!(self.queue.held_by(tenant), self.held_by(tenant), "{:?}", self.history);
            if self.free() > 0 && self.held_by(tenant) == 0 {
                let waits = self.waiting.iter().any(|ticket| ticket.tenant == tenant);
                assert!(!waits, "{:?}", self.history);
            }
        }
    }
}

fn explore(model: &Model, length: usize, count: &mut usize) {
    *count += 1;
    if length == 0 {
        return;
    }
    for event in EVENTS {
        let mut next = model.clone();
        if next.happen(event) {
            explore(&next, length - 1, count);
        }
    }
}

#[test]
fn every_short_history_follows_the_rule_and_loses_nothing() {
    for total in [1, 2, 5] {
        let mut count = 0;
        explore(&Model::new(total), LENGTH, &mut count);
        assert!(count > 10_000, "{count} histories of {total} connections");
    }
}

/// What the short histories cannot reach: many requests of many tenants, for a long time.
#[test]
fn long_random_histories_follow_the_rule_and_lose_nothing() {
    for total in [1, 2, 5, 10] {
        let mut random = fastrand::Rng::with_seed(total as u64);
        for _ in 0..20 {
            let mut model = Model::new(total);
            for _ in 0..400 {
                model.happen(EVENTS[random.usize(..EVENTS.len())]);
            }
            while !(model.held.is_empty() && model.waiting.is_empty()) {
                model.happen(Event::GiveBack(End::First));
                model.happen(Event::Pass(60));
            }
            model.happen(Event::Pass(60));
            assert_eq!((model.queue.held, model.queue.active), (0, 0));
            assert_eq!((model.free(), model.queue.free(model.now)), (total, total));
        }
    }
}
