//! Errors of loading a set of migration files, and of comparing it with a schema's history.

use std::path::PathBuf;

/// Why a set of migration files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The folder cannot be read.
    #[error("cannot read the migrations in {folder}: {source}")]
    Unreadable {
        /// The folder.
        folder: PathBuf,
        /// The I/O error.
        source: std::io::Error,
    },
    /// A file's name does not have the required form.
    #[error("{file}: a migration is named V<number>__<what_it_does>.sql; rename it")]
    Name {
        /// The file.
        file: String,
    },
    /// Two files have the same version.
    #[error("{first} and {second} have the same version; renumber one of them")]
    Repeated {
        /// One of the files.
        first: String,
        /// The other file.
        second: String,
    },
    /// A statement that is not allowed in a migration.
    #[error("{file}, line {line}: {statement} is not allowed in a migration: {reason}")]
    Refused {
        /// The file.
        file: String,
        /// The line, from 1.
        line: u64,
        /// The statement's first words.
        statement: String,
        /// Why it is not allowed.
        reason: &'static str,
    },
    /// The text is not valid SQL.
    #[error("{file}: {reason}")]
    Syntax {
        /// The file.
        file: String,
        /// The lexer's message.
        reason: String,
    },
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
