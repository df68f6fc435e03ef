//! Brings a schema that is in use up to date, in as few round trips as it takes: refinery's own driver asks
//! several questions a file, and with thousands of tenants it is the questions that cost.
//!
//! What refinery would refuse is refused here too, and what is written into its history table is what it
//! would write, so that either may go on after the other.

use std::collections::HashMap;
use std::fmt::Write as _;

use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::domain::names::SchemaName;
use crate::migrations::error::HistoryError;
use crate::migrations::{HISTORY_TABLE, MigrationSet, file_name};

/// The digest of all rows of a history table, as [`digest`] makes it of what should be in it. One function joins
/// the columns: to find out what `||` means here costs the server more than to run it.
const HISTORY_DIGEST: &str = "sha256(convert_to(coalesce(string_agg(\
    concat_ws(' ', version, name, checksum), E'\\n' ORDER BY version), ''), 'UTF8'))";

fn digest(history: &[Applied]) -> String {
    hex::encode(Sha256::digest(trail_of(history)))
}

/// A history in text, as [`MigrationSet::trail`] says it.
pub(super) fn trail_of(history: &[Applied]) -> String {
    let line = |row: &Applied| format!("{} {} {}", row.version, row.name, row.checksum);
    history.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A row of a history table: a file that was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Its number.
    pub version: i32,
    /// What it does, as its name says.
    pub name: String,
    /// refinery's checksum of number, name and text.
    pub checksum: String,
}

impl Applied {
    fn file(&self) -> String {
        format!("V{}__{}.sql", self.version, self.name)
    }
}

/// Files of a set that a schema has not seen, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pending(pub(crate) Vec<usize>);

impl Pending {
    /// File by file.
    pub(crate) fn each(&self) -> Vec<Self> {
        self.0.iter().map(|at| Self(vec![*at])).collect()
    }
}

/// What a schema lacks that was made by the first files of the set, all of which can run in one transaction.
#[derive(Debug, Clone)]
pub struct Beginning {
    /// The files that follow.
    pub files: Pending,
    /// A digest of what the history of such a schema holds.
    history: String,
}

/// Files of [`Pending`] that are run in the same way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// In one transaction.
    Inside(Pending),
    /// A file that runs statement by statement.
    Outside(OutsideFile),
}

/// A file that runs statement by statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutsideFile(pub(crate) usize);

impl MigrationSet {
    /// What each file would leave in a history table.
    #[must_use]
    pub fn history(&self) -> Vec<Applied> {
        let row = |migration: &refinery_core::Migration| Applied {
            version: migration.version(),
            name: migration.name().to_owned(),
            checksum: migration.checksum().to_string(),
        };
        self.migrations.iter().map(row).collect()
    }

