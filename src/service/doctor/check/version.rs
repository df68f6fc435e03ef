//! At what version a schema stands, by its history, and what the files and the tenant's row say to that.

use crate::pg::catalog::history::History;
use crate::pg::catalog::inventory::{Recorded, SchemaOwner, TenantSchema};
use crate::service::doctor::check::{BY_HAND, Exam, FIX, MIGRATE, finding};
use crate::service::doctor::report::{Area, Finding, Gravity, Remedy};

/// What a schema is to be compared with.
pub(super) enum Standing {
    /// The files up to this version were applied, and no others.
    At(i32),
    /// That cannot be told; what was found instead.
    Astray(Box<Finding>),
}

impl Exam<'_> {
    /// By what a schema was made.
    pub(super) fn standing(&self, house: &TenantSchema, history: &History) -> Standing {
        let astray = |what: String, next: &str| {
            Standing::Astray(Box::new(finding(house, Area::History, Gravity::Wrong, what, next)))
        };
        let set = &self.doctor.set;
        match (history, &house.owner) {
            (History::Applied(applied), _) => match version_of(applied, &set.history_text()) {
                Some(version) => Standing::At(version),
                None => astray(
                    first_difference(applied, &set.history_text()),
                    "use the program, or the folder of migrations, that the schema was migrated with; a \
                     migration is never edited once applied",
                ),
            },
            // The comparison then tells that the table is missing.
            (History::Absent, SchemaOwner::Tenant(recorded)) => match set.up_to(recorded.version) {
                Some(set) if set.fingerprint() == recorded.fingerprint => {
                    Standing::At(recorded.version)
                }
                _ => astray(
                    format!(
                        "it has no migration history, and the recorded version {} is of other files than \
                         this program's",
                        recorded.version
                    ),
                    BY_HAND,
                ),
            },
            (History::Absent, _) => Standing::At(set.version()),
            (History::Unreadable(reason), _) => {
                astray(format!("its migration history cannot be read: {reason}"), BY_HAND)
            }
        }
    }

    /// That a schema lacks some files.
    pub(super) fn behind(&self, house: &TenantSchema, version: i32) -> Option<Finding> {
        let known = self.doctor.set.version();
        // A vacancy that is behind is built anew by itself.
        let is_tenant = matches!(house.owner, SchemaOwner::Tenant(_));
        (is_tenant && version < known).then(|| {
            let what = format!("it is behind: at version {version}, the files go up to {known}");
            finding(house, Area::History, Gravity::Warning, what, MIGRATE)
        })
    }

    /// That the tenant's row says something else than the history.
    pub(super) fn misrecorded(&self, house: &TenantSchema, version: i32) -> Option<Finding> {
        let SchemaOwner::Tenant(Recorded { version: said, fingerprint, .. }) = &house.owner else {
            return None;
        };
        let set = &self.doctor.set;
        let is_right = if version == set.version() {
            set.fingerprint() == fingerprint
        } else {
            set.up_to(version).is_some_and(|set| set.fingerprint() == fingerprint)
        };
        (!(is_right && *said == version)).then(|| {
            let what = if *said == version {
                format!(
                    "version {version} is recorded as made by other files than its history says"
                )
            } else {
                format!("version {said} is recorded, its history is at {version}")
            };
            finding(house, Area::History, Gravity::Wrong, what, FIX)
                .with_remedy(Remedy::Record(version))
        })
    }
}

/// The version that a history stands at, if it is the beginning of what the files leave.
fn version_of(applied: &str, whole: &str) -> Option<i32> {
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

/// In words where a history leaves what the files say.
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
    fn a_history_stands_at_a_version_if_it_is_the_beginning_of_the_files() {
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
            assert_eq!(version_of(applied, FILES), version, "{applied:?}");
        }
    }

    #[test]
    fn a_history_that_leaves_the_files_says_where() {
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
