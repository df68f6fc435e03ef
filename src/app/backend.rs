//! Everything but the listener: database, keys, services. The commands of the command line use one, and [`App`]
//! adds a listener to one.
//!
//! [`App`]: super::App

use std::num::NonZeroUsize;
use std::sync::Arc;

use tokio::runtime::Handle;

use super::context::{Context, States};
use super::database::{FoundDatabase, Origin};
use super::parts::Parts;
use super::secrets::{self, FirstStart};
use super::{BuildError, Options, Purpose, pool_sizes, settings};
use crate::auth::CallContext;
use crate::auth::jwt::Issuer;
use crate::config::{CachedStatements, Settings};
use crate::domain::{Clock, Error};
#[cfg(feature = "embedded-postgres")]
use crate::embedded;
use crate::migrations::MigrationSet;
use crate::pg::bootstrap::{self, Posture};
use crate::pg::clock::DatabaseClock;
use crate::pg::connect::login;
use crate::pg::connect::tls::TlsFiles;
use crate::pg::control::{capacity, migration_sets};
use crate::pg::db::Database;
use crate::pg::error::During;
use crate::pg::rules::engine::Engine;
use crate::pg::rules::{Rules, Statements};
use crate::pg::schema::shared;
use crate::pg::{Db, PublicTx};
use crate::service::doctor::{
    Budget, Doctor, ExpectedDrift, connection_shortage, most_connections,
};
use crate::service::examinations::Examiner;
use crate::service::fleet::{Engine as FleetEngine, Limits};
use crate::service::health::Serving;
use crate::service::lint;
use crate::service::overview::Process;
use crate::service::refusals::Counters;
use crate::service::sealing::Sealing;
use crate::service::signing_keys::UnlockError;
use crate::service::stored_archives::Keeper;
use crate::service::tenants::Grants;
use crate::service::{Archives, Damage, Provisioning, Services, SigningKeys, Vacancies};
use crate::store::Store;

/// Everything but the listener: database, keys, services.
pub struct Backend {
    /// The use cases, on the main runtime's pools.
    pub services: Services,
    /// What the bootstrap found.
    pub posture: Posture,
    /// The secrets that this start created, and where they are stored.
    pub first_start: FirstStart,
    pub(super) clock: Clock,
    /// The clock of the database, to be read again; none if the options replace it.
    pub(super) database_clock: Option<DatabaseClock>,
    pub(super) database: Database,
    pub(super) parts: Parts,
    /// The settings of the application.
    pub(super) states: Arc<States>,
    pub(super) tls: Vec<TlsFiles>,
    #[cfg(feature = "embedded-postgres")]
    embedded: Option<embedded::ServerHandle>,
}

impl Backend {
    /// Starts or connects to the database, prepares it and builds the services.
    ///
    /// # Errors
    /// [`BuildError`], which names the cause and the remedy.
    pub async fn open(settings: &Settings, options: &Options) -> Result<Self, BuildError> {
        Self::open_for(Purpose::Serve, settings, options).await
    }

