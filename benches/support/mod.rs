//! Shared code of the benchmarks: a PostgreSQL server, rounds, medians, and reports.
//!
//! The server is an embedded one with full durability in a folder under `target`. Contenders run in turns within
//! each round, in rotating order, so that other load on the machine affects all of them; a ratio is the median of
//! the rounds' ratios, not the ratio of two medians.

pub mod machine;
pub mod proxy;
pub mod report;
pub mod server_process;

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use rowhouse::app::{Backend, Options};
use rowhouse::config::Settings;
use rowhouse::domain::names::{
    Email, NewPassword, PersonName, SchemaName, Slug, TenantId, TenantName,
};
use rowhouse::embedded::{Durability, Server, Settings as ServerSettings};
use rowhouse::pg::connect::tls::Connector;
use rowhouse::pg::connect::url::DatabaseUrl;
use rowhouse::pg::rules::{Endpoint, RUNTIME_LOGIN};
use rowhouse::service::provisioning::{Admin, NewAdmin, ProvisionTenant};
use serde_json::{Value, json};
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

pub use report::Report;

/// The embedded server's database.
const DATABASE: &str = "rowhouse";

/// The embedded server's `max_connections`.
const MAX_CONNECTIONS: u16 = 120;

/// The prefix of a benchmark's folder, before the process id.
const FOLDER: &str = "bench-";

/// Number of tenants that are created at the same time where only their number matters.
const CREATORS: usize = 4;

/// The secret key of every server of the benchmarks.
pub const SECRET_KEY: &str = "the secret key of all benchmarks, which is not one";

/// A PostgreSQL server of the benchmark.
pub struct Fixture {
    pub server: Server,
    folder: PathBuf,
}

impl Fixture {
    pub async fn start() -> Self {
        Self::start_beside("").await
    }

    /// Starts one of several servers of this process; `name` distinguishes its folder.
    pub async fn start_beside(name: &str) -> Self {
        let home = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        sweep(&home);
        let folder = home.join(format!("{FOLDER}{}{name}", std::process::id()));
        let settings = ServerSettings {
            data_dir: folder.clone(),
            bin_dir: None,
            durability: Durability::Full,
            listen_tcp: None,
            max_connections: MAX_CONNECTIONS,
        };
        let server = Server::start(&settings).await.expect("PostgreSQL starts");
        Self { server, folder }
    }

    pub fn url(&self) -> String {
        self.server.database_url(DATABASE)
    }

    /// Returns the URL of this server through a proxy.
    pub fn url_through(&self, proxy: &proxy::Proxy) -> String {
        let socket = proxy.socket_dir().display().to_string().replace('/', "%2F");
        format!("postgres://rowhouse@/{DATABASE}?host={socket}&port={}", self.server.port())
    }

    /// Opens a connection as the owner.
    pub async fn connect(&self) -> Client {
        let config = self.server.connect_config(DATABASE);
        let (client, connection) =
            config.connect(NoTls).await.expect("the server accepts the connection");
        tokio::spawn(connection);
        client
    }

