//! Compares a set with a schema's history, and builds the SQL that brings the schema up to date in few round
//! trips: refinery's own driver sends several queries a file, and with thousands of tenants these dominate the cost.
//!
//! Refuses what refinery would refuse, and writes the same rows into its history table, so that refinery can
//! continue after this code and this code after refinery.

use std::collections::HashMap;

use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::domain::names::SchemaName;
use crate::migrations::error::HistoryError;
use crate::migrations::{HISTORY_TABLE, MigrationSet, file_name};

/// SQL for the digest of all rows of a history table, equal to [`digest`] of the same rows. `concat_ws` joins the
/// columns because resolving the `||` operators costs the server more than running them.
const HISTORY_DIGEST: &str = "sha256(convert_to(coalesce(string_agg(\
    concat_ws(' ', version, name, checksum), E'\\n' ORDER BY version), ''), 'UTF8'))";

fn digest(history: &[Applied]) -> String {
    hex::encode(Sha256::digest(history_text(history)))
}

/// Formats a history as text, one line a file: `version name checksum`.
pub(super) fn history_text(history: &[Applied]) -> String {
    let line = |row: &Applied| format!("{} {} {}", row.version, row.name, row.checksum);
    history.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A row of a history table: one applied file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The file's version.
    pub version: i32,
    /// The name without version and extension.
    pub name: String,
    /// refinery's checksum of version, name and text.
    pub checksum: String,
}

impl Applied {
    fn file(&self) -> String {
        format!("V{}__{}.sql", self.version, self.name)
    }
}

/// The files of a set that are not yet applied to a schema, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pending(pub(crate) Vec<usize>);

impl Pending {
    /// Splits into one `Pending` a file.
    pub(crate) fn each(&self) -> Vec<Self> {
        self.0.iter().map(|at| Self(vec![*at])).collect()
    }
}

/// What is pending in a schema that has exactly the first files of the set applied. All pending files can run in
/// one transaction.
#[derive(Debug, Clone)]
pub struct AppliedPrefix {
    /// The files after the prefix.
    pub files: Pending,
    /// The digest of the history of such a schema.
    history: String,
}

/// Consecutive files of [`Pending`] that run in the same way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// Files that run in one transaction.
    Transactional(Pending),
    /// A file that runs statement by statement.
    NonTransactional(NonTransactionalFile),
}

/// The index of a file that runs statement by statement, outside a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NonTransactionalFile(pub(crate) usize);

impl MigrationSet {
    /// The rows that the files write into a history table.
    #[must_use]
    pub fn history(&self) -> Vec<Applied> {
        let row = |migration: &refinery_core::Migration| Applied {
            version: migration.version(),
            name: migration.name().to_owned(),
            checksum: migration.checksum().to_string(),
        };
        self.migrations.iter().map(row).collect()
    }

    /// Returns the files to apply to a schema with this history, lowest version first.
    ///
    /// # Errors
    /// [`HistoryError::Ahead`], or [`HistoryError::Diverged`] with the file.
    pub fn pending(&self, applied: &[Applied]) -> Result<Pending, HistoryError> {
        let known = self.history();
        for row in applied {
            match known.iter().find(|file| file.version == row.version) {
                Some(file) if file == row => {}
                Some(file) => {
                    return Err(HistoryError::edited(&row.file(), &file.file()));
                }
                None if row.version > self.version() => {
                    let (found, known) = (row.version, self.version());
                    return Err(HistoryError::Ahead { found, known });
                }
                None => {
                    let file = row.file();
                    return Err(HistoryError::Diverged(format!(
                        "{file} was applied and is not among the files"
                    )));
                }
            }
        }
        let newest = applied.iter().map(|row| row.version).max().unwrap_or(i32::MIN);
        let is_new = |file: &Applied| applied.iter().all(|row| row.version != file.version);
        let pending: Vec<usize> =
            known.iter().enumerate().filter(|(_, file)| is_new(file)).map(|(at, _)| at).collect();
        if let Some(late) = pending.iter().map(|at| &known[*at]).find(|file| file.version < newest)
        {
            return Err(HistoryError::late(&late.file()));
        }
        Ok(Pending(pending))
    }

    /// Returns every proper prefix of the set whose remaining files can all run in one transaction, by its
    /// fingerprint.
    #[must_use]
    pub fn applied_prefixes(&self) -> HashMap<String, AppliedPrefix> {
        let history = self.history();
        (0..history.len())
            .filter_map(|count| {
                let (first, rest) = history.split_at_checked(count)?;
                let files = Pending((count..count + rest.len()).collect());
                let is_transactional =
                    files.0.iter().all(|at| self.non_transactional[*at].is_none())
                        && !self.has_rows(&files);
                let prefix = AppliedPrefix { files, history: digest(first) };
                is_transactional.then(|| (Self::fingerprint_of(first), prefix))
            })
            .collect()
    }

    /// The names of the files after the prefix of the set that has this fingerprint; empty if no prefix has it.
    #[must_use]
    pub fn names_after(&self, fingerprint: &str) -> Vec<String> {
        let history = self.history();
        let is_it = |count: &usize| Self::fingerprint_of(&history[..*count]) == fingerprint;
        let count = (0..history.len()).find(is_it).unwrap_or(history.len());
        self.migrations[count..].iter().map(file_name).collect()
    }

