//! One tenant's data out, back, beside itself and exchanged, against the programs of PostgreSQL.
//!
//! Each contender runs once a round, in rotating order: an export against `psql`'s `\copy` to /dev/null and `pg_dump`, an
//! import against `pg_restore -1`, a clone against `pg_dump | psql`. Then one small tenant is exported, swapped and purged
//! beside more and more others. Last, a gigabyte goes out and back, and the memory of this process is watched.
//!
//! `--rows=1000000` is the size of the large tenant, `--tenants=10,1000,5000` how many others the small one has,
//! `--megabytes=1024` what goes both ways, `--rounds=5` how often.
#![expect(
    unreachable_pub,
    reason = "a benchmark exports nothing; `pub` means shared between its files"
)]
#![expect(clippy::print_stdout, reason = "a benchmark prints figures")]

#[expect(dead_code, reason = "each benchmark uses a part of the shared code")]
mod support;

use std::cell::RefCell;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rowhouse::app::Backend;
use rowhouse::domain::names::{SchemaName, Slug, TenantId};
use rowhouse::service::archives::{CloneTenant, ImportTenant, MemberPolicy, NewId, SwapTenants};
use rowhouse::service::tenants::TenantRef;
use rowhouse::service::tenants::registry::Expected;
use support::report::{Args, Goal};
use support::{
    Contender, Fixture, Report, Samples, WEAKEST_HASH, fill, interleave, machine, ms, vacuum_shared,
};
use tokio_postgres::Client;
use uuid::Uuid;

/// The tables of the large tenant, each of which references the one before.
const TABLES: usize = 20;

/// The most memory that a gigabyte may cost, in MiB.
const MEMORY: f64 = 64.0;

/// How large everything is.
struct Sizes {
    rounds: usize,
    rows: usize,
    tenants: Vec<usize>,
    megabytes: usize,
}

impl Sizes {
    fn read(args: Args) -> Self {
        let given = |name: &str| {
            let prefix = format!("--{name}=");
            std::env::args().find_map(|arg| arg.strip_prefix(&prefix).map(str::to_owned))
        };
        let number = |name: &str, quick: usize, full: usize| {
            let given = given(name).map(|text| text.parse().expect("a number"));
            given.unwrap_or(if args.quick { quick } else { full })
        };
        let tenants = given("tenants").unwrap_or_else(|| {
            if args.quick { "10,60".to_owned() } else { "10,1000,5000".to_owned() }
        });
        Self {
            rounds: number("rounds", 1, 5),
            rows: number("rows", 40_000, 1_000_000),
            tenants: tenants.split(',').map(|text| text.parse().expect("a number")).collect(),
            megabytes: number("megabytes", 20, 1024),
        }
    }
}

#[tokio::main]
async fn main() {
    let args = Args::read();
    let sizes = Sizes::read(args);
    let fixture = Fixture::start().await;
    let sql = fixture.connect().await;
    let mut report = Report::begin(args, "portability", machine::line(&sql).await);
    drop(sql);
    Box::pin(large(&mut report, &fixture, &sizes)).await;
    fixture.stop().await;
    let fixture = Fixture::start_beside("-small").await;
    Box::pin(small(&mut report, &fixture, &sizes)).await;
    fixture.stop().await;
    report.end();
}

/// The server, the services and the folder of the large tenant.
struct Large<'a> {
    fixture: &'a Fixture,
    backend: &'a Backend,
    folder: PathBuf,
    tenant: TenantId,
    schema: SchemaName,
    cpu_of_pipe: Cpu,
    cpu_of_clone: Cpu,
}

/// The CPU time of each run of a contender, in milliseconds: of the database server and of its client.
#[derive(Default)]
struct Cpu(RefCell<Vec<f64>>);

impl Cpu {
    /// Counts the CPU time of some work; returns what the work does.
    async fn during(&self, fixture: &Fixture, work: impl Future<Output = f64>) -> f64 {
        let server = fixture.pid();
        let now = || {
            let server = machine::cpu_time_of_all(server).unwrap_or_default();
            server + machine::cpu_time_of_this_process().unwrap_or_default()
        };
        let before = now();
        let took = work.await;
        self.0.borrow_mut().push(ms(now().saturating_sub(before)));
        took
    }

    /// Takes the figures of all rounds but the first, which does not count.
    fn take(&self) -> Samples {
        Samples(self.0.take().split_off(1))
    }
}

