//! The cost of the guard: a one-row read by primary key through a `TenantTx`, against the same read on the same
//! pool without a guard.
//!
//! Eight clients run on two threads; each thread has its own runtime and pool, like an actix worker. Each read
//! picks a random tenant. The baseline qualifies the tenant's table and runs as the runtime login, to which this
//! benchmark grants the privilege; in cached mode it therefore prepares one statement for each tenant, and the
//! guard one for all of them.
//!
//! CPU time of one unit is reported too, ours (the clients' threads) and the server's (the backends of the
//! runtime login), from the round that used the least, which was disturbed the least.
#![expect(
    unreachable_pub,
    reason = "a benchmark exports nothing; `pub` means shared between its files"
)]
#![expect(clippy::print_stdout, reason = "a benchmark prints figures")]

#[expect(dead_code, reason = "each benchmark uses a part of the shared code")]
mod support;

use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};
use rowhouse::domain::names::{SchemaName, TenantId};
use rowhouse::pg::bootstrap::ensure_login_limits;
use rowhouse::pg::connect::login::Login;
use rowhouse::pg::db::Database;
use rowhouse::pg::rules::{Isolation, PoolSizes, RUNTIME_LOGIN, Rules, Statements, TimeLimits};
use rowhouse::pg::{Db, Row};
use support::proxy::Proxy;
use support::report::{Args, Goal};
use support::{
    Fixture, Random, Report, Samples, WEAKEST_HASH, endpoints, fill, insert_profiles, machine,
};
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::Client;
use tokio_postgres::types::Type;
use uuid::Uuid;

const THREADS: usize = 2;
const CLIENTS: usize = 8;
const CLIENTS_A_THREAD: usize = CLIENTS / THREADS;

/// The id of the one profile in each tenant.
const ROW: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001);

const GUARDED: &str = "SELECT id, email, version FROM profiles WHERE id = $1";

/// The work that a client repeats, with its number of queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Plain(u32),
    Guarded(u32),
    /// Guarded, with the time limits set in each transaction because the runtime login does not have them.
    SettingLimits,
    /// `BEGIN`, the query and `COMMIT` in one round trip, without role, search path or time limits: the cost of
    /// a transaction alone.
    Transaction,
}

/// The units: name, work, and the index of the baseline of its ratio.
const UNITS: [(&str, Unit, Option<usize>); 6] = [
    ("plain", Unit::Plain(1), None),
    ("guarded", Unit::Guarded(1), Some(0)),
    ("guarded, setting time limits", Unit::SettingLimits, Some(0)),
    ("in a bare transaction", Unit::Transaction, Some(0)),
    ("two queries, plain", Unit::Plain(2), None),
    ("two queries, guarded", Unit::Guarded(2), Some(4)),
];

/// The mode of the default settings.
const DEFAULT: Statements = Statements::Unnamed;

struct Scale {
    rounds: usize,
    tenants: [usize; 2],
    time: Duration,
    /// Reads of each tenant by each unit before the measurement.
    warm_up: usize,
}

fn main() {
    let args = Args::read();
    let scale = if args.quick {
        Scale { rounds: 2, tenants: [1, 10], time: Duration::from_millis(100), warm_up: 2 }
    } else {
        Scale { rounds: 61, tenants: [1, 1000], time: Duration::from_millis(50), warm_up: 20 }
    };
    let runtime = Runtime::new().expect("a runtime can be built");
    let (fixture, sql, ids) = runtime.block_on(prepare(scale.tenants[1]));
    let machine = runtime.block_on(machine::line(&sql));
    let mut report = Report::begin(args, "guarded_read", machine);
    runtime.block_on(count_round_trips(&mut report, &fixture, ids[0]));
    let bench = Bench { fixture: &fixture, sql: &sql, runtime: &runtime };
    for count in scale.tenants {
        for mode in [Statements::Unnamed, Statements::Cached] {
            bench.measure(&mut report, mode, &ids[..count], &scale);
        }
    }
    report.end();
    runtime.block_on(async {
        drop(sql);
        fixture.stop().await;
    });
}