    /// Builds the statement that adds the first file after a prefix to the history. It fails unless the history is that
    /// of the prefix.
    pub(crate) fn first_history_row(
        &self,
        at: usize,
        schema: &SchemaName,
        prefix: &AppliedPrefix,
        now: OffsetDateTime,
    ) -> String {
        // A NULL version violates NOT NULL and aborts.
        let [version, name, applied_on, checksum] = self.history_values(at, now);
        let expected = &prefix.history;
        format!(
            "INSERT INTO {schema}.{HISTORY_TABLE} (version, name, applied_on, checksum)
             SELECT CASE WHEN {HISTORY_DIGEST} = '\\x{expected}' THEN {version} END,
                    {name}, {applied_on}, {checksum}
               FROM {schema}.{HISTORY_TABLE}"
        )
    }

    /// All files of the set.
    pub(crate) fn all(&self) -> Pending {
        Pending((0..self.migrations.len()).collect())
    }

    /// The names of these files.
    #[must_use]
    pub fn names(&self, files: &Pending) -> Vec<String> {
        files.0.iter().map(|at| file_name(&self.migrations[*at])).collect()
    }

    /// Groups the files by how they run, in order. The last segment is always a transactional one, possibly empty;
    /// it is the only one if no file is non-transactional.
    #[must_use]
    pub fn segments(&self, files: &Pending) -> Vec<Segment> {
        let mut segments = Vec::new();
        let mut open = Vec::new();
        for at in &files.0 {
            if self.non_transactional[*at].is_none() {
                open.push(*at);
                continue;
            }
            if !open.is_empty() {
                segments.push(Segment::Transactional(Pending(std::mem::take(&mut open))));
            }
            segments.push(Segment::NonTransactional(NonTransactionalFile(*at)));
        }
        // The result is recorded in a transaction at the end in any case.
        segments.push(Segment::Transactional(Pending(open)));
        segments
    }

    /// Builds the statement that adds a file to the history. No value needs quoting: version and checksum are
    /// numbers, the name consists of letters, digits and underscores.
    pub(crate) fn history_row(
        &self,
        at: usize,
        schema: &SchemaName,
        now: OffsetDateTime,
    ) -> String {
        let values = self.history_values(at, now).join(", ");
        format!(
            "INSERT INTO {schema}.{HISTORY_TABLE} (version, name, applied_on, checksum) \
             VALUES ({values})"
        )
    }

    fn history_values(&self, at: usize, now: OffsetDateTime) -> [String; 4] {
        let migration = &self.migrations[at];
        [
            migration.version().to_string(),
            format!("'{}'", migration.name()),
            format!("'{}'", now.format(&Rfc3339).unwrap_or_default()),
            format!("'{}'", migration.checksum()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migrations::NO_TRANSACTION;

    fn set(files: &[(&str, &str)]) -> MigrationSet {
        let files =
            files.iter().map(|(name, sql)| refinery_core::Migration::unapplied(name, sql).unwrap());
        MigrationSet::new(files.collect()).unwrap()
    }

    #[test]
    fn a_contradiction_is_named_and_new_files_are_pending() {
        let one = ("V1__one", "SELECT 1");
        let two = ("V2__two", "SELECT 2");
        let three = ("V3__three", "SELECT 3");
        let here = set(&[one, two, three]);
        let pending = |before: &[(&str, &str)]| {
            here.pending(&set(before).history()).map(|files| here.names(&files))
        };
        assert_eq!(pending(&[]).unwrap(), ["V1__one.sql", "V2__two.sql", "V3__three.sql"]);
        assert_eq!(pending(&[one]).unwrap(), ["V2__two.sql", "V3__three.sql"]);
        assert_eq!(pending(&[one, two, three]).unwrap(), Vec::<String>::new());
        for (before, words) in [
            (&[one, two, three, ("V4__four", "")][..], "version 4, this program knows up to 3"),
            (&[("V1__one", "SELECT 1 ")], "V1__one.sql was applied with another text"),
            (
                &[("V1__uno", "SELECT 1")],
                "V1__uno.sql was applied with another text than V1__one.sql",
            ),
            (&[one, three], "V2__two.sql is new and has a lower number"),
        ] {
            let error = pending(before).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let here = set(&[one, three]);
        let error = here.pending(&set(&[one, two]).history()).unwrap_err().to_string();
        assert!(error.contains("V2__two.sql was applied and is not among the files"), "{error}");
    }

    #[test]
    fn a_non_transactional_file_is_its_own_segment_and_the_last_segment_is_transactional() {
        let marked = format!("{NO_TRANSACTION}\nCREATE INDEX CONCURRENTLY i ON t (a)");
        let here = set(&[("V1__a", ""), ("V2__b", &marked), ("V3__c", ""), ("V4__d", &marked)]);
        let all = here.pending(&[]).unwrap();
        assert_eq!(
            here.segments(&all),
            [
                Segment::Transactional(Pending(vec![0])),
                Segment::NonTransactional(NonTransactionalFile(1)),
                Segment::Transactional(Pending(vec![2])),
                Segment::NonTransactional(NonTransactionalFile(3)),
                Segment::Transactional(Pending(Vec::new())),
            ]
        );
        assert_eq!(
            here.segments(&Pending::default()),
            [Segment::Transactional(Pending::default())]
        );
    }
}
