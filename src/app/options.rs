//! What an application adds to a server, and what a test replaces.

use std::any::{Any, TypeId};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix_web::web;
use futures_util::future::BoxFuture;

use super::BuildError;
use super::context::{Context, States};
use crate::config::{Own, OwnValues, Settings, SettingsError};
use crate::domain::error::Error;
use crate::domain::{Clock, Permission};
use crate::http::document::parts::{UnknownTag, Version, for_people};
use crate::http::{self, Dialect, Offer, Served, Surface};
use crate::migrations::{MigrationSet, Migrations};
use crate::service::provisioning::Hook;
use crate::service::tenants::Grants;
use crate::telemetry::Registry;

/// What an application adds, and what a test replaces.
#[derive(Clone, Default)]
pub struct Options {
    /// The clock. Default: that of the database.
    pub clock: Option<Clock>,
    /// Routes of the application, mounted on every worker beside those of the crate.
    pub routes: Option<Routes>,
    /// The documents of those routes, merged into ours.
    pub documents: Vec<utoipa::openapi::OpenApi>,
    /// The application's files in the set of every tenant.
    pub tenant_migrations: Option<Migrations>,
    /// The files of the tables that all tenants share.
    pub public_migrations: Option<Migrations>,
    /// The dialects that are served. Default: all.
    pub dialects: Option<Vec<Dialect>>,
    /// The permissions of the application.
    pub permissions: Vec<&'static str>,
    /// The sections of its settings.
    pub sections: Vec<Section>,
    /// Its jobs.
    pub jobs: Vec<ApplicationJob>,
    /// What it does in each new tenant.
    pub hooks: Vec<Hook>,
    /// Registers its metrics.
    pub metrics: Vec<fn(&mut Registry)>,
    /// How long a server runs before its jobs. Default: not at all.
    #[doc(hidden)]
    pub jobs_after: Duration,
    /// A folder with migrations of the control plane that a later version of this crate has, for tests of an upgrade.
    #[doc(hidden)]
    pub later_control_plane: Option<PathBuf>,
}

/// Mounts the routes of an application on one worker.
pub type Routes = Arc<dyn Fn(&mut web::ServiceConfig) + Send + Sync>;

/// The value of a section, of the section's type.
type SectionValue = Arc<dyn Any + Send + Sync>;

/// A section of an application's settings, and the type that it is read into.
#[derive(Clone)]
pub struct Section {
    name: &'static str,
    type_id: TypeId,
    read: fn(&OwnValues, &str) -> Result<SectionValue, SettingsError>,
    mount: fn(SectionValue, &mut web::ServiceConfig),
}

impl Section {
    /// A section that is read into this type. Handlers reach it as `web::Data<T>`.
    #[must_use]
    pub fn of<T: serde::de::DeserializeOwned + Send + Sync + 'static>(name: &'static str) -> Self {
        Self {
            name,
            type_id: TypeId::of::<T>(),
            read: |values, name| {
                let settings: T = values.read(name)?;
                Ok(Arc::new(settings))
            },
            mount: |state, config| {
                if let Ok(state) = state.downcast::<T>() {
                    config.app_data(web::Data::from(state));
                }
            },
        }
    }
}

/// A job of an application.
#[derive(Clone)]
pub struct ApplicationJob {
    /// Its name, in the log, in the metrics and in the database.
    pub name: &'static str,
    /// The time between two runs, such as `1h`.
    pub every: &'static str,
    /// Runs it once.
    pub run: RunJob,
}

/// Runs a job once.
pub type RunJob = Arc<dyn Fn(Context) -> BoxFuture<'static, Result<(), Error>> + Send + Sync>;

impl ApplicationJob {
    /// Returns the time between two runs.
    pub(super) fn interval(&self) -> Result<Duration, BuildError> {
        let every = humantime::parse_duration(self.every).ok().filter(|every| !every.is_zero());
        every.ok_or_else(|| {
            let Self { name, every, .. } = self;
            BuildError::Application(format!(
                "the job {name} runs every {every:?}, which is not a length of time, such as 30s or 1h"
            ))
        })
    }
}

impl Options {
    /// Adds routes to those that are there.
    pub fn add_routes(&mut self, more: Routes) {
        self.routes = Some(match self.routes.take() {
            None => more,
            Some(before) => Arc::new(move |config: &mut web::ServiceConfig| {
                before(config);
                more(config);
            }),
        });
    }

