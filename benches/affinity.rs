//! Measures connection affinity (a tenant gets the connection that served it last) and the replacement of a
//! connection after many tenants, by guarded one-row reads (`TenantTx`) of random tenants.
//!
//! The first part measures the memory of PostgreSQL's backends over a long run with many tenants: with the
//! connection that was idle longest, as a plain pool gives, and with the one that knows the tenant, each kept
//! and replaced after a number of tenants. Each way has its own connections, so that no backend carries memory
//! over. The figure is the highest sum of the backends' anonymous memory.
//!
//! The second part measures throughput with few tenants, with and without affinity, in alternating rounds.
//!
//! Eight clients run on two threads; each thread has a runtime and half of the connections, like an actix
//! worker. `BENCH_TENANTS`, `BENCH_REQUESTS` and `BENCH_TENANTS_PER_CONNECTION` change the scale of the first
//! part, `BENCH_CLIENTS` the number of clients (16 leave no connection idle, and so no choice).
#![expect(
    unreachable_pub,
    reason = "a benchmark exports nothing; `pub` means shared between its files"
)]
#![expect(clippy::print_stdout, reason = "a benchmark prints figures")]

#[expect(dead_code, reason = "each benchmark uses a part of the shared code")]
mod support;

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rowhouse::domain::names::TenantId;
use rowhouse::pg::Db;
use rowhouse::pg::bootstrap::ensure_login_limits;
use rowhouse::pg::connect::login::Login;
use rowhouse::pg::db::Database;
use rowhouse::pg::rules::{
    Isolation, PoolSizes, RUNTIME_LOGIN, Rules, Sharing, Statements, TimeLimits,
};
use support::report::{Args, Goal};
use support::{
    Fixture, Random, Report, Samples, WEAKEST_HASH, endpoints, fill, insert_profiles, machine,
};
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::Client;
use uuid::Uuid;

const THREADS: usize = 2;
const CONNECTIONS: usize = 16;

/// The interval at which the backends' memory is read.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(100);

/// The id of the one profile in each tenant.
const ROW: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001);

const READ: &str = "SELECT id, email, version FROM profiles WHERE id = $1";

struct Scale {
    tenants: usize,
    requests: usize,
    tenants_per_connection: usize,
    clients: usize,
    rounds: usize,
    time: Duration,
    few: [usize; 2],
}

impl Scale {
    fn read(quick: bool) -> Self {
        let (tenants, requests) = if quick { (60, 2_000) } else { (5_000, 100_000) };
        Self {
            tenants: from_environment("BENCH_TENANTS").unwrap_or(tenants),
            requests: from_environment("BENCH_REQUESTS").unwrap_or(requests),
            tenants_per_connection: from_environment("BENCH_TENANTS_PER_CONNECTION")
                .unwrap_or(if quick { 10 } else { 500 }),
            clients: from_environment("BENCH_CLIENTS").unwrap_or(8).max(THREADS),
            rounds: if quick { 2 } else { 41 },
            time: Duration::from_millis(100),
            few: if quick { [4, 20] } else { [8, 100] },
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a variable of the benchmark, not a setting of the server"
)]
fn from_environment(name: &str) -> Option<usize> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("BENCH_* are numbers"))
}

fn main() {
    let args = Args::read();
    let scale = Scale::read(args.quick);
    let runtime = Runtime::new().expect("a runtime can be built");
    let (fixture, sql, ids) = runtime.block_on(async {
        let fixture = Fixture::start().await;
        let backend = fixture.backend(&WEAKEST_HASH).await;
        let sql = fixture.connect().await;
        let ids = fill(&backend, &sql, scale.tenants.max(scale.few[1])).await;
        insert_profiles(&sql, &ids, ROW).await;
        backend.close().await;
        (fixture, sql, ids)
    });
    let mut report = Report::begin(args, "affinity", runtime.block_on(machine::line(&sql)));
    let bench = Bench { fixture: &fixture, sql: &sql, runtime: &runtime, scale: &scale };
    bench.memory(&mut report, &ids[..scale.tenants]);
    for statements in [Statements::Unnamed, Statements::Cached] {
        for few in scale.few {
            bench.throughput(&mut report, statements, &ids[..few]);
        }
    }
    report.end();
    runtime.block_on(async {
        drop(sql);
        fixture.stop().await;
    });
}

