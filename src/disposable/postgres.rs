//! The PostgreSQL server of the tests of this process.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio_postgres::Client;
use uuid::Uuid;

use super::error::During;
use super::{TestError, on_runtime};
use crate::embedded::{Durability, Settings, SharedServer};
use crate::pg::connect::open::connect;
use crate::pg::connect::tls::Connector;
use crate::pg::connect::url::DatabaseUrl;
use crate::pg::rules::Endpoint;

/// The prefix of the name of each database of tests, and of the `application_name` of each process that tests.
pub(super) const PREFIX: &str = "rowhouse_test_";
/// The database that every server has.
const MAINTENANCE: &str = "postgres";
/// How long the embedded server waits for another process after the last has ended.
const GRACE: Duration = Duration::from_secs(2);
/// The fewest connections of the embedded server, and how many it has for each processor, on which a test runner may
/// start a process.
const LEAST_CONNECTIONS: usize = 300;
const CONNECTIONS_PER_PROCESSOR: usize = 20;
/// How long a connection to the server may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

static SERVER: OnceCell<Result<TestPostgres, TestError>> = OnceCell::const_new();
static COUNTER: AtomicU32 = AtomicU32::new(0);

/// The PostgreSQL server of the tests of this process: the one that `TEST_DATABASE_URL` names, or an embedded one that
/// all processes of a test run share.
pub struct TestPostgres {
    /// The URL of the login, to the maintenance database.
    base: String,
    /// The id of this process in the names of its databases.
    process: String,
    /// The databases of this process that are not dropped yet.
    live: Mutex<BTreeSet<String>>,
    shared: Option<SharedServer>,
    /// The session that shows to other processes that this one lives.
    session: Client,
}

