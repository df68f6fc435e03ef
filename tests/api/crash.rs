//! Kills the server repeatedly during set-ups and looks for partial tenants.
//!
//! Several clients set tenants up while the server is killed and started again. Three in four requests
//! carry an `Idempotency-Key` and are sent again until they are answered; the rest are sent once, and the
//! client does not learn their outcome. So some tenants must exist, others may be absent, and each must be
//! complete or absent. Two consecutive set-ups name the same admin, so that users are linked as well as
//! created.
//!
//! The moment of each kill is drawn at random, as a fraction of what a set-up takes on this machine. To
//! know what the kill interrupts, the server is stopped first (SIGSTOP: from then on it sends nothing), the
//! open transactions are read from the database, and then the server is killed without having run again. A
//! run in which too few kills interrupt an open transaction proves nothing, and fails.
//!
//! Killing processes loses no page that the kernel holds. What survives a power failure is PostgreSQL's
//! guarantee and is not tested here.

mod inspection;
mod serve;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::Value;
use tokio::sync::watch;
use tokio_postgres::Client;
use uuid::Uuid;

use self::inspection::Inspection;
use self::serve::{Fixture, Serve};
use crate::support::{Caller, PASSWORD, TestApp, TestDatabase};

/// The least number of set-ups in the suite; `make crash` sets more.
const SETUPS: usize = 30;
/// One kill for every ten set-ups must interrupt an open transaction, and at least two kills in all.
const SETUPS_PER_HIT: usize = 10;
/// The upper bound on set-ups if too few kills hit, as a multiple of the wanted number.
const MAX_FACTOR: usize = 10;
const CLIENTS: usize = 4;
/// One in four set-ups is sent without a key and only once.
const SENT_ONCE: usize = 4;
/// The largest number of answered set-ups between two kills.
const ANSWERS_BETWEEN_KILLS: usize = 4;
/// The assumed duration of a set-up until one has been measured.
const FIRST_GUESS: Duration = Duration::from_millis(20);
/// The pause before a request is sent again.
const PAUSE: Duration = Duration::from_millis(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_during_set_ups_leaves_complete_tenants_and_nothing_else() {
    let database = TestDatabase::create().await;
    let fixture = Fixture::on(database.url());
    CrashTest::new(fixture, wanted_setups()).run(Target::always_rowhouse).await;
    drop(database);
}

/// Most set-ups take a vacancy and some find none. The kills interrupt set-ups that build a schema as well as
/// the replenisher.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_while_it_fills_vacancies_leaves_complete_vacancies_and_tenants() {
    let database = TestDatabase::create().await;
    let mut fixture = Fixture::on(database.url());
    fixture.vacancies = 6;
    CrashTest::new(fixture, wanted_setups()).run(Target::always_rowhouse).await;
    drop(database);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_embedded_postgres_killed_with_or_before_the_server_recovers_every_answered_set_up() {
    let fixture = Fixture::embedded();
    // Each start takes longer because PostgreSQL replays its log, so there are fewer rounds.
    CrashTest::new(fixture, wanted_setups().div_ceil(4)).run(Target::alternating).await;
}

fn wanted_setups() -> usize {
    #[expect(
        clippy::disallowed_methods,
        reason = "the length of the test is not a setting of the program"
    )]
    let wanted = std::env::var("ROWHOUSE_CRASH_SETUPS").ok();
    wanted.map_or(SETUPS, |text| text.parse().expect("ROWHOUSE_CRASH_SETUPS is a number"))
}

/// The process that is killed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    /// The `rowhouse serve` process. An embedded PostgreSQL then shuts down by itself.
    Rowhouse,
    /// The embedded PostgreSQL, which replays its log at the next start, and then `rowhouse serve`.
    PostgresFirst,
}

impl Target {
    fn always_rowhouse(_kill: usize) -> Self {
        Self::Rowhouse
    }

