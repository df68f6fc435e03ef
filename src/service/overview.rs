//! What an operator wants to see first: counts, what is open, what was found last; and what this server is.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use time::OffsetDateTime;

use crate::auth::CallContext;
use crate::domain::Permission;
use crate::domain::error::{Error, Result};
use crate::domain::names::SchemaName;
use crate::domain::operation::OperationKind;
use crate::migrations::{MigrationSet, Migrations as OwnMigrations};
use crate::pg::control::footprint::{self, Footprint};
use crate::pg::control::operations::{self, Record as Operation};
use crate::pg::control::{capacity, examinations, migration_sets, overview};
use crate::pg::{Db, During};
use crate::service::lint::{self, Finding};
use crate::service::tenants::{TenantRef, locate};
use crate::service::vacancies::StockStatus;
use crate::service::{Vacancies, fleet};
use crate::telemetry::{Measurements, Metrics};

pub use crate::pg::control::examinations::Record as Examination;
pub use crate::pg::control::overview::TenantCounts;

/// Reads the state of the whole installation.
#[derive(Clone)]
pub struct Overview {
    db: Db,
    set: Arc<MigrationSet>,
    vacancies: Vacancies,
    process: Process,
}

/// What is known of this process since its start.
#[derive(Debug, Clone)]
pub struct Process {
    /// The name of its machine.
    pub host: String,
    /// Its id.
    pub pid: u32,
    /// When it was started.
    pub started_at: OffsetDateTime,
    /// The version of the database server, such as 150018.
    pub server_version: u32,
    /// The version of the control plane's own migrations.
    pub control_plane_version: i32,
    /// The folder of the tenant migrations; `None` for the built-in ones.
    pub migrations_folder: Option<PathBuf>,
    /// The tenant migrations of the application, where no folder is named.
    pub own_migrations: Option<OwnMigrations>,
    /// Its settings.
    pub settings: Arc<[Setting]>,
}

/// A setting of the server.
#[derive(Debug, Clone)]
pub struct Setting {
    /// Its key in the file.
    pub key: &'static str,
    /// Its value; `None` if there is none, and for a secret.
    pub value: Option<String>,
    /// Whether its value is a secret, which is not shown.
    pub is_hidden: bool,
    /// Its default; empty if there is none.
    pub default: &'static str,
    /// What it means.
    pub meaning: &'static str,
}

/// The state of the whole installation.
#[derive(Debug, Clone)]
pub struct Summary {
    /// The numbers of tenants.
    pub tenants: TenantCounts,
    /// The highest version of this server's tenant migrations.
    pub version: i32,
    /// Their fingerprint.
    pub fingerprint: String,
    /// The migration that is planned, running or paused.
    pub open: Option<Operation>,
    /// The stock of vacancies.
    pub vacancies: StockStatus,
    /// The last examination of everything.
    pub examined: Option<Examination>,
}

/// What this server is.
#[derive(Debug, Clone)]
pub struct ServerInfo {
    /// Of this process.
    pub process: Process,
    /// The highest version of the tenant migrations.
    pub version: i32,
    /// Their fingerprint.
    pub fingerprint: String,
    /// How tenants are separated: `role` or `search_path`.
    pub isolation: &'static str,
    /// The servers with an open connection to the database server.
    pub servers: i64,
}

/// The tenant migrations of this program.
#[derive(Debug, Clone)]
pub struct Migrations {
    /// The highest version.
    pub version: i32,
    /// The digest of all files.
    pub fingerprint: String,
    /// The files, in the order in which they run.
    pub files: Vec<MigrationFile>,
}

/// A tenant migration.
#[derive(Debug, Clone)]
pub struct MigrationFile {
    /// The name of the file.
    pub name: String,
    /// The number in it; `None` for a repeatable one.
    pub version: Option<i32>,
    /// The checksum in the tenants' histories.
    pub checksum: String,
    /// Whether it runs in a transaction.
    pub in_transaction: bool,
    /// The file.
    pub text: String,
    /// What lint says of it.
    pub findings: Vec<Finding>,
}

/// The schema of a tenant.
#[derive(Debug, Clone)]
pub struct TenantSchema {
    /// Its name, which is also that of the tenant's role.
    pub name: SchemaName,
    /// The highest version of the migrations that were applied.
    pub version: i32,
    /// Their digest.
    pub fingerprint: String,
    /// The files that a migration would apply.
    pub files_behind: Vec<String>,
    /// Why this program's migrations do not fit those that were applied.
    pub conflict: Option<String>,
    /// What it holds.
    pub footprint: Footprint,
}

impl Overview {
    /// Reads through `db`; `set` are the tenant migrations of this program.
    #[must_use]
    pub fn new(db: Db, set: Arc<MigrationSet>, vacancies: Vacancies, process: Process) -> Self {
        Self { db, set, vacancies, process }
    }

