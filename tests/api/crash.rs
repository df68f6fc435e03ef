//! Kills the server in the middle of set-ups, again and again, and looks for halves.
//!
//! Clients set tenants up, several at once, while the server lives and dies. Three in four send an
//! `Idempotency-Key` and try again until they are answered; the rest send once and never learn what
//! became of it, so that some tenants must be there, some must not, and all must be whole or absent.
//! Two neighbours name the same admin, so that users are linked as well as made.
//!
//! The moment of each kill is drawn at random, in units of what a set-up takes on this machine. To know
//! what it hit, the server is stopped first (SIGSTOP: from then on it sends nothing), the database is
//! asked which transactions are open, and then the server is killed without having run again. A run in
//! which no kill met an open transaction has shown nothing, and fails.
//!
//! Killing processes loses no page that the kernel has: what a power cut costs is PostgreSQL's own
//! promise, and not tried here.

mod audit;
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

use self::audit::Audit;
use self::serve::{Ground, Serve};
use crate::support::{Caller, PASSWORD, TestApp, TestDatabase};

/// Set-ups in the suite, at least; `make crash` asks for more.
const SETUPS: usize = 30;
/// One kill for so many set-ups must meet an open transaction, and never fewer than two. Set-ups go on
/// until that is so, or until it is plain that it never will be.
const SETUPS_A_HIT: usize = 10;
const PLAIN_BY: usize = 10;
const CLIENTS: usize = 4;
/// One set-up in so many is sent without a key, and once.
const SENT_ONCE: usize = 4;
/// At most so many set-ups are answered between two kills.
const ANSWERS_BETWEEN_KILLS: usize = 4;
/// What a set-up takes until one has been measured.
const FIRST_GUESS: Duration = Duration::from_millis(20);
/// A pause before asking again for what is still running.
const PAUSE: Duration = Duration::from_millis(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_during_set_ups_leaves_whole_tenants_and_nothing_else() {
    let database = TestDatabase::create().await;
    let ground = Ground::on(database.url());
    Campaign::new(ground, wanted_setups()).run(Victim::always_ours).await;
    drop(database);
}

/// Most set-ups take a vacancy, some find none, and the kills meet those that build and those that refill.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_among_its_vacancies_leaves_whole_ones_and_whole_tenants() {
    let database = TestDatabase::create().await;
    let mut ground = Ground::on(database.url());
    ground.vacancies = 6;
    Campaign::new(ground, wanted_setups()).run(Victim::always_ours).await;
    drop(database);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_embedded_server_killed_with_us_or_before_us_recovers_what_was_answered() {
    let ground = Ground::embedded();
    // Each start takes longer, with a log to replay: fewer rounds.
    Campaign::new(ground, wanted_setups().div_ceil(4)).run(Victim::in_turn).await;
}

fn wanted_setups() -> usize {
    #[expect(
        clippy::disallowed_methods,
        reason = "how long the test runs is not a setting of ours"
    )]
    let wanted = std::env::var("ROWHOUSE_CRASH_SETUPS").ok();
    wanted.map_or(SETUPS, |text| text.parse().expect("ROWHOUSE_CRASH_SETUPS is a number"))
}

/// Who is killed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Victim {
    /// Our process. An embedded server then stops by itself, in order.
    Ours,
    /// The embedded PostgreSQL, which has to replay its log at the next start, and then ours.
    PostgresFirst,
}

impl Victim {
    fn always_ours(_kill: usize) -> Self {
        Self::Ours
    }

    fn in_turn(kill: usize) -> Self {
        if kill.is_multiple_of(2) { Self::PostgresFirst } else { Self::Ours }
    }
}

/// Set-ups on one side, kills on the other.
struct Campaign {
    ground: Ground,
    clients: Arc<Clients>,
    address: watch::Sender<Option<String>>,
}

/// What all clients share.
struct Clients {
    root_token: String,
    /// Where the server listens; nothing while it is dead.
    address: watch::Receiver<Option<String>>,
    wanted: usize,
    begun: AtomicUsize,
    /// Kills that met an open transaction.
    hits: AtomicUsize,
    in_flight: AtomicUsize,
    answered: Mutex<BTreeMap<usize, Uuid>>,
    took: Mutex<Vec<Duration>>,
    sent_again: AtomicUsize,
    /// Answers that no set-up here should ever get.
    exceptions: Mutex<Vec<String>>,
}

/// What the kills met.
#[derive(Default)]
struct Kills {
    total: usize,
    with_a_request: usize,
    /// By the statement that each open transaction had reached.
    open_transactions: BTreeMap<String, usize>,
}

/// How one try of a set-up ended.
enum Try {
    Answered(Uuid),
    /// The connection broke, or the server could not reach its database: nobody knows.
    Unknown,
    /// The first try has not ended yet on the database's side.
    StillRunning,
    Exception(String),
}