async fn prepare(tenants: usize) -> (Fixture, Client, Vec<TenantId>) {
    let fixture = Fixture::start().await;
    let backend = fixture.backend(&WEAKEST_HASH).await;
    let sql = fixture.connect().await;
    let ids = fill(&backend, &sql, tenants).await;
    insert_profiles(&sql, &ids, ROW).await;
    backend.close().await;
    grant_reads_to_runtime_login(&sql, &ids).await;
    (fixture, sql, ids)
}

/// Grants the runtime login the privilege to read every tenant, because without a guard it has no tenant's role.
/// A server refuses to start on such a database.
async fn grant_reads_to_runtime_login(sql: &Client, tenants: &[TenantId]) {
    for tenant in tenants {
        let schema = SchemaName::of(*tenant);
        let script = format!(
            "GRANT USAGE ON SCHEMA {schema} TO {RUNTIME_LOGIN};
             GRANT SELECT ON {schema}.profiles TO {RUNTIME_LOGIN}"
        );
        sql.batch_execute(&script).await.expect("the owner may grant");
    }
}

/// The databases of the reads: with time limits of the login, as by default, and with time limits that each
/// transaction sets. The reads without a guard have pools of their own: in a pool of both, they would count as another
/// tenant that is active, for which a connection is reserved.
struct Databases {
    plain: Database,
    product: Database,
    setting_limits: Database,
}

impl Databases {
    async fn new(owner: tokio_postgres::Config, statements: Statements) -> Self {
        let (owner, runtime) = endpoints(owner);
        let limits = TimeLimits::default();
        let is_set = ensure_login_limits(&mut Login::new(runtime.clone()), limits)
            .await
            .expect("the runtime login works");
        assert!(is_set, "the login has the limits on an embedded server");
        let database = |login_has_limits| {
            let rules =
                Rules { login_has_limits, ..Rules::new(Isolation::Role, statements, limits) };
            Database::new(owner.clone(), runtime.clone(), rules)
        };
        Self { plain: database(true), product: database(true), setting_limits: database(false) }
    }

    fn reader(&self, mode: Statements, connections: usize) -> Reader {
        let setting_limits = pools(&self.setting_limits, connections);
        let unguarded = pools(&self.plain, connections);
        Reader { unguarded, db: pools(&self.product, connections), setting_limits, mode }
    }

    fn close(&self) {
        self.plain.close();
        self.product.close();
        self.setting_limits.close();
    }
}

fn pools(database: &Database, connections: usize) -> Db {
    database.pools(PoolSizes { control: 1, runtime: connections }).expect("pools can be made")
}

/// Reports the round trips of each unit after its statements are prepared, counted by a proxy.
async fn count_round_trips(report: &mut Report, fixture: &Fixture, tenant: TenantId) {
    const TIMES: usize = 20;
    report.section("round trips of one unit");
    let proxy = Proxy::start(fixture.server.socket_dir(), fixture.server.port());
    let mut config = tokio_postgres::Config::new();
    config.host_path(proxy.socket_dir()).port(fixture.server.port());
    config.user("rowhouse").dbname("rowhouse");
    for mode in [Statements::Unnamed, Statements::Cached] {
        let databases = Databases::new(config.clone(), mode).await;
        let reader = databases.reader(mode, 1);
        let target = Target::of(tenant);
        for (name, unit, _) in UNITS {
            reader.run(unit, &target).await;
            let before = proxy.round_trips();
            for _ in 0..TIMES {
                reader.run(unit, &target).await;
            }
            #[expect(clippy::cast_precision_loss, reason = "a few dozen")]
            let each = (proxy.round_trips() - before) as f64 / TIMES as f64;
            report.figure(&format!("{}: {name}", word(mode)), each, "");
        }
        databases.close();
    }
}

