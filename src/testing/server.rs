//! The server of an application under test.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::OnceCell;

use super::document::Document;
use super::time::TestTime;
use crate::app::options::ApplicationJob;
use crate::app::{Context, Described, Options};
use crate::application::Application;
use crate::auth::{CallContext, Principal};
use crate::disposable::{DisposableServer, TestError, on_runtime, runtime};
use crate::domain::UserAgent;
use crate::domain::names::{Email, NewPassword};
use crate::http::moved_time;
use crate::service::Services;

/// A function that returns an application, by which the tests of a process tell one from another.
pub type ApplicationFn = fn() -> Application;

/// The servers that the tests of this process share, by application.
static SHARED: Mutex<Option<HashMap<usize, Shared>>> = Mutex::new(None);

type Shared = Arc<OnceCell<Result<TestServer, String>>>;

/// A server of an application, as `main` would start it, on a database of its own and a free port of 127.0.0.1. It stops,
/// and its database is dropped, with the last handle.
///
/// Its settings are the defaults, but for cheap password hashes and no limits on requests. The environment and
/// `rowhouse.toml` are not read.
#[derive(Clone)]
pub struct TestServer(Arc<Inner>);

struct Inner {
    server: DisposableServer,
    documents: [OnceLock<Document>; 2],
    jobs: Vec<ApplicationJob>,
    time: TestTime,
    /// Whether other tests of this process use it too.
    is_shared: bool,
}

/// How a user of a test logs in.
#[derive(Debug, Clone)]
pub(super) struct Login {
    pub(super) email: Email,
    pub(super) password: NewPassword,
}

impl TestServer {
    /// Starts a server of the application.
    ///
    /// # Errors
    /// [`TestError`], which names the cause and the remedy.
    pub async fn start(application: &Application) -> Result<Self, TestError> {
        Self::start_with(application, &[]).await
    }

