//! Tries the migration on one schema in a transaction that is rolled back: a tenant's, or a vacancy's.
//!
//! A file that runs outside of a transaction is tried inside of one, without its `CONCURRENTLY`, so the tables
//! of that one tenant are locked as long as the rehearsal takes. Nobody is in a vacancy who could mind.

use std::sync::Arc;

use time::OffsetDateTime;
use tokio::task::JoinSet;

use super::{Engine, plan, to_error};
use crate::domain::error::{Error, Noun, Result};
use crate::domain::names::{SchemaName, Slug, TenantId};
use crate::domain::operation::FleetProblem;
use crate::pg::control::vacancies::{self, Pattern};
use crate::pg::control::{migration_sets, tenants};
use crate::pg::error::During;
use crate::pg::schema::error::ApplyError;
use crate::pg::schema::rehearse::rehearse;
use crate::pg::schema::{self, Entered};
use crate::pg::scope::{Entry, Flush};

pub use crate::pg::schema::rehearse::TrialEnd;

/// Nothing is committed, and nobody's lease is needed for it.
const ENTRY: Entry = Entry { flush: Flush::Now, before: None };

/// Where a migration is tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// On the first tenant that is behind.
    FirstBehind,
    /// On this tenant, by slug or id.
    Tenant(String),
    /// On a vacancy, one that is behind where there is one.
    Vacancy,
}

/// What a migration would do to one schema.
#[derive(Debug, Clone)]
pub struct Rehearsal {
    /// The schema.
    pub schema: SchemaName,
    /// Whose it is.
    pub house: House,
    /// What came of each file that the schema lacks, in order.
    pub trials: Vec<Trial>,
}

/// Whose schema it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum House {
    /// A tenant's.
    Tenant {
        /// Which.
        id: TenantId,
        /// By the name people use.
        slug: Slug,
    },
    /// Nobody's yet.
    Vacancy(TenantId),
}

/// What came of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// Its name.
    pub file: String,
    /// How it went.
    pub end: TrialEnd,
}

impl Rehearsal {
    /// What would be applied, or the file and line that would fail.
    ///
    /// # Errors
    /// The file, the line and the reason, in one sentence.
    pub fn outcome(&self) -> Result<Vec<String>, String> {
        let file = |trial: &Trial| match &trial.end {
            TrialEnd::Failed { line, message } => Err(ApplyError::Failed {
                file: trial.file.clone(),
                line: *line,
                message: message.clone(),
            }
            .to_string()),
            TrialEnd::Applied(_) | TrialEnd::NotReached => Ok(trial.file.clone()),
        };
        self.trials.iter().map(file).collect()
    }
}

impl Engine {
    /// Tries the migration; nothing where nobody is behind. One at a time in a process, over the pools that
    /// set-ups use, and given up with whoever asked for it.
    pub(super) async fn rehearse(
        self: &Arc<Self>,
        stage: Stage,
        now: OffsetDateTime,
    ) -> Result<Option<Rehearsal>> {
        let engine = Arc::clone(self);
        let mut task = JoinSet::new();
        let rehearsing = async move {
            let _turn = engine.rehearsing.lock().await;
            match stage {
                Stage::FirstBehind => engine.rehearse_on_tenant(None, now).await,
                Stage::Tenant(named) => engine.rehearse_on_tenant(Some(named), now).await,
                Stage::Vacancy => engine.rehearse_on_vacancy(now).await.map(Some),
            }
        };
        task.spawn_on(rehearsing, &self.runtime);
        match task.join_next().await {
            Some(Ok(outcome)) => outcome,
            Some(Err(panicked)) => Err(Error::internal("rehearse a migration", panicked)),
            None => Ok(None),
        }
    }

    async fn rehearse_on_tenant(
        &self,
        named: Option<String>,
        now: OffsetDateTime,
    ) -> Result<Option<Rehearsal>> {
        let during = "rehearse a migration";
        let tx = self.db.public().await.during(during)?;
        let id = if let Some(named) = named {
            let found = migration_sets::resolve(&tx, std::slice::from_ref(&named)).await?;
            let id = found.get(&named).copied().map(TenantId::new);
            id.ok_or(Error::NotFound(Noun::Tenant))?
        } else {
            let groups = migration_sets::groups(&tx, None).await?;
            let behind = groups.iter().find(|g| g.fingerprint != self.set.fingerprint());
            let Some(group) = behind else { return Ok(None) };
            group.first
        };
        let tenant = tenants::lookup(&tx, id).await?.ok_or(Error::NotFound(Noun::Tenant))?;
        // What a run on this tenant would be refused for.
        plan::make(&tx, &self.set, Some(&[id.uuid()]), now).await?.require_fit()?;
        drop(tx);
        let (schema, slug) = (SchemaName::of(id), tenant.slug);
        let entered = schema::enter(&self.db, &schema, ENTRY).await;
        let entered = entered.map_err(|error| refusal(error, slug.as_str()))?;
        let house = House::Tenant { id, slug };
        self.attempt(entered, schema, house, now).await.map(Some)
    }

    async fn rehearse_on_vacancy(&self, now: OffsetDateTime) -> Result<Rehearsal> {
        let during = "rehearse a migration";
        let pattern = Pattern::of(&self.set, self.db.rules().isolation);
        let mut passed = Vec::new();
        loop {
            let tx = self.db.public().await.during(during)?;
            let found = vacancies::find_for_rehearsal(&tx, &pattern, &passed).await?;
            let id = found.ok_or(Error::NotFound(Noun::Vacancy))?;
            drop(tx);
            let schema = SchemaName::of(id);
            let entered = schema::enter(&self.db, &schema, ENTRY).await;
            let entered = match entered {
                Ok(entered) => entered,
                // A set-up or a keeper was first: it is a tenant's by now, or on its way to be torn down.
                Err(ApplyError::Diverged(_)) => {
                    passed.push(id);
                    continue;
                }
                Err(error) => return Err(to_error(during, error)),
            };
            if vacancies::try_lock_row_inside(&entered.tx, id).await.during(during)? {
                return self.attempt(entered, schema, House::Vacancy(id), now).await;
            }
            passed.push(id);
        }
    }

    async fn attempt(
        &self,
        entered: Entered,
        schema: SchemaName,
        house: House,
        now: OffsetDateTime,
    ) -> Result<Rehearsal> {
        let who = match &house {
            House::Tenant { slug, .. } => slug.as_str(),
            House::Vacancy(_) => "a vacancy",
        };
        let set = &self.set;
        let files = set.pending(&entered.applied).map_err(|error| refusal(error.into(), who))?;
        let ends = rehearse(entered, &schema, set, &files, self.db.rules(), now).await;
        let ends = ends.map_err(|error| to_error("rehearse a migration", error))?;
        let trials = set.names(&files).into_iter().zip(ends);
        let trials = trials.map(|(file, end)| Trial { file, end }).collect();
        Ok(Rehearsal { schema, house, trials })
    }
}

/// What does not fit is refused as when a run is started.
fn refusal(error: ApplyError, who: &str) -> Error {
    let sentence = format!("{error} ({who})");
    match error {
        ApplyError::Ahead { .. } => FleetProblem::Ahead(vec![sentence]).into(),
        ApplyError::Diverged(_) => FleetProblem::Diverged(vec![sentence]).into(),
        other => to_error("rehearse a migration", other),
    }
}
