//! The composition root: builds everything once, in order, and takes it down in the opposite order.
//!
//! [`Backend`] is the house without its front door: database, keys, services. The command line works on
//! one. [`App`] adds the listener; `serve`, every test and every library user start it by the same
//! [`App::build`].

use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use actix_web::{HttpServer, middleware, web};
use secrecy::ExposeSecret;
use tokio::runtime::Handle;
use utoipa::OpenApi;
use utoipa_actix_web::AppExt;

use crate::auth::jwt::{self, Issuer, SigningKey};
use crate::auth::password::{Hasher, Params};
use crate::auth::token::RootToken;
use crate::auth::{CallContext, Principal};
use crate::config::Settings;
use crate::domain::names::Password;
use crate::domain::{Clock, Error};
use crate::http::{self, Site};
use crate::pg::bootstrap::{self, BootstrapError, Posture, RUNTIME_LOGIN};
#[cfg(feature = "embedded-postgres")]
use crate::pg::embedded;
use crate::pg::error::During;
use crate::pg::migrations::{MigrationError, MigrationSet};
use crate::pg::pool::{Database, Endpoint, Isolation, PoolSizes, Rules, Statements, TimeLimits};
use crate::pg::tls::{Connector, TlsError};
use crate::pg::url::{DatabaseUrl, UrlError};
use crate::pg::{Db, signing_keys};
use crate::service::{
    Audit, Fleet, Health, Identity, Lifecycle, Members, Profiles, Provisioning, Registry, Services,
    Sessions, System, Tenants, Tokens,
};
use crate::telemetry::Metrics;

/// The database of an embedded server.
const EMBEDDED_DATABASE: &str = "rowhouse";

/// Connections that an embedded server allows: ours, and some for people with `psql`.
const EMBEDDED_SPARE_CONNECTIONS: usize = 20;

/// Of the connection budget, the part that the main runtime's control pool gets, which provisions.
const PROVISIONING_SHARE: usize = 5;

