//! The cost of ten thousand tenants against ten: the time of a set-up, the time of a guarded read, and the memory
//! of the server.
//!
//! Two PostgreSQL servers, one with few tenants and one with many, are measured in turns; two databases on one
//! server would share the roles. `ROWHOUSE_BENCH_TENANTS` sets the larger number. The tenants are created by
//! `Provisioning::provision` without waiting for the disk; then the shared tables are vacuumed and everything is
//! written to disk.
//!
//! A read of a random tenant of ten thousand uses a connection that has not served the tenant before and first reads
//! the catalog entries of its tables; a read of one of ten does not. So the same ten tenants are read on both
//! servers, and random ones on the larger, beside the same query without a guard: its extra cost is PostgreSQL's.
//!
//! Creating a role invalidates every backend's cache of the roles that the runtime login is a member of. The next
//! `SET ROLE` reads it again for all tenants, before PostgreSQL 16 in time that grows with the square of their
//! number. This shows in the first read after a set-up that creates a role. A set-up with a vacancy creates none,
//! and no goal includes it.
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
use rowhouse::app::Backend;
use rowhouse::domain::SchemaName;
use rowhouse::domain::names::TenantId;
use rowhouse::pg::Db;
use rowhouse::pg::connect::tls::Connector;
use rowhouse::pg::connect::url::DatabaseUrl;
use rowhouse::pg::db::Database;
use rowhouse::pg::rules::{
    Endpoint, Isolation, PoolSizes, RUNTIME_LOGIN, Rules, Statements, TimeLimits,
};
use support::report::{Args, Goal};
use support::server_process::{self, CLIENTS, ROW, ServerProcess};
use support::{
    Contender, Fixture, Report, Samples, WEAKEST_HASH, fill, insert_profiles, interleave, machine,
    ms, provision_command, vacuum_shared,
};
use tokio_postgres::Client;
use tokio_postgres::types::Type;
use uuid::Uuid;

const FEW: usize = 10;
/// Number of set-ups of one contender in a round.
const SETUPS: usize = 5;
/// More than twice the set-ups of a round, so that none finds the stock empty.
const STOCK: &str = "20";

struct Scale {
    many: usize,
    rounds: usize,
    /// Number of guarded reads of each client in a round.
    reads: usize,
    /// Number of reads over HTTP before the server's memory is measured.
    requests: usize,
}

impl Scale {
    fn of(args: Args) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "a variable of the benchmark, not a setting of the server"
        )]
        let wanted = std::env::var("ROWHOUSE_BENCH_TENANTS").ok();
        let wanted = wanted.map(|text| text.parse().expect("ROWHOUSE_BENCH_TENANTS is a number"));
        if args.quick {
            Self { many: wanted.unwrap_or(50), rounds: 2, reads: 20, requests: 100 }
        } else {
            Self { many: wanted.unwrap_or(10_000), rounds: 21, reads: 200, requests: 20_000 }
        }
    }
}

#[tokio::main]
async fn main() {
    if server_process::serve_if_requested().await {
        return;
    }
    let args = Args::read();
    let scale = Scale::of(args);
    let few = Box::pin(Side::prepare("-few", FEW)).await;
    let mut report = Report::begin(args, "scale", machine::line(&few.sql).await);
    let many = Box::pin(Side::prepare("-many", scale.many)).await;
    measure(&mut report, &few, &many, &scale).await;
    after_a_role(&mut report, &few, &many).await;
    memory(&mut report, &few, &many, &scale).await;
    report.end();
    Box::pin(few.stop()).await;
    Box::pin(many.stop()).await;
}

/// A PostgreSQL server with its tenants.
struct Side {
    fixture: Fixture,
    sql: Client,
    /// Claims vacancies.
    backend: Backend,
    /// Claims none.
    builder: Backend,
    /// The guarded database.
    db: Db,
    /// Unguarded connections, one for each client.
    bare: Vec<Client>,
    tenants: Vec<TenantId>,
}

impl Side {
    async fn prepare(name: &str, count: usize) -> Self {
        let fixture = Fixture::start_beside(name).await;
        let sql = fixture.connect().await;
        let database = "ALTER DATABASE rowhouse";
        sql.batch_execute(&format!("{database} SET synchronous_commit = off"))
            .await
            .expect("the setting can be changed");
        let creator = fixture.backend(&WEAKEST_HASH).await;
        let tenants = fill(&creator, &sql, count).await;
        creator.close().await;
        // Later connections wait for the disk again.
        sql.batch_execute(&format!("{database} RESET synchronous_commit"))
            .await
            .expect("the setting can be reset");
        insert_profiles(&sql, &tenants, ROW).await;
        vacuum_shared(&sql).await;
        let hash = WEAKEST_HASH;
        let backend = fixture.backend(&[hash[0], hash[1], ("tenants.vacancies", STOCK)]).await;
        let builder = fixture.backend(&hash).await;
        let db = reader(&fixture);
        let bare = join_all((0..CLIENTS).map(|_| fixture.connect())).await;
        Self { fixture, sql, backend, builder, db, bare, tenants }
    }