    /// Returns what the application adds to the settings.
    #[must_use]
    pub fn own_settings(&self) -> Own {
        let sections = self.sections.iter().map(|section| section.name).collect();
        Own { sections, permissions: self.permissions.clone() }
    }

    /// Refuses what contradicts itself.
    pub(super) fn check(&self) -> Result<(), BuildError> {
        let refuse = |what: String| Err(BuildError::Application(what));
        for permission in &self.permissions {
            if permission.parse::<Permission>().is_ok() {
                return refuse(format!("the permission {permission} is one of ours; rename it"));
            }
        }
        for (at, job) in self.jobs.iter().enumerate() {
            job.interval()?;
            if self.jobs.iter().skip(at + 1).any(|other| other.name == job.name) {
                return refuse(format!("two jobs are called {}; rename one", job.name));
            }
        }
        for Section { name, .. } in &self.sections {
            let is_ours = crate::config::KEYS
                .iter()
                .any(|(key, ..)| key.split('.').next().is_some_and(|first| first == *name));
            if is_ours || *name == "permissions" {
                return refuse(format!("the section [{name}] is one of ours; rename it"));
            }
        }
        Ok(())
    }

    /// Reads the settings of the application.
    pub(super) fn read(&self, settings: &Settings) -> Result<(States, Grants), BuildError> {
        let mut problems = Vec::new();
        let mut states = States::new();
        for section in &self.sections {
            match (section.read)(&settings.own, section.name) {
                Ok(state) => {
                    states.insert(section.type_id, state);
                }
                Err(SettingsError(more)) => problems.extend(more),
            }
        }
        match settings.own.roles(&self.permissions) {
            Ok(grants) if problems.is_empty() => return Ok((states, grants.into())),
            Ok(_) => {}
            Err(SettingsError(more)) => problems.extend(more),
        }
        Err(BuildError::Settings(SettingsError(problems)))
    }

    /// Returns the function that mounts the routes and the settings of the application.
    pub(super) fn mount(&self, states: &Arc<States>) -> Routes {
        let (routes, sections) = (self.routes.clone(), self.sections.clone());
        let states = Arc::clone(states);
        Arc::new(move |config: &mut web::ServiceConfig| {
            for section in &sections {
                if let Some(state) = states.get(&section.type_id) {
                    (section.mount)(Arc::clone(state), config);
                }
            }
            if let Some(routes) = &routes {
                routes(config);
            }
        })
    }

    /// Returns what a database of this application depends on: the migrations of the control plane, of tenants and of the
    /// shared tables.
    #[cfg(feature = "embedded-postgres")]
    pub(crate) fn fingerprint(&self) -> Result<String, BuildError> {
        let tenant = match &self.tenant_migrations {
            Some(own) => MigrationSet::of_application(own)?,
            None => MigrationSet::tenant()?,
        };
        let shared = self.public_migrations.as_ref().map(MigrationSet::shared).transpose()?;
        let public = MigrationSet::public()?;
        let sets = [Some(&public), Some(&tenant), shared.as_ref()];
        Ok(sets.into_iter().flatten().map(MigrationSet::fingerprint).collect::<Vec<_>>().join(" "))
    }

    /// Returns the routes that the document of such a server describes.
    pub(super) fn offer(&self, has_profiles: bool) -> Offer {
        let served = self.dialects.as_deref().map_or_else(Served::all, Served::of);
        Offer { served: served.with_profiles(has_profiles), own: self.documents.clone() }
    }

    /// Returns what a server with these settings offers.
    pub(super) fn offer_of(&self, settings: &Settings, has_profiles: bool) -> Offer {
        let offer = self.offer(has_profiles);
        Offer { served: offer.served.with_console(settings.console.enabled), ..offer }
    }
}

/// Returns the `OpenAPI` document as JSON, for layers that may not import `http`: of all routes or of those with a tag, in
/// version 3.1 or in 3.0.
///
/// # Errors
/// There is no such tag; names those that are.
pub fn openapi_document(
    options: &Options,
    tag: Option<&str>,
    in_3_0: bool,
) -> Result<String, UnknownTag> {
    let own = options.tenant_migrations.as_ref();
    let has_profiles =
        own.is_none_or(|own| MigrationSet::of_application(own).is_ok_and(|set| set.has_profiles()));
    let document = http::openapi_of(Surface::All, &options.offer(has_profiles));
    let version = if in_3_0 { Version::V3_0 } else { Version::V3_1 };
    for_people(&document, tag, version)
}
