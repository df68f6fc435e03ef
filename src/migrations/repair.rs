//! Finds what makes the history of a schema fit the set again: rows that are renamed because a file was renumbered, and
//! rows that an operator wants to be added, deleted or overwritten.
//!
//! refinery's checksum covers the version, the name and the text of a file. So for a row that no file explains, the
//! checksum of each file is computed under the row's own version and name: if it is the row's, the file has the same
//! text under another number or name, and what the row records is what the file does.

use crate::migrations::file::File;
use crate::migrations::{Applied, MigrationSet};

/// What an operator wants to be done to histories, beside what is done of itself.
#[derive(Debug, Clone, Default)]
pub struct RepairRequest {
    /// Versions of files to record as applied without running them.
    pub stamp: Vec<i32>,
    /// Versions of rows to delete.
    pub forget: Vec<i32>,
    /// Versions of rows that take the present text of their file.
    pub accept: Vec<i32>,
    /// Versions of files that ran half-way outside a transaction and are to run from their start.
    pub forget_statements: Vec<i32>,
}

/// A change of one row of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The row becomes that of a file with the same text under another number or name.
    Rename {
        /// The row.
        from: Applied,
        /// The file's row.
        to: Applied,
    },
    /// The row takes the name and the checksum that its file has now.
    Accept {
        /// The row.
        from: Applied,
        /// The file's row.
        to: Applied,
    },
    /// A file is recorded as applied.
    Stamp(Applied),
    /// The row is deleted.
    Forget(Applied),
}

/// The changes of a history, and what is wrong after them.
#[derive(Debug, Clone, Default)]
pub struct HistoryRepair {
    /// What changes.
    pub changes: Vec<Change>,
    /// The history after it, lowest version first.
    pub after: Vec<Applied>,
    /// What then still contradicts the set, one sentence each, with what can be done.
    pub problems: Vec<String>,
}

impl MigrationSet {
    /// Finds the changes of a history.
    #[must_use]
    pub fn repair(&self, applied: &[Applied], request: &RepairRequest) -> HistoryRepair {
        let files = self.history();
        let file = |version: i32| files.iter().find(|file| file.version == version);
        let mut changes = Vec::new();
        let mut fits = Vec::new();
        let mut open = Vec::new();
        for row in applied {
            let known = file(row.version);
            if request.forget.contains(&row.version) {
                changes.push(Change::Forget(row.clone()));
            } else if !is_numbered(row) || self.records(row) {
                fits.push(row.clone());
            } else if let Some(known) = known.filter(|_| request.accept.contains(&row.version)) {
                changes.push(Change::Accept { from: row.clone(), to: known.clone() });
                fits.push(known.clone());
            } else {
                open.push(row.clone());
            }
        }
        self.rename(&files, open, &mut fits, &mut changes);
        for version in &request.stamp {
            let is_there = fits.iter().any(|row| row.version == *version);
            if let Some(known) = file(*version).filter(|_| !is_there) {
                changes.push(Change::Stamp(known.clone()));
                fits.push(known.clone());
            }
        }
        fits.sort_by_key(|row| row.version);
        let problems = self.problems(&files, &fits);
        HistoryRepair { changes, after: fits, problems }
    }

    /// Renames the rows whose text is that of a file which no other row stands for.
    fn rename(
        &self,
        files: &[Applied],
        open: Vec<Applied>,
        fits: &mut Vec<Applied>,
        changes: &mut Vec<Change>,
    ) {
        let mut renamed = Vec::new();
        let mut left = Vec::new();
        for row in open {
            let is_free = |file: &&Applied| fits.iter().all(|row| row.version != file.version);
            let same: Vec<&Applied> = files
                .iter()
                .zip(&self.migrations)
                .filter(|(file, source)| is_numbered(file) && has_text(&row, source))
                .map(|(file, _)| file)
                .filter(is_free)
                .collect();
            let named = same.iter().find(|file| file.name == row.name);
            // Several files of one text: without the name it cannot be told which of them the row is.
            match named.or(if same.len() == 1 { same.first() } else { None }) {
                Some(file) => renamed.push((row, (*file).clone())),
                None => left.push(row),
            }
        }
        for (at, (from, to)) in renamed.iter().enumerate() {
            let is_taken = left.iter().any(|row| row.version == to.version)
                || renamed.iter().take(at).any(|(_, earlier)| earlier.version == to.version);
            if is_taken {
                left.push(from.clone());
            } else {
                changes.push(Change::Rename { from: from.clone(), to: to.clone() });
                fits.push(to.clone());
            }
        }
        fits.extend(left);
    }

    /// Whether a row records the file of its version, with the text that it has.
    fn records(&self, row: &Applied) -> bool {
        let file = self.migrations.iter().find(|file| file.version() == row.version);
        file.is_some_and(|file| file.name() == row.name && file.accepts(&row.checksum))
    }