/// Why the house could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The database URL cannot be used.
    #[error("the database URL cannot be used: {0}")]
    Url(#[from] UrlError),
    /// TLS to the database cannot be set up.
    #[error("TLS to the database cannot be set up: {0}")]
    Tls(#[from] TlsError),
    /// The embedded server did not start.
    #[cfg(feature = "embedded-postgres")]
    #[error(transparent)]
    Embedded(#[from] embedded::EmbeddedError),
    /// There is no embedded database yet, and the command is not one that makes it.
    #[error(
        "there is no database in {} yet: `rowhouse serve` and `rowhouse migrate` make one, --data-dir names \
         another folder, DATABASE_URL a server of your own",
        .data_dir.display()
    )]
    NoData {
        /// Where it was looked for.
        data_dir: PathBuf,
    },
    /// No database was named, and this program was built without an embedded one.
    #[error("no database: set DATABASE_URL, or build with the feature embedded-postgres")]
    NoDatabase,
    /// The database is not fit for use.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// The migrations cannot be used.
    #[error(transparent)]
    Migrations(#[from] MigrationError),
    /// A pool cannot be configured.
    #[error("a connection pool cannot be made: {0}")]
    Pool(String),
    /// The root token is no UUID.
    #[error("ROWHOUSE_ROOT_TOKEN is no UUID")]
    RootToken,
    /// A file of the data dir cannot be read or written.
    #[error("cannot use {}: {source}", .path.display())]
    DataDir {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}: {source}; choose another with --listen or ROWHOUSE_LISTEN")]
    Listen {
        /// Which address.
        addr: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// A step of ours failed.
    #[error("{}", .0.chain())]
    Step(#[from] Error),
}

/// What a backend is opened for, and so what opening it may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Prepares the database, makes the secrets that are missing and sees to the first admin.
    Serve,
    /// Prepares the database.
    Migrate,
    /// Changes nothing, and refuses a database that is not prepared.
    Operate,
}

/// The house without its front door.
pub struct Backend {
    /// The use cases, over the main runtime's pools.
    pub services: Services,
    /// What the bootstrap found.
    pub posture: Posture,
    /// Secrets that were made just now, where they are kept.
    pub first_start: FirstStart,
    clock: Clock,
    database: Database,
    parts: Parts,
    #[cfg(feature = "embedded-postgres")]
    embedded: Option<embedded::Server>,
}

/// What was made at the first start and is to be shown once.
#[derive(Default)]
pub struct FirstStart {
    /// The file with the root token, and the token if it is new.
    pub root_token: Option<(PathBuf, Option<Arc<RootToken>>)>,
    /// The file with the first admin's password, the address, and the password if it is new.
    pub admin: Option<(PathBuf, String, Option<Password>)>,
    /// How to reach the embedded server with `psql`.
    pub psql: Option<String>,
}

/// What the services of each worker are built from.
#[derive(Clone)]
struct Parts {
    hasher: Hasher,
    issuer: Issuer,
    root: Option<Arc<RootToken>>,
    tenant_set: Arc<MigrationSet>,
    public_version: i32,
    refresh_lifetime: time::Duration,
    provisioning: Provisioning,
    grace_period: time::Duration,
}

impl Parts {
    fn services(&self, db: &Db, database: &Database) -> Services {
        Services {
            identity: Identity::new(db.clone(), self.issuer.clone(), self.root.clone()),
            provisioning: self.provisioning.clone(),
            sessions: Sessions::new(
                db.clone(),
                self.hasher.clone(),
                self.issuer.clone(),
                self.refresh_lifetime,
            ),
            tenants: Tenants::new(db.clone()),
            registry: Registry::new(db.clone(), self.provisioning.clone()),
            lifecycle: Lifecycle::new(db.clone(), self.grace_period),
            members: Members::new(db.clone(), self.hasher.clone()),
            tokens: Tokens::new(db.clone()),
            profiles: Profiles::new(db.clone()),
            system: System::new(db.clone(), Profiles::new(db.clone())),
            audit: Audit::new(db.clone()),
            fleet: Fleet::new(db.clone(), Arc::clone(&self.tenant_set)),
            health: Health::new(
                db.clone(),
                database.clone(),
                self.hasher.clone(),
                self.public_version,
            ),
        }
    }
}

/// What tests and library users may replace.
#[derive(Default)]
pub struct Options {
    /// The time; the operating system's by default.
    pub clock: Option<Clock>,
    /// Routes of the application, mounted beside ours on every worker.
    pub routes: Option<Routes>,
}

/// Mounts an application's routes.
pub type Routes = Arc<dyn Fn(&mut web::ServiceConfig) + Send + Sync>;

impl Backend {
    /// Starts or reaches the database, makes it fit for use and builds the services.
    ///
    /// # Errors
    /// What stands in the way, and what to do about it.
    pub async fn open(settings: &Settings, options: &Options) -> Result<Self, BuildError> {
        Self::open_for(Purpose::Serve, settings, options).await
    }

    /// As [`Backend::open`], and changes no more than the purpose needs.
    ///
    /// # Errors
    /// What stands in the way, and what to do about it.
    #[expect(clippy::too_many_lines, reason = "a flat list of steps, best read whole")]
    pub async fn open_for(
        purpose: Purpose,
        settings: &Settings,
        options: &Options,
    ) -> Result<Self, BuildError> {
        let clock = options.clock.clone().unwrap_or_else(Clock::system);
        // Read before anything is started: a bad file must not leave a running server behind.
        let public_set = MigrationSet::public()?;
        let tenant_set = Arc::new(match &settings.tenant_migrations {
            Some(folder) => MigrationSet::load(folder)?,
            None => MigrationSet::tenant()?,
        });
        let mut first_start = FirstStart::default();
        let ground = Ground::find(settings, purpose).await?;
        let mut rules = rules(settings);
        let mut posture = match purpose {
            Purpose::Serve | Purpose::Migrate => {
                bootstrap::prepare(&ground.owner, &ground.runtime, rules.isolation).await?
            }
            Purpose::Operate => {
                bootstrap::inspect(&ground.owner, rules.isolation, &public_set).await?
            }
        };
        if purpose != Purpose::Operate {
            let (runtime, limits) = (&ground.runtime, rules.limits);
            rules.limits_stand = bootstrap::standing_limits(runtime, limits).await?;
        }
        let database = Database::new(ground.owner, ground.runtime, rules);
        let main = PoolSizes {
            control: settings.database.max_connections / PROVISIONING_SHARE,
            runtime: 2,
        };
        let db = database.pools(main).map_err(|error| BuildError::Pool(error.to_string()))?;
        if purpose != Purpose::Operate {
            posture.applied = bootstrap::migrate(&db, &public_set).await?;
            posture.open.extend(bootstrap::self_test(&db).await?);
            for open in &posture.open {
                tracing::warn!("{open}");
            }
        }
        let root = match purpose {
            Purpose::Serve => Some(root_token(settings, &mut first_start)?),
            // The operator holds the database; nobody else is recognised through this backend.
            Purpose::Migrate | Purpose::Operate => None,
        };
        let hasher = hasher(settings)?;
        let issuer = Issuer::new(jwt_settings(settings), signing_keys(&db, &clock).await?)?;
        let version = posture.server_version;
        let provisioning = Provisioning::new(
            Handle::current(),
            db.clone(),
            hasher.clone(),
            Arc::clone(&tenant_set),
            version,
        );
        let parts = Parts {
            hasher,
            issuer,
            root,
            tenant_set,
            public_version: public_set.version(),
            refresh_lifetime: time::Duration::try_from(settings.auth.refresh_lifetime)
                .unwrap_or(time::Duration::WEEK),
            provisioning,
            grace_period: time::Duration::try_from(settings.tenants.grace_period)
                .unwrap_or(time::Duration::WEEK),
        };
        first_start.psql = ground.psql;
        let backend = Self {
            services: parts.services(&db, &database),
            posture,
            first_start,
            clock,
            database,
            parts,
            #[cfg(feature = "embedded-postgres")]
            embedded: ground.server,
        };
        match purpose {
            Purpose::Serve => backend.ensure_admin(settings, ground.embedded).await,
            Purpose::Migrate | Purpose::Operate => Ok(backend),
        }
    }

    /// A context for work that the operator does.
    #[must_use]
    pub fn operator(&self) -> CallContext {
        operator(&self.clock)
    }

    /// Purges deleted tenants when their time has come and seals audit events, for ever. Dropped in the
    /// middle of either it leaves what any process takes up.
    async fn keep_house_for_ever(&self, every: Duration) {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = self.services.lifecycle.purge_due(&self.operator()).await {
                tracing::warn!(error = %error.chain(), "could not look for tenants to purge");
            }
            if let Err(error) = self.services.audit.seal(&self.operator()).await {
                tracing::warn!(error = %error.chain(), "could not seal audit events");
            }
        }
    }

    /// Closes the pools and stops the embedded server, if this process started one.
    pub async fn close(self) {
        self.database.close();
        #[cfg(feature = "embedded-postgres")]
        if let Some(server) = self.embedded
            && let Err(error) = server.stop().await
        {
            tracing::error!(error = %error, "failed to stop the embedded PostgreSQL server");
        }
    }

    /// The admin of the settings; on a fresh embedded database, one of our making.
    async fn ensure_admin(
        mut self,
        settings: &Settings,
        embedded: bool,
    ) -> Result<Self, BuildError> {
        let admin = match &settings.admin {
            Some(admin) => Some((admin.email.clone(), admin.password.clone())),
            // Whoever chose a root token for a database of theirs runs the users as well.
            None if embedded || settings.root_token.is_none() => {
                Some(secrets::admin(&settings.data_dir, &mut self.first_start)?)
            }
            None => None,
        };
        if let Some((email, password)) = admin {
            self.services.sessions.ensure_admin(&self.operator(), &email, &password).await?;
        }
        Ok(self)
    }
}

/// The database that was found or started.
struct Ground {
    owner: Endpoint,
    runtime: Endpoint,
    embedded: bool,
    psql: Option<String>,
    #[cfg(feature = "embedded-postgres")]
    server: Option<embedded::Server>,
}

impl Ground {
    async fn find(settings: &Settings, purpose: Purpose) -> Result<Self, BuildError> {
        match settings.database_url() {
            Some(url) => Self::at(settings, &DatabaseUrl::parse(url)?),
            None => Self::embed(settings, purpose).await,
        }
    }

    /// A database of the operator's.
    fn at(settings: &Settings, owner: &DatabaseUrl) -> Result<Self, BuildError> {
        let runtime = if let Some(url) = &settings.database.runtime_url {
            DatabaseUrl::parse(url.expose_secret())?
        } else {
            let password = owner.config().get_password().map(bootstrap::runtime_password);
            owner.with_login(RUNTIME_LOGIN, password.as_deref())
        };
        Ok(Self {
            owner: endpoint(owner)?,
            runtime: endpoint(&runtime)?,
            embedded: false,
            psql: None,
            #[cfg(feature = "embedded-postgres")]
            server: None,
        })
    }

    /// A database of our own: the one that a running `serve` keeps, or one that we start.
    ///
    /// `serve` always starts its own. A server that it borrowed would stop with the command that it
    /// belongs to, and after a kill the old one may still be on its way out.
    #[cfg(feature = "embedded-postgres")]
    async fn embed(settings: &Settings, purpose: Purpose) -> Result<Self, BuildError> {
        let max_connections = settings.database.max_connections + EMBEDDED_SPARE_CONNECTIONS;
        let embedded_settings = embedded::Settings {
            data_dir: settings.data_dir.clone(),
            bin_dir: settings.database.bin_dir.clone(),
            durability: embedded::Durability::Full,
            listen_tcp: None,
            max_connections: u16::try_from(max_connections).unwrap_or(u16::MAX),
        };
        if purpose == Purpose::Operate && !embedded::has_cluster(&settings.data_dir) {
            return Err(BuildError::NoData { data_dir: settings.data_dir.clone() });
        }
        let (config, server) = match purpose {
            Purpose::Serve => {
                let server = embedded::Server::start(&embedded_settings).await?;
                (server.connect_config(EMBEDDED_DATABASE), Some(server))
            }
            Purpose::Migrate | Purpose::Operate => {
                embedded::reach_or_start(&embedded_settings, EMBEDDED_DATABASE).await?
            }
        };
        let plain = Connector::new(
            DatabaseUrl::parse("postgres://localhost/x?sslmode=disable&user=x")?.ssl(),
        )?;
        let mut runtime = config.clone();
        runtime.user(RUNTIME_LOGIN);
        Ok(Self {
            owner: Endpoint { config, tls: plain.make_tls() },
            runtime: Endpoint { config: runtime, tls: plain.make_tls() },
            embedded: true,
            psql: server.as_ref().map(|server| server.psql_line(EMBEDDED_DATABASE)),
            server,
        })
    }

    #[cfg(not(feature = "embedded-postgres"))]
    async fn embed(_: &Settings, _: Purpose) -> Result<Self, BuildError> {
        Err(BuildError::NoDatabase)
    }
}

fn endpoint(url: &DatabaseUrl) -> Result<Endpoint, BuildError> {
    let tls = Connector::new(url.ssl())?.make_tls();
    Ok(Endpoint { config: url.config().clone(), tls })
}

fn rules(settings: &Settings) -> Rules {
    let database = &settings.database;
    Rules {
        isolation: if database.isolation_by_role { Isolation::Role } else { Isolation::SearchPath },
        statements: if database.cached_statements {
            Statements::Cached
        } else {
            Statements::Unnamed
        },
        limits: TimeLimits {
            connect: database.connect_timeout,
            statement: database.statement_timeout,
            lock: database.lock_timeout,
            idle_in_transaction: database.idle_in_transaction_timeout,
        },
        limits_stand: false, // until the bootstrap has looked
    }
}

fn hasher(settings: &Settings) -> Result<Hasher, BuildError> {
    let params = Params {
        memory_kib: settings.auth.hash_memory_kib,
        iterations: settings.auth.hash_iterations,
        ..Params::default()
    };
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    Ok(Hasher::new(params, cores, settings.auth.hash_queue)?)
}

fn jwt_settings(settings: &Settings) -> jwt::Settings {
    let defaults = jwt::Settings::new(&settings.auth.issuer, &settings.auth.audience);
    jwt::Settings { access_lifetime: settings.auth.access_lifetime, ..defaults }
}

/// The keys that sign access tokens; the first process on a database makes the first one.
async fn signing_keys(db: &Db, clock: &Clock) -> Result<Vec<SigningKey>, BuildError> {
    let tx = db.public().await.during("read signing keys")?;
    signing_keys::lock(&tx).await?;
    let mut stored = signing_keys::list(&tx).await?;
    if stored.is_empty() {
        let key = SigningKey::generate()?.to_stored();
        let key = signing_keys::StoredKey {
            kid: key.kid,
            private_key: key.private.expose_secret().to_vec(),
        };
        signing_keys::insert(&tx, &key, clock.now()).await?;
        stored.push(key);
    }
    tx.commit().await.during("write signing key")?;
    Ok(stored
        .iter()
        .map(|key| SigningKey::from_stored(&key.kid, &key.private_key))
        .collect::<Result<_, _>>()?)
}

/// The root token of the settings, or the one in the data dir, or on an embedded database a fresh one.
fn root_token(
    settings: &Settings,
    first_start: &mut FirstStart,
) -> Result<Arc<RootToken>, BuildError> {
    match &settings.root_token {
        Some(token) => {
            let token =
                RootToken::parse(token.expose_secret()).map_err(|_rule| BuildError::RootToken)?;
            Ok(Arc::new(token))
        }
        None => secrets::root_token(&settings.data_dir, first_start),
    }
}

/// Secrets that we make once and keep in the data dir, readable by nobody else.
mod secrets {
    use std::io::{ErrorKind, Write as _};

    use super::{Arc, BuildError, FirstStart, Path, PathBuf, RootToken};
    use crate::auth::token::{Kind, OpaqueToken};
    use crate::domain::names::{Email, Password};

    /// The address of the admin that is made for a fresh embedded database.
    const ADMIN_EMAIL: &str = "admin@rowhouse.localhost";

    pub(super) fn root_token(
        data_dir: &Path,
        first_start: &mut FirstStart,
    ) -> Result<Arc<RootToken>, BuildError> {
        let path = data_dir.join("root-token");
        let (text, is_new) = read_or_make(&path, || RootToken::generate().expose().to_owned())?;
        let token = Arc::new(RootToken::parse(&text).map_err(|_rule| BuildError::DataDir {
            path: path.clone(),
            source: std::io::Error::new(
                ErrorKind::InvalidData,
                "it holds no UUID; remove it and a new one is made",
            ),
        })?);
        first_start.root_token = Some((path, is_new.then(|| Arc::clone(&token))));
        Ok(token)
    }

    pub(super) fn admin(
        data_dir: &Path,
        first_start: &mut FirstStart,
    ) -> Result<(Email, Password), BuildError> {
        let path = data_dir.join("admin-password");
        let make = || {
            OpaqueToken::generate(Kind::Api)
                .expose()
                .trim_start_matches(Kind::Api.prefix())
                .to_owned()
        };
        let (text, is_new) = read_or_make(&path, make)?;
        let password = Password::parse(&text).map_err(|rule| BuildError::DataDir {
            path: path.clone(),
            source: std::io::Error::new(
                ErrorKind::InvalidData,
                format!("it holds no password ({})", rule.code()),
            ),
        })?;
        let new = is_new.then(|| password.clone());
        first_start.admin = Some((path, ADMIN_EMAIL.to_owned(), new));
        Ok((Email::stored(ADMIN_EMAIL.to_owned()), password))
    }

    /// The first line of the file; made, with nobody else allowed to read it, where there is none.
    fn read_or_make(
        path: &PathBuf,
        make: impl FnOnce() -> String,
    ) -> Result<(String, bool), BuildError> {
        let failed = |source| BuildError::DataDir { path: path.clone(), source };
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        match std::fs::read_to_string(path) {
            Ok(text) if !text.trim().is_empty() => return Ok((text.trim().to_owned(), false)),
            Ok(_) => std::fs::remove_file(path).map_err(failed)?,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let text = make();
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path).map_err(failed)?;
        writeln!(file, "{text}").map_err(failed)?;
        file.sync_all().map_err(failed)?;
        Ok((text, true))
    }
}

/// The `OpenAPI` document of all routes, in JSON; for those who may not import `http`.
///
/// # Errors
/// None that we know of: the document holds nothing that JSON cannot.
pub fn openapi_document() -> serde_json::Result<String> {
    http::openapi().to_pretty_json()
}

/// A server that listens.
pub struct App {
    addr: SocketAddr,
    backend: Backend,
    server: actix_web::dev::Server,
    erase_interval: Duration,
    purge_interval: Duration,
}

impl App {
    /// Opens the backend and binds the listener. Requests are served from
    /// [`run_until_stopped`](App::run_until_stopped) on.
    ///
    /// # Errors
    /// What stands in the way, and what to do about it.
    pub async fn build(settings: Settings, options: Options) -> Result<Self, BuildError> {
        let cannot_listen = |source| BuildError::Listen { addr: settings.listen, source };
        // Bound first, so that a taken port is told before a database is started.
        let listener = TcpListener::bind(settings.listen).map_err(cannot_listen)?;
        let addr = listener.local_addr().map_err(cannot_listen)?;
        let backend = Backend::open(&settings, &options).await?;
        let server = listen(&settings, &backend, options, listener).map_err(cannot_listen)?;
        let (erase_interval, purge_interval) =
            (settings.erase_interval, settings.tenants.purge_interval);
        Ok(Self { addr, backend, server, erase_interval, purge_interval })
    }

    /// The address that it listens on.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The house behind the listener.
    #[must_use]
    pub const fn backend(&self) -> &Backend {
        &self.backend
    }

    /// Serves until `stop` is done, then lets running requests finish, closes the pools and stops the
    /// embedded server.
    ///
    /// # Errors
    /// Where the listener breaks.
    pub async fn run_until_stopped(self, stop: impl Future<Output = ()>) -> std::io::Result<()> {
        let eraser = tokio::spawn(erase_expired(
            self.backend.services.profiles.clone(),
            self.backend.clock.clone(),
            self.erase_interval,
        ));
        let handle = self.server.handle();
        let mut server = std::pin::pin!(self.server);
        let outcome = tokio::select! {
            outcome = &mut server => outcome,
            () = self.backend.keep_house_for_ever(self.purge_interval) => Ok(()),
            () = stop => {
                // The server must go on being polled while it stops.
                let (outcome, ()) = tokio::join!(server, handle.stop(true));
                outcome
            }
        };
        eraser.abort();
        self.backend.close().await;
        outcome
    }
}

/// Erases what has run out, again and again. What has run out is not served before that either.
async fn erase_expired(profiles: Profiles, clock: Clock, interval: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        match profiles.erase_expired(&operator(&clock)).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "erased profiles that have run out"),
            Err(error) => {
                tracing::warn!(error = %error.chain(), "failed to erase what has run out");
            }
        }
    }
}

