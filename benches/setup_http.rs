//! A complete set-up over HTTP and the parts of its time: hashing the password, the database, the rest.
//!
//! The server is an `App` with the default (OWASP) hash parameters in this process, so that clients, server and
//! PostgreSQL share the machine's cores. The parts are also measured alone with the same concurrency: the hasher,
//! and `Provisioning::provision` with the weakest hash. The rest is HTTP, JSON, authentication, and the time that
//! the parts lose by sharing the cores.
//!
//! A second part measures set-ups that hash no password, because the tenant has no admin or an existing one:
//! throughput with many clients, with a vacancy for each set-up. There the database is the limit.
#![expect(
    unreachable_pub,
    reason = "a benchmark exports nothing; `pub` means shared between its files"
)]
#![expect(clippy::print_stdout, reason = "a benchmark prints figures")]

#[expect(dead_code, reason = "each benchmark uses a part of the shared code")]
mod support;

use std::time::Instant;

use futures_util::future::join_all;
use rowhouse::app::{App, Backend, Options};
use rowhouse::auth::password::{Hasher, Params};
use rowhouse::domain::names::Password;
use serde_json::{Value, json};
use support::report::Args;
use support::{
    Contender, Fixture, Report, Samples, WEAKEST_HASH, interleave, interleave_after, machine, ms,
    provision_command,
};
use tokio::sync::oneshot;
use uuid::Uuid;

/// Number of set-ups that each client sends in a round.
const EACH: usize = 3;

/// Number of set-ups without a password that each client sends in a round.
const EACH_WITHOUT_PASSWORD: usize = 10;

/// Vacancies for the set-ups without a password: more than twice as many as a round takes, because a server
/// refills its stock once half of it is gone.
const STOCK: &str = "800";

#[tokio::main]
async fn main() {
    let args = Args::read();
    let (rounds, clients): (usize, &[usize]) = if args.quick { (2, &[2]) } else { (11, &[1, 8]) };
    let fixture = Fixture::start().await;
    let sql = fixture.connect().await;
    let backend = fixture.backend(&WEAKEST_HASH).await;
    let server = HttpServer::start(&fixture, "0").await;
    let hasher = hasher();
    let mut report = Report::begin(args, "setup_http", machine::line(&sql).await);
    for count in clients {
        measure(&mut report, &server, &hasher, &backend, (rounds, *count)).await;
    }
    server.stop().await;
    backend.close().await;
    let (rounds, clients) = if args.quick { (2, 2) } else { (11, 16) };
    Box::pin(measure_without_password(&mut report, &fixture, (rounds, clients))).await;
    report.end();
    drop(sql);
    fixture.stop().await;
}

async fn measure(
    report: &mut Report,
    server: &HttpServer,
    hasher: &Hasher,
    backend: &Backend,
    (rounds, clients): (usize, usize),
) {
    let contenders = [
        Contender::new("set-up over HTTP", || concurrently(clients, || server.set_up())),
        Contender::new("the hash alone", || concurrently(clients, || hash(hasher))),
        Contender::new("the database alone", || concurrently(clients, || provision(backend))),
    ];
    let samples = interleave(rounds, &contenders).await;
    let plural = if clients == 1 { "client" } else { "clients" };
    report.section(&format!("{clients} {plural}: time from one set-up to the next"));
    for (contender, samples) in contenders.iter().zip(&samples) {
        report.measured(contender.name, samples, "ms");
    }
    let [whole, hash, database] = &samples[..] else { return };
    let rest = whole.0.iter().zip(&hash.0).zip(&database.0).map(|((w, h), d)| w - h - d);
    report.measured("the rest", &Samples(rest.collect()), "ms");
    report.ratio("the hash / the whole", &hash.against(whole), None);
    report.ratio("the database / the whole", &database.against(whole), None);
    report.figure("set-ups", 1000.0 / whole.median(), "a second");
}

/// Set-ups a second that hash no password and find a vacancy.
async fn measure_without_password(
    report: &mut Report,
    fixture: &Fixture,
    (rounds, clients): (usize, usize),
) {
    let server = HttpServer::start(fixture, STOCK).await;
    let filler = fixture.backend(&[("tenants.vacancies", STOCK)]).await;
    let admins: Vec<String> = join_all((0..clients).map(|_| server.make_user())).await;
    let (server_ref, admins) = (&server, &admins);
    let contenders = [
        Contender::new("without an admin", || {
            rate(clients, move |_| server_ref.create(json!(null)))
        }),
        Contender::new("with an existing admin", || {
            rate(clients, move |client| server_ref.create(json!({ "email": admins[client] })))
        }),
    ];
    let samples = interleave_after(rounds, &contenders, async || {
        let stock = filler.services.vacancies.fill(&filler.operator()).await;
        stock.expect("the stock can be filled");
    })
    .await;
    report.section(&format!("{clients} clients, no password to hash, with a vacancy: throughput"));
    for (contender, samples) in contenders.iter().zip(&samples) {
        report.measured(contender.name, samples, "set-ups/s");
    }
    // The users who are the existing admins were made with a tenant each, before the stock was filled.
    server.assert_missed_at_most(clients).await;
    drop(contenders);
    server.stop().await;
    filler.close().await;
}

