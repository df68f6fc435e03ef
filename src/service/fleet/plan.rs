//! Plans a migration: which tenants are behind, which files they lack, and whether the files fit what was applied.
//! Nothing runs.
//!
//! Each tenant's row has the fingerprint of the set that made it, and the files of each set are recorded when it is
//! first used, so one query over the control plane is enough. If a set is not recorded (its tenants are older than
//! that table), the history of one of its tenants is read once, and recorded if it has that fingerprint. When a
//! migration runs, each schema's own history decides.

use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::error::Result;
use crate::domain::names::SchemaName;
use crate::domain::operation::FleetProblem;
use crate::migrations::{HistoryError, MigrationSet};
use crate::pg::PublicTx;
use crate::pg::control::migration_sets::{self, Group};
use crate::pg::error::During;

/// Which tenants are behind, by what, and what prevents a migration.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The highest version of the set.
    pub target_version: i32,
    /// The set's fingerprint.
    pub target_fingerprint: String,
    /// Tenants that are up to date.
    pub current_count: i64,
    /// Tenants that are being deleted and are not migrated.
    pub deleting_count: i64,
    /// Tenants that are behind, grouped by the set that made them.
    pub behind: Vec<Behind>,
    /// Sets that are newer than this program, one sentence each.
    pub ahead: Vec<String>,
    /// Sets whose files differ from those of this program, one sentence each.
    pub diverged: Vec<String>,
}

/// Tenants that lack the same files.
#[derive(Debug, Clone)]
pub struct Behind {
    /// Fingerprint of the set that made them.
    pub fingerprint: String,
    /// Highest version of that set.
    pub version: i32,
    /// How many there are.
    pub count: i64,
    /// Some of them, oldest first.
    pub slugs: Vec<String>,
    /// The files that they lack.
    pub files: Vec<String>,
}

impl Plan {
    /// Returns how many tenants are behind.
    #[must_use]
    pub fn behind_count(&self) -> i64 {
        self.behind.iter().map(|group| group.count).sum()
    }

    /// Refuses a migration that must not begin.
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

/// Reads the files of a set from the history of one of its tenants.
async fn learn(tx: &PublicTx, group: &mut Group, now: OffsetDateTime) -> Result<()> {
    let during = "read the history of a tenant";
    let schema = SchemaName::of(group.first);
    group.files = migration_sets::history(tx, &schema).await.during(during)?;
    // A schema that was changed by hand says nothing about the other tenants.
    if migration_sets::are_those_of(&group.files, &group.fingerprint) {
        migration_sets::record(tx, &group.fingerprint, &group.files, now).await?;
    }
    Ok(())
}

fn sentence(group: &Group, error: &HistoryError) -> String {
    let mut tenants = group.slugs.join(", ");
    let rest = usize::try_from(group.count).unwrap_or(usize::MAX).saturating_sub(group.slugs.len());
    if rest > 0 {
        tenants = format!("{tenants} and {rest} more");
    }
    format!("{error} ({tenants})")
}
