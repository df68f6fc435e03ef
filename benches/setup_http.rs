//! A complete set-up over HTTP and the parts of its time: hashing the password, the database, the rest.
//!
//! The server is an `App` with the default (OWASP) hash parameters in this process, so that clients, server and
//! PostgreSQL share the machine's cores. The parts are also measured alone with the same concurrency: the hasher,
//! and `Provisioning::provision` with the weakest hash. The rest is HTTP, JSON, authentication, and the time that
//! the parts lose by sharing the cores.
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
use support::report::Args;
use support::{
    Contender, Fixture, Report, Samples, WEAKEST_HASH, interleave, machine, ms, provision_command,
};
use tokio::sync::oneshot;
use uuid::Uuid;

/// Number of set-ups that each client sends in a round.
const EACH: usize = 3;

#[tokio::main]
async fn main() {
    let args = Args::read();
    let (rounds, clients): (usize, &[usize]) = if args.quick { (2, &[2]) } else { (11, &[1, 8]) };
    let fixture = Fixture::start().await;
    let sql = fixture.connect().await;
    let backend = fixture.backend(&WEAKEST_HASH).await;
    let server = HttpServer::start(&fixture).await;
    let hasher = hasher();
    let mut report = Report::begin(args, "setup_http", machine::line(&sql).await);
    for count in clients {
        measure(&mut report, &server, &hasher, &backend, (rounds, *count)).await;
    }
    report.end();
    server.stop().await;
    backend.close().await;
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
    async fn start(fixture: &Fixture) -> Self {
        let token = Uuid::new_v4().to_string();
        let settings = fixture.settings(&[("root_token", token.as_str())]);
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

    async fn stop(self) {
        let _ = self.stop.send(());
        drop(self.client);
        self.task.await.expect("the server does not panic").expect("the server stops in order");
    }
}