/// Runs concurrent clients and returns the completed calls a second.
async fn rate<F: Future<Output = ()>>(clients: usize, work: impl Fn(usize) -> F) -> f64 {
    let begin = Instant::now();
    let client = async |number| {
        for _ in 0..EACH_WITHOUT_PASSWORD {
            work(number).await;
        }
    };
    join_all((0..clients).map(client)).await;
    #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
    let calls = (clients * EACH_WITHOUT_PASSWORD) as f64;
    calls / begin.elapsed().as_secs_f64()
}

/// Runs concurrent clients and returns the milliseconds from one completed call to the next.
async fn concurrently<F: Future<Output = ()>>(clients: usize, work: impl Fn() -> F) -> f64 {
    let begin = Instant::now();
    let client = || async {
        for _ in 0..EACH {
            work().await;
        }
    };
    join_all((0..clients).map(|_| client())).await;
    #[expect(clippy::cast_precision_loss, reason = "a few dozen")]
    let calls = (clients * EACH) as f64;
    ms(begin.elapsed()) / calls
}

fn hasher() -> Hasher {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Hasher::new(Params::default(), cores, 256).expect("OWASP's parameters are valid")
}

async fn hash(hasher: &Hasher) {
    let password = Password::parse("SecurePass123!").expect("a password");
    hasher.hash(&password).await.expect("a password can be hashed");
}

async fn provision(backend: &Backend) {
    let made =
        backend.services.provisioning.provision(&backend.operator(), provision_command()).await;
    made.expect("a tenant can be made");
}

/// A server with the default settings, and a client.
struct HttpServer {
    address: String,
    token: String,
    client: reqwest::Client,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl HttpServer {
    async fn start(fixture: &Fixture, stock: &str) -> Self {
        let token = Uuid::new_v4().to_string();
        let settings =
            fixture.settings(&[("root_token", token.as_str()), ("tenants.vacancies", stock)]);
        let app = App::build(settings, Options::default()).await.expect("the server starts");
        let address = format!("http://{}", app.addr());
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(app.run_until_stopped(async {
            let _ = stopped.await;
        }));
        Self { address, token, client: reqwest::Client::new(), stop, task }
    }

    async fn set_up(&self) {
        self.post("/api/tenant/setup", &support::setup_body()).await;
    }

    /// Makes a tenant with this admin, and none where it is null.
    async fn create(&self, admin: Value) {
        let slug = format!("bench-{}", Uuid::now_v7().simple());
        let body = json!({ "name": "Bench", "slug": slug, "admin": admin });
        self.post("/control/v1/tenants", &body).await;
    }

    /// Makes a user, as the admin of a tenant, and returns their address.
    async fn make_user(&self) -> String {
        let body = support::setup_body();
        self.post("/api/tenant/setup", &body).await;
        body["adminEmail"].as_str().expect("there is an address").to_owned()
    }

    async fn post(&self, target: &str, body: &Value) {
        let request = self.client.post(format!("{}{target}", self.address));
        let answer = request.bearer_auth(&self.token).json(body).send().await;
        let answer = answer.expect("the server answers");
        assert_eq!(answer.status(), 201, "{:?}", answer.text().await);
    }

    /// Fails if more set-ups than these found no vacancy: then the figures are not those of set-ups with a vacancy.
    async fn assert_missed_at_most(&self, most: usize) {
        let answer = self.client.get(format!("{}/metrics", self.address)).send().await;
        let metrics = answer.expect("the server answers").text().await.expect("it is text");
        let missed = "rowhouse_vacancy_claims_total{outcome=\"missed\"} ";
        let missed = metrics.lines().find_map(|line| line.strip_prefix(missed));
        let missed: usize = missed.expect("it is counted").parse().expect("a number");
        assert!(missed <= most, "{missed} set-ups found no vacancy");
    }

    async fn stop(self) {
        let _ = self.stop.send(());
        drop(self.client);
        self.task.await.expect("the server does not panic").expect("the server stops in order");
    }
}