/// A context for work that nobody asked for.
fn operator(clock: &Clock) -> CallContext {
    CallContext {
        principal: Principal::Operator,
        request_id: uuid::Uuid::now_v7().to_string(),
        now: clock.now(),
    }
}

fn listen(
    settings: &Settings,
    backend: &Backend,
    options: Options,
    listener: TcpListener,
) -> std::io::Result<actix_web::dev::Server> {
    let metrics = Arc::new(Metrics::default());
    #[expect(
        clippy::cast_precision_loss,
        reason = "seconds since 1970 fit an f64 for the next million years"
    )]
    metrics.set_started_at(backend.clock.now().unix_timestamp() as f64);
    let http_settings = Arc::new(http::Settings {
        max_body_bytes: settings.http.max_body_bytes,
        request_timeout: settings.http.request_timeout,
        cookie_secure: settings.auth.cookie_secure,
        base_domain: settings.base_domain.clone(),
        default_owner: settings.default_owner.clone(),
    });
    let workers = settings.http.workers;
    let sizes = worker_pools(settings.database.max_connections, workers);
    let (database, parts, clock) =
        (backend.database.clone(), backend.parts.clone(), backend.clock.clone());
    let document = web::Data::new(http::openapi());
    let routes = web::Data::new(http::Routes::of(&document));
    let server = HttpServer::new(move || {
        let db = database
            .pools(sizes)
            .expect("the main runtime's pools were made from the same settings");
        let site = Site {
            services: parts.services(&db, &database),
            metrics: Arc::clone(&metrics),
            clock: clock.clone(),
            settings: Arc::clone(&http_settings),
        };
        let (app, _) = actix_web::App::new()
            .into_utoipa_app()
            .openapi(http::ApiDoc::openapi())
            .configure(http::mount)
            .split_for_parts();
        let app = app
            .app_data(web::Data::new(site))
            .app_data(document.clone())
            .app_data(routes.clone())
            .app_data(web::PayloadConfig::new(http_settings.max_body_bytes))
            .default_service(web::to(http::fallback))
            .wrap(middleware::from_fn(http::middleware::guard))
            .wrap(middleware::from_fn(http::middleware::observe))
            .wrap(middleware::Compress::default());
        match &options.routes {
            Some(routes) => app.configure(|config| routes(config)),
            None => app,
        }
    });
    let server = server
        .workers(workers)
        .shutdown_timeout(whole_seconds(settings.http.shutdown_timeout))
        .disable_signals()
        .listen(listener)?;
    Ok(server.run())
}

/// What each worker's pools may open, so that all pools together stay within the budget.
fn worker_pools(budget: usize, workers: usize) -> PoolSizes {
    let each = budget.saturating_sub(budget / PROVISIONING_SHARE + 2) / workers.max(1);
    // Recognising the caller takes one short query on a control connection, the rest of a request is on
    // the tenant's side.
    PoolSizes { control: (each / 3).max(1), runtime: (each - each / 3).max(2) }
}

fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs().max(1)
}
