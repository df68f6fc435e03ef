//! What a set-up costs that finds a vacancy: over HTTP against the password hash alone, and its database
//! part against a transaction that is committed with nothing in it.
//!
//! A real `App` with the default (OWASP) hash parameters, in this process, so that clients, server and
//! PostgreSQL share the machine's cores. The stock is filled before each round, and so large that the server
//! does not begin to refill it meanwhile; what the filling leaves to do (tables to vacuum) falls on whoever comes
//! first, which is another contender each time. Figures are medians of the times of single calls. Where there is
//! only the database, a client's first calls of a round do not count: all that they would tell is that the filling
//! has emptied the caches of the server's processes. *Empty* transactions come in two kinds: one that had
//! nothing to commit and so waits for no disk, and one whose commit is on disk when it is answered, as that of a
//! set-up is. The goal is against the second; the first is shown beside it. Statements of the control plane are
//! cached, as they are unless a pooler stands before the server, and unnamed beside it, as they are behind one:
//! what that adds is parsing and planning.
#![expect(
    unreachable_pub,
    reason = "a benchmark exports nothing; `pub` means shared between its files"
)]
#![expect(clippy::print_stdout, reason = "printing figures is what it is for")]

#[expect(dead_code, reason = "each benchmark uses a part of what they share")]
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
    Contender, Ground, Report, Samples, WEAKEST_HASH, interleave_after, machine, ms, wish,
};
use tokio::sync::oneshot;
use tokio_postgres::Client;
use uuid::Uuid;

/// Calls that each client makes in a round where a password is hashed or a schema built in each.
const FEW: usize = 5;

/// Calls that each client makes in a round where there is only the database.
const MANY: usize = 20;

/// Calls before these that do not count.
const WARM_UP: usize = 5;

/// Twice what a round of the most clients takes, and some: a server refills when half are gone.
const STOCK: &str = "1000";

/// An empty transaction: its BEGIN and COMMIT travel together.
const NOTHING: &str = "BEGIN; COMMIT";
/// An empty transaction that must reach the disk: a message in the log, and no row.
const TO_DISK: &str = "BEGIN; SELECT pg_logical_emit_message(true, '', ''); COMMIT";

#[tokio::main]
async fn main() {
    let args = Args::read();
    let (rounds, clients): (usize, &[usize]) = if args.quick { (2, &[2]) } else { (15, &[1, 8]) };
    let ground = Ground::start().await;
    let sql = ground.connect().await;
    let site = Site::start(&ground).await;
    let stock = ("tenants.vacancies", STOCK);
    let backend = ground.backend(&[WEAKEST_HASH[0], WEAKEST_HASH[1], stock]).await;
    let unnamed = ("database.statements", "unnamed");
    let unnaming = ground.backend(&[WEAKEST_HASH[0], WEAKEST_HASH[1], stock, unnamed]).await;
    let builder =
        ground.backend(&[WEAKEST_HASH[0], WEAKEST_HASH[1], ("tenants.vacancies", "0")]).await;
    let hasher = hasher();
    let mut report = Report::begin(args, "vacancies", machine::line(&sql).await);
    for count in clients {
        let empty: Vec<Client> = join_all((0..*count).map(|_| ground.connect())).await;
        let bench = Bench {
            site: &site,
            backend: &backend,
            unnaming: &unnaming,
            builder: &builder,
            hasher: &hasher,
        };
        bench.measure(&mut report, &empty, (rounds, *count)).await;
    }
    site.assert_that_none_was_missed().await;
    round_trips(&mut report, &ground).await;
    report.end();
    site.stop().await;
    backend.close().await;
    unnaming.close().await;
    builder.close().await;
    drop(sql);
    ground.stop().await;
}

struct Bench<'a> {
    site: &'a Site,
    /// Takes vacancies.
    backend: &'a Backend,
    /// Takes vacancies too, with `database.statements = unnamed`.
    unnaming: &'a Backend,
    /// Takes none.
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
            Contender::new("the hash alone", || at_once(clients, FEW, |_| hash(self.hasher))),
            Contender::new("set-up over HTTP, with a vacancy", || {
                at_once(clients, FEW, |_| self.site.set_up())
            }),
            Contender::new("empty, nothing to commit", || {
                warm_at_once(clients, |client| run(&empty[client], NOTHING))
            }),
            Contender::new("empty, committed to disk", || {
                warm_at_once(clients, |client| run(&empty[client], TO_DISK))
            }),
            Contender::new("the database part, with a vacancy", || {
                warm_at_once(clients, |_| provision(self.backend, wish()))
            }),
            Contender::new("the database part, with a vacancy, unnamed", || {
                warm_at_once(clients, |_| provision(self.unnaming, wish()))
            }),
            Contender::new("the database part, built", || {
                at_once(clients, FEW, |_| provision(self.builder, wish()))
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

/// Lets so many clients work at once, each so many times, and gives the median of the milliseconds that each call
/// took.
async fn at_once<F: Future<Output = ()>>(
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

/// As [`at_once`], with [`MANY`] calls that count.
async fn warm_at_once<F: Future<Output = ()>>(clients: usize, work: impl Fn(usize) -> F) -> f64 {
    at_once(clients, WARM_UP, &work).await;
    at_once(clients, MANY, &work).await
}

fn hasher() -> Hasher {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Hasher::new(Params::default(), cores, 256).expect("OWASP's parameters can be used")
}

async fn hash(hasher: &Hasher) {
    let password = Password::parse("SecurePass123!").expect("a password");
    hasher.hash(&password).await.expect("a password can be hashed");
}

async fn run(sql: &Client, script: &str) {
    sql.batch_execute(script).await.expect("a transaction can be committed");
}

async fn provision(backend: &Backend, wish: ProvisionTenant) {
    let made = backend.services.provisioning.provision(&backend.operator(), wish).await;
    made.expect("a tenant can be made");
}

/// Counts the round trips of a set-up with a vacancy.
async fn round_trips(report: &mut Report, ground: &Ground) {
    const TIMES: usize = 5;
    let proxy = Proxy::start(ground.server.socket_dir(), ground.server.port());
    let through = ground.url_through(&proxy);
    let values = [
        WEAKEST_HASH[0],
        WEAKEST_HASH[1],
        ("tenants.vacancies", STOCK),
        ("database.url", through.as_str()),
    ];
    let backend = ground.backend(&values).await;
    report.section("round trips of a set-up with a vacancy");
    for keyed in [false, true] {
        let make = async || {
            let idempotency_key = keyed.then(|| Uuid::now_v7().to_string());
            provision(&backend, ProvisionTenant { idempotency_key, ..wish() }).await;
        };
        // The first one opens the connection.
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

/// A server with the default settings but for the stock, and a client of it.
struct Site {
    address: String,
    token: String,
    client: reqwest::Client,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Site {
    async fn start(ground: &Ground) -> Self {
        let token = Uuid::new_v4().to_string();
        let settings =
            ground.settings(&[("root_token", token.as_str()), ("tenants.vacancies", STOCK)]);
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

    /// Every set-up over HTTP must have found one, or it is not what was to be measured.
    async fn assert_that_none_was_missed(&self) {
        let answer = self.client.get(format!("{}/metrics", self.address)).send().await;
        let metrics = answer.expect("the server answers").text().await.expect("it is text");
        let none = "rowhouse_vacancy_claims{outcome=\"missed\"} 0";
        assert!(metrics.lines().any(|line| line == none), "some set-ups found no vacancy");
    }

    async fn stop(self) {
        let _ = self.stop.send(());
        drop(self.client);
        self.task.await.expect("the server does not panic").expect("the server stops in order");
    }
}
