//! Tells who is behind and by what, and whether the files fit what is there, before anything runs.
//!
//! Each tenant says which set it was made by, and the files of each set are written down when it is first
//! used, so that one query over the control plane is enough. Where a set is not known (the tenants are older
//! than that table) the history of one of its tenants is read, once; what it says is written down if it is
//! what the tenants say. In the end each schema's own history decides.

use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::error::Result;
use crate::domain::names::SchemaName;
use crate::domain::operation::FleetProblem;
use crate::migrations::{HistoryError, MigrationSet};
use crate::pg::PublicTx;
use crate::pg::control::migration_sets::{self, Group};
use crate::pg::error::During;

/// Who is behind, by what, and what stands in the way.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The highest version of the set.
    pub target_version: i32,
    /// The set's fingerprint.
    pub target_fingerprint: String,
    /// Tenants that are on it.
    pub current_count: i64,
    /// Tenants that are being deleted, which are not migrated.
    pub deleting_count: i64,
    /// Those that are behind, by what they were made by.
    pub behind: Vec<Behind>,
    /// Sets that this program is too old for, one sentence each.
    pub ahead: Vec<String>,
    /// Sets whose files are not the ones that lie here, one sentence each.
    pub diverged: Vec<String>,
}

/// Tenants that lack the same files.
#[derive(Debug, Clone)]
pub struct Behind {
    /// What they were made by.
    pub fingerprint: String,
    /// Its highest version.
    pub version: i32,
    /// How many they are.
    pub count: i64,
    /// Some of them, oldest first.
    pub slugs: Vec<String>,
    /// The files that they lack.
    pub files: Vec<String>,
}

impl Plan {
    /// How many tenants are behind.
    #[must_use]
    pub fn behind_count(&self) -> i64 {
        self.behind.iter().map(|group| group.count).sum()
    }

    /// Refuses what must not be begun.
    ///
    /// # Errors
    /// [`FleetProblem::Ahead`], [`FleetProblem::Diverged`].
    pub fn require_fit(&self) -> Result<(), FleetProblem> {
        if !self.ahead.is_empty() {
            return Err(FleetProblem::Ahead(self.ahead.clone()));
        }
        if !self.diverged.is_empty() {
            return Err(FleetProblem::Diverged(self.diverged.clone()));
        }
        Ok(())
    }
}

pub(super) async fn make(
    tx: &PublicTx,
    set: &MigrationSet,
    only: Option<&[Uuid]>,
    now: OffsetDateTime,
) -> Result<Plan> {
    let mut plan = Plan {
        target_version: set.version(),
        target_fingerprint: set.fingerprint().to_owned(),
        current_count: 0,
        deleting_count: migration_sets::count_deleting(tx).await?,
        behind: Vec::new(),
        ahead: Vec::new(),
        diverged: Vec::new(),
    };
    for mut group in migration_sets::groups(tx, only).await? {
        if group.fingerprint == set.fingerprint() {
            plan.current_count += group.count;
            continue;
        }
        if group.files.is_empty() {
            learn(tx, &mut group, now).await?;
        }
        match set.pending(&group.files) {
            Ok(pending) => plan.behind.push(Behind {
                files: set.names(&pending),
                fingerprint: group.fingerprint,
                version: group.version,
                count: group.count,
                slugs: group.slugs,
            }),
            Err(error @ HistoryError::Ahead { .. }) => plan.ahead.push(sentence(&group, &error)),
            Err(error) => plan.diverged.push(sentence(&group, &error)),
        }
    }
    Ok(plan)
}

/// Reads the files of a set off one of its tenants.
async fn learn(tx: &PublicTx, group: &mut Group, now: OffsetDateTime) -> Result<()> {
    let during = "read the history of a tenant";
    let schema = SchemaName::of(group.first);
    group.files = migration_sets::history(tx, &schema).await.during(during)?;
    // A schema that somebody has worked on by hand speaks for itself alone.
    if migration_sets::are_those_of(&group.files, &group.fingerprint) {
        migration_sets::record(tx, &group.fingerprint, &group.files, now).await?;
    }
    Ok(())
}

fn sentence(group: &Group, error: &HistoryError) -> String {
    let mut who = group.slugs.join(", ");
    let rest = usize::try_from(group.count).unwrap_or(usize::MAX).saturating_sub(group.slugs.len());
    if rest > 0 {
        who = format!("{who} and {rest} more");
    }
    format!("{error} ({who})")
}
