//! The cost of a migration of the whole fleet, against the same SQL sent by `psql`.
//!
//! Each round adds a column and an index to a table of every tenant. The measured code is an operation from its
//! first row in the ledger to its last. The baseline is as many `psql` processes as there are workers, each with
//! a script of one transaction a tenant: the search path and the two statements. A second baseline also records
//! the migration (the history in the schema, the tenant's row), which is necessary to resume after a crash. A
//! third is the first without waiting for the disk, and shows how much of the difference that explains.
//!
//! `ROWHOUSE_BENCH_TENANTS` sets the number of tenants (1,000 by default). They are created by plain SQL: a
//! schema, a role, one table, a history. `ROWHOUSE_BENCH_CONNECTIONS` restricts the benchmark to one number of
//! connections.
#![expect(
    unreachable_pub,
    reason = "a benchmark exports nothing; `pub` means shared between its files"
)]
#![expect(clippy::print_stdout, reason = "a benchmark prints figures")]

#[expect(dead_code, reason = "each benchmark uses a part of the shared code")]
mod support;

use std::fmt::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use rowhouse::app::{Backend, Options, Purpose};
use rowhouse::domain::names::{SchemaName, TenantId};
use rowhouse::service::fleet::MigrationRequest;
use support::report::{Args, Goal};
use support::{Contender, Fixture, Report, interleave, machine, ms};
use tempfile::TempDir;
use tokio_postgres::Client;
use uuid::Uuid;

/// Numbers of connections, the same for both sides.
const CONNECTIONS: [usize; 3] = [1, 2, 4];

/// Number of tenants of the run that has nothing to do.
const CURRENT: usize = 10_000;

/// Number of schemas that are created in one transaction.
const MADE_AT_ONCE: usize = 50;

const FIRST: &str = "CREATE TABLE items (
    id uuid NOT NULL CONSTRAINT items_pkey PRIMARY KEY,
    name text NOT NULL,
    created_at timestamptz NOT NULL
);";

#[tokio::main]
async fn main() {
    let args = Args::read();
    let (rounds, count) =
        if args.quick { (1, 40) } else { (5, from_env("ROWHOUSE_BENCH_TENANTS").unwrap_or(1000)) };
    let fixture = Fixture::start().await;
    let sql = fixture.connect().await;
    let mut report = Report::begin(args, "fleet", machine::line(&sql).await);
    let bench = Box::pin(Bench::new(&fixture, count)).await;
    let only = from_env("ROWHOUSE_BENCH_CONNECTIONS");
    for connections in
        CONNECTIONS.into_iter().filter(|count| only.is_none_or(|only| only == *count))
    {
        bench.measure(&mut report, connections, rounds).await;
    }
    let current = if args.quick { 200 } else { CURRENT };
    Box::pin(nothing_to_do(&mut report, &bench, &sql, current, rounds)).await;
    report.end();
    drop(sql);
    fixture.stop().await;
}

fn from_env(name: &str) -> Option<usize> {
    #[expect(
        clippy::disallowed_methods,
        reason = "a variable of the benchmark, not a setting of the server"
    )]
    let wanted = std::env::var(name).ok();
    wanted.map(|text| text.parse().expect("the variable is a number"))
}

/// What a `psql` script does besides the two statements.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Script {
    Bare,
    /// Records the migration.
    Recording,
    /// Commits asynchronously, as tenant migrations of an operation do.
    Asynchronous,
}

struct Bench<'a> {
    fixture: &'a Fixture,
    tenants: Vec<TenantId>,
    /// The migration files, one more after each measured operation.
    files: TempDir,
    /// The scripts for `psql`.
    scripts: TempDir,
    /// The number of the next migration.
    next: AtomicUsize,
}