async fn large(report: &mut Report, fixture: &Fixture, sizes: &Sizes) {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("bench-{}-archives", std::process::id()));
    let migrations = folder.join("migrations");
    std::fs::create_dir_all(&migrations).expect("a folder can be made");
    std::fs::write(migrations.join("V1__create_tables.sql"), tables()).expect("a file");
    let path = migrations.display().to_string();
    let values = [WEAKEST_HASH[0], WEAKEST_HASH[1], ("tenant_migrations", path.as_str())];
    let backend = fixture.backend(&values).await;
    let sql = fixture.connect().await;
    let tenant = fill(&backend, &sql, 1).await[0];
    let schema = SchemaName::of(tenant);
    insert_rows(&sql, &schema, sizes.rows).await;
    let (cpu_of_pipe, cpu_of_clone) = Default::default();
    let large =
        Large { fixture, backend: &backend, folder, tenant, schema, cpu_of_pipe, cpu_of_clone };
    export_and_import(report, &large, sizes).await;
    memory(report, &large, &sql, sizes).await;
    let folder = large.folder.clone();
    drop(sql);
    backend.close().await;
    let _ = std::fs::remove_dir_all(folder);
}

async fn export_and_import(report: &mut Report, large: &Large<'_>, sizes: &Sizes) {
    report.section(&format!("a tenant of {TABLES} tables and {} rows", sizes.rows));
    let contenders = [
        Contender::new("\\copy csv to /dev/null", || large.copy()),
        Contender::new("pg_dump -Fc to /dev/null", || large.dump()),
        Contender::new("export", || large.export()),
    ];
    let samples = show(report, sizes, &contenders).await;
    let (copy, dump, export) = (&samples[0], &samples[1], &samples[2]);
    report.ratio("speed of export / of \\copy", &copy.against(export), Some(Goal::AtLeast(0.8)));
    report.ratio("export / pg_dump -Fc", &export.against(dump), Some(Goal::AtMost(0.6)));
    large.write_files().await;
    let contenders = [
        Contender::new("pg_restore -1", || large.restore()),
        Contender::new("import, with the check", || large.import()),
    ];
    let samples = show(report, sizes, &contenders).await;
    let ratio = samples[1].against(&samples[0]);
    report.ratio("import / pg_restore -1", &ratio, Some(Goal::AtMost(1.5)));
    let contenders = [
        Contender::new("pg_dump | psql", || large.pipe()),
        Contender::new("clone", || large.clone_it()),
    ];
    let samples = show(report, sizes, &contenders).await;
    let ratio = samples[1].against(&samples[0]);
    report.ratio("clone / pg_dump | psql", &ratio, Some(Goal::AtMost(0.6)));
    // `pg_dump | psql` works in two processes and two sessions at the same time, a clone in one session.
    let names = ["CPU of pg_dump | psql, server and client", "CPU of clone, server and client"];
    let cpu = [large.cpu_of_pipe.take(), large.cpu_of_clone.take()];
    for (name, cpu) in names.into_iter().zip(&cpu) {
        report.measured(name, cpu, "ms");
    }
    let ratio = cpu[1].against(&cpu[0]);
    report.ratio("CPU of clone / CPU of pg_dump | psql", &ratio, Some(Goal::AtMost(0.6)));
}

