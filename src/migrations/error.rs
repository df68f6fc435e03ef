//! Errors of migration files: in reading a set, and in comparing it with a schema's history.

use std::path::PathBuf;

/// Why a set of migration files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The folder cannot be read.
    #[error("cannot read the migrations in {folder}: {source}")]
    Unreadable {
        /// Which folder.
        folder: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file's name does not say its version.
    #[error("{file}: a migration is named V<number>__<what_it_does>.sql; rename it")]
    Name {
        /// Which file.
        file: String,
    },
    /// Two files have one version.
    #[error("{first} and {second} have the same version; renumber one of them")]
    Repeated {
        /// The one.
        first: String,
        /// The other.
        second: String,
    },
    /// A statement that must not stand in a migration.
    #[error("{file}, line {line}: {statement} is not allowed in a migration: {reason}")]
    Refused {
        /// Which file.
        file: String,
        /// Where in it, from 1.
        line: u64,
        /// The statement's first words.
        statement: String,
        /// Why not.
        reason: &'static str,
    },
    /// The text is no SQL.
    #[error("{file}: {reason}")]
    Syntax {
        /// Which file.
        file: String,
        /// What the lexer said.
        reason: String,
    },
}

/// How a schema's history contradicts the set.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The database was migrated by a newer program.
    #[error(
        "the schema is at version {found}, this program knows up to {known}; start a newer one"
    )]
    Ahead {
        /// Version in the schema.
        found: i32,
        /// Highest version in the set.
        known: i32,
    },
    /// Applied and known migrations differ.
    #[error("{0}")]
    Diverged(String),
}
