//! Errors of loading a set of migration files, and of comparing it with a schema's history.

use std::fmt;
use std::path::Path;

/// How many refusals are shown.
const SHOWN: usize = 50;

/// Why a set of migration files cannot be used: all that is wrong, by file and line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadError {
    refusals: Vec<Refusal>,
}

impl LoadError {
    /// The folder, or something in it, cannot be read.
    pub(crate) fn unreadable(folder: &Path, source: &std::io::Error) -> Self {
        let (folder, line) = (folder.display(), None);
        let message = format!("cannot read the migrations in {folder}: {source}");
        Self { refusals: vec![Refusal { file: String::new(), line, message }] }
    }

    /// All that is wrong, by file and line.
    #[must_use]
    pub fn refusals(&self) -> &[Refusal] {
        &self.refusals
    }
}

impl From<Vec<Refusal>> for LoadError {
    fn from(mut refusals: Vec<Refusal>) -> Self {
        let version = |file: &str| -> u64 {
            let digits = file.trim_start_matches(|c: char| !c.is_ascii_digit());
            let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
            digits.split_at(end).0.parse().unwrap_or(u64::MAX)
        };
        refusals.sort_by(|a, b| {
            (version(&a.file), &a.file, a.line).cmp(&(version(&b.file), &b.file, b.line))
        });
        Self { refusals }
    }
}

impl std::error::Error for LoadError {}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, refusal) in self.refusals.iter().take(SHOWN).enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{refusal}")?;
        }
        match self.refusals.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}

/// Why a file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The file; empty if the folder itself is meant.
    pub file: String,
    /// The line, from 1, if a line is meant.
    pub line: Option<usize>,
    /// What is wrong and what to do.
    pub message: String,
}

impl Refusal {
    /// What is wrong with a file as a whole.
    pub(crate) fn of_file(file: &str, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line: None, message: message.into() }
    }

    /// What is wrong at a line.
    pub(crate) fn at_line(file: &str, line: usize, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line: Some(line), message: message.into() }
    }

    /// A statement that is not allowed.
    pub(crate) fn of_statement(file: &str, line: usize, statement: &str, reason: &str) -> Self {
        let message = format!("{statement} is not allowed in a migration: {reason}");
        Self::at_line(file, line, message)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.file.as_str(), self.line) {
            ("", _) => f.write_str(&self.message),
            (file, None) => write!(f, "{file}: {}", self.message),
            (file, Some(line)) => write!(f, "{file}, line {line}: {}", self.message),
        }
    }
}

/// How a schema's history contradicts the set.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// A newer program has migrated the schema.
    #[error(
        "the schema is at version {found}, this program knows up to {known}; start a newer one"
    )]
    Ahead {
        /// The version in the schema.
        found: i32,
        /// The highest version in the set.
        known: i32,
    },
    /// The applied migrations and the files differ.
    #[error("{0}")]
    Diverged(String),
}

impl HistoryError {
    /// A file is not applied, and one with a higher number is.
    pub(crate) fn late(file: &str) -> Self {
        Self::Diverged(format!(
            "{file} is new and has a lower number than one that was applied; renumber it"
        ))
    }

    /// A file was applied with another text than it has now.
    pub(crate) fn edited(applied: &str, file: &str) -> Self {
        Self::Diverged(format!(
            "{applied} was applied with another text than {file} has now; a migration is never edited once applied"
        ))
    }
}