impl<'a> Bench<'a> {
    async fn new(fixture: &'a Fixture, count: usize) -> Self {
        let folder = || tempfile::tempdir().expect("a folder can be made");
        let (files, scripts) = (folder(), folder());
        write(files.path(), "V1__create_items.sql", FIRST);
        let bench =
            Self { fixture, tenants: Vec::new(), files, scripts, next: AtomicUsize::new(2) };
        // Records the migration set with which the tenants are created.
        let backend = bench.open(1).await;
        let set = backend.services.fleet.set().clone();
        backend.close().await;
        let sql = fixture.connect().await;
        let tenants: Vec<TenantId> = (0..count).map(|_| TenantId::new(Uuid::now_v7())).collect();
        for (part, some) in tenants.chunks(MADE_AT_ONCE).enumerate() {
            let mut script = String::from("BEGIN;");
            for (at, tenant) in some.iter().enumerate() {
                let schema = SchemaName::of(*tenant);
                let history = &set.history()[0];
                let _ = write!(
                    script,
                    "CREATE ROLE {schema} NOLOGIN; GRANT {schema} TO rowhouse_runtime; CREATE SCHEMA {schema};
                     GRANT USAGE, CREATE ON SCHEMA {schema} TO rowhouse_migrator;
                     SET LOCAL search_path = {schema}; {FIRST}
                     ALTER TABLE items OWNER TO rowhouse_migrator;
                     CREATE TABLE refinery_schema_history (version int4 PRIMARY KEY, name varchar(255),
                         applied_on varchar(255), checksum varchar(255));
                     CREATE TABLE kept (version int4 PRIMARY KEY, name varchar(255),
                         applied_on varchar(255), checksum varchar(255));
                     INSERT INTO refinery_schema_history VALUES (1, '{}', '2026-01-01T00:00:00Z', '{}');",
                    history.name, history.checksum
                );
                script.push_str(&row(
                    *tenant,
                    part * MADE_AT_ONCE + at,
                    set.version(),
                    set.fingerprint(),
                ));
            }
            script.push_str("COMMIT;");
            sql.batch_execute(&script).await.expect("schemas can be made");
        }
        sql.batch_execute("VACUUM ANALYZE").await.expect("the maintenance command runs");
        Self { tenants, ..bench }
    }

    /// Opens a backend with this many workers and the current files.
    async fn open(&self, workers: usize) -> Backend {
        let folder = self.files.path().display().to_string();
        let workers = workers.to_string();
        let settings =
            self.fixture.settings(&[("tenant_migrations", &folder), ("fleet.workers", &workers)]);
        let opened = Backend::open_for(Purpose::Migrate, &settings, &Options::default()).await;
        opened.expect("the database can be used")
    }

    async fn measure(&self, report: &mut Report, connections: usize, rounds: usize) {
        report.section(&format!(
            "one migration (ADD COLUMN, CREATE INDEX), {} tenants, {connections} connections",
            self.tenants.len()
        ));
        let contenders = [
            Contender::new("psql", || self.psql(connections, Script::Bare)),
            Contender::new("psql, and what was done is written down", || {
                self.psql(connections, Script::Recording)
            }),
            Contender::new("psql, and no commit waits for the disk", || {
                self.psql(connections, Script::Asynchronous)
            }),
            Contender::new("a fleet migration", || self.ours(connections)),
        ];
        let figures = interleave(rounds, &contenders).await;
        for (contender, samples) in contenders.iter().zip(&figures) {
            report.measured(contender.name, samples, "ms a tenant");
        }
        let [bare, recording, asynchronous, ours] = figures.as_slice() else { return };
        let goal = Some(Goal::AtLeast(0.8));
        report.ratio("our throughput to that of psql", &bare.against(ours), goal);
        report.ratio("the same, where psql writes it down, too", &recording.against(ours), None);
        report.ratio(
            "the same, where psql does not wait, either",
            &asynchronous.against(ours),
            None,
        );
    }

    /// Runs one operation and returns its duration a tenant, in milliseconds.
    async fn ours(&self, workers: usize) -> f64 {
        self.checkpoint().await;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        write(self.files.path(), &format!("V{number}__add.sql"), &migration(number));
        let backend = self.open(workers).await;
        let (fleet, ctx) = (&backend.services.fleet, backend.operator());
        let begin = Instant::now();
        let made = fleet
            .start(&ctx, &MigrationRequest::default())
            .await
            .expect("the operation can be started");
        let record = fleet.run(&ctx, made.id, Arc::new(|_| {})).await.expect("the operation runs");
        let took = begin.elapsed();
        assert_eq!(usize::try_from(record.counts.done), Ok(self.tenants.len()), "{record:?}");
        backend.close().await;
        ms(took) / per(self.tenants.len())
    }

