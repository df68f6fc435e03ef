//! A worker with ten connections or fewer under load, without a database: many tenants with short requests beside some whose
//! requests take long, or more than there are connections for. Deterministic: the time is that of the simulation.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::tests::tenant;
use super::*;

/// How long a request waits at most.
const WAIT: Duration = Duration::from_secs(5);

/// Clients of one tenant that each send the next request as soon as the last one is answered.
#[derive(Clone, Copy)]
struct Noise {
    clients: u64,
    /// How long a request holds its connection, on average or always.
    holds: Duration,
    varies: bool,
}

/// How requests are chosen.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// In the order in which they came.
    FirstCome,
    Fair,
}

/// The load of one run.
struct Load {
    connections: usize,
    /// Requests a second of many tenants, one after the other, which hold a connection for 4 ms on average.
    victims: f64,
    victim_tenants: u64,
    noise: Vec<Noise>,
    seconds: u64,
}

/// What became of the requests.
struct Outcome {
    /// The waits of the victims' requests, sorted.
    waits: Vec<Duration>,
    refused: usize,
    /// Requests of each noisy tenant that were served.
    served: Vec<usize>,
}

impl Outcome {
    fn p99(&self) -> Duration {
        self.waits[self.waits.len() * 99 / 100]
    }

    fn noise(&self) -> usize {
        self.served.iter().sum()
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Victim,
    /// A client of this noisy tenant sends a request.
    Noisy(usize),
    /// The request with this index is over its time.
    TimeOut(usize),
    Release(usize),
}

struct Request {
    key: Option<TenantId>,
    /// None: a victim's.
    noise: Option<usize>,
    came: Instant,
    ticket: Option<Ticket>,
    since: Option<Instant>,
}

struct Simulation {
    queue: Queue<usize>,
    rule: Rule,
    load: Load,
    random: fastrand::Rng,
    now: Instant,
    events: BinaryHeap<Reverse<(Instant, Event)>>,
    requests: Vec<Request>,
    outcome: Outcome,
}

impl Simulation {
    fn run(rule: Rule, load: Load) -> Outcome {
        let now = Instant::now();
        let end = now + Duration::from_secs(load.seconds);
        let fairness = match rule {
            Rule::FirstCome => Fairness { reserve: 0, ..Fairness::default() },
            Rule::Fair => Fairness::default(),
        };
        let served = vec![0; load.noise.len()];
        let mut simulation = Self {
            queue: Queue::new(load.connections, fairness),
            rule,
            random: fastrand::Rng::with_seed(7),
            now,
            events: BinaryHeap::new(),
            requests: Vec::new(),
            outcome: Outcome { waits: Vec::new(), refused: 0, served },
            load,
        };
        simulation.after(Duration::ZERO, Event::Victim);
        for (tenant, noise) in simulation.load.noise.clone().iter().enumerate() {
            for client in 0..noise.clients {
                simulation.after(Duration::from_millis(1_000 + client), Event::Noisy(tenant));
            }
        }
        while let Some(Reverse((now, event))) = simulation.events.pop() {
            if now > end {
                break;
            }
            simulation.now = now;
            simulation.happen(event);
        }
        simulation.outcome.waits.sort_unstable();
        simulation.outcome
    }

    fn after(&mut self, pause: Duration, event: Event) {
        self.events.push(Reverse((self.now + pause, event)));
    }

    fn exponential(&mut self, mean: Duration) -> Duration {
        mean.mul_f64(-(1.0 - self.random.f64()).ln())
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Victim => {
                let number = 1_000 + u128::from(self.random.u64(..self.load.victim_tenants));
                self.ask(tenant(number), None);
                let pause = self.exponential(Duration::from_secs_f64(1.0 / self.load.victims));
                self.after(pause, Event::Victim);
            }
            Event::Noisy(noise) => self.ask(tenant(1 + noise as u128), Some(noise)),
            Event::TimeOut(index) => {
                let request = &self.requests[index];
                let (ticket, noise) = (request.ticket.expect("it waited"), request.noise);
                if self.queue.cancel(ticket, self.now) {
                    if let Some(noise) = noise {
                        self.after(Duration::ZERO, Event::Noisy(noise));
                    } else {
                        self.outcome.refused += 1;
                        self.outcome.waits.push(WAIT);
                    }
                }
            }
            Event::Release(index) => {
                let request = &self.requests[index];
                let (key, since) = (request.key, request.since.expect("it held one"));
                let noise = request.noise;
                self.queue.give_back(key, since, self.now);
                if let Some(noise) = noise {
                    self.outcome.served[noise] += 1;
                    self.after(Duration::ZERO, Event::Noisy(noise));
                }
            }
        }
        while let Some((_, index)) = self.queue.take_next(self.now) {
            self.begin(index);
        }
    }

