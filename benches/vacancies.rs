//! The cost of a set-up that claims a vacancy: over HTTP against the password hash alone, and its database part
//! against an empty transaction.
//!
//! The server is an `App` with the default (OWASP) hash parameters in this process, so that clients, server and
//! PostgreSQL share the machine's cores. The stock is filled before each round and large enough that the server
//! does not refill it during the round; the work that filling leaves (tables to vacuum) falls on the first contender,
//! which is another one in each round. Figures are medians of the times of single calls. Where only the database is
//! measured, a client's first calls of a round do not count, because filling has emptied the caches of the backends.
//! There are two kinds of *empty* transactions: one with nothing to commit, which waits for no disk, and one whose
//! commit is on disk when it is answered, like that of a set-up. The goal compares with the second. Statements of the
//! control plane are cached, as by default, and also unnamed, as behind a pooler, which adds parsing and planning.
#![expect(
    unreachable_pub,
    reason = "a benchmark exports nothing; `pub` means shared between its files"
)]
#![expect(clippy::print_stdout, reason = "a benchmark prints figures")]

#[expect(dead_code, reason = "each benchmark uses a part of the shared code")]
mod support;

use std::cell::RefCell;
use std::time::Instant;

use futures_util::future::join_all;
use rowhouse::app::{App, Backend, Options};
use rowhouse::auth::password::{Hasher, Params};
use rowhouse::domain::names::Password;
use rowhouse::service::provisioning::ProvisionTenant;
use support::proxy::Proxy;
use support::report::{Args, Goal};
use support::{
    Contender, Fixture, Report, Samples, WEAKEST_HASH, interleave_after, machine, ms,
    provision_command,
};
use tokio::sync::oneshot;
use tokio_postgres::Client;
use uuid::Uuid;

/// Number of calls of each client in a round where each call hashes a password or builds a schema.
const FEW: usize = 5;

/// Number of calls of each client in a round where only the database is measured.
const MANY: usize = 20;

/// Number of calls before these that do not count.
const WARM_UP: usize = 5;

/// More than twice the set-ups of a round with the most clients, because a server refills when half are claimed.
const STOCK: &str = "1000";

/// An empty transaction in one message.
const NOTHING: &str = "BEGIN; COMMIT";
/// A transaction that writes only a message to the write-ahead log, so that its commit waits for the disk.
const TO_DISK: &str = "BEGIN; SELECT pg_logical_emit_message(true, '', ''); COMMIT";

#[tokio::main]
async fn main() {
    let args = Args::read();
    let (rounds, clients): (usize, &[usize]) = if args.quick { (2, &[2]) } else { (15, &[1, 8]) };
    let fixture = Fixture::start().await;
    let sql = fixture.connect().await;
    let server = HttpServer::start(&fixture).await;
    let stock = ("tenants.vacancies", STOCK);
    let backend = fixture.backend(&[WEAKEST_HASH[0], WEAKEST_HASH[1], stock]).await;
    let unnamed = ("database.statements", "unnamed");
    let unnamed_backend =
        fixture.backend(&[WEAKEST_HASH[0], WEAKEST_HASH[1], stock, unnamed]).await;
    let builder =
        fixture.backend(&[WEAKEST_HASH[0], WEAKEST_HASH[1], ("tenants.vacancies", "0")]).await;
    let hasher = hasher();
    let mut report = Report::begin(args, "vacancies", machine::line(&sql).await);
    for count in clients {
        let empty: Vec<Client> = join_all((0..*count).map(|_| fixture.connect())).await;
        let bench = Bench {
            server: &server,
            backend: &backend,
            unnamed_backend: &unnamed_backend,
            builder: &builder,
            hasher: &hasher,
        };
        bench.measure(&mut report, &empty, (rounds, *count)).await;
    }
    server.assert_no_claim_missed().await;
    Box::pin(round_trips(&mut report, &fixture)).await;
    report.end();
    server.stop().await;
    backend.close().await;
    unnamed_backend.close().await;
    builder.close().await;
    drop(sql);
    fixture.stop().await;
}

struct Bench<'a> {
    server: &'a HttpServer,
    /// Claims vacancies.
    backend: &'a Backend,
    /// Claims vacancies, with `database.statements = unnamed`.
    unnamed_backend: &'a Backend,
    /// Claims none.
    builder: &'a Backend,
    hasher: &'a Hasher,
}

impl Bench<'_> {
    async fn measure(
        &self,
        report: &mut Report,
        empty: &[Client],
        (rounds, clients): (usize, usize),
    ) {
        let contenders = [
            Contender::new("the hash alone", || concurrently(clients, FEW, |_| hash(self.hasher))),
            Contender::new("set-up over HTTP, with a vacancy", || {
                concurrently(clients, FEW, |_| self.server.set_up())
            }),
            Contender::new("empty, nothing to commit", || {
                concurrently_warm(clients, |client| run(&empty[client], NOTHING))
            }),
            Contender::new("empty, committed to disk", || {
                concurrently_warm(clients, |client| run(&empty[client], TO_DISK))
            }),
            Contender::new("the database part, with a vacancy", || {
                concurrently_warm(clients, |_| provision(self.backend, provision_command()))
            }),
            Contender::new("the database part, with a vacancy, unnamed", || {
                concurrently_warm(clients, |_| provision(self.unnamed_backend, provision_command()))
            }),
            Contender::new("the database part, built", || {
                concurrently(clients, FEW, |_| provision(self.builder, provision_command()))
            }),
        ];
        let samples = interleave_after(rounds, &contenders, || self.fill()).await;
        let plural = if clients == 1 { "client" } else { "clients" };
        report.section(&format!("{clients} {plural}: median time of one call"));
        for (contender, samples) in contenders.iter().zip(&samples) {
            report.measured(contender.name, samples, "ms");
        }
        let [hash, http, nothing, to_disk, claimed, unnamed, built] = &samples[..] else { return };
        report.ratio("over HTTP / the hash", &http.against(hash), Some(Goal::AtMost(1.5)));
        let goal = Some(Goal::AtMost(3.0));
        report.ratio("database part / empty, to disk", &claimed.against(to_disk), goal);
        report.ratio("database part, unnamed / empty, to disk", &unnamed.against(to_disk), None);
        report.ratio("database part / empty, nothing", &claimed.against(nothing), None);
        report.ratio("database part, built / with a vacancy", &built.against(claimed), None);
    }

    async fn fill(&self) {
        let filled = self.backend.services.vacancies.fill(&self.backend.operator()).await;
        filled.expect("the stock can be filled");
    }
}