async fn show(report: &mut Report, sizes: &Sizes, contenders: &[Contender<'_>]) -> Vec<Samples> {
    let samples = interleave(sizes.rounds, contenders).await;
    for (contender, samples) in contenders.iter().zip(&samples) {
        report.measured(contender.name, samples, "ms");
    }
    samples
}

impl Large<'_> {
    async fn copy(&self) -> f64 {
        let mut script = String::new();
        for table in 0..TABLES {
            let _ = writeln!(
                script,
                "\\copy {}.t{table} TO '/dev/null' WITH (FORMAT csv, HEADER)",
                self.schema
            );
        }
        let url = self.fixture.url();
        timed(move || run_with(Command::new("psql").args(["-qX", &url]), &script)).await
    }

    async fn dump(&self) -> f64 {
        let (url, schema) = (self.fixture.url(), self.schema.to_string());
        let arguments = ["-Fc".to_owned(), "-n".to_owned(), schema, "-d".to_owned(), url];
        timed(move || run(Command::new("pg_dump").args(&arguments).stdout(Stdio::null()))).await
    }

    async fn export(&self) -> f64 {
        let begin = Instant::now();
        export(self.backend, self.tenant, &mut tokio::io::sink()).await;
        ms(begin.elapsed())
    }

    /// Writes the archive and the dump that the imports read.
    async fn write_files(&self) {
        let file = tokio::fs::File::create(self.folder.join("archive.tar")).await;
        let mut file = file.expect("a file can be made");
        export(self.backend, self.tenant, &mut file).await;
        file.sync_all().await.expect("it is written");
        let (url, schema) = (self.fixture.url(), self.schema.to_string());
        let to = self.folder.join("dump");
        let mut command = Command::new("pg_dump");
        run(command.args(["-Fc", "-n", &schema, "-d", &url, "-f"]).arg(to));
    }

    async fn restore(&self) -> f64 {
        let (database, dump) = (Scratch::create(self.fixture).await, self.folder.join("dump"));
        let url = database.url.clone();
        let took =
            timed(move || run(Command::new("pg_restore").args(["-1", "-d", &url]).arg(dump))).await;
        database.drop_it(self.fixture).await;
        took
    }

    async fn pipe(&self) -> f64 {
        let database = Scratch::create(self.fixture).await;
        let script = format!(
            "pg_dump -n {} -d '{}' | psql -qX -v ON_ERROR_STOP=0 -o /dev/null '{}' 2> /dev/null",
            self.schema,
            self.fixture.url(),
            database.url
        );
        let work = timed(move || run(Command::new("sh").args(["-c", &script])));
        let took = self.cpu_of_pipe.during(self.fixture, work).await;
        database.drop_it(self.fixture).await;
        took
    }

    async fn import(&self) -> f64 {
        let file = tokio::fs::File::open(self.folder.join("archive.tar")).await;
        let mut file = file.expect("the archive is there");
        let begin = Instant::now();
        let made = import(self.backend, &mut file).await;
        let took = ms(begin.elapsed());
        remove(self.backend, made).await;
        took
    }

    async fn clone_it(&self) -> f64 {
        let mut made = None;
        let work = async {
            let begin = Instant::now();
            made = Some(clone_tenant(self.backend, self.tenant).await);
            ms(begin.elapsed())
        };
        let took = self.cpu_of_clone.during(self.fixture, work).await;
        remove(self.backend, made.expect("it is cloned")).await;
        took
    }
}