    fn alternating(kill: usize) -> Self {
        if kill.is_multiple_of(2) { Self::PostgresFirst } else { Self::Rowhouse }
    }
}

/// Runs clients that set tenants up, and kills the server meanwhile.
struct CrashTest {
    fixture: Fixture,
    clients: Arc<Clients>,
    address: watch::Sender<Option<String>>,
}

/// The state that all clients share.
struct Clients {
    root_token: String,
    /// The address of the server; `None` while it is dead.
    address: watch::Receiver<Option<String>>,
    wanted: usize,
    begun: AtomicUsize,
    /// Kills that interrupted an open transaction.
    hits: AtomicUsize,
    in_flight: AtomicUsize,
    answered: Mutex<BTreeMap<usize, Uuid>>,
    took: Mutex<Vec<Duration>>,
    sent_again: AtomicUsize,
    /// Answers that no set-up of this test may get.
    exceptions: Mutex<Vec<String>>,
}

/// What the kills interrupted.
#[derive(Default)]
struct Kills {
    total: usize,
    with_a_request: usize,
    /// Open transactions, counted by their last statement.
    open_transactions: BTreeMap<String, usize>,
}

/// The outcome of one attempt at a set-up.
enum Attempt {
    Answered(Uuid),
    /// The connection broke, or the server could not reach its database: the outcome is unknown.
    Unknown,
    /// The transaction of an earlier attempt is still open in the database.
    StillRunning,
    Exception(String),
}

impl CrashTest {
    fn new(fixture: Fixture, wanted: usize) -> Self {
        let (sender, address) = watch::channel(None);
        let clients = Clients {
            root_token: fixture.root_token.clone(),
            address,
            wanted,
            begun: AtomicUsize::new(0),
            hits: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            answered: Mutex::default(),
            took: Mutex::default(),
            sent_again: AtomicUsize::new(0),
            exceptions: Mutex::default(),
        };
        Self { fixture, clients: Arc::new(clients), address: sender }
    }

    async fn run(self, target: fn(usize) -> Target) {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..CLIENTS {
            let clients = Arc::clone(&self.clients);
            tasks.spawn(async move { clients.work().await });
        }
        let mut kills = Kills::default();
        let mut before = None;
        let (serve, sql) = loop {
            let serve = Serve::start(&self.fixture).await;
            let sql = self.fixture.connect().await;
            if before.is_none() {
                before = Some(inspection::orphaned_roles(&sql).await);
            }
            self.address.send_replace(Some(serve.address.clone()));
            tokio::select! {
                () = self.clients.wait_for_random_moment() => {}
                () = async { while tasks.join_next().await.is_some_and(|end| end.is_ok()) {} } => break (serve, sql),
            }
            self.kill(serve, sql, target(kills.total), &mut kills).await;
        };
        let inspection = Inspection::of(&sql, &before.unwrap_or_default()).await;
        self.assert_guarantees(&inspection, &serve, &kills).await;
        serve.kill().await;
        drop(self.fixture);
    }

    /// Stops the server, records what it was doing, and kills it.
    async fn kill(&self, serve: Serve, sql: Client, target: Target, kills: &mut Kills) {
        serve.freeze();
        let in_flight = self.clients.in_flight.load(Ordering::SeqCst);
        let open = inspection::open_transactions(&sql).await;
        if target == Target::PostgresFirst {
            self.fixture.kill_postgres();
        }
        self.address.send_replace(None);
        serve.kill().await;
        kills.total += 1;
        kills.with_a_request += usize::from(in_flight > 0);
        self.clients.hits.fetch_add(usize::from(!open.is_empty()), Ordering::SeqCst);
        for statement in open {
            *kills.open_transactions.entry(statement).or_default() += 1;
        }
        // The database of the test suite stays up, so its contents can be checked at once.
        if !self.fixture.is_embedded() {
            inspection::wait_until_alone(&sql).await;
            assert_eq!(
                Inspection::of_structure(&sql).await,
                Vec::<String>::new(),
                "right after a kill"
            );
        }
    }