    fn ask(&mut self, tenant: Option<TenantId>, noise: Option<usize>) {
        let key = if self.rule == Rule::Fair { tenant } else { None };
        let (index, came) = (self.requests.len(), self.now);
        self.requests.push(Request { key, noise, came, ticket: None, since: None });
        if self.queue.try_take(key, came) {
            self.begin(index);
        } else {
            self.requests[index].ticket = Some(self.queue.enqueue(key, None, index, came));
            self.after(WAIT, Event::TimeOut(index));
        }
    }

    fn begin(&mut self, index: usize) {
        let now = self.now;
        let request = &mut self.requests[index];
        request.since = Some(now);
        let (waited, noise) = (now.duration_since(request.came), request.noise);
        let holds = match noise.map(|noise| self.load.noise[noise]) {
            None => {
                self.outcome.waits.push(waited);
                self.exponential(Duration::from_millis(4))
            }
            Some(Noise { holds, varies: true, .. }) => self.exponential(holds),
            Some(Noise { holds, .. }) => holds,
        };
        self.after(holds, Event::Release(index));
    }
}

const SLOW: Noise = Noise { clients: 60, holds: Duration::from_millis(500), varies: true };
const LOCKED: Noise = Noise { clients: 60, holds: Duration::from_secs(5), varies: false };
const FLOOD: Noise = Noise { clients: 60, holds: Duration::from_millis(20), varies: true };

fn beside(noise: Noise, tenants: usize) -> Load {
    let noise = vec![noise; tenants];
    Load { connections: 10, victims: 100.0, victim_tenants: 100, noise, seconds: 100 }
}

#[test]
fn tenants_with_short_requests_do_not_wait_for_those_with_long_ones() {
    for (name, noise, tenants, most_ms) in [
        ("one slow tenant", SLOW, 1, 10),
        ("a lock", LOCKED, 1, 10),
        ("three slow tenants", SLOW, 3, 15),
        ("three locks", LOCKED, 3, 15),
        ("nine slow tenants", SLOW, 9, 50),
        ("a flood of short requests", FLOOD, 1, 15),
    ] {
        let fair = Simulation::run(Rule::Fair, beside(noise, tenants));
        let first_come = Simulation::run(Rule::FirstCome, beside(noise, tenants));
        let (with, without) = (fair.p99(), first_come.p99());
        println!("{name}: {with:?}, in the order of arrival {without:?}");
        assert!(with <= Duration::from_millis(most_ms), "{name}: {with:?}");
        assert_eq!(fair.refused, 0, "{name}");
        // Otherwise this proves nothing.
        assert!(without >= Duration::from_millis(100), "{name}: {without:?}");
    }
}

#[test]
fn tenants_with_short_requests_do_not_wait_for_a_long_one_where_there_are_few_connections() {
    for connections in [2, 3, 4] {
        for (name, noise) in [("a slow tenant", SLOW), ("a lock", LOCKED), ("a flood", FLOOD)] {
            let load = || Load { connections, ..beside(noise, 1) };
            let fair = Simulation::run(Rule::Fair, load());
            let (with, without) = (fair.p99(), Simulation::run(Rule::FirstCome, load()).p99());
            println!("{name}, {connections}: {with:?}, in the order of arrival {without:?}");
            // The victims use two fifths of the one connection that is always left to them.
            assert!(with <= Duration::from_millis(60), "{name}, {connections}: {with:?}");
            assert_eq!(fair.refused, 0, "{name}, {connections}");
            assert!(without >= Duration::from_millis(100), "{name}, {connections}: {without:?}");
        }
    }
}

#[test]
fn a_tenant_with_long_requests_keeps_most_of_what_it_had() {
    let fair = Simulation::run(Rule::Fair, beside(SLOW, 1)).noise();
    let first_come = Simulation::run(Rule::FirstCome, beside(SLOW, 1)).noise();
    // Two of ten connections are not for it, and the victims use some of the others.
    assert!(fair * 4 >= first_come * 3, "{fair} of {first_come}");
}

#[test]
fn tenants_that_want_the_same_get_the_same() {
    let served = Simulation::run(Rule::Fair, beside(FLOOD, 2)).served;
    let (one, other) = (served[0], served[1]);
    assert!(one * 10 >= other * 9 && other * 10 >= one * 9, "{one} and {other}");
}

#[test]
fn a_tenant_alone_waits_no_longer_than_in_the_order_of_arrival() {
    let noise = Vec::new;
    let alone = || Load {
        connections: 10,
        victims: 2_125.0,
        victim_tenants: 1,
        noise: noise(),
        seconds: 60,
    };
    let fair = Simulation::run(Rule::Fair, alone());
    let first_come = Simulation::run(Rule::FirstCome, alone());
    assert_eq!((fair.waits, fair.refused), (first_come.waits, 0));
}