    /// Starts a server with these settings, such as `("limits.requests_tenant", "60/2")`.
    ///
    /// # Errors
    /// [`TestError`], which names the cause and the remedy.
    pub async fn start_with(
        application: &Application,
        settings: &[(&'static str, &str)],
    ) -> Result<Self, TestError> {
        let settings = settings.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        let options = application.options();
        Self::start_as(false, &options, DisposableServer::start(options.clone(), settings)).await
    }

    async fn start_as(
        is_shared: bool,
        options: &Options,
        starting: impl Future<Output = Result<DisposableServer, TestError>>,
    ) -> Result<Self, TestError> {
        log();
        moved_time::allow();
        let (jobs, server) = (options.jobs.clone(), starting.await?);
        let (documents, time) = ([OnceLock::new(), OnceLock::new()], TestTime::default());
        Ok(Self(Arc::new(Inner { server, documents, jobs, time, is_shared })))
    }

    /// Returns the server that the tests of this process share for an application; the first test starts it.
    pub(super) async fn shared(application: ApplicationFn) -> Result<Self, String> {
        let cell = {
            let mut all = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(all.get_or_insert_default().entry(application as usize).or_default())
        };
        let started = on_runtime(async move {
            let server = cell.get_or_init(|| async move {
                let options = application().options();
                let starting = DisposableServer::start_for_tenants(options.clone());
                let started = Self::start_as(true, &options, starting).await;
                started.map_err(|error| error.to_string())
            });
            Ok(server.await.clone())
        });
        started.await.unwrap_or_else(|error| Err(error.to_string()))
    }

    /// Returns its address, such as `http://127.0.0.1:40123`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.0.server.url
    }

    pub(super) fn root_token(&self) -> &str {
        &self.0.server.root_token
    }

    /// The time of its callers.
    pub(super) fn time(&self) -> &TestTime {
        &self.0.time
    }

    /// The time of a new tenant: that of its test, also on a server that other tests use.
    pub(super) fn time_of_tenant(&self) -> TestTime {
        if self.0.is_shared { TestTime::default() } else { self.0.time.clone() }
    }

    /// Moves the time of this server: for the requests of all its callers, and for the jobs that
    /// [`run_job`](Self::run_job) runs.
    ///
    /// # Panics
    /// If other tests use the server too: [`TestTenant::advance`](super::TestTenant::advance) moves the time of one test.
    pub fn advance(&self, by: Duration) {
        self.require_own();
        self.0.time.advance(by);
    }

    /// Runs a job of the application once, by its name.
    ///
    /// # Panics
    /// If there is no such job, if it fails, and if other tests use the server too: it would work in their tenants.
    pub async fn run_job(&self, name: &str) {
        self.require_own();
        let Some(job) = self.0.jobs.iter().find(|job| job.name == name).cloned() else {
            let names: Vec<_> = self.0.jobs.iter().map(|job| job.name).collect();
            fail(&format!("the application has no job {name:?}; it has {names:?}"));
        };
        let context = self.context(self.0.time.ahead());
        match runtime().spawn((job.run)(context)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => fail(&format!("the job {name} fails: {}", error.chain())),
            Err(panicked) => fail(&format!("the job {name} panics: {panicked}")),
        }
    }

    /// Returns the application's program, on the database of this server and with its settings; the test adds the arguments
    /// and runs it: `server.program(env!("CARGO_BIN_EXE_notes")).arg("sweep").output()`. It runs at the real time.
    ///
    /// # Panics
    /// If other tests use the server too: a command would work in their tenants.
    #[must_use]
    pub fn program(&self, path: impl AsRef<OsStr>) -> Command {
        self.require_own();
        let mut program = Command::new(path);
        program.env_clear().envs(self.0.server.variables.iter().map(|(name, value)| (name, value)));
        program
    }

    /// Whether its tenants stay until its database is dropped, which other processes use too.
    pub(super) fn leaves_tenants(&self) -> bool {
        self.0.server.is_lent
    }

    fn require_own(&self) {
        if self.0.is_shared {
            fail(
                "this server is shared with other tests, whose tenants it would change: let the test take a `TestServer` \
                 in place of a `TestTenant`",
            );
        }
    }

    /// Runs work on the services, as the operator at the time of a test.
    pub(super) async fn operate<T, F>(
        &self,
        ahead: Duration,
        work: impl FnOnce(Services, CallContext) -> F + Send + 'static,
    ) -> crate::domain::Result<T>
    where
        T: Send + 'static,
        F: Future<Output = crate::domain::Result<T>> + Send,
    {
        let (services, ctx) = self.context(ahead).operate();
        let done = runtime().spawn(async move { work(services, ctx).await });
        done.await.map_err(|panicked| crate::domain::Error::internal("run a step", panicked))?
    }

    /// Returns what the operator works with at the time of a test.
    pub(super) fn context(&self, ahead: Duration) -> Context {
        self.0.server.context.ahead(ahead)
    }

    /// Logs a user in and returns the access token.
    ///
    /// # Panics
    /// If the user cannot log in.
    pub(super) async fn log_in(&self, login: &Login, ahead: Duration) -> String {
        let Login { email, password } = login.clone();
        let outcome = self.operate(ahead, |services, ctx| async move {
            let ctx = CallContext { principal: Principal::Anonymous, ..ctx };
            let agent = UserAgent::read(b"rowhouse-testing");
            let password = password.as_password();
            services.sessions.log_in(&ctx, &agent, email.as_str(), password).await
        });
        match outcome.await {
            Ok((_, tokens)) => tokens.access,
            Err(error) => fail(&format!("cannot log in {}: {}", login.email, error.chain())),
        }
    }

    /// Holds an answer against the `OpenAPI` document that the server serves: first against the part for the routes of the
    /// application, since to make the whole takes a debug build longer than most tests.
    ///
    /// # Errors
    /// How they differ.
    pub(super) fn compare(
        &self,
        path: &str,
        compare: impl Fn(&Document) -> Result<(), String>,
    ) -> Result<(), String> {
        let make = |described| move || Document::new((self.0.server.document)(described));
        let [own, all] = &self.0.documents;
        let own = own.get_or_init(make(Described::Own));
        if own.describes(path) && compare(own).is_ok() {
            return Ok(());
        }
        compare(all.get_or_init(make(Described::All)))
    }
}

/// Fails the test.
#[expect(clippy::panic, reason = "what a test needs is missing")]
pub(super) fn fail(why: &str) -> ! {
    panic!("{why}")
}

/// Starts the log if a filter is set: a test shows it where it fails.
#[expect(clippy::disallowed_methods, reason = "the log of a test is no setting of a server")]
fn log() {
    if let Ok(filter) = std::env::var("ROWHOUSE_LOG__FILTER") {
        // A filter that is invalid, or a log that is already set, is no fault of the test.
        let format = crate::telemetry::Format::Text;
        let _ = crate::telemetry::start_on(format, &filter, std::io::stderr);
    }
}