    async fn assert_guarantees(&self, inspection: &Inspection, serve: &Serve, kills: &Kills) {
        let clients = &self.clients;
        let answered = clients.answered.lock().expect("no client panicked").clone();
        let exceptions = clients.exceptions.lock().expect("no client panicked").clone();
        let (begun, complete) = (clients.begun.load(Ordering::SeqCst), inspection.tenants.len());
        let hits = clients.hits.load(Ordering::SeqCst);
        eprintln!(
            "{} set-ups by {CLIENTS} clients, {} answered, {} of them after more than one attempt; \
             {} tenants complete, {} absent",
            begun,
            answered.len(),
            clients.sent_again.load(Ordering::SeqCst),
            complete,
            begun - complete,
        );
        eprintln!(
            "{} kills: {} with a set-up in flight, {} inside a transaction; open ones by last statement:",
            kills.total, kills.with_a_request, hits
        );
        for (statement, count) in &kills.open_transactions {
            eprintln!("  {count:4} {statement}");
        }
        assert_eq!(exceptions, Vec::<String>::new(), "unexpected answers to a set-up");
        assert_eq!(inspection.defects, Vec::<String>::new(), "partial tenants");
        assert!(
            hits >= clients.least_hits(),
            "too few kills interrupted a set-up, so the run proves nothing"
        );
        for number in 0..begun {
            let found = inspection.tenants.get(&slug(number));
            match answered.get(&number) {
                Some(id) => assert_eq!(found, Some(id), "{} was answered 201", slug(number)),
                None => assert!(key(number).is_none(), "{} has a key and no answer", slug(number)),
            }
        }
        for (slug, id) in &inspection.tenants {
            log_in(&serve.address, slug, *id).await;
        }
        for (number, id) in &answered {
            if key(*number).is_some() {
                let again = clients.send(*number, &clients.caller(&serve.address)).await;
                assert!(
                    matches!(again, Attempt::Answered(same) if same == *id),
                    "{}",
                    slug(*number)
                );
            }
        }
        let last = Inspection::of(&self.fixture.connect().await, &inspection.orphaned_before).await;
        assert_eq!(last.tenants, inspection.tenants, "a repeated set-up creates nothing");
    }
}

impl Clients {
    /// Runs one set-up after the other until enough set-ups have begun and enough kills have hit.
    async fn work(&self) {
        while !self.is_enough() {
            self.set_up(self.begun.fetch_add(1, Ordering::SeqCst)).await;
        }
    }

    fn is_enough(&self) -> bool {
        let begun = self.begun.load(Ordering::SeqCst);
        let hits = self.hits.load(Ordering::SeqCst);
        begun >= self.wanted && (hits >= self.least_hits() || begun >= self.wanted * MAX_FACTOR)
    }

    fn least_hits(&self) -> usize {
        (self.wanted / SETUPS_PER_HIT).max(2)
    }