    async fn set_up_with_a_vacancy(&self) -> f64 {
        let filled = self.backend.services.vacancies.fill(&self.backend.operator()).await;
        filled.expect("the stock can be filled");
        set_ups(&self.backend).await
    }

    /// Returns the median time of single reads by all clients, each of a random one of the first `of` tenants.
    async fn read(&self, of: usize, reads: usize) -> f64 {
        // Excludes the first `SET ROLE` after a set-up, which `after_a_role` measures.
        self.read_by_all().await;
        let took = RefCell::new(Vec::new());
        let client = async || {
            for _ in 0..reads {
                let begin = Instant::now();
                self.read_one(random(of)).await;
                took.borrow_mut().push(ms(begin.elapsed()));
            }
        };
        join_all((0..CLIENTS).map(|_| client())).await;
        Samples(took.into_inner()).median()
    }

    /// As [`Self::read`], without a guard.
    async fn read_bare(&self, of: usize, reads: usize) -> f64 {
        let took = RefCell::new(Vec::new());
        let client = async |client: &Client| {
            for _ in 0..reads {
                let schema = SchemaName::of(self.tenants[random(of)]);
                let query =
                    format!("SELECT id, email, version FROM {schema}.profiles WHERE id = $1");
                let begin = Instant::now();
                let rows = client.query_typed(&query, &[(&ROW, Type::UUID)]).await;
                took.borrow_mut().push(ms(begin.elapsed()));
                assert_eq!(rows.expect("a tenant can be read").len(), 1);
            }
        };
        join_all(self.bare.iter().map(client)).await;
        Samples(took.into_inner()).median()
    }

    /// Reads once on each connection.
    async fn read_by_all(&self) {
        join_all((0..CLIENTS).map(|_| self.read_one(0))).await;
    }

    async fn read_one(&self, at: usize) {
        let tx = self.db.tenant(self.tenants[at]).await.expect("a connection is free");
        let query = "SELECT id, email, version FROM profiles WHERE id = $1";
        let rows = tx.query_and_commit(query, &[&ROW]).await.expect("a tenant can be read");
        assert_eq!(rows.len(), 1);
    }

    async fn stop(self) {
        self.backend.close().await;
        self.builder.close().await;
        drop((self.db, self.bare, self.sql));
        self.fixture.stop().await;
    }
}

/// Returns the median milliseconds of consecutive set-ups.
async fn set_ups(backend: &Backend) -> f64 {
    let mut took = Vec::new();
    for _ in 0..SETUPS {
        let begin = Instant::now();
        let made =
            backend.services.provisioning.provision(&backend.operator(), provision_command()).await;
        made.expect("a tenant can be made");
        took.push(ms(begin.elapsed()));
    }
    Samples(took).median()
}

async fn measure(report: &mut Report, few: &Side, many: &Side, scale: &Scale) {
    let all = many.tenants.len();
    report.section(&format!("{all} tenants against {FEW}, {CLIENTS} clients read, median of one"));
    let contenders = [
        Contender::new("set-up with a vacancy, few", || few.set_up_with_a_vacancy()),
        Contender::new("set-up with a vacancy, many", || many.set_up_with_a_vacancy()),
        Contender::new("set-up that builds, few", || set_ups(&few.builder)),
        Contender::new("set-up that builds, many", || set_ups(&many.builder)),
        Contender::new("guarded read, few", || few.read(FEW, scale.reads)),
        Contender::new("guarded read of the first ten, many", || many.read(FEW, scale.reads)),
        Contender::new("guarded read of any, many", || many.read(all, scale.reads)),
        Contender::new("bare query, few", || few.read_bare(FEW, scale.reads)),
        Contender::new("bare query of any, many", || many.read_bare(all, scale.reads)),
    ];
    let samples = interleave(scale.rounds, &contenders).await;
    for (contender, samples) in contenders.iter().zip(&samples) {
        report.measured(contender.name, samples, "ms");
    }
    let [claimed, claimed_many, built, built_many, read, read_ten, read_any, bare, bare_any] =
        &samples[..]
    else {
        return;
    };
    let goal = Some(Goal::AtMost(1.5));
    report.ratio("set-up with a vacancy: many / few", &claimed_many.against(claimed), goal);
    report.ratio("set-up that builds: many / few", &built_many.against(built), goal);
    report.ratio("guarded read of the same ten: many / few", &read_ten.against(read), goal);
    report.ratio("guarded read of any: many / few", &read_any.against(read), goal);
    report.ratio("bare query of any: many / few", &bare_any.against(bare), None);
}