    /// As [`Backend::open`], but changes only what the purpose needs.
    ///
    /// # Errors
    /// [`BuildError`], which names the cause and the remedy.
    pub async fn open_for(
        purpose: Purpose,
        settings: &Settings,
        options: &Options,
    ) -> Result<Self, BuildError> {
        // Read before anything is started: an invalid file must not leave a running server behind.
        options.check()?;
        let (states, grants) = options.read(settings)?;
        let shared_set = options.public_migrations.as_ref().map(MigrationSet::shared);
        let shared_set = shared_set.transpose()?;
        let public_set = MigrationSet::public_with(options.later_control_plane.as_deref())?;
        let tenant_set = Arc::new(match &settings.tenant_migrations {
            Some(folder) => MigrationSet::load(folder)?,
            None => match &options.tenant_migrations {
                Some(own) => MigrationSet::of_application(own)?,
                None => MigrationSet::tenant()?,
            },
        });
        let folder = settings.tenant_migrations.as_deref();
        // Other commands must work beside a set that is refused; those that make a schema refuse it themselves.
        if purpose != Purpose::Operate {
            lint::require_isolated(&tenant_set, folder, options.tenant_migrations.as_ref())?;
        }
        let own = options.tenant_migrations.as_ref().filter(|_| folder.is_none());
        let expected = match own.and_then(|own| own.text(crate::service::doctor::ALLOW_FILE)) {
            Some(text) => ExpectedDrift::parse(text),
            None => ExpectedDrift::load(folder).map_err(BuildError::ExpectedDrift)?,
        };
        let expected = Arc::new(expected);
        #[cfg_attr(
            not(feature = "embedded-postgres"),
            expect(unused_mut, reason = "there is no server to take out")
        )]
        let mut found = FoundDatabase::find(settings, purpose).await?;
        #[cfg(feature = "embedded-postgres")]
        let server = found.server.take();
        // On the heap: it holds every part while it waits, and each caller would hold it on its stack.
        let sets =
            Sets { public: &public_set, shared: shared_set, tenant: tenant_set, expected, grants };
        let built = Self::build_on(found, purpose, settings, options, sets);
        let built = Box::pin(built).await;
        #[cfg(feature = "embedded-postgres")]
        let built = match built {
            Ok(backend) => Ok(Self { embedded: server, ..backend }),
            // Another process may use the server by now; `stop` leaves it then.
            Err(error) => {
                stop(server).await;
                Err(error)
            }
        };
        built.map(|backend| Self { states: Arc::new(states), ..backend })
    }

    #[expect(clippy::too_many_lines, reason = "a flat list of steps, best read whole")]
    async fn build_on(
        found: FoundDatabase,
        purpose: Purpose,
        settings: &Settings,
        options: &Options,
        sets: Sets<'_>,
    ) -> Result<Self, BuildError> {
        let Sets {
            public: public_set,
            shared,
            tenant: tenant_set,
            expected: expected_drift,
            grants,
        } = sets;
        let FoundDatabase { mut owner, mut runtime, origin, psql, tls, .. } = found;
        if purpose == Purpose::Serve && origin == Origin::Url {
            bootstrap::wait_until_up(&mut owner, &mut runtime, settings.database.wait).await;
        }
        let mut first_start = FirstStart::default();
        let mut rules = settings::rules(settings);
        let wanted = settings::wanted(settings);
        let mut posture = match purpose {
            Purpose::Serve | Purpose::Migrate => {
                bootstrap::prepare(&mut owner, &mut runtime, wanted).await?
            }
            Purpose::Operate => bootstrap::inspect(&mut owner, wanted, public_set).await?,
        };
        (rules.engine, rules.isolation) = (posture.engine, posture.isolation);
        log_engine(purpose, &posture);
        if rules.engine.has_nodes() && purpose != Purpose::Operate {
            let folder = settings.tenant_migrations.as_deref();
            lint::require_distributable(&tenant_set, folder, options.tenant_migrations.as_ref())?;
        }
        rules.open = match purpose {
            Purpose::Serve => {
                posture.require_accepted(&rules.accepted)?;
                posture.open()
            }
            Purpose::Migrate => posture.open(),
            // What is open was not read: what is accepted may be open.
            Purpose::Operate => rules.accepted.clone(),
        };
        // If it is unknown whether a pooler is in between, unnamed statements work in both cases, and so does a query that
        // is not cancelled.
        rules.direct = login::direct(&mut owner, &mut runtime).await;
        rules.limits.client_check = login::client_check(&mut owner, rules.direct).await;
        let is_direct = rules.direct.owner;
        if purpose != Purpose::Operate {
            // A pooler may use a session that is older than the limits of the login.
            if rules.direct.runtime {
                let limits = rules.limits;
                rules.login_has_limits =
                    bootstrap::ensure_login_limits(&mut runtime, limits).await?;
            }
            if is_direct && settings.database.statements == CachedStatements::Auto {
                rules.control_statements = Statements::Cached;
            }
        }
        let (owner, runtime) = (owner.into_endpoint(), runtime.into_endpoint());
        let database = Database::with_sharing(owner, runtime, rules, settings::sharing(settings));
        let main = pool_sizes::main_for(purpose, settings.database.max_connections);
        let db = database.pools(main).map_err(|error| BuildError::Pool(error.to_string()))?;
        let (clock, database_clock) = if let Some(clock) = &options.clock {
            (clock.clone(), None)
        } else {
            let read = DatabaseClock::read(&db).await.during("read the clock of the database")?;
            (read.clock(), Some(read))
        };
        #[cfg(feature = "testing")]
        let clock = crate::http::moved_time::movable(clock);
        if purpose != Purpose::Operate {
            posture.applied = bootstrap::migrate(&db, public_set).await?;
            if let Some(set) = &shared {
                let version = posture.server_version;
                let applied = shared::prepare(&db, set, version, clock.now()).await;
                posture.applied.extend(applied.map_err(BuildError::Shared)?);
            }
            posture.warnings.extend(bootstrap::self_test(&db).await?);
            posture.warnings.extend(bootstrap::half_restored(&db).await?);
            for sentence in posture.sentences() {
                tracing::warn!("{sentence}");
            }
            let tx = db.public().await.during("record the tenant migrations")?;
            let (set, now) = (&tenant_set, clock.now());
            migration_sets::record(&tx, set.fingerprint(), &set.history(), now).await?;
            // Behind a pooler its limits count, which the server does not know.
            if purpose == Purpose::Serve && is_direct {
                warn_of_too_many_connections(&tx, &database, settings.database.max_connections)
                    .await?;
            }
            tx.commit().await.during("record the tenant migrations")?;
        }
        let root = match purpose {
            Purpose::Serve => Some(secrets::root_tokens(settings, &mut first_start)?),
            // The operator, who has the database, is the only caller of this backend.
            Purpose::Migrate | Purpose::Operate => None,
        };
        let hasher = settings::hasher(settings)?;
        let signing_keys =
            Box::pin(open_signing_keys(purpose, settings, &db, &clock, &mut first_start)).await?;
        let version = posture.server_version;
        let wanted = settings.tenants.vacancies;
        let vacancies = Vacancies::new(db.clone(), Arc::clone(&tenant_set), version, wanted);
        let lifetimes = settings::lifetimes(settings);
        let slugs = settings::slug_rules(settings);
        let provisioning = Provisioning::new(
            Handle::current(),
            db.clone(),
            hasher.clone(),
            Arc::clone(&tenant_set),
            version,
            vacancies.clone(),
            lifetimes,
            slugs.clone(),
            options.hooks.clone(),
        );
        let fleet = FleetEngine::new(
            Handle::current(),
            db.clone(),
            database.clone(),
            Arc::clone(&tenant_set),
            vacancies.new_tenants().clone(),
            clock.clone(),
            Limits {
                workers: settings.fleet.workers,
                max_workers: pool_sizes::fleet_workers(purpose, main),
                lease: settings.fleet.lease,
                allow_recovery: purpose == Purpose::Serve,
            },
            gethostname::gethostname().to_string_lossy().into_owned(),
        );
        let host = gethostname::gethostname().to_string_lossy().into_owned();
        let budget = Budget {
            connections: settings.database.max_connections,
            setups_at_once: main.control,
            tenants_per_connection: settings.database.tenants_per_connection.map(NonZeroUsize::get),
        };
        let doctor = Doctor::new(db.clone(), Arc::clone(&tenant_set), version, budget)
            .expecting(expected_drift);
        let archives = Archives::new(
            db.clone(),
            Arc::clone(&tenant_set),
            version,
            signing_keys.clone(),
            slugs.clone(),
            vacancies.clone(),
        )
        .at_level(settings.archives.level)
        .keeping(
            time::Duration::try_from(settings.tenants.grace_period).unwrap_or(time::Duration::MAX),
        );
        let keeper = Keeper::new(
            Handle::current(),
            db.clone(),
            archives.clone(),
            Store::new(settings.archives.store.clone()),
            clock.clone(),
            settings::archive_limits(settings),
        );
        let process = Process {
            host: host.clone(),
            pid: std::process::id(),
            started_at: clock.now(),
            server_version: version,
            control_plane_version: public_set.version(),
            migrations_folder: settings.tenant_migrations.clone(),
            own_migrations: options.tenant_migrations.clone(),
            settings: Arc::clone(&settings.in_force),
        };
        let parts = Parts {
            hasher,
            grants,
            signing_keys,
            root,
            fleet: Arc::new(fleet),
            tenant_set,
            examiner: Arc::new(Examiner::new(
                Handle::current(),
                db.clone(),
                doctor.clone(),
                clock.clone(),
            )),
            keeper: Arc::new(keeper),
            archives,
            doctor,
            process,
            public_version: public_set.version(),
            serving: Serving::default(),
            session_lifetimes: settings::session_lifetimes(settings),
            refused: Counters::default(),
            sealing: Sealing::default(),
            damage: Damage::new(db.clone()),
            provisioning,
            vacancies,
            slugs,
            grace_period: time::Duration::try_from(settings.tenants.grace_period)
                .unwrap_or(time::Duration::WEEK),
            main: db.clone(),
            runtime: Handle::current(),
            lifetimes,
        };
        first_start.psql = psql;
        let backend = Self {
            services: parts.services(&db, &database),
            posture,
            first_start,
            clock,
            database_clock,
            database,
            parts,
            states: Arc::default(),
            tls,
            #[cfg(feature = "embedded-postgres")]
            embedded: None,
        };
        match purpose {
            Purpose::Serve => backend.ensure_admin(settings, origin).await,
            Purpose::Migrate | Purpose::Operate => Ok(backend),
        }
    }

    /// Returns the rules that its transactions follow.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        self.database.rules()
    }

    /// Returns what the jobs and the commands of the application work with.
    #[must_use]
    pub fn context(&self) -> Context {
        Context::new(self.services.clone(), self.clock.clone(), Arc::clone(&self.states))
    }

    /// As [`Backend::context`], on pools of its own, which belong to the runtime that calls this: each test of a process
    /// may hold a transaction.
    #[cfg(feature = "testing")]
    pub(crate) fn context_for_tests(&self) -> Result<Context, BuildError> {
        let pools = self.database.pools(pool_sizes::FOR_TESTS);
        let db = pools.map_err(|error| BuildError::Pool(error.to_string()))?;
        let services = self.parts.services(&db, &self.database);
        Ok(Context::new(services, self.clock.clone(), Arc::clone(&self.states)))
    }

    /// Returns a context for work of the operator.
    #[must_use]
    pub fn operator(&self) -> CallContext {
        operator(&self.clock)
    }

    /// Starts the embedded server again whenever it ends, if this process started one. Returns only if it does not stay
    /// up, with the reason.
    pub(super) async fn keep_database_running(&mut self) -> std::io::Error {
        #[cfg(feature = "embedded-postgres")]
        if let Some(embedded::ServerHandle::Own(server)) = &mut self.embedded {
            return std::io::Error::other(server.keep_running().await);
        }
        std::future::pending().await
    }

    /// Releases the fleet migrations that run here, closes the pools and stops the embedded server, if this
    /// process started one; commands of other processes that use that server finish first.
    pub async fn close(self) {
        self.parts.fleet.stop().await;
        self.parts.examiner.stop().await;
        self.parts.keeper.stop().await;
        self.database.close();
        #[cfg(feature = "embedded-postgres")]
        stop(self.embedded).await;
    }

    /// Creates the admin of the settings if it does not exist; without one in the settings, a generated admin if
    /// the database is embedded or no root token is set.
    async fn ensure_admin(
        mut self,
        settings: &Settings,
        origin: Origin,
    ) -> Result<Self, BuildError> {
        let admin = match &settings.admin {
            Some(admin) => Some((admin.email.clone(), admin.password.clone())),
            // An operator who sets a root token for another database creates the users as well.
            None if origin == Origin::Embedded || settings.root_token.is_none() => {
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

/// What a backend is built from besides its database: the files, and the permissions of the application.
struct Sets<'a> {
    public: &'a MigrationSet,
    shared: Option<MigrationSet>,
    tenant: Arc<MigrationSet>,
    expected: Arc<ExpectedDrift>,
    grants: Grants,
}

/// Logs which engine was found. A forced one is told as what it is.
fn log_engine(purpose: Purpose, posture: &Posture) {
    let Posture { engine, engine_version, isolation, .. } = posture;
    if purpose == Purpose::Operate {
        return;
    }
    let version = engine_version.as_deref();
    tracing::info!(%engine, version, isolation = isolation.as_str(), "found the engine of the database");
    if matches!(engine, Engine::Citus { is_forced: true }) {
        tracing::warn!("database.engine takes the database for a Citus cluster, which it is not");
    }
}

/// Warns if the servers on this PostgreSQL server may open more connections than it gives. This one then leaves one of
/// them, for `doctor`.
async fn warn_of_too_many_connections(
    tx: &PublicTx,
    database: &Database,
    budget: usize,
) -> Result<(), Error> {
    let found = capacity::read_connections(tx).await.during("read the limits on connections")?;
    if let Some(most) = most_connections(&found, budget) {
        database.keep_to(most);
    }
    if let Some((what, next)) = connection_shortage(&found, budget) {
        tracing::warn!("{what}; {next}");
    }
    Ok(())
}

/// Returns the keys that sign access tokens. A server needs the secret key that they are encrypted with, and creates it
/// with the first key; other commands sign nothing, and take a secret key only if there is one.
async fn open_signing_keys(
    purpose: Purpose,
    settings: &Settings,
    db: &Db,
    clock: &Clock,
    first_start: &mut FirstStart,
) -> Result<SigningKeys, BuildError> {
    let issuer = Issuer::new(settings::jwt_settings(settings));
    let secret = secrets::secret_key(settings);
    if purpose != Purpose::Serve {
        return Ok(SigningKeys::new(db.clone(), issuer, secret.unwrap_or_default()));
    }
    let keys = SigningKeys::new(db.clone(), issuer, secret?);
    let path = secrets::secret_key_path(settings);
    keys.unlock(&operator(clock), || secrets::create_secret_key(settings, first_start))
        .await
        .map_err(|error| match error {
            UnlockError::Secret(problem) => {
                let place = match &settings.secret_key {
                    Some(_) => "ROWHOUSE_SECRET_KEY".to_owned(),
                    None => path.display().to_string(),
                };
                BuildError::OtherSecretKey { problem, place }
            }
            UnlockError::NotCreated(source) => BuildError::DataDir { path: path.clone(), source },
            UnlockError::Step(error) => BuildError::Step(error),
        })?;
    Ok(keys)
}

/// Stops the embedded server if this process started it.
#[cfg(feature = "embedded-postgres")]
async fn stop(server: Option<embedded::ServerHandle>) {
    if let Some(embedded::ServerHandle::Own(server)) = server
        && let Err(error) = server.stop().await
    {
        let error: &dyn std::error::Error = &error;
        tracing::error!(error, "failed to stop the embedded PostgreSQL server");
    }
}

/// Returns a context for work that no request caused.
pub(super) fn operator(clock: &Clock) -> CallContext {
    CallContext::of_operator(clock.now())
}