impl Campaign {
    fn new(ground: Ground, wanted: usize) -> Self {
        let (sender, address) = watch::channel(None);
        let clients = Clients {
            root_token: ground.root_token.clone(),
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
        Self { ground, clients: Arc::new(clients), address: sender }
    }

    async fn run(self, victim: fn(usize) -> Victim) {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..CLIENTS {
            let clients = Arc::clone(&self.clients);
            tasks.spawn(async move { clients.work().await });
        }
        let mut kills = Kills::default();
        let mut before = None;
        let (serve, sql) = loop {
            let serve = Serve::start(&self.ground).await;
            let sql = self.ground.connect().await;
            if before.is_none() {
                before = Some(audit::loose_roles(&sql).await);
            }
            self.address.send_replace(Some(serve.address.clone()));
            tokio::select! {
                () = self.clients.reach_the_moment() => {}
                () = async { while tasks.join_next().await.is_some_and(|end| end.is_ok()) {} } => break (serve, sql),
            }
            self.kill(serve, sql, victim(kills.total), &mut kills).await;
        };
        let audit = Audit::of(&sql, &before.unwrap_or_default()).await;
        self.assert_what_was_promised(&audit, &serve, &kills).await;
        serve.kill().await;
        drop(self.ground);
    }

    /// Stops the server where it is, looks at what it was doing, and kills it.
    async fn kill(&self, serve: Serve, sql: Client, victim: Victim, kills: &mut Kills) {
        serve.freeze();
        let in_flight = self.clients.in_flight.load(Ordering::SeqCst);
        let open = audit::open_transactions(&sql).await;
        if victim == Victim::PostgresFirst {
            self.ground.kill_postgres();
        }
        self.address.send_replace(None);
        serve.kill().await;
        kills.total += 1;
        kills.with_a_request += usize::from(in_flight > 0);
        self.clients.hits.fetch_add(usize::from(!open.is_empty()), Ordering::SeqCst);
        for statement in open {
            *kills.open_transactions.entry(statement).or_default() += 1;
        }
        // The database of the tests lives on: what it holds now must be whole, too.
        if !self.ground.is_embedded() {
            audit::wait_until_alone(&sql).await;
            assert_eq!(Audit::of_structure(&sql).await, Vec::<String>::new(), "right after a kill");
        }
    }

    async fn assert_what_was_promised(&self, audit: &Audit, serve: &Serve, kills: &Kills) {
        let clients = &self.clients;
        let answered = clients.answered.lock().expect("no client panicked").clone();
        let exceptions = clients.exceptions.lock().expect("no client panicked").clone();
        let (begun, whole) = (clients.begun.load(Ordering::SeqCst), audit.tenants.len());
        let hits = clients.hits.load(Ordering::SeqCst);
        eprintln!(
            "{} set-ups by {CLIENTS} clients, {} answered, {} of them after more than one try; \
             {} tenants whole, {} absent",
            begun,
            answered.len(),
            clients.sent_again.load(Ordering::SeqCst),
            whole,
            begun - whole,
        );
        eprintln!(
            "{} kills: {} with a set-up in flight, {} inside of a transaction; open ones by last statement:",
            kills.total, kills.with_a_request, hits
        );
        for (statement, count) in &kills.open_transactions {
            eprintln!("  {count:4} {statement}");
        }
        assert_eq!(exceptions, Vec::<String>::new(), "answers that a set-up never gets");
        assert_eq!(audit.halves, Vec::<String>::new(), "halves of tenants");
        assert!(hits >= clients.least_hits(), "too few kills hit a set-up: nothing was shown");
        for number in 0..begun {
            let there = audit.tenants.get(&slug(number));
            match answered.get(&number) {
                Some(id) => assert_eq!(there, Some(id), "{} was answered 201", slug(number)),
                None => assert!(key(number).is_none(), "{} has a key and no answer", slug(number)),
            }
        }
        for (slug, id) in &audit.tenants {
            log_in(&serve.address, slug, *id).await;
        }
        for (number, id) in &answered {
            if key(*number).is_some() {
                let again = clients.send(*number, &clients.caller(&serve.address)).await;
                assert!(matches!(again, Try::Answered(same) if same == *id), "{}", slug(*number));
            }
        }
        let last = Audit::of(&self.ground.connect().await, &audit.loose_roles_before).await;
        assert_eq!(last.tenants, audit.tenants, "a repeated set-up makes nothing");
    }
}

impl Clients {
    /// Takes one set-up after the other until enough are begun and enough were hit.
    async fn work(&self) {
        while !self.is_enough() {
            self.set_up(self.begun.fetch_add(1, Ordering::SeqCst)).await;
        }
    }

    fn is_enough(&self) -> bool {
        let begun = self.begun.load(Ordering::SeqCst);
        let hits = self.hits.load(Ordering::SeqCst);
        begun >= self.wanted && (hits >= self.least_hits() || begun >= self.wanted * PLAIN_BY)
    }