    /// What is to be applied where this was applied before, lowest number first.
    ///
    /// # Errors
    /// [`HistoryError::Ahead`], or [`HistoryError::Diverged`] with the file.
    pub fn pending(&self, applied: &[Applied]) -> Result<Pending, HistoryError> {
        let known = self.history();
        for row in applied {
            match known.iter().find(|file| file.version == row.version) {
                Some(file) if file == row => {}
                Some(file) => {
                    return Err(HistoryError::Diverged(format!(
                        "{} was applied with another text than {} has now; a migration is never edited once applied",
                        row.file(),
                        file.file()
                    )));
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
            return Err(HistoryError::Diverged(format!(
                "{} is new and has a lower number than one that was applied; renumber it",
                late.file()
            )));
        }
        Ok(Pending(pending))
    }

    /// The beginnings of the set that something follows, by their fingerprints.
    #[must_use]
    pub fn beginnings(&self) -> HashMap<String, Beginning> {
        let history = self.history();
        (0..history.len())
            .filter_map(|count| {
                let (first, rest) = history.split_at_checked(count)?;
                let files = Pending((count..count + rest.len()).collect());
                let runs_inside = files.0.iter().all(|at| self.outside[*at].is_none());
                let beginning = Beginning { files, history: digest(first) };
                runs_inside.then(|| (Self::fingerprint_of(first), beginning))
            })
            .collect()
    }

    /// The names of the files that follow the beginning of the set that has this fingerprint; none where no
    /// beginning has.
    #[must_use]
    pub fn names_behind(&self, fingerprint: &str) -> Vec<String> {
        let history = self.history();
        let is_it = |count: &usize| Self::fingerprint_of(&history[..*count]) == fingerprint;
        let count = (0..history.len()).find(is_it).unwrap_or(history.len());
        self.migrations[count..].iter().map(file_name).collect()
    }

    /// The files that follow a beginning and their rows in the history, as one script. It fails unless the
    /// history was that of the beginning, and `stands` holds when the files have run.
    pub(crate) fn script(
        &self,
        schema: &SchemaName,
        beginning: &Beginning,
        stands: &str,
        now: OffsetDateTime,
    ) -> String {
        let mut script = String::new();
        for at in &beginning.files.0 {
            // A line of its own, so that a comment at the end of the file does not swallow it.
            script.push_str(self.migrations[*at].sql().unwrap_or_default());
            script.push_str("\n;\n");
        }
        let mut rows = beginning.files.0.iter();
        if let Some(at) = rows.next() {
            // No version is none that the table takes.
            let [version, name, applied_on, checksum] = self.history_values(*at, now);
            let expected = &beginning.history;
            let _ = write!(
                script,
                "INSERT INTO {schema}.{HISTORY_TABLE} (version, name, applied_on, checksum)
                 SELECT CASE WHEN {HISTORY_DIGEST} = '\\x{expected}' AND {stands} THEN {version} END,
                        {name}, {applied_on}, {checksum}
                   FROM {schema}.{HISTORY_TABLE}"
            );
        }
        for at in rows {
            let _ = write!(script, ";\n{}", self.history_row(*at, schema, now));
        }
        script
    }

    /// The names of files.
    #[must_use]
    pub fn names(&self, files: &Pending) -> Vec<String> {
        files.0.iter().map(|at| file_name(&self.migrations[*at])).collect()
    }

    /// The files by how they are run, in order. One segment where none of them runs outside of a transaction,
    /// also where there is no file at all.
    #[must_use]
    pub fn segments(&self, files: &Pending) -> Vec<Segment> {
        let mut segments = Vec::new();
        let mut open = Vec::new();
        for at in &files.0 {
            if self.outside[*at].is_none() {
                open.push(*at);
                continue;
            }
            if !open.is_empty() {
                segments.push(Segment::Inside(Pending(std::mem::take(&mut open))));
            }
            segments.push(Segment::Outside(OutsideFile(*at)));
        }
        // What is written down at the end needs a transaction in any case.
        segments.push(Segment::Inside(Pending(open)));
        segments
    }

    pub(crate) fn batch_of(&self, at: usize, schema: &SchemaName, now: OffsetDateTime) -> String {
        let sql = match &self.outside[at] {
            Some(outside) => &outside.inside,
            None => self.migrations[at].sql().unwrap_or_default(),
        };
        // A line of its own, so that a comment at the end of the file does not swallow it.
        format!("{sql}\n;\n{}", self.history_row(at, schema, now))
    }

    /// The statement by which a file enters the history. Version and checksum are numbers, the name is made
    /// of letters, digits and underscores.
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
    use crate::migrations::MARK;

    fn set(files: &[(&str, &str)]) -> MigrationSet {
        let files =
            files.iter().map(|(name, sql)| refinery_core::Migration::unapplied(name, sql).unwrap());
        MigrationSet::new(files.collect()).unwrap()
    }

    #[test]
    fn what_does_not_fit_is_named_and_what_is_new_is_pending() {
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
    fn a_marked_file_stands_by_itself_and_a_transaction_comes_last() {
        let marked = format!("{MARK}\nCREATE INDEX CONCURRENTLY i ON t (a)");
        let here = set(&[("V1__a", ""), ("V2__b", &marked), ("V3__c", ""), ("V4__d", &marked)]);
        let all = here.pending(&[]).unwrap();
        assert_eq!(
            here.segments(&all),
            [
                Segment::Inside(Pending(vec![0])),
                Segment::Outside(OutsideFile(1)),
                Segment::Inside(Pending(vec![2])),
                Segment::Outside(OutsideFile(3)),
                Segment::Inside(Pending(Vec::new())),
            ]
        );
        assert_eq!(here.segments(&Pending::default()), [Segment::Inside(Pending::default())]);
    }
}
