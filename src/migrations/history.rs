//! Compares a set with a schema's history, and builds the SQL that brings the schema up to date in few round
//! trips: refinery's own driver sends several queries a file, and with thousands of tenants these dominate the cost.
//!
//! Refuses what refinery would refuse, and writes the same rows into its history table, so that refinery can
//! continue after this code and this code after refinery.

use std::collections::{HashMap, HashSet};

use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::domain::names::SchemaName;
use crate::migrations::error::HistoryError;
use crate::migrations::{File, HISTORY_TABLE, MigrationSet, file_name};

/// SQL for what tells the history in a table from others, equal to [`checksum_sum`] of the same rows: a checksum is a number
/// of 64 bits, of version, name and text of a file. The server plans a sum in less time than a digest of ordered rows.
const CHECKSUM_SUM: &str = "coalesce(sum(checksum::numeric), 0)";

/// Formats the versioned files of a history as text, one line a file: `version name checksum`.
pub(super) fn history_text(history: &[Applied]) -> String {
    let versioned = history.iter().filter(|row| !row.is_repeatable());
    versioned.map(Applied::line).collect::<Vec<_>>().join("\n")
}

/// The most files by which a schema may lag and still be migrated in one message. Each prefix holds the list of its
/// remaining files.
const PREFIXES: usize = 256;

