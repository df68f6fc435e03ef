//! Runs the migration on one schema, a tenant's or a vacancy's, in a transaction that is rolled back.
//!
//! A file that runs outside of a transaction is rehearsed inside of one, without its `CONCURRENTLY`, so the tables of
//! that tenant are locked as long as the rehearsal takes. A vacancy has no users to wait for the locks.

use std::sync::Arc;

use time::OffsetDateTime;
use tokio::task::JoinSet;

use crate::domain::error::{Error, Noun, Result};
use crate::domain::names::{SchemaName, Slug, TenantId};
use crate::domain::operation::FleetProblem;
use crate::migrations::HistoryError;
use crate::pg::control::vacancies::{self, Pattern};
use crate::pg::control::{migration_sets, tenants};
use crate::pg::error::During;
use crate::pg::schema::error::ApplyError;
use crate::pg::schema::rehearse::rehearse;
use crate::pg::schema::{self, MigrationTx};
use crate::pg::scope::{Entry, Flush};
use crate::service::fleet::engine::Engine;
use crate::service::fleet::error::to_error;
use crate::service::fleet::plan;

pub use crate::pg::schema::rehearse::TrialEnd;

/// Nothing is committed, so no lease is needed.
const ENTRY: Entry = Entry { flush: Flush::Now, before: None };

/// The schema on which to rehearse a migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RehearsalTarget {
    /// The first tenant that is behind.
    FirstBehind,
    /// This tenant, by slug or id.
    Tenant(String),
    /// A vacancy, preferably one that is behind.
    Vacancy,
}

/// What a migration would do to one schema.
#[derive(Debug, Clone)]
pub struct Rehearsal {
    /// Its name.
    pub schema: SchemaName,
    /// What it belongs to.
    pub owner: SchemaOwner,
    /// The result of each file that the schema lacks, in order.
    pub trials: Vec<Trial>,
}

/// What a schema belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SchemaOwner {
    /// A tenant.
    Tenant {
        /// Its id.
        id: TenantId,
        /// Its slug.
        slug: Slug,
    },
    /// A vacancy, by the id of its future tenant.
    Vacancy(TenantId),
}

/// The result of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// Name of the file.
    pub file: String,
    /// How it ended.
    pub end: TrialEnd,
}

impl Rehearsal {
    /// As [`outcome_of`] its files.
    ///
    /// # Errors
    /// The file that would fail, the line and the reason, in one sentence.
    pub fn outcome(&self) -> Result<Vec<String>, String> {
        outcome_of(&self.trials)
    }
}

/// Returns the files that would be applied.
///
/// # Errors
/// The file that would fail, the line and the reason, in one sentence.
pub fn outcome_of(trials: &[Trial]) -> Result<Vec<String>, String> {
    let file = |trial: &Trial| match &trial.end {
        TrialEnd::Failed { line, message } => Err(ApplyError::Failed {
            file: trial.file.clone(),
            line: *line,
            message: message.clone(),
            needs_commit: false,
        }
        .to_string()),
        TrialEnd::Applied(_) | TrialEnd::NotReached => Ok(trial.file.clone()),
    };
    trials.iter().map(file).collect()
}

impl Engine {
    /// Runs the migration and rolls it back; `None` if no tenant is behind. One at a time in a process, on the pools
    /// that set-ups use; it ends when the caller goes.
    pub(super) async fn rehearse(
        self: &Arc<Self>,
        target: RehearsalTarget,
        now: OffsetDateTime,
    ) -> Result<Option<Rehearsal>> {
        let engine = Arc::clone(self);
        let mut task = JoinSet::new();
        let rehearsing = async move {
            let _turn = engine.rehearsing.lock().await;
            match target {
                RehearsalTarget::FirstBehind => engine.rehearse_on_tenant(None, now).await,
                RehearsalTarget::Tenant(named) => engine.rehearse_on_tenant(Some(named), now).await,
                RehearsalTarget::Vacancy => engine.rehearse_on_vacancy(now).await.map(Some),
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
        // Refuses what a run on this tenant would be refused for.
        plan::make(&tx, &self.set, Some(&[id.uuid()]), now).await?.require_fit()?;
        drop(tx);
        let (schema, slug) = (SchemaName::of(id), tenant.slug);
        let entered = schema::enter(&self.db, &schema, ENTRY).await;
        let entered = entered.map_err(|error| refusal(error, slug.as_str()))?;
        let owner = SchemaOwner::Tenant { id, slug };
        self.attempt(entered, schema, owner, now).await.map(Some)
    }

    async fn rehearse_on_vacancy(&self, now: OffsetDateTime) -> Result<Rehearsal> {
        let during = "rehearse a migration";
        let pattern = Pattern::of(&self.set, self.db.rules().isolation);
        let mut excluded = Vec::new();
        loop {
            let tx = self.db.public().await.during(during)?;
            let found = vacancies::find_for_rehearsal(&tx, &pattern, &excluded).await?;
            let id = found.ok_or(Error::NotFound(Noun::Vacancy))?;
            drop(tx);
            let schema = SchemaName::of(id);
            let entered = schema::enter(&self.db, &schema, ENTRY).await;
            let entered = match entered {
                Ok(entered) => entered,
                // A set-up has taken it, or a replenisher is dropping it.
                Err(ApplyError::History(HistoryError::Diverged(_))) => {
                    excluded.push(id);
                    continue;
                }
                Err(error) => return Err(to_error(during, error)),
            };
            if vacancies::try_lock_row_inside(&entered.tx, id).await.during(during)? {
                return self.attempt(entered, schema, SchemaOwner::Vacancy(id), now).await;
            }
            excluded.push(id);
        }
    }

    async fn attempt(
        &self,
        entered: MigrationTx,
        schema: SchemaName,
        owner: SchemaOwner,
        now: OffsetDateTime,
    ) -> Result<Rehearsal> {
        let name = match &owner {
            SchemaOwner::Tenant { slug, .. } => slug.as_str(),
            SchemaOwner::Vacancy(_) => "a vacancy",
        };
        let set = &self.set;
        let files = set.pending(&entered.applied).map_err(|error| refusal(error.into(), name))?;
        let ends = rehearse(entered, &schema, set, &files, self.db.rules(), now).await;
        let ends = ends.map_err(|error| to_error("rehearse a migration", error))?;
        let trials = set.names(&files).into_iter().zip(ends);
        let trials = trials.map(|(file, end)| Trial { file, end }).collect();
        Ok(Rehearsal { schema, owner, trials })
    }
}

/// Refuses files that do not fit, as the start of an operation does.
fn refusal(error: ApplyError, schema: &str) -> Error {
    let ApplyError::History(error) = error else {
        return to_error("rehearse a migration", error);
    };
    let sentence = format!("{error} ({schema})");
    match error {
        HistoryError::Ahead { .. } => FleetProblem::Ahead(vec![sentence]).into(),
        HistoryError::Diverged(_) => FleetProblem::Diverged(vec![sentence]).into(),
    }
}
