//! At which version a schema is, by its history, and whether the files and the tenant's row agree.

use crate::migrations::MigrationSet;
use crate::pg::catalog::history::History;
use crate::pg::catalog::inventory::{Recorded, SchemaOwner, TenantSchema};
use crate::service::doctor::check::findings::{BY_HAND, FIX, MIGRATE, NODE_AWAY, finding};
use crate::service::doctor::report::{Area, Finding, Gravity, Remedy};

/// The version of a schema.
pub(super) enum SchemaVersion {
    /// The files up to this version were applied, and no others.
    At(i32),
    /// The version cannot be determined, for the reason in the finding.
    Unknown(Box<Finding>),
}

/// Returns at which version a schema is, by its history.
pub(super) fn version_of(
    set: &MigrationSet,
    entry: &TenantSchema,
    history: &History,
) -> SchemaVersion {
    let unknown = |what: String, next: &str| {
        SchemaVersion::Unknown(Box::new(finding(entry, Area::History, Gravity::Wrong, what, next)))
    };
    match (history, &entry.owner) {
        (History::Applied(rows), owner) => {
            let applied = set.comparable_history(rows);
            match (prefix_version(&applied, &set.history_text()), set.stale_repeatable(rows)) {
                (Some(_), Some(file)) if matches!(owner, SchemaOwner::Tenant(_)) => {
                    let what = format!("it is behind: {file} has not run since it was changed");
                    let found = finding(entry, Area::History, Gravity::Warning, what, MIGRATE);
                    SchemaVersion::Unknown(Box::new(found))
                }
                (Some(version), _) => SchemaVersion::At(version),
                (None, _) => unknown(
                    first_difference(&applied, &set.history_text()),
                    "use the program, or the folder of migrations, that the schema was migrated with; a \
                     migration is never edited once applied",
                ),
            }
        }
        // The comparison then reports that the table is missing, or the owner or right for which it cannot be read.
        (History::Absent | History::Denied(_), SchemaOwner::Tenant(recorded)) => {
            let is_known = set
                .up_to(recorded.version)
                .is_some_and(|set| set.fingerprint() == recorded.fingerprint);
            match history {
                _ if is_known => SchemaVersion::At(recorded.version),
                History::Denied(reason) => {
                    SchemaVersion::Unknown(Box::new(unreadable(entry, reason)))
                }
                _ => unknown(
                    format!(
                        "it has no migration history, and the recorded version {} is of other files than \
                         this program's",
                        recorded.version
                    ),
                    BY_HAND,
                ),
            }
        }
        (History::Absent | History::Denied(_), _) => SchemaVersion::At(set.version()),
        (History::Away(reason), _) => unknown(
            format!("it cannot be read, and was not examined: its node is away: {reason}"),
            NODE_AWAY,
        ),
        (History::Unreadable(reason), _) => {
            SchemaVersion::Unknown(Box::new(unreadable(entry, reason)))
        }
    }
}

/// The finding that a history cannot be read.
pub(super) fn unreadable(entry: &TenantSchema, reason: &str) -> Finding {
    let what = format!("its migration history cannot be read: {reason}");
    finding(entry, Area::History, Gravity::Wrong, what, BY_HAND)
}

/// The finding that a tenant's schema lacks some files.
pub(super) fn behind(set: &MigrationSet, entry: &TenantSchema, version: i32) -> Option<Finding> {
    let known = set.version();
    // A vacancy that is behind is migrated or dropped in the background.
    let is_tenant = matches!(entry.owner, SchemaOwner::Tenant(_));
    (is_tenant && version < known).then(|| {
        let what = format!("it is behind: at version {version}, the files go up to {known}");
        finding(entry, Area::History, Gravity::Warning, what, MIGRATE)
    })
}

/// The finding that the tenant's row disagrees with the history.
pub(super) fn misrecorded(
    set: &MigrationSet,
    entry: &TenantSchema,
    version: i32,
) -> Option<Finding> {
    let SchemaOwner::Tenant(Recorded { version: said, fingerprint, .. }) = &entry.owner else {
        return None;
    };
    let is_right = if version == set.version() {
        set.fingerprint() == fingerprint
    } else {
        set.up_to(version).is_some_and(|set| set.fingerprint() == fingerprint)
    };
    (!(is_right && *said == version)).then(|| {
        let what = if *said == version {
            format!("version {version} is recorded as made by other files than its history says")
        } else {
            format!("version {said} is recorded, its history is at {version}")
        };
        finding(entry, Area::History, Gravity::Wrong, what, FIX)
            .with_remedy(Remedy::Record(version))
    })
}

/// The version of a history, if it is a prefix of the history that all files make.
fn prefix_version(applied: &str, whole: &str) -> Option<i32> {
    let rest = whole.strip_prefix(applied)?;
    let ends_a_line = applied.is_empty() || rest.is_empty() || rest.starts_with('\n');
    if !ends_a_line {
        return None;
    }
    match applied.lines().last() {
        None => Some(0),
        Some(line) => line.split(' ').next()?.parse().ok(),
    }
}

/// Describes the first difference between a history and that of the files.
fn first_difference(applied: &str, whole: &str) -> String {
    let file = |line: &str| {
        let mut words = line.split(' ');
        format!("V{}__{}.sql", words.next().unwrap_or("?"), words.next().unwrap_or("?"))
    };
    let mut files = whole.lines();
    for line in applied.lines() {
        match files.next() {
            Some(known) if known == line => {}
            Some(known) if file(known) == file(line) => {
                return format!("{} was applied with another text than it has now", file(line));
            }
            _ => {
                return format!(
                    "{} was applied, and is not in its place among the files",
                    file(line)
                );
            }
        }
    }
    "its history does not follow the files".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: &str = "1 create_a 11\n2 create_b 22\n10 create_c 33";

    #[test]
    fn a_history_has_a_version_if_it_is_a_prefix_of_the_files() {
        for (applied, version) in [
            ("", Some(0)),
            ("1 create_a 11", Some(1)),
            ("1 create_a 11\n2 create_b 22", Some(2)),
            (FILES, Some(10)),
            ("1 create_a 1", None),
            ("1 create_a 12", None),
            ("2 create_b 22", None),
            ("1 create_a 11\n2 create_b 22\n10 create_c 33\n11 create_d 44", None),
        ] {
            assert_eq!(prefix_version(applied, FILES), version, "{applied:?}");
        }
    }

    #[test]
    fn the_first_difference_from_the_files_is_named() {
        let say = |applied| first_difference(applied, FILES);
        assert_eq!(
            say("1 create_a 11\n2 create_b 99"),
            "V2__create_b.sql was applied with another text than it has now"
        );
        assert_eq!(
            say("1 create_a 11\n3 create_x 5"),
            "V3__create_x.sql was applied, and is not in its place among the files"
        );
        assert!(
            say(&format!("{FILES}\n11 create_d 44")).starts_with("V11__create_d.sql was applied")
        );
    }
}
