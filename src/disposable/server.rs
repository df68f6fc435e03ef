//! A server of an application on a database of its own.

use std::time::Duration;

use futures_util::FutureExt;
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::{TestDatabase, TestError, TestPostgres, on_runtime, runtime};
use crate::app::{App, Backend, Options};
use crate::config::Settings;
#[cfg(feature = "testing")]
use crate::config::variable_of;

/// How many vacancies a template has, and a server keeps: the tenants of the first tests of a process are taken from it.
const VACANCIES: &str = "16";

/// The secret key of every server of tests: databases are cloned with signing keys that are encrypted with it.
const SECRET_KEY: &str = "the secret key of all tests, which is none";

/// What an owner who is no superuser cannot close; a superuser closes all of it.
const EXPOSURES: &str =
    "set_config,do_blocks,advisory_locks,table_locks,large_objects,signals,setseed";

/// How long a server for one test runs before its jobs, which most tests end before: the vacancies that the database was
/// cloned with are enough for the tests that use it.
const LENT_JOBS_AFTER: Duration = Duration::from_secs(1);

/// A server that runs until it is dropped, on a database that is dropped after it.
pub(crate) struct DisposableServer {
    pub(crate) url: String,
    pub(crate) root_token: String,
    #[cfg(feature = "testing")]
    pub(crate) context: crate::app::Context,
    #[cfg(feature = "testing")]
    pub(crate) document: crate::app::Document,
    pub(crate) database: TestDatabase,
    /// Whether other processes use the database too: then it stays, with what is in it.
    #[cfg(feature = "testing")]
    pub(crate) is_lent: bool,
    /// The settings as variables of the environment, for the program of the application.
    #[cfg(feature = "testing")]
    pub(crate) variables: Vec<(String, String)>,
    stop: Option<oneshot::Sender<()>>,
    stopped: Option<tokio::task::JoinHandle<()>>,
}

impl DisposableServer {
    /// Starts a server on a clone of the application's template, with these settings beside [`settings`].
    pub(crate) async fn start(
        options: Options,
        more: Vec<(&'static str, String)>,
    ) -> Result<Self, TestError> {
        on_runtime(async move { Box::pin(Self::start_on(false, options, more)).await }).await
    }

    /// Starts a server for tests that have a tenant of their own each. Where a process has one test, other processes use
    /// the database too.
    #[cfg(feature = "testing")]
    pub(crate) async fn start_for_tenants(options: Options) -> Result<Self, TestError> {
        on_runtime(async move { Box::pin(Self::start_on(true, options, Vec::new())).await }).await
    }

    async fn start_on(
        may_share: bool,
        mut options: Options,
        more: Vec<(&'static str, String)>,
    ) -> Result<Self, TestError> {
        let server = TestPostgres::get().await?;
        let for_template = options.clone();
        let build = move |database: String| build_template(server, for_template, database).boxed();
        let (key, is_lent) = (template_key(&options)?, may_share && server.lends());
        let database = if is_lent {
            TestDatabase::lent_clone_of(&key, build).await?
        } else {
            TestDatabase::clone_of(&key, "", build).await?
        };
        let root_token = Uuid::new_v4().to_string();
        let mut values = settings(&server.url(database.name()));
        values.push(("root_token", root_token.clone()));
        if is_lent {
            // For one test. Each worker registers all routes, which takes a debug build milliseconds.
            values.push(("http.workers", "1".to_owned()));
            options.jobs_after = LENT_JOBS_AFTER;
        }
        values.extend(more);
        #[cfg(feature = "testing")]
        let variables =
            values.iter().map(|(key, value)| (variable_of(key), value.clone())).collect();
        let settings = Settings::from_values(&values)?;
        let app = App::build(settings, options).await?;
        let url = format!("http://{}", app.addr());
        #[cfg(feature = "testing")]
        let (context, document) = (app.backend().context_for_tests()?, app.document());
        let (stop, stopping) = oneshot::channel::<()>();
        let stopped = runtime().spawn(async move {
            let outcome = app.run_until_stopped(async {
                let _ = stopping.await;
            });
            if let Err(error) = Box::pin(outcome).await {
                tracing::error!(%error, "the server of a test failed");
            }
        });
        let (stop, stopped) = (Some(stop), Some(stopped));
        Ok(Self {
            url,
            root_token,
            #[cfg(feature = "testing")]
            context,
            #[cfg(feature = "testing")]
            document,
            database,
            #[cfg(feature = "testing")]
            is_lent,
            #[cfg(feature = "testing")]
            variables,
            stop,
            stopped,
        })
    }

    /// Stops the server and drops its database, and waits for both.
    pub(crate) async fn stop(mut self) -> Result<(), TestError> {
        drop(self.stop.take());
        if let Some(stopped) = self.stopped.take() {
            stopped.await.map_err(TestError::Panicked)?;
        }
        let database = self.database.clone();
        drop(self);
        database.drop_now().await
    }
}

/// Returns the settings of a server of tests: a free port, few connections, a cheap hash, no limits.
fn settings(database_url: &str) -> Vec<(&'static str, String)> {
    [
        ("listen", "127.0.0.1:0"),
        ("database.url", database_url),
        ("database.max_connections", "24"),
        ("database.accept_exposures", EXPOSURES),
        ("secret_key", SECRET_KEY),
        ("http.workers", "2"),
        ("http.shutdown_timeout", "2s"),
        ("tenants.vacancies", VACANCIES),
        ("auth.hash_memory_kib", "8"),
        ("auth.hash_iterations", "1"),
        ("limits.login_pair", "0"),
        ("limits.login_account", "0"),
        ("limits.login_address", "0"),
        ("limits.token_address", "0"),
        ("limits.requests_token", "0"),
        ("limits.requests_tenant", "0"),
    ]
    .map(|(key, value)| (key, value.to_owned()))
    .to_vec()
}

/// Returns what a template depends on: the program's version, and the migrations of the control plane, of tenants and of
/// the application.
fn template_key(options: &Options) -> Result<String, TestError> {
    let mut key = Sha256::new();
    key.update(env!("CARGO_PKG_VERSION"));
    key.update(VACANCIES);
    key.update(options.fingerprint()?);
    Ok(hex::encode(key.finalize()))
}

/// Prepares a new database, migrates it and builds vacancies in it.
async fn build_template(
    server: &TestPostgres,
    options: Options,
    database: String,
) -> Result<(), TestError> {
    let mut values = settings(&server.url(&database));
    values.push(("root_token", Uuid::new_v4().to_string()));
    let settings = Settings::from_values(&values)?;
    let backend = Backend::open(&settings, &options).await?;
    let filled = backend.services.vacancies.fill(&backend.operator()).await;
    backend.services.vacancies.retire(&backend.operator()).await?;
    backend.close().await;
    filled?;
    Ok(())
}