impl TestPostgres {
    /// Returns the server, which this process starts or connects to once.
    ///
    /// # Errors
    /// [`TestError`], the same for each call.
    pub async fn get() -> Result<&'static Self, TestError> {
        on_runtime(async {
            let server = SERVER.get_or_init(|| Box::pin(Self::open())).await;
            server.as_ref().map_err(|error| TestError::Again(error.to_string()))
        })
        .await
    }

    /// Returns the server if [`get`](Self::get) has found it.
    pub(super) fn found() -> Option<&'static Self> {
        SERVER.get().and_then(|server| server.as_ref().ok())
    }

    async fn open() -> Result<Self, TestError> {
        let (base, shared) = if let Some(url) = variable("TEST_DATABASE_URL") {
            (url, None)
        } else {
            let server = SharedServer::attach_or_start(&settings(), GRACE).await?;
            (server.database_url(MAINTENANCE), Some(server))
        };
        let simple = Uuid::new_v4().simple().to_string();
        let process = simple.get(..8).unwrap_or(&simple).to_owned();
        let mut endpoint = endpoint_of(&base)?;
        endpoint.config.application_name(format!("{PREFIX}{process}"));
        let session = open(&endpoint, &base).await?;
        let login =
            "SELECT rolsuper, rolcreatedb AND rolcreaterole AS creates, rolname::text FROM pg_roles
                      WHERE rolname = current_user";
        let login = session.query_one(login, &[]).await.during("read the rights of the login")?;
        let is_superuser: bool = login.get("rolsuper");
        if !is_superuser && !login.get::<_, bool>("creates") {
            return Err(TestError::Rights { login: login.get("rolname") });
        }
        let live = Mutex::default();
        let server = Self { base, process, live, shared, session };
        // What a process with one test has left goes with the server, at the latest.
        if !server.lends() {
            server.drop_what_dead_processes_left().await?;
        }
        Ok(server)
    }

    /// Returns the URL of the login to a database.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        with_database(&self.base, database)
    }

    /// Returns the URL that was given, or that of the embedded server.
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Returns the URL of a database for programs that know no unix sockets.
    #[must_use]
    pub fn tcp_url(&self, database: &str) -> String {
        let tcp = self.shared.as_ref().and_then(|shared| shared.tcp_url(database));
        tcp.unwrap_or_else(|| self.url(database))
    }

    /// Opens a connection to a database, on the runtime that calls this.
    ///
    /// # Errors
    /// [`TestError`].
    pub async fn connect(&self, database: &str) -> Result<Client, TestError> {
        let url = self.url(database);
        open(&endpoint_of(&url)?, &url).await
    }

    /// Opens a connection to the maintenance database.
    pub(super) async fn connect_to_server(&self) -> Result<Client, TestError> {
        open(&endpoint_of(&self.base)?, &self.base).await
    }

    /// The session that this process keeps open.
    pub(super) const fn session(&self) -> &Client {
        &self.session
    }

    /// Whether the server is one that runs on when the tests have ended.
    pub(super) const fn stays(&self) -> bool {
        self.shared.is_none()
    }

    /// Whether a process of the tests has one test, as with `cargo nextest`, so that it uses databases together with
    /// others. Those of a server that runs on would stay.
    pub(super) fn lends(&self) -> bool {
        !self.stays() && variable("NEXTEST_EXECUTION_MODE").as_deref() == Some("process-per-test")
    }

    /// Returns a name that no other database has.
    pub(super) fn unique_name(&self) -> String {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        format!("{PREFIX}{}_{number}", self.process)
    }

    /// The databases of this process that are not dropped yet.
    pub(super) fn live(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn settings() -> Settings {
    let bin_dir = variable("ROWHOUSE_DATABASE__BIN_DIR").map(PathBuf::from);
    let mut key = build_folder();
    if let Some(bin_dir) = &bin_dir {
        key.push(bin_dir.strip_prefix("/").unwrap_or(bin_dir));
    }
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let connections = LEAST_CONNECTIONS.max(processors * CONNECTIONS_PER_PROCESSOR);
    Settings {
        data_dir: SharedServer::folder_for(&key),
        bin_dir,
        durability: Durability::None,
        listen_tcp: Some(0),
        max_connections: u16::try_from(connections).unwrap_or(u16::MAX),
    }
}

/// Returns the folder that a build writes to: all test programs of one build are below it, and cargo marks it. For a
/// program that is elsewhere, its own folder.
fn build_folder() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    let marked = program.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    marked.or_else(|| program.parent()).unwrap_or(Path::new("/")).to_path_buf()
}

/// Returns a variable that is set and not empty.
#[expect(
    clippy::disallowed_methods,
    reason = "what chooses the server of tests is no setting of a server"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn endpoint_of(url: &str) -> Result<Endpoint, TestError> {
    let url = DatabaseUrl::parse(url)?;
    let mut config = url.config().clone();
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIMEOUT);
    }
    Ok(Endpoint { config, tls: Connector::new(url.ssl())?.make_tls() })
}

async fn open(endpoint: &Endpoint, url: &str) -> Result<Client, TestError> {
    let failed = |source| TestError::Unreachable {
        server: DatabaseUrl::parse(url).map(|url| url.redacted()).unwrap_or_default(),
        source,
    };
    connect(endpoint).await.map_err(failed)
}

/// Replaces the database in a URL's path.
fn with_database(base: &str, database: &str) -> String {
    let (before, query) =
        base.split_once('?').map_or((base, None), |(before, query)| (before, Some(query)));
    let (scheme, rest) = before.split_once("://").unwrap_or(("postgres", before));
    let authority = rest.split_once('/').map_or(rest, |(authority, _)| authority);
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("{scheme}://{authority}/{database}{query}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_of_a_url_is_replaced_and_nothing_else() {
        for (base, expected) in [
            ("postgres://u:p@host:5433/postgres", "postgres://u:p@host:5433/x"),
            ("postgres://u@host", "postgres://u@host/x"),
            (
                "postgresql://u@/postgres?host=%2Ftmp%2Fa&port=5",
                "postgresql://u@/x?host=%2Ftmp%2Fa&port=5",
            ),
        ] {
            assert_eq!(with_database(base, "x"), expected);
        }
    }
}