/// Runs concurrent clients, each with this many calls, and returns the median milliseconds of a call.
async fn concurrently<F: Future<Output = ()>>(
    clients: usize,
    each: usize,
    work: impl Fn(usize) -> F,
) -> f64 {
    let took = RefCell::new(Vec::with_capacity(clients * each));
    let client = async |number| {
        for _ in 0..each {
            let begin = Instant::now();
            work(number).await;
            took.borrow_mut().push(ms(begin.elapsed()));
        }
    };
    join_all((0..clients).map(client)).await;
    Samples(took.into_inner()).median()
}

/// As [`concurrently`], with [`WARM_UP`] calls that do not count before [`MANY`] that do.
async fn concurrently_warm<F: Future<Output = ()>>(
    clients: usize,
    work: impl Fn(usize) -> F,
) -> f64 {
    concurrently(clients, WARM_UP, &work).await;
    concurrently(clients, MANY, &work).await
}

fn hasher() -> Hasher {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Hasher::new(Params::default(), cores, 256).expect("OWASP's parameters are valid")
}

async fn hash(hasher: &Hasher) {
    let password = Password::parse("SecurePass123!").expect("a password");
    hasher.hash(&password).await.expect("a password can be hashed");
}

async fn run(sql: &Client, script: &str) {
    sql.batch_execute(script).await.expect("a transaction can be committed");
}

async fn provision(backend: &Backend, command: ProvisionTenant) {
    let made = backend.services.provisioning.provision(&backend.operator(), command).await;
    made.expect("a tenant can be made");
}

/// Reports the round trips of a set-up with a vacancy.
async fn round_trips(report: &mut Report, fixture: &Fixture) {
    const TIMES: usize = 5;
    let proxy = Proxy::start(fixture.server.socket_dir(), fixture.server.port());
    let through = fixture.url_through(&proxy);
    let values = [
        WEAKEST_HASH[0],
        WEAKEST_HASH[1],
        ("tenants.vacancies", STOCK),
        ("database.url", through.as_str()),
    ];
    let backend = fixture.backend(&values).await;
    report.section("round trips of a set-up with a vacancy");
    for keyed in [false, true] {
        let make = async || {
            let idempotency_key = keyed.then(|| Uuid::now_v7().to_string());
            provision(&backend, ProvisionTenant { idempotency_key, ..provision_command() }).await;
        };
        // The first set-up opens the connection.
        make().await;
        let before = proxy.round_trips();
        for _ in 0..TIMES {
            make().await;
        }
        #[expect(clippy::cast_precision_loss, reason = "a few dozen")]
        let each = (proxy.round_trips() - before) as f64 / TIMES as f64;
        report.figure(if keyed { "with an Idempotency-Key" } else { "without a key" }, each, "");
    }
    backend.close().await;
}

/// A server with the default settings except for the stock, and a client.
struct HttpServer {
    address: String,
    token: String,
    client: reqwest::Client,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl HttpServer {
    async fn start(fixture: &Fixture) -> Self {
        let token = Uuid::new_v4().to_string();
        let settings =
            fixture.settings(&[("root_token", token.as_str()), ("tenants.vacancies", STOCK)]);
        let app = App::build(settings, Options::default()).await.expect("the server starts");
        let address = format!("http://{}", app.addr());
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(app.run_until_stopped(async {
            let _ = stopped.await;
        }));
        Self { address, token, client: reqwest::Client::new(), stop, task }
    }

    async fn set_up(&self) {
        let body = support::setup_body();
        let request = self.client.post(format!("{}/api/tenant/setup", self.address));
        let answer = request.bearer_auth(&self.token).json(&body).send().await;
        assert_eq!(answer.expect("the server answers").status(), 201);
    }

    /// Asserts that every set-up over HTTP claimed a vacancy; otherwise the figures are of something else.
    async fn assert_no_claim_missed(&self) {
        let answer = self.client.get(format!("{}/metrics", self.address)).send().await;
        let metrics =
            answer.expect("the server answers").text().await.expect("the metrics are text");
        let none = "rowhouse_vacancy_claims_total{outcome=\"missed\"} 0";
        assert!(metrics.lines().any(|line| line == none), "some set-ups found no vacancy");
    }

    async fn stop(self) {
        let _ = self.stop.send(());
        drop(self.client);
        self.task.await.expect("the server does not panic").expect("the server stops in order");
    }
}
