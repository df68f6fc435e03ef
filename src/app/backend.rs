//! The house without its front door: database, keys, services. The command line works on one, [`App`]
//! puts a listener in front of one.
//!
//! [`App`]: super::App

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;
use tokio::runtime::Handle;

use crate::app::database::Ground;
use crate::app::{BuildError, Options, pool_sizes, secrets, settings};
use crate::auth::jwt::{Issuer, SigningKey};
use crate::auth::password::Hasher;
use crate::auth::token::RootToken;
use crate::auth::{CallContext, Principal};
use crate::config::{CachedStatements, Settings};
use crate::domain::Clock;
use crate::domain::names::Password;
#[cfg(feature = "embedded-postgres")]
use crate::embedded;
use crate::migrations::MigrationSet;
use crate::pg::Db;
use crate::pg::bootstrap::{self, Posture};
use crate::pg::connect::dedicated;
use crate::pg::control::{migration_sets, signing_keys};
use crate::pg::db::Database;
use crate::pg::error::During;
use crate::pg::rules::{Rules, Statements};
use crate::service::doctor::Budget;
use crate::service::fleet::{Engine, Limits};
use crate::service::{
    ApiKeys, Audit, Doctor, Fleet, Health, Identity, Lifecycle, Members, Passwords, Profiles,
    Provisioning, Registry, Services, Sessions, System, Tenants, Tokens, Vacancies,
};

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
    pub(super) clock: Clock,
    pub(super) database: Database,
    pub(super) parts: Parts,
    #[cfg(feature = "embedded-postgres")]
    embedded: Option<embedded::Host>,
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
pub(super) struct Parts {
    hasher: Hasher,
    issuer: Issuer,
    root: Option<Arc<RootToken>>,
    public_version: i32,
    refresh_lifetime: time::Duration,
    provisioning: Provisioning,
    vacancies: Vacancies,
    fleet: Arc<Engine>,
    tenant_set: Arc<MigrationSet>,
    grace_period: time::Duration,
    server_version: u32,
    budget: Budget,
}

