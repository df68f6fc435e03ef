//! Fixtures: each test starts its own server on its own database.
//!
//! [`TestApp::spawn`] uses the same `App::build` as production. Dropping it also drops its database and
//! the roles of its tenants.

pub mod bunker;
pub mod callers;
pub mod control;
pub mod dedicated;
pub mod documented;
pub mod engine;
pub mod gzip;
pub mod invited;
pub mod log;
pub mod markdown;
pub mod migration_lock;
pub mod own_cluster;
pub mod pooler;
pub mod postgres;
pub mod program;
#[path = "../../support/proxy.rs"]
#[expect(dead_code, reason = "each test binary uses a part of it")]
pub mod proxy;
pub mod recording;
pub mod scoped;
pub mod snapshot;
pub mod tokens;
pub mod wire;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use rowhouse::app::{App, Options, Routes};
use rowhouse::auth::{CallContext, Principal};
use rowhouse::config::Settings;
use rowhouse::domain::names::{Email, PersonName, Slug, TenantId, TenantName, TokenId};
use rowhouse::domain::{Clock, NewPassword, Password, Permission};
use rowhouse::service::Services;
use rowhouse::service::provisioning::{Admin, NewAdmin, ProvisionTenant};
use rowhouse::service::tokens::NewToken;
use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

pub use bunker::{Bunker, BunkerTenant};
pub use callers::{Answer, Caller};
pub use engine::TestEngine;
pub use migration_lock::MigrationLock;
pub use postgres::TestDatabase;
pub use program::{Completed, Program};
pub use snapshot::{Snapshot, StrayRoles};

/// The password of every user that a test creates.
pub const PASSWORD: &str = "SecurePass123!";

/// The secret key of every server that a test starts on a cloned database.
pub const SECRET_KEY: &str = "the secret key of all tests, which is not one";

/// Returns the command that sets up a tenant with its own admin.
pub fn provision_command(slug: &str) -> ProvisionTenant {
    let admin = NewAdmin {
        email: Email::parse(&format!("admin@{slug}.example.com")).expect("an address"),
        password: NewPassword::parse(PASSWORD).expect("a password"),
        first_name: PersonName::parse("Ada").expect("a name"),
        last_name: PersonName::parse("Admin").expect("a name"),
    };
    let name = TenantName::parse(slug).expect("a name");
    let slug = Slug::parse(slug).expect("a slug");
    ProvisionTenant::new(name, slug, Admin::NewOrExisting(admin))
}

/// A clock that a test can advance, and that can be stopped otherwise.
#[derive(Clone, Default)]
pub struct TestClock {
    offset: Arc<AtomicI64>,
    stopped_at: Option<OffsetDateTime>,
}

impl TestClock {
    /// Advances the clock.
    pub fn advance(&self, by: time::Duration) {
        self.offset.fetch_add(by.whole_seconds(), Ordering::SeqCst);
    }

    /// Returns the time as the server sees it.
    pub fn now(&self) -> OffsetDateTime {
        self.clock().now()
    }

    fn clock(&self) -> Clock {
        let offset = Arc::clone(&self.offset);
        let system = Clock::system();
        let stopped_at = self.stopped_at;
        Clock::from_fn(move || -> OffsetDateTime {
            let now = stopped_at.unwrap_or_else(|| system.now());
            now + time::Duration::seconds(offset.load(Ordering::SeqCst))
        })
    }
}

/// A running server.
pub struct TestApp {
    pub address: String,
    pub clock: TestClock,
    pub root_token: String,
    pub database: TestDatabase,
    /// The services, to be called without HTTP.
    pub services: Services,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    task: Option<tokio::task::JoinHandle<()>>,
}

/// A tenant that a test created.
#[derive(Debug, Clone)]
pub struct TestTenant {
    pub id: Uuid,
    pub slug: String,
    pub admin_email: String,
}

impl TestTenant {
    /// Returns the name of its schema, which is also its role's.
    pub fn schema(&self) -> String {
        format!("tenant_{}", self.id.simple())
    }
}

/// The settings and fixtures in which a test's server differs from the usual one.
#[derive(Default)]
pub struct TestAppBuilder {
    values: Vec<(&'static str, String)>,
    options: Options,
    database: Option<TestDatabase>,
    clock: TestClock,
    later_control_plane: Option<PathBuf>,
}

impl TestAppBuilder {
    /// Starts a server of a later version, which has the migrations in this folder as well.
    pub fn with_later_control_plane(mut self, folder: impl Into<PathBuf>) -> Self {
        self.later_control_plane = Some(folder.into());
        self
    }

