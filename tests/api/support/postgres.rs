//! One PostgreSQL server for the whole run and a separate database for each test.
//!
//! `TEST_DATABASE_URL` names a server; without it an embedded one is started once, without durability,
//! under the target folder. Databases are cloned from a template that is bootstrapped and migrated once.
//! Their names carry a prefix and the time, so that a later run can drop what a crashed run left.
//!
//! The servers under test log in as an owner that is no superuser, with the rights of docs/managed-postgresql.md, and so
//! do the queries of the tests. `TEST_LOGIN=superuser` lets both be the superuser of the server instead.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rowhouse::app::{Backend, Options};
use rowhouse::config::Settings;
use rowhouse::embedded::{Durability, Server, Settings as ServerSettings};
use rowhouse::pg::rules::MIGRATOR;
use tokio::sync::OnceCell;
use tokio_postgres::{Client, NoTls};

use super::markdown::Page;
use super::{TestEngine, settings_for};

mod cluster;

const PREFIX: &str = "rowhouse_test_";

/// The owner of the databases, and its password where the server asks for one.
const OWNER: &str = "rowhouse_test_owner";
const OWNER_PASSWORD: &str = "owner";

/// The age, in seconds, after which a database of a crashed run is dropped.
const STALE_AFTER: u64 = 3600;

static FIXTURE: OnceCell<Fixture> = OnceCell::const_new();
static COUNTER: AtomicU32 = AtomicU32::new(0);

/// The server and the template database on it.
struct Fixture {
    /// The URL of the server's superuser; [`with_database`] replaces the database in it.
    base: String,
    template: String,
}

/// The login of a server under test, and of the queries of its test.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Login {
    /// An owner that is no superuser.
    Owner,
    /// The superuser of the server.
    Superuser,
}

impl Login {
    /// Returns the login of this run.
    fn of_run() -> Self {
        #[expect(clippy::disallowed_methods, reason = "a setting of the test suite")]
        match std::env::var("TEST_LOGIN").as_deref() {
            Err(_) | Ok("" | "owner") => Self::Owner,
            Ok("superuser") => Self::Superuser,
            Ok(other) => panic!("TEST_LOGIN is {other:?}, not owner or superuser"),
        }
    }

    /// Returns the URL of a database for this login.
    fn url(self, base: &str, database: &str) -> String {
        let url = with_database(base, database);
        let config: tokio_postgres::Config = url.parse().expect("it is a URL");
        match (self, config.get_password()) {
            (Self::Superuser, _) => url,
            (Self::Owner, None) => with_login(&url, OWNER),
            (Self::Owner, Some(_)) => with_login(&url, &format!("{OWNER}:{OWNER_PASSWORD}")),
        }
    }

    /// Returns the options of `CREATE DATABASE` for a database that this login owns.
    fn ownership(self) -> String {
        match self {
            Self::Owner => format!("OWNER {OWNER}"),
            Self::Superuser => String::new(),
        }
    }
}

/// A database that is dropped with its last handle.
#[derive(Clone)]
pub struct TestDatabase(Arc<Inner>);

struct Inner {
    name: String,
    login: Login,
}

impl TestDatabase {
    /// Creates a database from the template.
    pub async fn create() -> Self {
        if TestEngine::of_run() == TestEngine::Citus {
            // A database of a cluster cannot be cloned: Citus keeps sessions of its own in it.
            let database = Self::create_with("").await;
            prepare(&database.url()).await;
            return database;
        }
        Self::create_for(Login::of_run(), &format!("TEMPLATE {}", fixture().await.template)).await
    }

    /// Creates an empty database, not even bootstrapped.
    pub async fn create_empty() -> Self {
        Self::create_with("").await
    }

    /// Creates an empty database with options of `CREATE DATABASE`. What an ordinary owner cannot close is closed.
    pub async fn create_with(options: &str) -> Self {
        let database = Self::create_for(Login::of_run(), options).await;
        if database.0.login == Login::Owner {
            close_exposures(&database.connect_as_superuser().await).await;
        }
        database
    }

    /// Creates an empty database of the superuser, with all that PostgreSQL leaves open.
    pub async fn create_of_superuser() -> Self {
        Self::create_for(Login::Superuser, "").await
    }

    async fn create_for(login: Login, options: &str) -> Self {
        let name = unique_name();
        let admin = connect(&with_database(&fixture().await.base, "postgres")).await;
        let sql = format!("CREATE DATABASE {name} {options} {}", login.ownership());
        admin.batch_execute(&sql).await.expect("a test database can be created");
        if TestEngine::of_run() == TestEngine::Citus {
            cluster::join(&fixture().await.base, &name, login == Login::Owner).await;
        }
        Self(Arc::new(Inner { name, login }))
    }

    /// Returns the owner's URL of the database on each worker of the cluster.
    pub async fn worker_urls(&self) -> Vec<String> {
        let fixture = FIXTURE.get().expect("a database exists, so its server does");
        let workers = cluster::workers(&fixture.base).await;
        workers.iter().map(|base| self.0.login.url(base, &self.0.name)).collect()
    }