struct Bench<'a> {
    fixture: &'a Fixture,
    sql: &'a Client,
    runtime: &'a Runtime,
    scale: &'a Scale,
}

impl Bench<'_> {
    fn memory(&self, report: &mut Report, tenants: &[TenantId]) {
        let scale = self.scale;
        report.section(&format!(
            "memory of {CONNECTIONS} connections: {} reads of {} tenants by {} clients",
            scale.requests, scale.tenants, scale.clients
        ));
        let most = NonZeroUsize::new(scale.tenants_per_connection);
        let configurations = [
            ("any connection, kept", sharing(false, None)),
            ("the one that knows the tenant, kept", sharing(true, None)),
            (
                &*format!("the same, replaced after {} tenants", scale.tenants_per_connection),
                sharing(true, most),
            ),
            (
                &*format!("any, replaced after {} tenants", scale.tenants_per_connection),
                sharing(false, most),
            ),
        ];
        let runs =
            configurations.map(|(name, sharing)| self.long_run(report, name, sharing, tenants));
        let against = |one: usize, other: usize| Samples(vec![runs[one] / runs[other]]);
        report.ratio("affinity / any, both kept", &against(1, 0), None);
        report.ratio("replaced / kept, both with affinity", &against(2, 1), None);
        report.ratio("replaced / kept, both any", &against(3, 0), Some(Goal::AtMost(0.5)));
    }

    /// Returns the largest memory of all backends at one time, in MiB.
    fn long_run(
        &self,
        report: &mut Report,
        name: &str,
        sharing: Sharing,
        tenants: &[TenantId],
    ) -> f64 {
        let database = self.database(Statements::Unnamed, sharing);
        let workers = self.workers(&database);
        let until = Until::Reads(AtomicUsize::new(self.scale.requests));
        let (is_over, begin) = (AtomicBool::new(false), Instant::now());
        let most = thread::scope(|scope| {
            let watch = scope.spawn(|| self.watch(&is_over));
            run(&workers, tenants, &until);
            is_over.store(true, Ordering::Relaxed);
            watch.join().expect("memory can be read")
        });
        let seconds = begin.elapsed().as_secs_f64();
        let sharing = database.sharing_status();
        report.figure(name, most, "MiB at most");
        #[expect(clippy::cast_precision_loss, reason = "a few hundred thousand")]
        let (reads, each) =
            (self.scale.requests as f64, sharing.tenants as f64 / CONNECTIONS as f64);
        report.note(&format!(
            "    {:.0} reads/s; {each:.0} tenants a connection at the end, {} the most; {} replaced",
            reads / seconds,
            sharing.tenants_at_most,
            sharing.retired
        ));
        self.close(&[database], workers);
        most
    }

    /// Returns the largest sum of the backends' memory until `is_over`, in MiB.
    fn watch(&self, is_over: &AtomicBool) -> f64 {
        let mut most = 0.0_f64;
        loop {
            let is_last = is_over.load(Ordering::Relaxed);
            let pids = self.runtime.block_on(machine::backends(self.sql, RUNTIME_LOGIN));
            let all = pids.iter().filter_map(|pid| machine::memory(*pid)).map(|(_, own)| own).sum();
            most = most.max(all);
            if is_last {
                return most;
            }
            thread::sleep(SAMPLE_INTERVAL);
        }
    }

    fn throughput(&self, report: &mut Report, statements: Statements, tenants: &[TenantId]) {
        let scale = self.scale;
        let word = match statements {
            Statements::Unnamed => "unnamed",
            Statements::Cached => "cached",
        };
        report.section(&format!(
            "throughput: {} tenants, {CONNECTIONS} connections, {} clients, statements {word}",
            tenants.len(),
            scale.clients
        ));
        let databases = [false, true].map(|by| self.database(statements, sharing(by, None)));
        let workers = [self.workers(&databases[0]), self.workers(&databases[1])];
        let mut rates = [Vec::new(), Vec::new()];
        for round in 0..=scale.rounds {
            for turn in 0..2 {
                let at = (turn + round) % 2;
                let begin = Instant::now();
                let units = run(&workers[at], tenants, &Until::Time(begin + scale.time));
                #[expect(clippy::cast_precision_loss, reason = "a few ten thousand")]
                let rate = units as f64 / begin.elapsed().as_secs_f64();
                if round > 0 {
                    rates[at].push(rate);
                }
            }
        }
        let [without, with] = rates.map(Samples);
        report.measured("any connection", &without, "reads/s");
        report.measured("the one that knows the tenant", &with, "reads/s");
        report.ratio("affinity / any", &with.against(&without), None);
        for database in &databases {
            let status = database.sharing_status();
            report.note(&format!(
                "    on the last / an earlier / another connection: {} / {} / {}",
                status.on_last, status.on_earlier, status.on_other
            ));
        }
        self.close(&databases, workers.into_iter().flatten().collect());
    }

    fn database(&self, statements: Statements, sharing: Sharing) -> Database {
        let (owner, runtime) = endpoints(self.fixture.server.connect_config("rowhouse"));
        let limits = TimeLimits::default();
        let stand =
            self.runtime.block_on(ensure_login_limits(&mut Login::new(runtime.clone()), limits));
        let login_has_limits = stand.expect("the runtime login works");
        let rules = Rules { login_has_limits, ..Rules::new(Isolation::Role, statements, limits) };
        Database::with_sharing(owner, runtime, rules, sharing)
    }

    fn workers(&self, database: &Database) -> Vec<Worker> {
        let clients = self.scale.clients / THREADS;
        (0..THREADS).map(|_| Worker::new(database, clients)).collect()
    }

    /// Closes the connections and waits until their backends have ended, so that no later figure includes them.
    fn close(&self, databases: &[Database], workers: Vec<Worker>) {
        databases.iter().for_each(Database::close);
        drop(workers); // a connection ends on the runtime that opened it, or with that runtime
        while !self.runtime.block_on(machine::backends(self.sql, RUNTIME_LOGIN)).is_empty() {
            thread::sleep(SAMPLE_INTERVAL);
        }
    }
}