    /// Stops the clock: time passes only when the test advances it, however slow the machine is.
    pub fn with_stopped_clock(mut self) -> Self {
        self.clock.stopped_at = Some(Clock::system().now());
        self
    }

    /// Shares the clock of another server.
    pub fn with_clock(mut self, clock: &TestClock) -> Self {
        self.clock = clock.clone();
        self
    }

    /// Overrides a setting.
    pub fn with(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.values.push((key, value.into()));
        self
    }

    /// Mounts routes of the application.
    pub fn with_routes(mut self, routes: Routes) -> Self {
        self.options.add_routes(routes);
        self
    }

    /// Serves an application.
    pub fn with_application(mut self, application: &rowhouse::Application) -> Self {
        self.options = application.options();
        self
    }

    /// Starts on an existing database, as after a restart.
    pub fn on(mut self, database: TestDatabase) -> Self {
        self.database = Some(database);
        self
    }

    pub async fn spawn(self) -> TestApp {
        let database = match self.database {
            Some(database) => database,
            None => TestDatabase::create().await,
        };
        let clock = self.clock;
        let root_token = Uuid::new_v4().to_string();
        let mut values = settings_for(&database.url());
        values.push(("root_token", root_token.clone()));
        values.extend(self.values);
        let settings = Settings::from_values(&values).expect("the settings of a test are good");
        let options = Options {
            clock: Some(clock.clock()),
            later_control_plane: self.later_control_plane,
            ..self.options
        };
        let app = App::build(settings, options).await.expect("the server of a test starts");
        let address = format!("http://{}", app.addr());
        let services = app.backend().services.clone();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            app.run_until_stopped(async {
                let _ = stopped.await;
            })
            .await
            .expect("the server of a test stops without an error");
        });
        let (stop, task) = (Some(stop), Some(task));
        TestApp { address, clock, root_token, database, services, stop, task }
    }
}

/// Returns the settings of a server under test: a free port, few connections, a cheap hash and no limits.
/// A test that is about a limit sets it.
pub fn settings_for(database_url: &str) -> Vec<(&'static str, String)> {
    // Not in the working folder of the tests.
    let archives = std::env::temp_dir().join("rowhouse-archives");
    let mut settings = [
        ("listen", "127.0.0.1:0"),
        ("database.url", through_pooler(database_url).as_str()),
        // Given, so that the server does not create one and store it in the working folder of the tests.
        ("root_token", "0c1f6b1e-7a53-4d1c-9d53-1f0b6d0f7a11"),
        // Given too: databases are cloned, with signing keys that are encrypted with it.
        ("secret_key", SECRET_KEY),
        ("archives.store", archives.to_str().expect("a path of the tests is text")),
        ("database.max_connections", "10"),
        ("http.workers", "1"),
        ("http.shutdown_timeout", "2s"),
        // No vacancies are built and no interrupted migration is resumed in the background; the tests
        // that are about either set an interval or a number.
        ("tenants.vacancies", "0"),
        ("fleet.take_up_interval", "0"),
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
    .to_vec();
    settings.extend(TestEngine::of_run().settings());
    settings
}

/// Returns the URL by which the server under test reaches a database: through the pooler that `TEST_POOLER`
/// names by host and port, if it does; for Citus, through a proxy that checks what is sent. The queries of a test itself
/// always go to PostgreSQL directly. The pooler is that of the run's server: another server, or a proxy of a test, is
/// reached directly.
pub fn through_pooler(database_url: &str) -> String {
    let Some(pooler) = pooler() else {
        return match TestEngine::of_run() {
            TestEngine::Postgres => database_url.to_owned(),
            TestEngine::ForcedCitus | TestEngine::Citus => recording::of_run(database_url).url,
        };
    };
    let (before, after) = database_url.split_once('@').expect("the URL of a test has a user");
    let (host, database) = after.split_once('/').expect("the URL of a test has a database");
    #[expect(clippy::disallowed_methods, reason = "a setting of the test suite")]
    let of_run = std::env::var("TEST_DATABASE_URL").unwrap_or_default();
    if !of_run.contains(&format!("@{host}/")) {
        return database_url.to_owned();
    }
    format!("{before}@{pooler}/{database}")
}

/// Whether a pooler in transaction mode stands before the server under test.
pub fn is_behind_a_pooler() -> bool {
    pooler().is_some()
}

fn pooler() -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "a setting of the test suite")]
    std::env::var("TEST_POOLER").ok()
}

