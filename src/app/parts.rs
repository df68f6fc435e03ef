//! The services, built on the pools of one runtime.

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::auth::password::Hasher;
use crate::auth::token::RootTokens;
use crate::migrations::MigrationSet;
use crate::pg::Db;
use crate::pg::db::Database;
use crate::service::examinations::Examiner;
use crate::service::fleet::Engine;
use crate::service::health::Serving;
use crate::service::overview::Process;
use crate::service::refusals::{self, Refusals};
use crate::service::sealing::Sealing;
use crate::service::sessions::Lifetimes as SessionLifetimes;
use crate::service::stored_archives::Keeper;
use crate::service::tenants::Grants;
use crate::service::tenants::slugs::SlugRules;
use crate::service::tokens::Lifetimes;
use crate::service::{
    ApiKeys, Archives, Audit, Cluster, ConsoleSessions, Damage, Doctor, Events, Examinations,
    Fleet, Health, Identity, Invitations, Leases, Lifecycle, Me, Members, Overview, Passwords,
    Profiles, Provisioning, Registry, Services, Sessions, SigningKeys, StoredArchives, System,
    Tenants, Tokens, Vacancies,
};

/// What the services of each runtime are built from, besides its pools.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) hasher: Hasher,
    /// The permissions of the application.
    pub(super) grants: Grants,
    pub(super) signing_keys: SigningKeys,
    pub(super) root: Option<Arc<RootTokens>>,
    pub(super) public_version: i32,
    /// Whether the process was told to stop, and when its tenants were counted.
    pub(super) serving: Serving,
    pub(super) session_lifetimes: SessionLifetimes,
    /// What was refused and is not in the audit trail yet.
    pub(super) refused: refusals::Counters,
    /// How far the audit events are sealed, and who waits for the next seal.
    pub(super) sealing: Sealing,
    pub(super) damage: Damage,
    pub(super) provisioning: Provisioning,
    pub(super) vacancies: Vacancies,
    pub(super) fleet: Arc<Engine>,
    pub(super) examiner: Arc<Examiner>,
    pub(super) keeper: Arc<Keeper>,
    pub(super) archives: Archives,
    pub(super) process: Process,
    pub(super) tenant_set: Arc<MigrationSet>,
    pub(super) doctor: Doctor,
    pub(super) grace_period: time::Duration,
    pub(super) slugs: SlugRules,
    /// The pools of the main runtime, and that runtime.
    pub(super) main: Db,
    pub(super) runtime: Handle,
    pub(super) lifetimes: Lifetimes,
}

impl Parts {
    /// Builds the services on the pools of one runtime.
    #[expect(clippy::too_many_lines, reason = "a flat list of services")]
    pub(super) fn services(&self, db: &Db, database: &Database) -> Services {
        let refusals = Refusals::new(db.clone(), self.refused.clone());
        let signing_keys = self.signing_keys.on(db.clone());
        let members = Members::new(db.clone(), self.hasher.clone());
        let identity = Identity::new(
            db.clone(),
            signing_keys.clone(),
            self.root.clone(),
            self.session_lifetimes,
        );
        let sessions = Sessions::new(
            db.clone(),
            self.hasher.clone(),
            signing_keys.clone(),
            self.session_lifetimes,
            refusals.clone(),
        );
        let archives = self.archives.on(db.clone());
        Services {
            console_sessions: ConsoleSessions::new(
                db.clone(),
                sessions.clone(),
                identity.clone(),
                self.root.clone(),
                self.session_lifetimes,
            ),
            identity,
            provisioning: self.provisioning.clone(),
            vacancies: self.vacancies.clone(),
            sessions,
            stored_archives: StoredArchives::new(
                db.clone(),
                archives.clone(),
                Arc::clone(&self.keeper),
            ),
            archives,
            me: Me::new(db.clone(), self.hasher.clone(), self.session_lifetimes, refusals.clone()),
            signing_keys,
            tenants: Tenants::new(db.clone()).granting(Arc::clone(&self.grants)),
            registry: Registry::new(
                db.clone(),
                self.provisioning.clone(),
                self.slugs.clone(),
                members.clone(),
            ),
            lifecycle: Lifecycle::new(db.clone(), self.grace_period, self.slugs.clone()),
            members,
            invitations: Invitations::new(db.clone(), self.hasher.clone()),
            tokens: Tokens::new(db.clone(), self.lifetimes),
            api_keys: ApiKeys::new(db.clone(), self.lifetimes),
            passwords: Passwords::new(db.clone(), self.hasher.clone()),
            profiles: Profiles::new(db.clone(), self.lifetimes),
            system: System::new(db.clone(), Profiles::new(db.clone(), self.lifetimes)),
            events: Events::new(db.clone(), self.sealing.clone()),
            audit: Audit::new(db.clone(), refusals.clone(), self.sealing.clone()),
            refusals,
            cluster: Cluster::new(db.clone(), self.main.clone(), self.runtime.clone()),
            fleet: Fleet::new(db.clone(), Arc::clone(&self.fleet)),
            doctor: self.doctor.on(db.clone()),
            examinations: Examinations::new(db.clone(), Arc::clone(&self.examiner)),
            overview: Overview::new(
                db.clone(),
                Arc::clone(&self.tenant_set),
                self.vacancies.clone(),
                self.process.clone(),
            ),
            leases: Leases::new(db.clone()),
            damage: self.damage.clone(),
            health: Health::new(
                db.clone(),
                database.clone(),
                self.hasher.clone(),
                self.public_version,
                Arc::clone(&self.tenant_set),
                self.vacancies.new_tenants().clone(),
                self.serving.clone(),
            ),
        }
    }
}