    fn least_hits(&self) -> usize {
        (self.wanted / SETUPS_A_HIT).max(2)
    }

    async fn set_up(&self, number: usize) {
        let mut tries = 0;
        loop {
            let caller = self.caller(&self.living_address().await);
            let begin = Instant::now();
            tries += 1;
            self.in_flight.fetch_add(1, Ordering::SeqCst);
            let outcome = self.send(number, &caller).await;
            self.in_flight.fetch_sub(1, Ordering::SeqCst);
            match outcome {
                Try::Answered(id) => {
                    self.took.lock().expect("no client panicked").push(begin.elapsed());
                    self.sent_again.fetch_add(usize::from(tries > 1), Ordering::SeqCst);
                    self.answered.lock().expect("no client panicked").insert(number, id);
                    return;
                }
                Try::Exception(what) => {
                    self.exceptions.lock().expect("no client panicked").push(what);
                    return;
                }
                Try::Unknown if key(number).is_none() => return,
                Try::Unknown | Try::StillRunning => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    async fn send(&self, number: usize, caller: &Caller) -> Try {
        // Two neighbours have one admin.
        let mut body = TestApp::setup_body(&slug(number));
        body["adminEmail"] = admin_email(number).into();
        let mut request = caller.request(Method::POST, "/api/tenant/setup").json(&body);
        if let Some(key) = key(number) {
            request = request.header("Idempotency-Key", key);
        }
        let Ok(response) = request.send().await else { return Try::Unknown };
        let status = response.status().as_u16();
        let Ok(text) = response.text().await else { return Try::Unknown };
        let answer: Value = serde_json::from_str(&text).unwrap_or_default();
        let id = answer["id"].as_str().and_then(|id| id.parse().ok());
        match (status, id, answer["message"].as_str()) {
            (201, Some(id), _) => Try::Answered(id),
            (503, ..) => Try::Unknown,
            (409, _, Some(why)) if why.contains("still running") => Try::StillRunning,
            _ => Try::Exception(format!("{}: {status} {text}", slug(number))),
        }
    }

    fn caller(&self, address: &str) -> Caller {
        Caller::new(address, Some(&self.root_token))
    }

    async fn living_address(&self) -> String {
        let mut address = self.address.clone();
        let living = address.wait_for(Option::is_some).await.expect("the campaign goes on");
        living.clone().expect("just waited for")
    }

    /// Waits for a few answers, and then for a part of what one takes: every phase of a set-up is as
    /// likely as any other, on a fast machine and on a slow one.
    async fn reach_the_moment(&self) {
        let count = || self.answered.lock().expect("no client panicked").len();
        let goal = count() + random(ANSWERS_BETWEEN_KILLS + 1);
        while count() < goal {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        while self.in_flight.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_micros(100)).await;
        }
        // In thousandths, so that the draw is as fine as the clock.
        let part = u32::try_from(random(1000)).expect("below a thousand");
        tokio::time::sleep(self.median_time() * part / 1000).await;
    }

    fn median_time(&self) -> Duration {
        let mut took = self.took.lock().expect("no client panicked").clone();
        took.sort_unstable();
        took.get(took.len() / 2).copied().unwrap_or(FIRST_GUESS)
    }
}

/// The admin of a tenant logs in, and finds the tenant in the list.
async fn log_in(address: &str, slug: &str, id: Uuid) {
    let number = slug.trim_start_matches("crash-").parse().expect("our slugs end in a number");
    let body = serde_json::json!({ "identifier": admin_email(number), "password": PASSWORD });
    let answer = Caller::new(address, None).post("/api/auth/login", &body).await;
    assert_eq!(answer.status, 200, "the admin of {slug} logs in: {answer:?}");
    let token = answer.body["accessToken"].as_str().expect("the answer has a token");
    let mine = Caller::new(address, Some(token)).get("/api/tenant/mine").await;
    let ids: Vec<_> = mine.body.as_array().into_iter().flatten().map(|t| &t["id"]).collect();
    assert!(ids.contains(&&Value::from(id.to_string())), "the admin of {slug} has it: {mine:?}");
}

fn slug(number: usize) -> String {
    format!("crash-{number}")
}

fn admin_email(number: usize) -> String {
    format!("admin-{}@crash.example.com", number / 2)
}

/// The key of a set-up; none for those that are sent once.
fn key(number: usize) -> Option<String> {
    (number % SENT_ONCE != SENT_ONCE - 1).then(|| format!("crash-key-{number}"))
}

/// A number below the bound.
fn random(bound: usize) -> usize {
    let bytes = Uuid::new_v4().into_bytes();
    bytes.iter().fold(0, |sum, byte| (sum * 256 + usize::from(*byte)) % bound)
}