/// Moves much data out and back, and reports the memory of this process.
async fn memory(report: &mut Report, large: &Large<'_>, sql: &Client, sizes: &Sizes) {
    report.section(&format!("{} MB of one tenant, out and back", sizes.megabytes));
    let wide = clone_tenant(large.backend, large.tenant).await;
    let schema = SchemaName::of(wide);
    // About a kilobyte a row, which packs to about half.
    let rows = sizes.megabytes * 1000;
    let insert = format!(
        "INSERT INTO {schema}.t0 (id, created_at, amount, name, note)
         SELECT n, now(), n, md5(n::text), (SELECT string_agg(md5((n::bigint * 30 + k)::text), '') FROM generate_series(1, 30) k)
           FROM generate_series(100000001, 100000000 + {rows}) n; ANALYZE {schema}.t0"
    );
    sql.batch_execute(&insert).await.expect("rows can be written");
    let pid = std::process::id();
    let resident = move || machine::memory(pid).map_or(0.0, |(all, _)| all);
    let path = large.folder.join("wide.tar");
    let before = resident();
    let watch = tokio::spawn(async move {
        let mut most = 0.0_f64;
        loop {
            most = most.max(resident());
            PEAK.store((most * 1024.0).to_bits(), std::sync::atomic::Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let begin = Instant::now();
    let mut out = tokio::fs::File::create(&path).await.expect("a file can be made");
    export(large.backend, wide, &mut out).await;
    report.figure("export to a file", ms(begin.elapsed()), "ms");
    let size = std::fs::metadata(&path).expect("it is there").len();
    report.figure(
        "the archive",
        f64::from(u32::try_from(size >> 10).unwrap_or(u32::MAX)) / 1024.0,
        "MiB",
    );
    let mut file = tokio::fs::File::open(&path).await.expect("the archive is there");
    let begin = Instant::now();
    let made = import(large.backend, &mut file).await;
    report.figure("import, with the check", ms(begin.elapsed()), "ms");
    watch.abort();
    let most = f64::from_bits(PEAK.load(std::sync::atomic::Ordering::Relaxed)) / 1024.0;
    report.figure("memory before", before, "MiB");
    report.figure("most memory", most, "MiB");
    let more = Samples(vec![(most - before) / MEMORY]);
    report.ratio("additional memory / 64 MiB", &more, Some(Goal::AtMost(1.0)));
    for tenant in [wide, made] {
        remove(large.backend, tenant).await;
    }
}

/// The most memory so far, as the bits of KiB.
static PEAK: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

/// One small tenant beside more and more others.
async fn small(report: &mut Report, fixture: &Fixture, sizes: &Sizes) {
    let backend = fixture.backend(&WEAKEST_HASH).await;
    let sql = fixture.connect().await;
    let tenant = fill(&backend, &sql, 1).await[0];
    let schema = SchemaName::of(tenant);
    let rows = format!(
        "INSERT INTO {schema}.profiles (id, profile, email, version, created_at, updated_at)
         SELECT gen_random_uuid(), '{{}}', n || '@example.com', 1, now(), now() FROM generate_series(1, 100) n"
    );
    sql.batch_execute(&rows).await.expect("rows can be written");
    let (mut exports, mut purges) = (Vec::new(), Vec::new());
    for count in &sizes.tenants {
        fill(&backend, &sql, *count).await;
        vacuum_shared(&sql).await;
        report.section(&format!("a small tenant, {count} tenants"));
        let small = Small { fixture, backend: &backend, tenant };
        let contenders = [
            Contender::new("pg_dump -n", || small.dump()),
            Contender::new("export", || small.export()),
            Contender::new("clone", || small.clone_it()),
            Contender::new("swap with an idle tenant", || small.swap()),
            Contender::new("purge", || small.purge()),
        ];
        let samples = interleave(4 * sizes.rounds, &contenders).await;
        for (contender, samples) in contenders.iter().zip(&samples) {
            report.measured(contender.name, samples, "ms");
        }
        let swap = Samples(samples[3].0.iter().map(|took| took / 50.0).collect());
        report.ratio("swap / 50 ms", &swap, Some(Goal::AtMost(1.0)));
        exports.push(samples[1].clone());
        purges.push(samples[4].clone());
    }
    report.section("the same, beside the most others against beside the fewest");
    if let ([first, .., last], [first_purge, .., last_purge]) = (&*exports, &*purges) {
        report.ratio("export", &last.against(first), Some(Goal::AtMost(1.3)));
        report.ratio("purge", &last_purge.against(first_purge), Some(Goal::AtMost(1.5)));
    }
    drop(sql);
    backend.close().await;
}

struct Small<'a> {
    fixture: &'a Fixture,
    backend: &'a Backend,
    tenant: TenantId,
}

impl Small<'_> {
    async fn dump(&self) -> f64 {
        let (url, schema) = (self.fixture.url(), SchemaName::of(self.tenant).to_string());
        let arguments = ["-Fc".to_owned(), "-n".to_owned(), schema, "-d".to_owned(), url];
        timed(move || run(Command::new("pg_dump").args(&arguments).stdout(Stdio::null()))).await
    }

    async fn export(&self) -> f64 {
        let begin = Instant::now();
        export(self.backend, self.tenant, &mut tokio::io::sink()).await;
        ms(begin.elapsed())
    }

    async fn clone_it(&self) -> f64 {
        let begin = Instant::now();
        let made = clone_tenant(self.backend, self.tenant).await;
        let took = ms(begin.elapsed());
        remove(self.backend, made).await;
        took
    }

    async fn swap(&self) -> f64 {
        let other = clone_tenant(self.backend, self.tenant).await;
        let command = SwapTenants {
            tenant: TenantRef::Id(self.tenant),
            expected: Expected::Any,
            with: TenantRef::Id(other),
            with_expected: Expected::Any,
            idempotency_key: None,
        };
        let begin = Instant::now();
        let swapped = self.backend.services.archives.swap(&self.backend.operator(), &command).await;
        let took = ms(begin.elapsed());
        swapped.expect("nothing is in the way");
        remove(self.backend, other).await;
        took
    }

    async fn purge(&self) -> f64 {
        let made = clone_tenant(self.backend, self.tenant).await;
        let begin = Instant::now();
        remove(self.backend, made).await;
        ms(begin.elapsed())
    }
}

async fn export(
    backend: &Backend,
    tenant: TenantId,
    out: &mut (dyn tokio::io::AsyncWrite + Unpin + Send),
) {
    let (archives, which) = (&backend.services.archives, TenantRef::Id(tenant));
    let exported = archives.export(&backend.operator(), &which, out, &|_| ()).await;
    exported.expect("it is exported");
}

async fn import(backend: &Backend, file: &mut tokio::fs::File) -> TenantId {
    let command = ImportTenant {
        slug: new_slug(),
        name: None,
        external_id: None,
        id: NewId::New,
        members: MemberPolicy::None,
        suspended: false,
        leave_out: Vec::new(),
        trust: None,
        dry_run: false,
    };
    let archives = &backend.services.archives;
    let imported = archives.import(&backend.operator(), &command, file, &|_| ()).await;
    imported.expect("it is imported").id
}

async fn clone_tenant(backend: &Backend, tenant: TenantId) -> TenantId {
    let command = CloneTenant {
        slug: new_slug(),
        name: None,
        exclude_data: Vec::new(),
        suspended: false,
        idempotency_key: None,
    };
    let (archives, which) = (&backend.services.archives, TenantRef::Id(tenant));
    let cloned = archives.clone_tenant(&backend.operator(), &which, &command, &|_| ()).await;
    cloned.expect("it is cloned").record.tenant.id
}

/// Deletes and purges a tenant.
async fn remove(backend: &Backend, tenant: TenantId) {
    let removed = backend.services.lifecycle.remove(&backend.operator(), tenant).await;
    removed.expect("it is purged");
}

fn new_slug() -> Slug {
    Slug::parse(&format!("made-{}", Uuid::now_v7().simple())).expect("a slug")
}

/// An empty database of the same server, with an extensions schema for what a dump names.
struct Scratch {
    name: String,
    url: String,
}

impl Scratch {
    async fn create(fixture: &Fixture) -> Self {
        let name = format!("scratch_{}", Uuid::now_v7().simple());
        let sql = fixture.connect().await;
        sql.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("a database");
        let url = fixture.server.database_url(&name);
        Self { name, url }
    }

    async fn drop_it(self, fixture: &Fixture) {
        let sql = fixture.connect().await;
        let drop = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        sql.batch_execute(&drop).await.expect("the database can be dropped");
        sql.batch_execute("CHECKPOINT").await.expect("a checkpoint can be made");
    }
}

/// Returns the migration of the large tenant.
fn tables() -> String {
    let mut sql = String::new();
    for table in 0..TABLES {
        let parent = table.saturating_sub(1);
        let _ = writeln!(
            sql,
            "CREATE TABLE t{table} (
                 id bigint NOT NULL CONSTRAINT t{table}_pkey PRIMARY KEY, parent bigint,
                 created_at timestamptz NOT NULL, amount numeric(14, 2) NOT NULL, name text NOT NULL, note text,
                 CONSTRAINT t{table}_parent_fkey FOREIGN KEY (parent) REFERENCES t{parent} (id));
             CREATE INDEX t{table}_created_at_idx ON t{table} (created_at);"
        );
    }
    sql
}

/// Fills the tables of the large tenant with this many rows in all.
async fn insert_rows(sql: &Client, schema: &SchemaName, rows: usize) {
    let each = rows / TABLES;
    for table in 0..TABLES {
        let parent = if table == 0 { "NULL" } else { "n" };
        let insert = format!(
            "INSERT INTO {schema}.t{table} (id, parent, created_at, amount, name, note)
             SELECT n, {parent}, timestamptz '2026-01-01' + n * interval '1 second', n % 1000 * 1.37, md5(n::text),
                    repeat('note ' || n % 97 || ' ', 8)
               FROM generate_series(1, {each}) n"
        );
        sql.batch_execute(&insert).await.expect("rows can be written");
    }
    sql.batch_execute("ANALYZE; CHECKPOINT").await.expect("a checkpoint can be made");
}

/// Runs work that blocks beside the runtime, and returns how long it took in milliseconds.
async fn timed(work: impl FnOnce() + Send + 'static) -> f64 {
    let begin = Instant::now();
    tokio::task::spawn_blocking(work).await.expect("it ends");
    ms(begin.elapsed())
}

fn run(command: &mut Command) {
    let status = command.status().expect("the programs of PostgreSQL are in the path");
    assert!(status.success(), "{command:?}");
}

/// Runs a command with this text on its stdin.
fn run_with(command: &mut Command, text: &str) {
    use std::io::Write as _;

    let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
    let mut child = child.expect("the programs of PostgreSQL are in the path");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    stdin.write_all(text.as_bytes()).expect("it reads");
    drop(stdin);
    assert!(child.wait().expect("it ends").success(), "{command:?}");
}
