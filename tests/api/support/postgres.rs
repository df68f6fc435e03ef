//! A separate database for each test, on the server of [`TestPostgres`]: the one that `TEST_DATABASE_URL` names, or one
//! that all processes of the run share. Databases are cloned from a template that is bootstrapped and migrated once.
//!
//! The servers under test log in as an owner that is no superuser, with the rights of docs/managed-postgresql.md, and so
//! do the queries of the tests. `TEST_LOGIN=superuser` lets both be the superuser of the server instead.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use rowhouse::app::{Backend, Options};
use rowhouse::config::Settings;
use rowhouse::pg::rules::MIGRATOR;
use rowhouse::testing::{self, TestError, TestPostgres};
use tokio::sync::OnceCell;
use tokio_postgres::{Client, NoTls};

use super::markdown::Page;
use super::{TestEngine, settings_for, through_pooler};

mod cluster;

/// The owner of the databases, and its password where the server asks for one.
const OWNER: &str = "rowhouse_test_owner";
const OWNER_PASSWORD: &str = "owner";

/// The login of a server under test, and of the queries of its test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    fn url(self, server: &TestPostgres, database: &str) -> String {
        self.url_at(server.base(), database)
    }

    /// Returns the URL of a database for this login on the server of another URL.
    fn url_at(self, base: &str, database: &str) -> String {
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
    database: testing::TestDatabase,
    login: Login,
    server: &'static TestPostgres,
}

impl Drop for Inner {
    fn drop(&mut self) {
        super::recording::assert_no_violations(self.database.name());
        if TestEngine::of_run() == TestEngine::Citus {
            let (base, name) = (self.server.base().to_owned(), self.database.name().to_owned());
            // A separate runtime, because the test's own may be shutting down.
            let cleaner = std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let runtime = runtime.expect("a runtime can be built");
                runtime.block_on(cluster::drop_on_workers(&base, &name));
            });
            if cleaner.join().is_err() {
                eprintln!("{} could not be dropped on the workers", self.database.name());
            }
        }
    }
}

impl TestDatabase {
    /// Creates a database from the template.
    pub async fn create() -> Self {
        let (login, server) = (Login::of_run(), server().await);
        let build = move |database: String| -> BoxFuture<'static, Result<(), TestError>> {
            Box::pin(async move {
                build_template(login, server, &database).await;
                Ok(())
            })
        };
        let (key, options) = (template_key(login), login.ownership());
        let created = testing::TestDatabase::clone_of(&key, &options, build).await;
        let database = created.unwrap_or_else(|error| panic!("{error}"));
        let database = Self(Arc::new(Inner { database, login, server }));
        if TestEngine::of_run() == TestEngine::Citus {
            cluster::clone(server.base(), database.name(), &key, &options).await;
        }
        database
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
        let server = server().await;
        let options = format!("{options} {}", login.ownership());
        let created = testing::TestDatabase::create(&options).await;
        let database = created.unwrap_or_else(|error| panic!("{error}"));
        let database = Self(Arc::new(Inner { database, login, server }));
        if TestEngine::of_run() == TestEngine::Citus {
            cluster::join(server.base(), database.name(), login == Login::Owner).await;
        }
        database
    }

    /// Returns the owner's URL of the database on each worker of the cluster.
    pub async fn worker_urls(&self) -> Vec<String> {
        let workers = cluster::workers(self.0.server.base()).await;
        workers.iter().map(|base| self.0.login.url_at(base, self.name())).collect()
    }

    /// Returns the owner's URL.
    pub fn url(&self) -> String {
        self.0.login.url(self.0.server, self.name())
    }

    /// Returns the URL of the server's superuser.
    pub fn superuser_url(&self) -> String {
        self.0.server.url(self.name())
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
        connect(&self.0.server.url("postgres")).await
    }

    /// Refuses new connections and terminates the open ones, as if the server were unreachable.
    pub async fn close(&self) {
        // Committed first: a pooler connects again at once.
        self.refuse_new_connections().await;
        let name = self.name();
        let end = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        );
        let admin = self.connect_to_server().await;
        admin.batch_execute(&end).await.expect("sessions can be ended");
    }

    /// Refuses new connections; open ones stay.
    pub async fn refuse_new_connections(&self) {
        let sql = format!("ALTER DATABASE {} ALLOW_CONNECTIONS false", self.name());
        let admin = self.connect_to_server().await;
        admin.batch_execute(&sql).await.expect("a test database can be closed");
    }

    /// Allows connections again, through a pooler too: for a moment longer it answers what the database has answered.
    pub async fn open(&self) {
        let sql = format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", self.name());
        let admin = self.connect_to_server().await;
        admin.batch_execute(&sql).await.expect("a test database can be opened");
        for url in [self.url(), self.runtime_url()] {
            let url = through_pooler(&url);
            for _ in 0..100 {
                if answers(&url).await {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    pub fn name(&self) -> &str {
        self.0.database.name()
    }
}

async fn server() -> &'static TestPostgres {
    static PREPARED: OnceCell<()> = OnceCell::const_new();
    let server = TestPostgres::get().await.unwrap_or_else(|error| panic!("{error}"));
    let prepared = PREPARED.get_or_init(|| async {
        let admin = connect(&server.url("postgres")).await;
        if Login::of_run() == Login::Owner {
            create_owner(&admin).await;
        }
        if TestEngine::of_run() == TestEngine::Citus {
            cluster::create_runtime_login(&admin).await;
            cluster::drop_leftovers(server.base()).await;
        }
    });
    prepared.await;
    server
}

/// Returns what the template depends on: all that is built into this program.
fn template_key(login: Login) -> String {
    let program = std::env::current_exe().and_then(std::fs::metadata);
    let built = program.and_then(|program| program.modified()).expect("this program is a file");
    format!("{built:?} {login:?}")
}

/// Bootstraps and migrates a new database.
async fn build_template(login: Login, server: &TestPostgres, database: &str) {
    let is_cluster = TestEngine::of_run() == TestEngine::Citus;
    if is_cluster {
        cluster::join(server.base(), database, login == Login::Owner).await;
    } else if login == Login::Owner {
        close_exposures(&connect(&server.url(database)).await).await;
    }
    prepare(&login.url(server, database)).await;
    if is_cluster {
        cluster::keep_as_template(server.base(), database, &template_key(login)).await;
    }
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
             IF to_regrole('{MIGRATOR}') IS NOT NULL THEN GRANT {MIGRATOR} TO {OWNER}; END IF;
         -- Another process does the same at this moment.
         EXCEPTION WHEN unique_violation OR internal_error THEN NULL; END $$"
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

/// Whether a database answers a query.
async fn answers(url: &str) -> bool {
    let Ok((client, connection)) = tokio_postgres::connect(url, NoTls).await else { return false };
    tokio::spawn(connection);
    client.simple_query("SELECT 1").await.is_ok()
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