    /// Runs one `psql` for each connection and returns the milliseconds a tenant from the start of the first to
    /// the end of the last. Its records go to a separate table, because ours must not change.
    async fn psql(&self, connections: usize, kind: Script) -> f64 {
        self.checkpoint().await;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let share = self.tenants.len().div_ceil(connections);
        let mut commands = Vec::new();
        for (at, some) in self.tenants.chunks(share).enumerate() {
            let mut script = String::new();
            if kind == Script::Asynchronous {
                script.push_str("SET synchronous_commit = off;\n");
            }
            for tenant in some {
                let schema = SchemaName::of(*tenant);
                let _ = writeln!(
                    script,
                    "BEGIN; SET LOCAL search_path = {schema}; {}",
                    migration(number)
                );
                if kind == Script::Recording {
                    let _ = writeln!(
                        script,
                        "INSERT INTO kept (version, name, applied_on, checksum) VALUES ({number}, 'add', '2026-01-01T00:00:00Z', '1');
                         UPDATE public.tenants SET revision = revision + 1, updated_at = now() WHERE id = '{}';",
                        tenant.uuid()
                    );
                }
                script.push_str("COMMIT;\n");
            }
            let name = format!("{at}.sql");
            write(self.scripts.path(), &name, &script);
            let mut command = tokio::process::Command::new("psql");
            command
                .args(["-q", "-X", "-v", "ON_ERROR_STOP=1", "-f", &name, &self.fixture.url()])
                .current_dir(self.scripts.path())
                .stdin(Stdio::null())
                .stdout(Stdio::null());
            commands.push(command);
        }
        let begin = Instant::now();
        let children: Vec<_> =
            commands.iter_mut().map(|c| c.spawn().expect("psql is on the PATH")).collect();
        for mut child in children {
            assert!(child.wait().await.expect("psql ends").success(), "psql failed");
        }
        ms(begin.elapsed()) / per(self.tenants.len())
    }

    async fn checkpoint(&self) {
        self.fixture
            .connect()
            .await
            .batch_execute("CHECKPOINT")
            .await
            .expect("the maintenance command runs");
    }
}

/// Measures a run over tenants that are all current, as a deployment without a migration does.
async fn nothing_to_do(
    report: &mut Report,
    bench: &Bench<'_>,
    sql: &Client,
    count: usize,
    rounds: usize,
) {
    let backend = bench.open(4).await;
    let set = backend.services.fleet.set().clone();
    let mut script = String::from("BEGIN; DELETE FROM tenants;");
    for number in 0..count {
        let tenant = TenantId::new(Uuid::now_v7());
        script.push_str(&row(tenant, number, set.version(), set.fingerprint()));
    }
    script.push_str("COMMIT; ANALYZE tenants;");
    sql.batch_execute(&script).await.expect("rows can be written");
    report.section(&format!("a run with nothing to do, {count} tenants"));
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    let contenders = [
        Contender::new("the plan", || async {
            let begin = Instant::now();
            let plan = fleet.plan(&ctx, &[]).await.expect("the migration can be planned");
            let took = begin.elapsed();
            assert_eq!((plan.behind_count(), usize::try_from(plan.current_count)), (0, Ok(count)));
            ms(took)
        }),
        Contender::new("an operation from its start to its end", || async {
            let begin = Instant::now();
            let made = fleet
                .start(&ctx, &MigrationRequest::default())
                .await
                .expect("the operation can be started");
            let record =
                fleet.run(&ctx, made.id, Arc::new(|_| {})).await.expect("the operation runs");
            assert_eq!(record.counts.total, 0);
            ms(begin.elapsed())
        }),
    ];
    let figures = interleave(rounds, &contenders).await;
    for (contender, samples) in contenders.iter().zip(&figures) {
        report.measured(contender.name, samples, "ms");
    }
    report.note("goal: under 1,000 ms");
    drop(contenders);
    backend.close().await;
}

fn migration(number: usize) -> String {
    format!(
        "ALTER TABLE items ADD COLUMN c{number} text; CREATE INDEX items_c{number}_idx ON items (c{number});"
    )
}

fn row(tenant: TenantId, number: usize, version: i32, fingerprint: &str) -> String {
    let id = tenant.uuid();
    format!(
        "INSERT INTO public.tenants (id, slug, name, status, cluster, migrations_version,
                                     migrations_fingerprint, created_at, updated_at)
         VALUES ('{id}', 'bench-{number}', 'Bench', 'active', 'default', {version}, '{fingerprint}', now(), now());"
    )
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).expect("a file can be written");
}

fn per(count: usize) -> f64 {
    f64::from(u32::try_from(count).expect("the count fits in 32 bits"))
}