    /// Returns the state of the whole installation.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn summary(&self, ctx: &CallContext) -> Result<Summary> {
        ctx.require(Permission::ViewFleet)?;
        let during = "read the summary";
        let tx = self.db.public().await.during(during)?;
        let fingerprint = self.set.fingerprint();
        let tenants = overview::count_tenants(&tx, fingerprint, ctx.now).await?;
        let open = operations::find_open(&tx, OperationKind::Migrate).await?;
        let examined = examinations::find_last(&tx).await?;
        tx.commit().await.during(during)?;
        Ok(Summary {
            tenants,
            version: self.set.version(),
            fingerprint: fingerprint.to_owned(),
            open,
            vacancies: self.vacancies.status(ctx).await?,
            examined,
        })
    }

    /// Returns what this server is.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn server(&self, ctx: &CallContext) -> Result<ServerInfo> {
        ctx.require(Permission::ViewFleet)?;
        let during = "read what the server is";
        let tx = self.db.public().await.during(during)?;
        let connections = capacity::read_connections(&tx).await.during(during)?;
        Ok(ServerInfo {
            process: self.process.clone(),
            version: self.set.version(),
            fingerprint: self.set.fingerprint().to_owned(),
            isolation: self.db.rules().isolation.as_str(),
            servers: connections.servers,
        })
    }

    /// Returns the measurements of this process, and what process it is.
    ///
    /// # Errors
    /// Those of the rights check.
    pub fn measurements(
        &self,
        ctx: &CallContext,
        metrics: &Metrics,
    ) -> Result<(Process, Measurements)> {
        ctx.require(Permission::ViewFleet)?;
        Ok((self.process.clone(), metrics.measurements()))
    }

    /// Returns the settings of this server, without its secrets and without those of an application.
    ///
    /// # Errors
    /// Those of the rights check.
    pub fn settings(&self, ctx: &CallContext) -> Result<Arc<[Setting]>> {
        ctx.require(Permission::ViewSettings)?;
        Ok(Arc::clone(&self.process.settings))
    }

    /// Returns the version and the fingerprint of this program's tenant migrations.
    ///
    /// # Errors
    /// Those of the rights check.
    pub fn own_set(&self, ctx: &CallContext) -> Result<(i32, &str)> {
        ctx.reach(Permission::ViewTenants)?;
        Ok((self.set.version(), self.set.fingerprint()))
    }

    /// Returns what the schema of a tenant holds, and the migrations that it lacks.
    ///
    /// # Errors
    /// Those of the rights check and of the database; [`Noun::Tenant`](crate::domain::error::Noun) not found.
    pub async fn tenant_schema(
        &self,
        ctx: &CallContext,
        which: &TenantRef,
    ) -> Result<TenantSchema> {
        let reach = ctx.reach(Permission::ViewTenants)?;
        let tx = self.db.public().await.during("read the schema of a tenant")?;
        let id = locate(&tx, &reach, which).await?.tenant.id;
        let (version, fingerprint) = migration_sets::of_tenant(&tx, id).await?;
        let footprint = footprint::count(&tx, id, self.db.rules().engine).await?;
        let plan = fleet::plan_of(&tx, &self.set, Some(&[id.uuid()]), ctx.now).await?;
        Ok(TenantSchema {
            name: SchemaName::of(id),
            version,
            fingerprint,
            files_behind: plan.behind.into_iter().flat_map(|group| group.files).collect(),
            conflict: plan.ahead.into_iter().chain(plan.diverged).next(),
            footprint,
        })
    }

    /// Returns this program's tenant migrations, with what lint says of them.
    ///
    /// # Errors
    /// Those of the rights check; [`Error::Internal`] if the allowances in the folder cannot be read any more.
    pub fn migrations(&self, ctx: &CallContext) -> Result<Migrations> {
        ctx.require(Permission::ViewFleet)?;
        let report = lint::check_set(
            &self.set,
            self.process.migrations_folder.as_deref(),
            self.process.own_migrations.as_ref(),
        )
        .map_err(|error| Error::internal("check the migrations", error))?;
        let mut found: HashMap<String, Vec<Finding>> = HashMap::new();
        for finding in report.findings {
            found.entry(finding.file.clone()).or_default().push(finding);
        }
        let files = self.set.history().into_iter().zip(self.set.texts());
        let files = files.map(|(row, (name, text))| MigrationFile {
            version: (row.version > 0).then_some(row.version),
            checksum: row.checksum,
            in_transaction: !self.set.is_non_transactional(row.version),
            text: text.to_owned(),
            findings: found.remove(&name).unwrap_or_default(),
            name,
        });
        Ok(Migrations {
            version: self.set.version(),
            fingerprint: self.set.fingerprint().to_owned(),
            files: files.collect(),
        })
    }
}