    /// How a history contradicts the set: all of it, with what can be done.
    fn problems(&self, files: &[Applied], rows: &[Applied]) -> Vec<String> {
        let mut problems = Vec::new();
        for row in rows.iter().filter(|row| is_numbered(row)) {
            let (file, version) = (row.file(), row.version);
            match files.iter().find(|file| file.version == version) {
                Some(_) if self.records(row) => {}
                Some(known) => problems.push(format!(
                    "{file} was applied with another text than {} has now: give the file back its text, or use \
                     `--accept V{version}` if the tenant has what it says now",
                    known.file()
                )),
                None if version > self.version() => problems.push(format!(
                    "{file} was applied and is newer than all files: use the folder that has it, or \
                     `--forget V{version}` if what it did was undone"
                )),
                None => problems.push(format!(
                    "{file} was applied and is not among the files: give it back, or use `--forget V{version}`, \
                     which deletes it from the history"
                )),
            }
        }
        let newest = rows.iter().map(|row| row.version).max().unwrap_or(i32::MIN);
        let is_late = |file: &&Applied| {
            is_numbered(file)
                && file.version < newest
                && rows.iter().all(|row| row.version != file.version)
        };
        for late in files.iter().filter(is_late) {
            problems.push(format!(
                "{} is not applied and has a lower number than one that is: renumber it, or use `--stamp V{}` if the \
                 tenant has what it does",
                late.file(),
                late.version
            ));
        }
        problems
    }
}

/// Whether a row or file has a number of its own: a repeatable file has none, and is never out of place.
fn is_numbered(row: &Applied) -> bool {
    row.version > 0
}

/// Whether a row records a file with this text, whatever its line ends.
fn has_text(row: &Applied, file: &File) -> bool {
    let text = file.sql().to_owned();
    File::versioned("", row.version, &row.name, text).accepts(&row.checksum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(files: &[(&str, &str)]) -> MigrationSet {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        MigrationSet::load(folder.path()).unwrap()
    }

    const A: &str = "CREATE TABLE a ();\n";
    const B: &str = "CREATE TABLE b ();\n";
    const C: &str = "CREATE TABLE c ();\n";

    fn words(repair: &HistoryRepair) -> Vec<String> {
        let word = |change: &Change| match change {
            Change::Rename { from, to } => format!("{} > {}", from.file(), to.file()),
            Change::Accept { from, .. } => format!("accept {}", from.file()),
            Change::Stamp(file) => format!("stamp {}", file.file()),
            Change::Forget(row) => format!("forget {}", row.file()),
        };
        repair.changes.iter().map(word).collect()
    }

    #[test]
    fn a_row_is_renamed_to_the_file_that_has_its_text() {
        let now = set(&[("V1__a.sql", A), ("V3__c.sql", C), ("V4__b.sql", B)]);
        let unasked = RepairRequest::default();
        for (applied, changes) in [
            (&[("V1__a.sql", A), ("V3__c.sql", C)][..], &[][..]),
            (&[("V1__a.sql", A), ("V2__b.sql", B), ("V3__c.sql", C)], &["V2__b.sql > V4__b.sql"]),
            // Another name, other line ends, a higher number than all files.
            (&[("V1__a.sql", A), ("V3__other.sql", C)], &["V3__other.sql > V3__c.sql"]),
            (
                &[("V1__a.sql", A), ("V2__b.sql", "CREATE TABLE b ();\r\n"), ("V3__c.sql", C)],
                &["V2__b.sql > V4__b.sql"],
            ),
            (&[("V1__a.sql", A), ("V3__c.sql", C), ("V9__b.sql", B)], &["V9__b.sql > V4__b.sql"]),
            // Two files that changed places.
            (
                &[("V1__a.sql", A), ("V3__b.sql", B), ("V4__c.sql", C)],
                &["V3__b.sql > V4__b.sql", "V4__c.sql > V3__c.sql"],
            ),
        ] {
            let repair = now.repair(&set(applied).history(), &unasked);
            assert_eq!(words(&repair), changes, "{applied:?}");
            assert_eq!(repair.problems, [""; 0], "{applied:?}");
            assert!(now.pending(&repair.after).is_ok(), "{applied:?}");
        }
    }

    #[test]
    fn what_cannot_be_told_apart_is_left_with_what_can_be_done() {
        let now = set(&[("V1__a.sql", A), ("V4__x.sql", B), ("V5__y.sql", B)]);
        let found = |applied: &[(&str, &str)]| {
            let repair = now.repair(&set(applied).history(), &RepairRequest::default());
            assert_eq!(words(&repair), [""; 0], "{applied:?}");
            repair.problems
        };
        // Two files have its text.
        let problems = found(&[("V1__a.sql", A), ("V2__b.sql", B)]);
        assert_eq!(problems.len(), 1);
        assert!(problems[0].contains("`--forget V2`"), "{problems:?}");
        let problems = found(&[("V1__a.sql", C)]);
        assert!(problems[0].contains("`--accept V1`"), "{problems:?}");
        let problems = found(&[("V1__a.sql", A), ("V9__z.sql", C)]);
        assert_eq!(problems.len(), 3, "one newer row, two late files: {problems:?}");
        assert!(problems[1].contains("`--stamp V4`"), "{problems:?}");
    }

    #[test]
    fn rows_are_added_deleted_and_overwritten_on_request_only() {
        let now = set(&[("V1__a.sql", A), ("V2__b.sql", B), ("V3__c.sql", C)]);
        let applied =
            set(&[("V1__a.sql", "SELECT 1"), ("V3__c.sql", C), ("V4__d.sql", "SELECT 4")]);
        let request = RepairRequest {
            stamp: vec![2, 3],
            forget: vec![4, 7],
            accept: vec![1, 3],
            forget_statements: Vec::new(),
        };
        let repair = now.repair(&applied.history(), &request);
        assert_eq!(words(&repair), ["accept V1__a.sql", "forget V4__d.sql", "stamp V2__b.sql"]);
        assert_eq!(repair.after, now.history());
        assert_eq!(repair.problems, [""; 0]);
    }
}