    /// Returns settings for this server, overridden by these values.
    pub fn settings(&self, values: &[(&'static str, &str)]) -> Settings {
        let mut all = vec![
            ("database.url", self.url()),
            ("listen", "127.0.0.1:0".to_owned()),
            // Set, so that no secret is generated and stored in the current folder.
            ("root_token", Uuid::new_v4().to_string()),
            ("secret_key", SECRET_KEY.to_owned()),
            // All load comes from one caller.
            ("limits.requests_token", "0".to_owned()),
            ("limits.requests_tenant", "0".to_owned()),
            // Vacancies built in the background would affect the figures.
            ("tenants.vacancies", "0".to_owned()),
        ];
        all.extend(values.iter().map(|(key, value)| (*key, (*value).to_owned())));
        Settings::from_values(&all).expect("the settings of a benchmark are good")
    }

    /// Opens a backend, which has no HTTP listener.
    pub async fn backend(&self, values: &[(&'static str, &str)]) -> Backend {
        let backend = Backend::open(&self.settings(values), &Options::default()).await;
        backend.expect("the database can be used")
    }

    /// Returns the process id of the server, whose children do its work.
    pub fn pid(&self) -> u32 {
        let file = std::fs::read_to_string(self.folder.join("postgres/postmaster.pid"));
        let file = file.expect("the server runs");
        file.lines().next().and_then(|pid| pid.parse().ok()).expect("the first line is its id")
    }

    /// Returns the server's log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("postgres.log")).expect("the server has a log")
    }

    pub async fn stop(self) {
        self.server.stop().await.expect("the server stops");
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Removes the folders of benchmarks whose process no longer exists.
fn sweep(home: &Path) {
    for entry in std::fs::read_dir(home).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(rest) = name.strip_prefix(FOLDER)
            && let pid = rest.trim_end_matches(|c: char| !c.is_ascii_digit())
            && !Path::new("/proc").join(pid).exists()
        {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// The cheapest password hash, for benchmarks that do not measure hashing.
pub const WEAKEST_HASH: [(&str, &str); 2] =
    [("auth.hash_memory_kib", "8"), ("auth.hash_iterations", "1")];

/// Returns a command for a set-up with a new slug and a new admin.
pub fn provision_command() -> ProvisionTenant {
    let id = Uuid::now_v7().simple().to_string();
    let admin = NewAdmin {
        email: Email::parse(&format!("admin@{id}.example.com")).expect("an address"),
        password: NewPassword::parse("SecurePass123!").expect("a password"),
        first_name: PersonName::parse("Ada").expect("a name"),
        last_name: PersonName::parse("Admin").expect("a name"),
    };
    let name = TenantName::parse("Bench").expect("a name");
    let slug = Slug::parse(&format!("bench-{id}")).expect("a slug");
    ProvisionTenant::new(name, slug, Admin::NewOrExisting(admin))
}

/// Returns the body of such a set-up over HTTP.
pub fn setup_body() -> Value {
    let command = provision_command();
    let slug = command.slug.as_str();
    json!({
        "name": "Bench", "slug": slug, "adminEmail": format!("admin@{slug}.example.com"),
        "adminPassword": "SecurePass123!", "adminFirstName": "Ada", "adminLastName": "Admin",
    })
}

/// Creates tenants up to this number and returns the ids of all.
pub async fn fill(backend: &Backend, sql: &Client, wanted: usize) -> Vec<TenantId> {
    let there = tenants(sql).await.len();
    let left = std::sync::atomic::AtomicUsize::new(wanted.saturating_sub(there));
    let creator = || async {
        use std::sync::atomic::Ordering::Relaxed;
        while left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
            let made = backend
                .services
                .provisioning
                .provision(&backend.operator(), provision_command())
                .await;
            made.expect("a tenant can be made");
        }
    };
    futures_util::future::join_all((0..CREATORS).map(|_| creator())).await;
    tenants(sql).await
}

/// Returns the ids of all tenants, oldest first.
pub async fn tenants(sql: &Client) -> Vec<TenantId> {
    let rows = sql.query("SELECT id FROM tenants ORDER BY id", &[]).await;
    rows.expect("tenants can be listed").iter().map(|row| row.get(0)).collect()
}

/// Writes one profile into each tenant.
pub async fn insert_profiles(sql: &Client, tenants: &[TenantId], row: Uuid) {
    // Many tenants in one commit, but few enough for the lock table.
    for some in tenants.chunks(100) {
        let script: Vec<String> = some
            .iter()
            .map(|tenant| {
                format!(
                    "INSERT INTO {}.profiles (id, profile, email, version, created_at, updated_at)
                     VALUES ('{row}', '{{}}', 'a@example.com', 1, now(), now())",
                    SchemaName::of(*tenant)
                )
            })
            .collect();
        sql.batch_execute(&script.join(";")).await.expect("profiles can be written");
    }
    sql.batch_execute("CHECKPOINT").await.expect("a checkpoint can be made");
}

/// Vacuums the tables that all tenants share, the catalogs and the control plane. Vacuuming the one-row tables of
/// thousands of tenants would take minutes and change no figure.
pub async fn vacuum_shared(sql: &Client) {
    let shared = "SELECT 'VACUUM ANALYZE ' || oid::regclass FROM pg_class
                   WHERE relkind = 'r' AND relnamespace IN ('pg_catalog'::regnamespace, 'public'::regnamespace)";
    for row in sql.query(shared, &[]).await.expect("the tables can be listed") {
        sql.batch_execute(row.get(0)).await.expect("a table can be vacuumed");
    }
    sql.batch_execute("CHECKPOINT").await.expect("a checkpoint can be made");
}

/// Xorshift: cheap, and good enough to pick tenants.
pub struct Random(u64);

impl Random {
    pub fn new() -> Self {
        Self(Uuid::new_v4().as_u64_pair().0 | 1)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let bound = u64::try_from(bound).expect("a usize fits");
        usize::try_from(self.0 % bound).expect("below a usize")
    }
}

/// Returns the endpoints of the owner and of the runtime login on a server with trust authentication on its
/// socket. `owner` is the owner's configuration.
pub fn endpoints(owner: tokio_postgres::Config) -> (Endpoint, Endpoint) {
    let url = DatabaseUrl::parse("postgres://localhost/x?sslmode=disable&user=x").expect("a URL");
    let tls = Connector::new(url.ssl()).expect("TLS can be left out").make_tls();
    let mut runtime = owner.clone();
    runtime.user(RUNTIME_LOGIN);
    let endpoint = |config| Endpoint { config, tls: tls.clone() };
    (endpoint(owner), endpoint(runtime))
}

/// One of the things measured against each other: a name, and a function that returns a round's figure.
pub struct Contender<'a> {
    pub name: &'static str,
    pub run: Box<dyn Fn() -> LocalBoxFuture<'a, f64> + 'a>,
}

impl<'a> Contender<'a> {
    pub fn new<F>(name: &'static str, run: impl Fn() -> F + 'a) -> Self
    where
        F: Future<Output = f64> + 'a,
    {
        Self { name, run: Box::new(move || Box::pin(run())) }
    }
}

/// Runs each contender once a round, in rotating order, and returns the figures of each in the order of the
/// contenders. A first additional round does not count.
pub async fn interleave(rounds: usize, contenders: &[Contender<'_>]) -> Vec<Samples> {
    interleave_after(rounds, contenders, async || {}).await
}

/// As [`interleave`], with a preparation before each round. Work that it leaves to the machine affects each
/// contender in turn.
pub async fn interleave_after(
    rounds: usize,
    contenders: &[Contender<'_>],
    prepare: impl AsyncFn(),
) -> Vec<Samples> {
    let mut figures = vec![Vec::with_capacity(rounds); contenders.len()];
    for round in 0..=rounds {
        prepare().await;
        for turn in 0..contenders.len() {
            let at = (turn + round) % contenders.len();
            let figure = (contenders[at].run)().await;
            if round > 0 {
                figures[at].push(figure);
            }
        }
    }
    figures.into_iter().map(Samples).collect()
}

/// The figures of one contender, one for each round.
#[derive(Debug, Clone)]
pub struct Samples(pub Vec<f64>);

impl Samples {
    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (sorted.len().saturating_sub(1) / 2, sorted.len() / 2);
        f64::midpoint(sorted[low], sorted[high])
    }

    pub fn least(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    pub fn most(&self) -> f64 {
        self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }

    /// Returns the ratios to a baseline, round by round.
    pub fn against(&self, baseline: &Self) -> Self {
        Self(self.0.iter().zip(&baseline.0).map(|(ours, theirs)| ours / theirs).collect())
    }
}

/// Returns a duration in milliseconds, with fractions.
pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