/// Measures the first read of a connection after a set-up that created a role or claimed a vacancy.
async fn after_a_role(report: &mut Report, few: &Side, many: &Side) {
    const ROUNDS: usize = 5;
    let first_read = async |side: &Side, makes_role: bool| {
        if !makes_role {
            side.set_up_with_a_vacancy().await; // refills the stock before the measured set-up
        }
        side.read_by_all().await;
        set_ups(if makes_role { &side.builder } else { &side.backend }).await;
        let begin = Instant::now();
        side.read_one(0).await;
        ms(begin.elapsed())
    };
    let contenders = [
        Contender::new("after a vacancy was taken, few", || first_read(few, false)),
        Contender::new("after a vacancy was taken, many", || first_read(many, false)),
        Contender::new("after a role was made, few", || first_read(few, true)),
        Contender::new("after a role was made, many", || first_read(many, true)),
    ];
    report.section("the next read of a connection");
    let samples = interleave(ROUNDS, &contenders).await;
    for (contender, samples) in contenders.iter().zip(&samples) {
        report.measured(contender.name, samples, "ms");
    }
    report.ratio("after a vacancy was taken: many / few", &samples[1].against(&samples[0]), None);
    report.ratio("after a role was made: many / few", &samples[3].against(&samples[2]), None);
    let version: i32 = version(&many.sql).await;
    let explanation = if version < 160_000 {
        "before 16 it looks each role up in a list of all"
    } else {
        "from 16 on it looks them up by a filter"
    };
    report.note(&format!("PostgreSQL {}: {explanation}", version / 10_000));
}

async fn version(sql: &Client) -> i32 {
    let row = sql.query_one("SELECT current_setting('server_version_num')::int4", &[]).await;
    row.expect("the server has a version").get(0)
}

/// Measures a library user's server on each side after the same number of reads of random tenants.
async fn memory(report: &mut Report, few: &Side, many: &Side, scale: &Scale) {
    report.section(&format!(
        "a server's memory after {} reads over HTTP by {CLIENTS} clients",
        scale.requests
    ));
    let mut own = Vec::new();
    for (name, side) in [("few", few), ("many", many)] {
        let server = ServerProcess::start_with_route(&side.fixture).await;
        let tenants = &side.tenants;
        server
            .by_all_clients(scale.requests, |_| server.read(tenants[random(tenants.len())]))
            .await;
        server_process::note_memory(report, name, server.pid());
        own.extend(machine::memory(server.pid()).map(|(resident, _)| resident));
        let backends = machine::backends(&side.sql, RUNTIME_LOGIN).await;
        let backend_memory =
            backends.iter().filter_map(|pid| machine::memory(*pid)).map(|(_, own)| own);
        report.note(&format!(
            "    PostgreSQL's {} backends beside it: {:.0} MiB of their own",
            backends.len(),
            backend_memory.sum::<f64>()
        ));
    }
    if let [few, many] = own[..] {
        let ratio = Samples(vec![many / few]);
        report.ratio("resident: many / few", &ratio, Some(Goal::AtMost(1.5)));
    }
}

/// Returns a random number below the bound.
fn random(bound: usize) -> usize {
    let (high, _) = Uuid::new_v4().as_u64_pair();
    usize::try_from(high % bound as u64).expect("below the bound")
}

/// Returns the guarded database with a connection for each client and the time limits of the login.
fn reader(fixture: &Fixture) -> Db {
    let url = DatabaseUrl::parse("postgres://localhost/x?sslmode=disable&user=x").expect("a URL");
    let tls = Connector::new(url.ssl()).expect("TLS can be left out").make_tls();
    let owner = fixture.server.connect_config("rowhouse");
    let mut runtime = owner.clone();
    runtime.user(RUNTIME_LOGIN);
    let endpoint = |config| Endpoint { config, tls: tls.clone() };
    let rules = Rules::new(Isolation::Role, Statements::Unnamed, TimeLimits::default());
    let rules = Rules { login_has_limits: true, ..rules };
    let database = Database::new(endpoint(owner), endpoint(runtime), rules);
    database.pools(PoolSizes { control: 1, runtime: CLIENTS }).expect("pools can be made")
}