    async fn set_up(&self, number: usize) {
        let mut attempts = 0;
        loop {
            let caller = self.caller(&self.live_address().await);
            let begin = Instant::now();
            attempts += 1;
            self.in_flight.fetch_add(1, Ordering::SeqCst);
            let outcome = self.send(number, &caller).await;
            self.in_flight.fetch_sub(1, Ordering::SeqCst);
            match outcome {
                Attempt::Answered(id) => {
                    self.took.lock().expect("no client panicked").push(begin.elapsed());
                    self.sent_again.fetch_add(usize::from(attempts > 1), Ordering::SeqCst);
                    self.answered.lock().expect("no client panicked").insert(number, id);
                    return;
                }
                Attempt::Exception(what) => {
                    self.exceptions.lock().expect("no client panicked").push(what);
                    return;
                }
                Attempt::Unknown if key(number).is_none() => return,
                Attempt::Unknown | Attempt::StillRunning => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    async fn send(&self, number: usize, caller: &Caller) -> Attempt {
        // Two consecutive set-ups share an admin.
        let mut body = TestApp::setup_body(&slug(number));
        body["adminEmail"] = admin_email(number).into();
        let mut request = caller.request(Method::POST, "/api/tenant/setup").json(&body);
        if let Some(key) = key(number) {
            request = request.header("Idempotency-Key", key);
        }
        let Ok(response) = request.send().await else { return Attempt::Unknown };
        let status = response.status().as_u16();
        let Ok(text) = response.text().await else { return Attempt::Unknown };
        let answer: Value = serde_json::from_str(&text).unwrap_or_default();
        let id = answer["id"].as_str().and_then(|id| id.parse().ok());
        match (status, id, answer["message"].as_str()) {
            (201, Some(id), _) => Attempt::Answered(id),
            (503, ..) => Attempt::Unknown,
            (409, _, Some(why)) if why.contains("still running") => Attempt::StillRunning,
            _ => Attempt::Exception(format!("{}: {status} {text}", slug(number))),
        }
    }

    fn caller(&self, address: &str) -> Caller {
        Caller::new(address, Some(&self.root_token))
    }

    async fn live_address(&self) -> String {
        let mut address = self.address.clone();
        let live = address.wait_for(Option::is_some).await.expect("the test still runs");
        live.clone().expect("just waited for")
    }

    /// Waits for a few answers and then for a random part of the median duration of a set-up, so that every
    /// phase of a set-up is equally likely on fast and on slow machines.
    async fn wait_for_random_moment(&self) {
        let count = || self.answered.lock().expect("no client panicked").len();
        let goal = count() + random(ANSWERS_BETWEEN_KILLS + 1);
        while count() < goal {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        while self.in_flight.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_micros(100)).await;
        }
        // In thousandths, which is fine enough for the clock.
        let part = u32::try_from(random(1000)).expect("below a thousand");
        tokio::time::sleep(self.median_time() * part / 1000).await;
    }

    fn median_time(&self) -> Duration {
        let mut took = self.took.lock().expect("no client panicked").clone();
        took.sort_unstable();
        took.get(took.len() / 2).copied().unwrap_or(FIRST_GUESS)
    }
}

/// Logs the admin of a tenant in and asserts that the tenant is in the admin's list.
async fn log_in(address: &str, slug: &str, id: Uuid) {
    let number =
        slug.trim_start_matches("crash-").parse().expect("the slugs of this test end in a number");
    let body = serde_json::json!({ "identifier": admin_email(number), "password": PASSWORD });
    let answer = Caller::new(address, None).post("/api/auth/login", &body).await;
    assert_eq!(answer.status, 200, "the admin of {slug} logs in: {answer:?}");
    let token = answer.body["accessToken"].as_str().expect("the answer has a token");
    let mine = Caller::new(address, Some(token)).get("/api/tenant/mine").await;
    let ids: Vec<_> = mine.body.as_array().into_iter().flatten().map(|t| &t["id"]).collect();
    assert!(
        ids.contains(&&Value::from(id.to_string())),
        "the admin of {slug} is a member: {mine:?}"
    );
}

fn slug(number: usize) -> String {
    format!("crash-{number}")
}

fn admin_email(number: usize) -> String {
    format!("admin-{}@crash.example.com", number / 2)
}

/// Returns the idempotency key of a set-up; `None` for set-ups that are sent once.
fn key(number: usize) -> Option<String> {
    (number % SENT_ONCE != SENT_ONCE - 1).then(|| format!("crash-key-{number}"))
}

/// Returns a random number below the bound.
fn random(bound: usize) -> usize {
    let bytes = Uuid::new_v4().into_bytes();
    bytes.iter().fold(0, |sum, byte| (sum * 256 + usize::from(*byte)) % bound)
}
