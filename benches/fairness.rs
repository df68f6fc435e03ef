//! Measures what one tenant costs the others: the time of short reads of many tenants while one *noisy* tenant wants more
//! connections than there are, against the same reads without it; and what the noisy tenant has to give up for that,
//! against a server whose `fairness.reserve` is 0.
//!
//! One worker with ten connections, as an actix worker has them: a thread, a runtime, one pool. The victims are a few
//! clients that read one row of a random tenant each and pause between two reads. The noisy tenant has 60 clients that
//! send the next query as soon as the last one is answered. Three kinds of noise: queries of 200 ms, a table that is
//! locked for as long as a round lasts, and the same short reads as the victims'. The last competes for the processor,
//! too, which no division of connections can help: it has no goal.
//!
//! All of it takes turns within a round, so that other load on the machine affects each in the same way.
#![expect(
    unreachable_pub,
    reason = "a benchmark exports nothing; `pub` means shared between its files"
)]
#![expect(clippy::print_stdout, reason = "a benchmark prints figures")]

#[expect(dead_code, reason = "each benchmark uses a part of the shared code")]
mod support;

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};
use rowhouse::domain::names::{SchemaName, TenantId};
use rowhouse::pg::bootstrap::ensure_login_limits;
use rowhouse::pg::connect::login::Login;
use rowhouse::pg::db::Database;
use rowhouse::pg::rules::{Fairness, Isolation, PoolSizes, Rules, Sharing, Statements, TimeLimits};
use rowhouse::pg::{Db, Failure};
use support::report::{Args, Goal};
use support::{
    Fixture, Random, Report, Samples, WEAKEST_HASH, endpoints, fill, insert_profiles, machine, ms,
};
use tokio::runtime::Builder;
use tokio_postgres::Client;
use uuid::Uuid;

const CONNECTIONS: usize = 10;
const VICTIMS: usize = 4;
const NOISY_CLIENTS: usize = 60;

/// The pause of a victim between two reads.
const PAUSE: Duration = Duration::from_millis(10);

/// How long the noisy tenant runs before its victims are measured.
const LEAD: Duration = Duration::from_millis(500);

/// The id of the one profile in each tenant.
const ROW: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001);

const READ: &str = "SELECT id, email, version FROM profiles WHERE id = $1";

/// What the noisy tenant does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Noise {
    Slow,
    Locked,
    Short,
}

struct Scale {
    tenants: usize,
    rounds: usize,
    time: Duration,
}

impl Scale {
    const fn of(quick: bool) -> Self {
        if quick {
            Self { tenants: 10, rounds: 2, time: Duration::from_millis(500) }
        } else {
            Self { tenants: 100, rounds: 9, time: Duration::from_secs(4) }
        }
    }
}

/// The figures of one part of a round.
struct Figures {
    /// The 99th percentile of the victims' reads, in milliseconds.
    p99: f64,
    /// Queries of the noisy tenant that were answered, a second.
    noise: f64,
}

fn main() {
    let args = Args::read();
    let scale = Scale::of(args.quick);
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be built").block_on(measure(args, &scale));
}

async fn measure(args: Args, scale: &Scale) {
    let fixture = Fixture::start().await;
    let backend = fixture.backend(&WEAKEST_HASH).await;
    let sql = fixture.connect().await;
    let tenants = fill(&backend, &sql, scale.tenants + 1).await;
    insert_profiles(&sql, &tenants, ROW).await;
    backend.close().await;
    let mut report = Report::begin(args, "fairness", machine::line(&sql).await);
    let fair = Bench::new(&fixture, &sql, &tenants, scale, Fairness::default()).await;
    let no_reserve = Fairness { reserve: 0, ..Fairness::default() };
    let unfair = Bench::new(&fixture, &sql, &tenants, scale, no_reserve).await;
    for (noise, title, goals) in [
        (Noise::Slow, "queries of 200 ms", true),
        (Noise::Locked, "a locked table", true),
        (Noise::Short, "short reads, as the victims'", false),
    ] {
        report.section(&format!(
            "{CONNECTIONS} connections, {} tenants; one noisy tenant, {NOISY_CLIENTS} clients: {title}",
            scale.tenants
        ));
        let mut samples = [const { Vec::new() }; 5];
        for round in 0..=scale.rounds {
            let quiet = fair.run(None).await;
            // In turns: the first one after the quiet part has the warmer connections.
            let (with, without) = if round % 2 == 0 {
                let with = fair.run(Some(noise)).await;
                (with, unfair.run(Some(noise)).await)
            } else {
                let without = unfair.run(Some(noise)).await;
                (fair.run(Some(noise)).await, without)
            };
            if round > 0 {
                let figures = [quiet.p99, with.p99, without.p99, with.noise, without.noise];
                for (all, figure) in samples.iter_mut().zip(figures) {
                    all.push(figure);
                }
            }
        }
        let [quiet, with, without, served, served_without] = samples.map(Samples);
        report.measured("a victim's read, p99, without noise", &quiet, "ms");
        report.measured("beside the noisy tenant", &with, "ms");
        report.measured("the same without a reserve", &without, "ms");
        let goal = goals.then_some(Goal::AtMost(3.0));
        report.ratio("with noise / without noise", &with.against(&quiet), goal);
        report.ratio("the same without a reserve", &without.against(&quiet), None);
        if noise != Noise::Locked {
            report.measured("queries of the noisy tenant", &served, "a second");
            report.measured("the same without a reserve", &served_without, "a second");
            let goal = goals.then_some(Goal::AtLeast(0.8));
            let kept = served.against(&served_without);
            report.ratio("with the reserve / without", &kept, goal);
        }
    }
    report.end();
    drop((fair, unfair));
    drop(sql);
    fixture.stop().await;
}