fn word(mode: Statements) -> &'static str {
    match mode {
        Statements::Unnamed => "unnamed",
        Statements::Cached => "cached",
    }
}

struct Bench<'a> {
    fixture: &'a Fixture,
    sql: &'a Client,
    runtime: &'a Runtime,
}

/// The figures of one round of a unit.
struct Figures {
    throughput: f64,
    ours: f64,
    servers: f64,
}

impl Bench<'_> {
    fn measure(&self, report: &mut Report, mode: Statements, tenants: &[TenantId], scale: &Scale) {
        let config = self.fixture.server.connect_config("rowhouse");
        let databases = self.runtime.block_on(Databases::new(config, mode));
        let workers: Vec<_> = (0..THREADS).map(|_| Worker::new(&databases, mode)).collect();
        let targets: Vec<_> = tenants.iter().copied().map(Target::of).collect();
        for (_, unit, _) in UNITS {
            let reads = scale.warm_up * targets.len().max(50);
            run(&workers, unit, &targets, &Until::Reads(AtomicUsize::new(reads)));
        }
        let backends = self.runtime.block_on(machine::backends(self.sql, RUNTIME_LOGIN));
        let mut figures: Vec<Vec<Figures>> = UNITS.iter().map(|_| Vec::new()).collect();
        for round in 0..scale.rounds {
            for turn in 0..UNITS.len() {
                let at = (turn + round) % UNITS.len();
                figures[at].push(one_round(&workers, UNITS[at].1, &targets, scale.time, &backends));
            }
        }
        let default = if mode == DEFAULT { ", the default" } else { "" };
        report.section(&format!(
            "statements {}{default}; {} tenants, {CLIENTS} clients",
            word(mode),
            tenants.len()
        ));
        write(report, mode, &figures);
        databases.close();
    }
}

fn write(report: &mut Report, mode: Statements, figures: &[Vec<Figures>]) {
    let column =
        |at: usize, pick: fn(&Figures) -> f64| Samples(figures[at].iter().map(pick).collect());
    for (at, (name, ..)) in UNITS.iter().enumerate() {
        report.measured(name, &column(at, |f| f.throughput), "units/s");
        let (ours, servers) = (column(at, |f| f.ours), column(at, |f| f.servers));
        report.note(&format!(
            "    CPU for one, at least: {:.0} us ours, {:.0} us the server's",
            ours.least(),
            servers.least()
        ));
    }
    for (at, (name, _, baseline)) in UNITS.iter().enumerate() {
        let Some(baseline) = baseline else { continue };
        let ratio = column(at, |f| f.throughput).against(&column(*baseline, |f| f.throughput));
        let goal = (*name == "guarded" && mode == DEFAULT).then_some(Goal::AtLeast(0.7));
        report.ratio(&format!("{name} / {}", UNITS[*baseline].0), &ratio, goal);
    }
}

/// Runs one round and returns its throughput and the CPU time of a unit in microseconds.
fn one_round(
    workers: &[Worker],
    unit: Unit,
    targets: &[Target],
    time: Duration,
    backends: &[u32],
) -> Figures {
    let servers = || machine::cpu_time_of(backends).unwrap_or_default();
    let servers_before = servers();
    let begin = Instant::now();
    let (units, ours) = run(workers, unit, targets, &Until::Time(begin + time));
    let elapsed = begin.elapsed().as_secs_f64();
    let servers = servers().saturating_sub(servers_before);
    #[expect(clippy::cast_precision_loss, reason = "a few ten thousand")]
    let units = units as f64;
    Figures {
        throughput: units / elapsed,
        ours: ours.as_secs_f64() * 1e6 / units,
        servers: servers.as_secs_f64() * 1e6 / units,
    }
}

/// When a round ends.
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