/// How the row of the first file after a prefix is guarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HistoryGuard {
    /// By the statement that adds it.
    InRow,
    /// By a query before it: a distributed engine cannot add rows of a table to itself under a condition.
    Apart,
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
    /// The file's name.
    #[must_use]
    pub fn file(&self) -> String {
        if self.is_repeatable() {
            format!("R__{}.sql", self.name)
        } else {
            format!("V{}__{}.sql", self.version, self.name)
        }
    }

    /// The checksum as a number, which refinery always writes; 0 if it is none.
    fn checksum_number(&self) -> u64 {
        self.checksum.parse().unwrap_or_default()
    }

    fn line(&self) -> String {
        format!("{} {} {}", self.version, self.name, self.checksum)
    }

    /// Reads a line of a history's text.
    fn of_line(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let version = words.next()?.parse().ok()?;
        let (name, checksum) = (words.next()?.to_owned(), words.next()?.to_owned());
        Some(Self { version, name, checksum })
    }

    /// Whether it is a file that runs again when it changes.
    fn is_repeatable(&self) -> bool {
        self.version < 0
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
    /// The sum of the checksums in the history of such a schema.
    checksums: u128,
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
        let row = |file: &File| Applied {
            version: file.version(),
            name: file.name().to_owned(),
            checksum: file.checksum().to_string(),
        };
        self.migrations.iter().map(row).collect()
    }

    /// Returns the files to apply to a schema with this history: those with a number, lowest first, then the repeatable
    /// ones that are new or have changed. A repeatable file that is no longer among the files does not contradict them.
    ///
    /// # Errors
    /// [`HistoryError::Ahead`], or [`HistoryError::Diverged`] with the file.
    pub fn pending(&self, applied: &[Applied]) -> Result<Pending, HistoryError> {
        let known: HashMap<i32, &File> =
            self.migrations.iter().map(|file| (file.version(), file)).collect();
        let mut current = HashSet::new();
        for row in applied {
            match known.get(&row.version) {
                Some(file) if file.name() == row.name && file.accepts(&row.checksum) => {
                    current.insert(row.version);
                }
                _ if row.is_repeatable() => {}
                Some(file) => {
                    return Err(HistoryError::edited(&row.file(), &file_name(*file)));
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
        // The built-in files and those of an application are two lists, and each grows at its end.
        let is_built_in = |version: i32| version < self.built_in_below;
        let newest = |built_in: bool| {
            let of_list = applied.iter().map(|row| row.version);
            let of_list = of_list.filter(|version| is_built_in(*version) == built_in);
            of_list.max().unwrap_or(i32::MIN)
        };
        let newest = [newest(false), newest(true)];
        let is_new = |file: &File| !current.contains(&file.version());
        let pending: Vec<usize> = (0..self.migrations.len())
            .filter(|at| self.migrations.get(*at).is_some_and(is_new))
            .collect();
        let is_late = |file: &&File| {
            !file.is_repeatable()
                && file.version() < newest[usize::from(is_built_in(file.version()))]
        };
        if let Some(late) = pending.iter().map(|at| &self.migrations[*at]).find(is_late) {
            return Err(HistoryError::late(&file_name(late)));
        }
        Ok(Pending(pending))
    }

    /// Returns the versioned files and the repeatable ones, in order.
    fn by_kind(&self) -> (Vec<Applied>, Vec<Applied>) {
        let (mut repeatable, versioned): (Vec<_>, Vec<_>) =
            self.history().into_iter().partition(Applied::is_repeatable);
        repeatable.sort_by_key(|row| row.version);
        (versioned, repeatable)
    }

    /// Returns the prefixes of the set whose remaining files can all run in one message, by fingerprint. A prefix has all
    /// repeatable files as they are now. A schema that lags by more than [`PREFIXES`] files is in none.
    #[must_use]
    pub fn applied_prefixes(&self) -> HashMap<String, AppliedPrefix> {
        let (versioned, repeatable) = self.by_kind();
        let mut fingerprint = Fingerprint::default();
        let mut checksums = checksum_sum(&repeatable);
        let mut prefixes = HashMap::new();
        for (count, row) in versioned.iter().enumerate() {
            if count + PREFIXES >= versioned.len() {
                let files = Pending((count..versioned.len()).collect());
                let is_one_message = files.0.iter().all(|at| self.non_transactional[*at].is_none())
                    && !self.has_rows(&files);
                if is_one_message {
                    let prefix = AppliedPrefix { files, checksums };
                    prefixes.insert(fingerprint.clone().finish_with(&repeatable), prefix);
                }
            }
            fingerprint.add(row);
            checksums += u128::from(row.checksum_number());
        }
        prefixes
    }

    /// The names of the files after the prefix of the set that has this fingerprint; empty if no prefix has it.
    #[must_use]
    pub fn names_after(&self, fingerprint: &str) -> Vec<String> {
        let (versioned, repeatable) = self.by_kind();
        let mut hash = Fingerprint::default();
        for (count, row) in versioned.iter().enumerate() {
            if hash.clone().finish_with(&repeatable) == fingerprint {
                let files = self.migrations.iter().filter(|file| !file.is_repeatable());
                return files.skip(count).map(file_name).collect();
            }
            hash.add(row);
        }
        Vec::new()
    }

    /// The fingerprint of a set with these files, in any order.
    #[must_use]
    pub fn fingerprint_of(files: &[Applied]) -> String {
        let mut files: Vec<&Applied> = files.iter().collect();
        files.sort_by_key(|file| (file.is_repeatable(), file.version));
        let mut hash = Fingerprint::default();
        for file in files {
            hash.add(file);
        }
        hash.finish_with(&[])
    }

    /// A history's text as this set would have written it: a versioned file that was applied with other line ends has the
    /// checksum that it has here, and repeatable files are left out.
    #[must_use]
    pub fn comparable_history(&self, applied: &str) -> String {
        let known: HashMap<i32, &File> =
            self.migrations.iter().map(|file| (file.version(), file)).collect();
        let line = |line: &str| {
            let Some(mut row) = Applied::of_line(line) else { return Some(line.to_owned()) };
            if row.is_repeatable() {
                return None;
            }
            if let Some(file) = known.get(&row.version).filter(|file| file.accepts(&row.checksum)) {
                row.checksum = file.checksum().to_string();
            }
            Some(row.line())
        };
        applied.lines().filter_map(line).collect::<Vec<_>>().join("\n")
    }

    /// The first repeatable file that a history's text lacks as it is now.
    #[must_use]
    pub fn stale_repeatable(&self, applied: &str) -> Option<String> {
        let rows: Vec<Applied> = applied.lines().filter_map(Applied::of_line).collect();
        let is_current = |file: &File| {
            rows.iter().any(|row| row.version == file.version() && file.accepts(&row.checksum))
        };
        let stale = self.migrations.iter().find(|file| file.is_repeatable() && !is_current(file));
        stale.map(file_name)
    }

    /// Builds what adds the first file after a prefix to the history. It fails unless the history is that of the prefix.
    pub(crate) fn first_history_row(
        &self,
        at: usize,
        schema: &SchemaName,
        prefix: &AppliedPrefix,
        now: OffsetDateTime,
        guard: HistoryGuard,
    ) -> String {
        let expected = prefix.checksums;
        if guard == HistoryGuard::Apart {
            // The cast of a text that is not a number fails, and a CASE does not evaluate the branch that is not taken.
            // With a count the text is not constant; a constant would be cast while planning.
            let row = self.history_row(at, schema, now);
            return format!(
                "SELECT CASE WHEN {CHECKSUM_SUM} = {expected} THEN 0
                             ELSE concat('rowhouse: another history, of ', count(*))::int END
                   FROM {schema}.{HISTORY_TABLE};
                 {row}"
            );
        }
        // A NULL version violates NOT NULL and aborts.
        let [version, name, applied_on, checksum] = self.history_values(at, now);
        format!(
            "INSERT INTO {schema}.{HISTORY_TABLE} (version, name, applied_on, checksum)
             SELECT CASE WHEN {CHECKSUM_SUM} = {expected} THEN {version} END,
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

    /// Builds the statement that adds a file to the history, or updates the row of a repeatable one. No value needs
    /// quoting: version and checksum are numbers, the name consists of letters, digits and underscores.
    pub(crate) fn history_row(
        &self,
        at: usize,
        schema: &SchemaName,
        now: OffsetDateTime,
    ) -> String {
        let values = self.history_values(at, now).join(", ");
        let mut statement = format!(
            "INSERT INTO {schema}.{HISTORY_TABLE} (version, name, applied_on, checksum) \
             VALUES ({values})"
        );
        if self.migrations[at].is_repeatable() {
            statement.push_str(
                " ON CONFLICT (version) DO UPDATE \
                 SET applied_on = excluded.applied_on, checksum = excluded.checksum",
            );
        }
        statement
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

/// The sum of the checksums of these rows, equal to [`CHECKSUM_SUM`].
fn checksum_sum(rows: &[Applied]) -> u128 {
    rows.iter().map(|row| u128::from(row.checksum_number())).sum()
}

/// The fingerprint of a set. Versioned files are added first.
#[derive(Clone, Default)]
struct Fingerprint(Sha256);

impl Fingerprint {
    fn add(&mut self, file: &Applied) {
        self.0.update(file.version.to_be_bytes());
        self.0.update(file.checksum_number().to_be_bytes());
    }

    fn finish_with(mut self, repeatable: &[Applied]) -> String {
        for file in repeatable {
            self.add(file);
        }
        hex::encode(self.0.finalize().get(..16).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests;