/// A worker's connections, and the load on them.
struct Bench<'a> {
    sql: &'a Client,
    database: Database,
    db: Db,
    noisy: TenantId,
    victims: &'a [TenantId],
    scale: &'a Scale,
}

impl<'a> Bench<'a> {
    async fn new(
        fixture: &Fixture,
        sql: &'a Client,
        tenants: &'a [TenantId],
        scale: &'a Scale,
        fairness: Fairness,
    ) -> Self {
        let (owner, runtime) = endpoints(fixture.server.connect_config("rowhouse"));
        let limits = TimeLimits { lock: Duration::from_mins(1), ..TimeLimits::default() };
        let login_has_limits = ensure_login_limits(&mut Login::new(runtime.clone()), limits).await;
        let login_has_limits = login_has_limits.expect("the runtime login works");
        let rules =
            Rules { login_has_limits, ..Rules::new(Isolation::Role, Statements::Unnamed, limits) };
        let sharing = Sharing { fairness, ..Sharing::default() };
        let database = Database::with_sharing(owner, runtime, rules, sharing);
        let sizes = PoolSizes { control: 1, runtime: CONNECTIONS };
        let db = database.pools(sizes).expect("pools can be made");
        // Opens all connections before the measurement.
        let all = join_all((0..CONNECTIONS).map(|_| db.unguarded_for_benchmarks())).await;
        assert!(all.iter().all(Result::is_ok), "all connections can be opened");
        let (noisy, victims) = tenants.split_first().expect("there are tenants");
        Self { sql, database, db, noisy: *noisy, victims, scale }
    }

    /// Measures the victims' reads, beside this noise.
    async fn run(&self, noise: Option<Noise>) -> Figures {
        if noise == Some(Noise::Locked) {
            let schema = SchemaName::of(self.noisy);
            let lock = format!("BEGIN; LOCK TABLE {schema}.profiles IN ACCESS EXCLUSIVE MODE");
            self.sql.batch_execute(&lock).await.expect("the table can be locked");
        }
        let (is_over, served) = (Cell::new(false), Cell::new(0_u32));
        let making_noise = async {
            let Some(noise) = noise else { return };
            join_all((0..NOISY_CLIENTS).map(|_| async {
                while !is_over.get() {
                    let outcome = self.noisy_query(noise).await;
                    if outcome.is_ok() && !is_over.get() {
                        served.set(served.get() + 1);
                    }
                }
            }))
            .await;
        };
        let times = RefCell::new(Vec::new());
        let measuring = async {
            // Tenants are active from before the noise until its end.
            self.read_for(LEAD, &RefCell::default()).await;
            served.set(0);
            let begin = Instant::now();
            self.read_for(self.scale.time, &times).await;
            let seconds = begin.elapsed().as_secs_f64();
            let noise = f64::from(served.get()) / seconds;
            is_over.set(true);
            if self.sql.batch_execute("ROLLBACK").await.is_err() {
                println!("the lock could not be released");
            }
            noise
        };
        let (noise, ()) = join(measuring, making_noise).await;
        let mut times = times.into_inner();
        times.sort_by(f64::total_cmp);
        Figures { p99: times[times.len() * 99 / 100], noise }
    }

    async fn noisy_query(&self, noise: Noise) -> Result<(), Failure> {
        let tx = self.db.tenant(self.noisy).await?;
        match noise {
            Noise::Slow => tx.query_and_commit("SELECT pg_sleep(0.2)", &[]).await.map(drop),
            Noise::Locked | Noise::Short => tx.query_and_commit(READ, &[&ROW]).await.map(drop),
        }
    }

    /// Has the victims read for this long; collects the time of each read in milliseconds. One that gets no connection
    /// has waited for it and counts.
    async fn read_for(&self, time: Duration, times: &RefCell<Vec<f64>>) {
        let end = Instant::now() + time;
        join_all((0..VICTIMS).map(|_| async {
            let mut random = Random::new();
            while Instant::now() < end {
                let begin = Instant::now();
                let tenant = self.victims[random.below(self.victims.len())];
                if let Ok(tx) = self.db.tenant(tenant).await {
                    let rows = tx.query_and_commit(READ, &[&ROW]).await;
                    assert!(rows.expect("the tenant can be read").len() == 1, "the one row");
                }
                times.borrow_mut().push(ms(begin.elapsed()));
                tokio::time::sleep(PAUSE).await;
            }
        }))
        .await;
    }
}

impl Drop for Bench<'_> {
    fn drop(&mut self) {
        self.database.close();
    }
}