    /// Returns the owner's URL.
    pub fn url(&self) -> String {
        let fixture = FIXTURE.get().expect("a database exists, so its server does");
        self.0.login.url(&fixture.base, &self.0.name)
    }

    /// Returns the URL of the server's superuser.
    pub fn superuser_url(&self) -> String {
        let fixture = FIXTURE.get().expect("a database exists, so its server does");
        with_database(&fixture.base, &self.0.name)
    }

    /// Opens a connection as the owner.
    pub async fn connect(&self) -> Client {
        connect(&self.url()).await
    }

    /// Opens a connection as the server's superuser, for what an owner may not do: event triggers, ending the
    /// connections of other logins, objects of others.
    pub async fn connect_as_superuser(&self) -> Client {
        connect(&self.superuser_url()).await
    }

    /// Returns the URL for another login.
    pub fn url_of(&self, login: &str, password: &str) -> String {
        with_login(&self.url(), &format!("{login}:{password}"))
    }

    /// Returns the URL of the runtime login, as the server derives it from the owner's.
    pub fn runtime_url(&self) -> String {
        let config: tokio_postgres::Config = self.url().parse().expect("it is a URL");
        let password = config.get_password().map(rowhouse::pg::bootstrap::runtime_password);
        self.url_of(rowhouse::pg::rules::RUNTIME_LOGIN, &password.unwrap_or_default())
    }

    /// Opens a connection as the superuser to another database of the same server.
    pub async fn connect_to_server(&self) -> Client {
        connect(&with_database(&fixture().await.base, "postgres")).await
    }

    /// Refuses new connections and terminates the open ones, as if the server were unreachable.
    pub async fn close(&self) {
        let (admin, name) = (self.connect_to_server().await, self.name());
        let sql = format!(
            "ALTER DATABASE {name} ALLOW_CONNECTIONS false;
             SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        );
        admin.batch_execute(&sql).await.expect("a test database can be closed");
    }

    /// Refuses new connections; open ones stay.
    pub async fn refuse_new_connections(&self) {
        let sql = format!("ALTER DATABASE {} ALLOW_CONNECTIONS false", self.name());
        let admin = self.connect_to_server().await;
        admin.batch_execute(&sql).await.expect("a test database can be closed");
    }

    /// Allows connections again.
    pub async fn open(&self) {
        let sql = format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", self.name());
        let admin = self.connect_to_server().await;
        admin.batch_execute(&sql).await.expect("a test database can be opened");
    }

    pub fn name(&self) -> &str {
        &self.0.name
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        super::recording::assert_no_violations(&self.name);
        let Some(fixture) = FIXTURE.get() else { return };
        let (base, name) = (fixture.base.clone(), self.name.clone());
        // A separate runtime, because the test's own may be shutting down.
        let cleaner = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be built").block_on(drop_database(&base, &name));
        });
        if cleaner.join().is_err() {
            eprintln!("the database {} could not be dropped", self.name);
        }
    }
}

/// Drops a database and the roles of the tenants in it.
async fn drop_database(base: &str, name: &str) {
    let inside = connect(&with_database(base, name)).await;
    let mut rows = inside
        .query(r"SELECT nspname FROM pg_namespace WHERE nspname ~ '^tenant_[0-9a-f]{32}$'", &[])
        .await
        .expect("schemas can be listed");
    // A vacancy that is still being built may have a role and no schema. An empty database has no such table.
    let building = "SELECT 'tenant_' || replace(id::text, '-', '') FROM public.vacancies WHERE state = 'building'";
    rows.extend(inside.query(building, &[]).await.unwrap_or_default());
    drop(inside);
    let admin = connect(&with_database(base, "postgres")).await;
    if TestEngine::of_run() == TestEngine::Citus {
        cluster::drop_on_workers(base, name).await;
    }
    admin
        .batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
        .await
        .expect("a test database can be dropped");
    for row in rows {
        let role: String = row.get(0);
        // Best effort: another test's database can depend on the role only if tenant ids repeat.
        let _ = admin.batch_execute(&format!("DROP ROLE IF EXISTS {role}")).await;
    }
}

async fn fixture() -> &'static Fixture {
    FIXTURE
        .get_or_init(|| async {
            #[expect(clippy::disallowed_methods, reason = "the one setting of the test suite")]
            let base = match std::env::var("TEST_DATABASE_URL") {
                Ok(url) if !url.is_empty() => url,
                _ => start_server(),
            };
            drop_stale_databases(&base).await;
            let template = format!("{}_template", unique_name());
            let admin = connect(&with_database(&base, "postgres")).await;
            let login = Login::of_run();
            if login == Login::Owner {
                create_owner(&admin).await;
            }
            if TestEngine::of_run() == TestEngine::Citus {
                cluster::create_runtime_login(&admin).await;
                return Fixture { base, template };
            }
            admin
                .batch_execute(&format!("CREATE DATABASE {template} {}", login.ownership()))
                .await
                .expect("a template can be created");
            if login == Login::Owner {
                close_exposures(&connect(&with_database(&base, &template)).await).await;
            }
            prepare(&login.url(&base, &template)).await;
            wait_until_unused(&admin, &template).await;
            Fixture { base, template }
        })
        .await
}