impl TestApp {
    /// Starts a server with the usual settings.
    pub async fn spawn() -> Self {
        Self::builder().spawn().await
    }

    pub fn builder() -> TestAppBuilder {
        TestAppBuilder::default()
    }

    /// Stops the server and keeps its database.
    pub async fn stop(mut self) -> TestDatabase {
        self.shut_down().await;
        self.database.clone()
    }

    async fn shut_down(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(task) = self.task.take() {
            task.await.expect("the server of a test stops without a panic");
        }
    }

    /// Creates a caller without a credential.
    pub fn anonymous(&self) -> Caller {
        Caller::new(&self.address, None)
    }

    /// Creates a caller with the root token.
    pub fn root(&self) -> Caller {
        self.bearer(&self.root_token)
    }

    /// Creates a caller with this bearer token.
    pub fn bearer(&self, token: &str) -> Caller {
        Caller::new(&self.address, Some(token))
    }

    /// Creates a caller with this API key.
    pub fn keyed(&self, key: &str) -> Caller {
        Caller::keyed(&self.address, key)
    }

    /// Returns a valid body of a set-up.
    pub fn setup_body(slug: &str) -> serde_json::Value {
        json!({
            "name": format!("Tenant {slug}"),
            "slug": slug,
            "adminEmail": format!("admin@{slug}.example.com"),
            "adminPassword": PASSWORD,
            "adminFirstName": "Ada",
            "adminLastName": "Admin",
        })
    }

    /// Sets up a tenant with the root token.
    pub async fn set_up(&self, slug: &str) -> TestTenant {
        let answer = self.root().post("/api/tenant/setup", &Self::setup_body(slug)).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let id = answer.body["id"]
            .as_str()
            .expect("the answer has an id")
            .parse()
            .expect("the id is a UUID");
        TestTenant { id, slug: slug.to_owned(), admin_email: format!("admin@{slug}.example.com") }
    }

    /// Logs in a user with [`PASSWORD`].
    pub async fn log_in(&self, email: &str) -> Caller {
        let body = json!({ "identifier": email, "password": PASSWORD });
        let answer = self.anonymous().post("/api/auth/login", &body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        self.bearer(answer.body["accessToken"].as_str().expect("the answer has a token"))
    }

    /// Returns a call context of the operator.
    pub fn operator(&self) -> CallContext {
        let request_id = Uuid::new_v4().to_string();
        CallContext {
            principal: Principal::Operator,
            request_id,
            client: None,
            now: self.clock.now(),
        }
    }

    /// Creates a user whose password is [`PASSWORD`].
    pub async fn add_user(&self, email: &str, platform_role: Option<&str>) -> Uuid {
        let hasher = rowhouse::auth::password::Hasher::new(
            rowhouse::auth::password::Params::weakest_for_tests(),
            1,
            1,
        );
        let password = Password::parse(PASSWORD).expect("the password of tests is good");
        let hash = hasher.expect("the weakest parameters are accepted").hash(&password).await;
        let id = Uuid::new_v4();
        let sql = "INSERT INTO users (id, email, first_name, last_name, password_hash, platform_role, created_at, updated_at)
                   VALUES ($1, $2, 'Una', 'User', $3, $4, now(), now())";
        let hash = hash.expect("a password can be hashed");
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
            [&id, &email, &hash.as_str(), &platform_role];
        self.sql().await.execute(sql, &params).await.expect("a user can be written");
        id
    }

    /// Creates an API token as the operator.
    pub async fn add_token(
        &self,
        permissions: &[Permission],
        tenant: Option<Uuid>,
        lifetime: Option<time::Duration>,
    ) -> (TokenId, Caller) {
        let command = NewToken {
            name: "a test's".to_owned(),
            permissions: permissions.to_vec(),
            expires_at: lifetime.map(|lifetime| self.clock.now() + lifetime),
            tenant: tenant.map(TenantId::new),
        };
        let made = self.services.tokens.create(&self.operator(), command).await;
        let (token, secret) = made.expect("the operator may create a token");
        (token.id, self.bearer(secret.expose()))
    }

    /// Opens a connection as the owner, to check what the answers do not show.
    pub async fn sql(&self) -> tokio_postgres::Client {
        self.database.connect().await
    }

    /// Opens a connection as the server's superuser, for what an owner may not do.
    pub async fn superuser_sql(&self) -> tokio_postgres::Client {
        self.database.connect_as_superuser().await
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        // No test waits for its server to stop; dropping the database ends its connections.
        drop(self.stop.take());
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}