/// Runs the clients of all workers and returns the number of units and the workers' CPU time.
fn run(workers: &[Worker], unit: Unit, targets: &[Target], until: &Until) -> (usize, Duration) {
    thread::scope(|scope| {
        let threads: Vec<_> = workers
            .iter()
            .map(|worker| scope.spawn(move || worker.run(unit, targets, until)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no client panics"))
            .fold((0, Duration::ZERO), |(units, cpu), (more, used)| (units + more, cpu + used))
    })
}

/// A thread's part of the clients, with its own runtime and pool.
struct Worker {
    runtime: Runtime,
    reader: Reader,
}

impl Worker {
    fn new(databases: &Databases, mode: Statements) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime can be built");
        Self { runtime, reader: databases.reader(mode, CLIENTS_A_THREAD) }
    }

    fn run(&self, unit: Unit, targets: &[Target], until: &Until) -> (usize, Duration) {
        let client = || async {
            let mut units = 0;
            let mut random = Random::new();
            while until.continues() {
                self.reader.run(unit, &targets[random.below(targets.len())]).await;
                units += 1;
            }
            units
        };
        let before = machine::cpu_time_of_this_thread().unwrap_or_default();
        let units = self.runtime.block_on(join_all((0..CLIENTS_A_THREAD).map(|_| client())));
        let cpu = machine::cpu_time_of_this_thread().unwrap_or_default();
        (units.iter().sum(), cpu.saturating_sub(before))
    }
}

/// A tenant to read from.
struct Target {
    id: TenantId,
    /// The query with a qualified table name.
    plain: String,
}

impl Target {
    fn of(id: TenantId) -> Self {
        let schema = SchemaName::of(id);
        Self {
            id,
            plain: format!("SELECT id, email, version FROM {schema}.profiles WHERE id = $1"),
        }
    }
}

struct Reader {
    unguarded: Db,
    db: Db,
    setting_limits: Db,
    mode: Statements,
}

impl Reader {
    async fn run(&self, unit: Unit, target: &Target) {
        match unit {
            Unit::Plain(queries) => {
                let client = self.connection().await;
                for _ in 0..queries {
                    check(&self.plain(&client, target).await);
                }
            }
            Unit::Transaction => self.bare_transaction(target).await,
            Unit::Guarded(queries) => guarded(&self.db, target, queries).await,
            Unit::SettingLimits => guarded(&self.setting_limits, target, 1).await,
        }
    }

    async fn connection(&self) -> impl Deref<Target = deadpool_postgres::Object> {
        self.unguarded.unguarded_for_benchmarks().await.expect("a connection is free")
    }

    async fn plain(&self, client: &deadpool_postgres::Object, target: &Target) -> Vec<Row> {
        let rows = match self.mode {
            Statements::Unnamed => client.query_typed(&target.plain, &[(&ROW, Type::UUID)]).await,
            Statements::Cached => {
                let prepared = client.prepare_typed_cached(&target.plain, &[Type::UUID]).await;
                client.query(&prepared.expect("the statement can be prepared"), &[&ROW]).await
            }
        };
        rows.expect("the table can be read")
    }

    async fn bare_transaction(&self, target: &Target) {
        let client = self.connection().await;
        let query = self.plain(&client, target);
        let opening = client.batch_execute("BEGIN");
        let commit = client.batch_execute("COMMIT");
        let (begun, (rows, committed)) = join(opening, join(query, commit)).await;
        begun.and(committed).expect("the transaction commits");
        check(&rows);
    }
}

async fn guarded(db: &Db, target: &Target, queries: u32) {
    let tx = db.tenant(target.id).await.expect("a connection is free");
    for _ in 1..queries {
        check(&tx.query(GUARDED, &[&ROW]).await.expect("the tenant can be read"));
    }
    let rows = tx.query_and_commit(GUARDED, &[&ROW]).await;
    check(&rows.expect("the tenant can be read"));
}

fn check(rows: &[Row]) {
    assert!(rows.len() == 1 && rows[0].get::<_, Uuid>(0) == ROW, "the tenant's one row");
}
