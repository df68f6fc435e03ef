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
use crate::migrations::{Applied, HistoryError, MigrationSet};
use crate::pg::PublicTx;
use crate::pg::control::migration_sets::{self, Group};
use crate::pg::error::During;
use crate::pg::schema::history;

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

/// Plans a migration of all tenants, or of those in `only`.
///
/// # Errors
/// Those of the database.
pub(in crate::service) async fn make(
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
    for half in migration_sets::half_run(tx, only).await? {
        let version = half.version;
        if !set.is_non_transactional(version) {
            let tenants = named(&half.slugs, half.count);
            plan.diverged.push(format!(
                "V{version} ran half-way outside a transaction, and no file of this number runs outside a \
                 transaction now; give the file back its number and its first line, or undo what it did and run \
                 `rowhouse migrate repair --forget-statements V{version} --yes` ({tenants})"
            ));
        }
    }
    Ok(plan)
}

/// Returns why no tenant may be created from the set: it contradicts what an existing tenant has applied, and a
/// migration of all tenants would be refused. The sentence names the file and some of those tenants. Returns `None`
/// if the set fits.
///
/// A newer program may already have migrated some tenants. That is no contradiction while the set is a prefix of
/// theirs: a tenant that is created from it is behind, and is migrated later.
///
/// One query over the tenants' rows; the history of a tenant is read once for each set that is not recorded.
///
/// # Errors
/// Those of the database.
pub(in crate::service) async fn contradiction(
    tx: &PublicTx,
    set: &MigrationSet,
    now: OffsetDateTime,
) -> Result<Option<String>> {
    for mut group in migration_sets::groups(tx, None).await? {
        if group.fingerprint == set.fingerprint() {
            continue;
        }
        if group.files.is_empty() {
            learn(tx, &mut group, now).await?;
        }
        if let Some(error) = contradicts(set, &group.files) {
            return Ok(Some(sentence(&group, &error)));
        }
    }
    Ok(None)
}

/// How the set contradicts a history; `None` if one of the two is a prefix of the other.
fn contradicts(set: &MigrationSet, applied: &[Applied]) -> Option<HistoryError> {
    let ahead = match set.pending(applied) {
        Ok(_pending) => return None,
        Err(error @ HistoryError::Ahead { .. }) => error,
        Err(error) => return Some(error),
    };
    let is_known = |row: &&Applied| row.version <= set.version();
    let known: Vec<Applied> = applied.iter().filter(is_known).cloned().collect();
    match set.pending(&known) {
        Ok(pending) => {
            // The history goes on behind the set, so a numbered file that it lacks came late.
            let names = set.names(&pending);
            let late = names.iter().find(|name| name.starts_with('V'))?;
            Some(HistoryError::late(late))
        }
        Err(HistoryError::Ahead { .. }) => Some(ahead),
        Err(error) => Some(error),
    }
}

/// Reads the files of a set from the history of one of its tenants.
async fn learn(tx: &PublicTx, group: &mut Group, now: OffsetDateTime) -> Result<()> {
    let during = "read the history of a tenant";
    let schema = SchemaName::of(group.first);
    group.files = history::read(tx, &schema).await.during(during)?;
    // A schema that was changed by hand says nothing about the other tenants.
    if migration_sets::are_those_of(&group.files, &group.fingerprint) {
        migration_sets::record(tx, &group.fingerprint, &group.files, now).await?;
    }
    Ok(())
}

fn sentence(group: &Group, error: &HistoryError) -> String {
    format!("{error} ({})", named(&group.slugs, group.count))
}

/// Some slugs, and how many more there are.
fn named(slugs: &[String], count: i64) -> String {
    let some = slugs.join(", ");
    match usize::try_from(count).unwrap_or(usize::MAX).saturating_sub(slugs.len()) {
        0 => some,
        rest => format!("{some} and {rest} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(files: &[&str]) -> MigrationSet {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            std::fs::write(folder.path().join(file), "SELECT 1").unwrap();
        }
        MigrationSet::load(folder.path()).unwrap()
    }

    #[test]
    fn a_set_contradicts_a_tenant_unless_one_of_them_is_a_prefix_of_the_other() {
        let ours = set(&["V1__a.sql", "V3__c.sql"]);
        let fits = |files: &[&str]| contradicts(&ours, &set(files).history()).is_none();
        assert!(fits(&[]));
        assert!(fits(&["V1__a.sql"]));
        assert!(fits(&["V1__a.sql", "V3__c.sql"]));
        assert!(fits(&["V1__a.sql", "V3__c.sql", "V4__d.sql"]));
        // A file that came late, here or there.
        assert!(!fits(&["V1__a.sql", "V2__b.sql", "V3__c.sql"]));
        assert!(!fits(&["V3__c.sql"]));
        assert!(!fits(&["V1__a.sql", "V4__d.sql"]));
        assert!(!fits(&["V1__a.sql", "V2__b.sql", "V3__c.sql", "V4__d.sql"]));
        // Another text or name under the same number.
        assert!(!fits(&["V1__z.sql"]));
    }
}