fn sharing(by_affinity: bool, tenants_per_connection: Option<NonZeroUsize>) -> Sharing {
    Sharing { by_affinity, tenants_per_connection, ..Sharing::default() }
}

/// When a run ends.
enum Until {
    Time(Instant),
    /// The number of reads left for all clients together.
    Reads(AtomicUsize),
}

impl Until {
    fn continues(&self) -> bool {
        match self {
            Self::Time(end) => Instant::now() < *end,
            Self::Reads(left) => left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                .is_ok(),
        }
    }
}

/// Runs the clients of all workers and returns the number of reads.
fn run(workers: &[Worker], tenants: &[TenantId], until: &Until) -> usize {
    thread::scope(|scope| {
        let threads: Vec<_> =
            workers.iter().map(|worker| scope.spawn(move || worker.run(tenants, until))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no client panics")).sum()
    })
}

/// A thread's part of the clients and connections, with its own runtime.
struct Worker {
    runtime: Runtime,
    db: Db,
    clients: usize,
}

impl Worker {
    fn new(database: &Database, clients: usize) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build();
        let sizes = PoolSizes { control: 1, runtime: CONNECTIONS / THREADS };
        let db = database.pools(sizes).expect("pools can be made");
        let worker = Self { runtime: runtime.expect("a runtime can be built"), db, clients };
        // Opens all connections before the measurement.
        worker.runtime.block_on(async {
            let all = (0..sizes.runtime).map(|_| worker.db.unguarded_for_benchmarks());
            let all = join_all(all).await;
            assert!(all.iter().all(Result::is_ok), "all connections can be opened");
        });
        worker
    }

    fn run(&self, tenants: &[TenantId], until: &Until) -> usize {
        let client = || async {
            let (mut reads, mut random) = (0, Random::new());
            while until.continues() {
                let tenant = tenants[random.below(tenants.len())];
                let tx = self.db.tenant(tenant).await.expect("a connection is free");
                let rows = tx.query_and_commit(READ, &[&ROW]).await;
                assert!(rows.expect("the tenant can be read").len() == 1, "the one row");
                reads += 1;
            }
            reads
        };
        let clients = join_all((0..self.clients).map(|_| client()));
        self.runtime.block_on(clients).iter().sum()
    }
}