impl Parts {
    pub(super) fn services(&self, db: &Db, database: &Database) -> Services {
        Services {
            identity: Identity::new(db.clone(), self.issuer.clone(), self.root.clone()),
            provisioning: self.provisioning.clone(),
            vacancies: self.vacancies.clone(),
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
            api_keys: ApiKeys::new(db.clone()),
            passwords: Passwords::new(db.clone(), self.hasher.clone()),
            profiles: Profiles::new(db.clone()),
            system: System::new(db.clone(), Profiles::new(db.clone())),
            audit: Audit::new(db.clone()),
            fleet: Fleet::new(db.clone(), Arc::clone(&self.fleet)),
            doctor: Doctor::new(
                db.clone(),
                Arc::clone(&self.tenant_set),
                self.server_version,
                self.budget.clone(),
            ),
            health: Health::new(
                db.clone(),
                database.clone(),
                self.hasher.clone(),
                self.public_version,
            ),
        }
    }
}
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
    pub async fn open_for(
        purpose: Purpose,
        settings: &Settings,
        options: &Options,
    ) -> Result<Self, BuildError> {
        // Read before anything is started: a bad file must not leave a running server behind.
        let public_set = MigrationSet::public()?;
        let tenant_set = Arc::new(match &settings.tenant_migrations {
            Some(folder) => MigrationSet::load(folder)?,
            None => MigrationSet::tenant()?,
        });
        #[cfg_attr(
            not(feature = "embedded-postgres"),
            expect(unused_mut, reason = "there is no server to take out of it")
        )]
        let mut ground = Ground::find(settings, purpose).await?;
        #[cfg(feature = "embedded-postgres")]
        let host = ground.host.take();
        let built =
            Self::build_on(ground, purpose, settings, options, &public_set, tenant_set).await;
        #[cfg(feature = "embedded-postgres")]
        let built = match built {
            Ok(backend) => Ok(Self { embedded: host, ..backend }),
            // Others may work on the server by now.
            Err(error) => {
                stop(host).await;
                Err(error)
            }
        };
        built
    }

    #[expect(clippy::too_many_lines, reason = "a flat list of steps, best read whole")]
    async fn build_on(
        ground: Ground,
        purpose: Purpose,
        settings: &Settings,
        options: &Options,
        public_set: &MigrationSet,
        tenant_set: Arc<MigrationSet>,
    ) -> Result<Self, BuildError> {
        let clock = options.clock.clone().unwrap_or_else(Clock::system);
        let mut first_start = FirstStart::default();
        let mut rules = settings::rules(settings);
        let mut posture = match purpose {
            Purpose::Serve | Purpose::Migrate => {
                bootstrap::prepare(&ground.owner, &ground.runtime, rules.isolation).await?
            }
            Purpose::Operate => {
                bootstrap::inspect(&ground.owner, rules.isolation, public_set).await?
            }
        };
        if purpose != Purpose::Operate {
            let (runtime, limits) = (&ground.runtime, rules.limits);
            rules.limits_stand = bootstrap::standing_limits(runtime, limits).await?;
            if settings.database.statements == CachedStatements::Auto {
                // Where it cannot be told, unnamed is right as well.
                let direct =
                    dedicated::is_direct(&ground.owner, &rules.limits).await.unwrap_or(false);
                if direct {
                    rules.control_statements = Statements::Cached;
                }
            }
        }
        let (owner, runtime) = (ground.owner, ground.runtime);
        let database = Database::with_sharing(owner, runtime, rules, settings::sharing(settings));
        let main = pool_sizes::main_for(purpose, settings.database.max_connections);
        let db = database.pools(main).map_err(|error| BuildError::Pool(error.to_string()))?;
        if purpose != Purpose::Operate {
            posture.applied = bootstrap::migrate(&db, public_set).await?;
            posture.open.extend(bootstrap::self_test(&db).await?);
            for open in &posture.open {
                tracing::warn!("{open}");
            }
        }
        if purpose != Purpose::Operate {
            let tx = db.public().await.during("record the tenant migrations")?;
            let (set, now) = (&tenant_set, clock.now());
            migration_sets::record(&tx, set.fingerprint(), &set.history(), now).await?;
            tx.commit().await.during("record the tenant migrations")?;
        }
        let root = match purpose {
            Purpose::Serve => Some(secrets::root_token(settings, &mut first_start)?),
            // The operator holds the database; nobody else is recognised through this backend.
            Purpose::Migrate | Purpose::Operate => None,
        };
        let hasher = settings::hasher(settings)?;
        let issuer =
            Issuer::new(settings::jwt_settings(settings), signing_keys(&db, &clock).await?)?;
        let version = posture.server_version;
        let wanted = settings.tenants.vacancies;
        let vacancies = Vacancies::new(db.clone(), Arc::clone(&tenant_set), version, wanted);
        let provisioning = Provisioning::new(
            Handle::current(),
            db.clone(),
            hasher.clone(),
            Arc::clone(&tenant_set),
            version,
            vacancies.clone(),
        );
        let fleet = Engine::new(
            Handle::current(),
            db.clone(),
            database.clone(),
            Arc::clone(&tenant_set),
            clock.clone(),
            Limits {
                workers: settings.fleet.workers,
                most_workers: pool_sizes::fleet_workers(purpose, main),
                lease: settings.fleet.lease,
                hands_on: purpose == Purpose::Serve,
            },
            super::host::name(),
        );
        let parts = Parts {
            hasher,
            issuer,
            root,
            fleet: Arc::new(fleet),
            tenant_set,
            public_version: public_set.version(),
            refresh_lifetime: time::Duration::try_from(settings.auth.refresh_lifetime)
                .unwrap_or(time::Duration::WEEK),
            provisioning,
            vacancies,
            grace_period: time::Duration::try_from(settings.tenants.grace_period)
                .unwrap_or(time::Duration::WEEK),
            server_version: version,
            budget: Budget {
                connections: settings.database.max_connections,
                setups_at_once: main.control,
                tenants_per_connection: settings
                    .database
                    .tenants_per_connection
                    .map(NonZeroUsize::get),
            },
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
            embedded: None,
        };
        match purpose {
            Purpose::Serve => backend.ensure_admin(settings, ground.embedded).await,
            Purpose::Migrate | Purpose::Operate => Ok(backend),
        }
    }

    /// The rules that its transactions follow.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        self.database.rules()
    }

    /// A context for work that the operator does.
    #[must_use]
    pub fn operator(&self) -> CallContext {
        operator(&self.clock)
    }

    /// Purges deleted tenants when their time has come and seals audit events, for ever. Dropped in the
    /// middle of either it leaves what any process takes up.
    pub(super) async fn keep_house_for_ever(&self, every: Duration) {
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

    /// Lets go of fleet migrations that run here, closes the pools and stops the embedded server, if this
    /// process started one; a command of another process that works on it is waited for.
    pub async fn close(self) {
        self.parts.fleet.stop().await;
        self.database.close();
        #[cfg(feature = "embedded-postgres")]
        stop(self.embedded).await;
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

/// Stops the embedded server if it is ours; leaves it if it is another process's.
#[cfg(feature = "embedded-postgres")]
async fn stop(host: Option<embedded::Host>) {
    if let Some(embedded::Host::Own(server)) = host
        && let Err(error) = server.stop().await
    {
        tracing::error!(error = %error, "failed to stop the embedded PostgreSQL server");
    }
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

/// A context for work that nobody asked for.
pub(super) fn operator(clock: &Clock) -> CallContext {
    CallContext {
        principal: Principal::Operator,
        request_id: uuid::Uuid::now_v7().to_string(),
        now: clock.now(),
    }
}