/// Creates the control plane in a database.
async fn prepare(url: &str) {
    let settings =
        Settings::from_values(&settings_for(url)).expect("the settings of a test are good");
    let backend = Backend::open(&settings, &Options::default()).await;
    backend.expect("a template can be bootstrapped").close().await;
}

/// Creates the owner, unless an earlier run on this server did. Where another login has made the role of migrations, the
/// owner needs it (docs/managed-postgresql.md).
async fn create_owner(admin: &Client) {
    let create = format!(
        "DO $$ BEGIN
             CREATE ROLE {OWNER} LOGIN CREATEROLE PASSWORD '{OWNER_PASSWORD}';
         EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
         DO $$ BEGIN
             IF to_regrole('{MIGRATOR}') IS NOT NULL THEN GRANT {MIGRATOR} TO {OWNER}; END IF; END $$"
    );
    admin.batch_execute(&create).await.expect("a superuser may create an owner");
}

/// Closes what an ordinary owner cannot close, as the book tells a superuser to.
async fn close_exposures(superuser: &Client) {
    let mut blocks = Page::read("docs/managed-postgresql.md").blocks().into_iter();
    let closing = blocks.rfind(|block| block.language == "sql");
    let closing = closing.expect("the page has SQL").text.replace("rowhouse_owner", OWNER);
    superuser.batch_execute(&closing).await.expect("a superuser may");
}

/// Waits until no session is connected to the template, which cloning requires: a backend exits a moment
/// after its client has closed the connection.
async fn wait_until_unused(admin: &Client, template: &str) {
    for _ in 0..500 {
        let row = admin
            .query_one("SELECT count(*) FROM pg_stat_activity WHERE datname = $1", &[&template])
            .await
            .expect("activity can be read");
        if row.get::<_, i64>(0) == 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("a session stays connected to {template}");
}

/// Starts the embedded server on a thread that keeps it for the whole run; it stops with this process.
fn start_server() -> String {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    remove_stale_folders(&folder);
    let settings = ServerSettings {
        data_dir: folder.join(format!("postgres-{}", std::process::id())),
        bin_dir: None,
        durability: Durability::None,
        listen_tcp: None,
        max_connections: 300,
    };
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime can be built").block_on(async {
            let server = Server::start(&settings).await.unwrap_or_else(|error| panic!("{error}"));
            sender.send(server.database_url("postgres")).expect("the caller waits for the server");
            std::future::pending::<()>().await;
        });
    });
    receiver.recv().expect("the embedded server starts")
}

/// Removes the folders of runs whose process no longer exists.
fn remove_stale_folders(folder: &std::path::Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(pid) = name.strip_prefix("postgres-") else { continue };
        if !std::path::Path::new("/proc").join(pid).exists() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Drops the databases of runs that crashed more than [`STALE_AFTER`] ago.
async fn drop_stale_databases(base: &str) {
    let admin = connect(&with_database(base, "postgres")).await;
    let rows = admin
        .query("SELECT datname FROM pg_database WHERE datname LIKE 'rowhouse\\_test\\_%'", &[])
        .await
        .expect("databases can be listed");
    for row in rows {
        let name: String = row.get(0);
        let made_at: Option<u64> =
            name.strip_prefix(PREFIX).and_then(|rest| rest.split('_').next()?.parse().ok());
        if made_at.is_some_and(|at| at + STALE_AFTER < now()) {
            drop_database(base, &name).await;
        }
    }
}

fn unique_name() -> String {
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("{PREFIX}{}_{}_{number}", now(), std::process::id())
}

fn now() -> u64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "the names of test databases carry the real time"
    )]
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// Replaces the login, and its password, in a URL.
fn with_login(url: &str, login: &str) -> String {
    let authority = url.find("://").map_or(0, |at| at + 3);
    let host = url[authority..].find('@').map_or(authority, |at| authority + at + 1);
    format!("{}{login}@{}", &url[..authority], &url[host..])
}

/// Replaces the database in a URL's path.
fn with_database(base: &str, database: &str) -> String {
    let (before, query) =
        base.split_once('?').map_or((base, None), |(before, query)| (before, Some(query)));
    let scheme = before.find("://").map_or(0, |at| at + 3);
    let authority = before[scheme..].find('/').map_or(before.len(), |at| scheme + at);
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("{}/{database}{query}", &before[..authority])
}

/// Opens a connection as the login that the URL names.
pub async fn connect(url: &str) -> Client {
    let (client, connection) =
        tokio_postgres::connect(url, NoTls).await.unwrap_or_else(|e| panic!("{url}: {e:?}"));
    tokio::spawn(async move {
        let _ = connection.await;
    });
    client
}
