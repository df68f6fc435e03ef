//! Owns why a set of migrations cannot be used, or could not be run: with the file, and the line in it.

use std::path::PathBuf;

use crate::pg::error::Failure;

/// Why a set cannot be used, or could not be run.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
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
    /// A statement of a file failed; everything was rolled back.
    #[error("{file}{}: {message}", .line.map(|l| format!(", line {l}")).unwrap_or_default())]
    Failed {
        /// Which file.
        file: String,
        /// Where in it, from 1, where the server says.
        line: Option<usize>,
        /// What the server said.
        message: String,
    },
    /// The server went away, or did not give a lock, while a file ran: the file is not to blame.
    #[error("{file}: {}", describe(.failure))]
    Interrupted {
        /// Which file.
        file: String,
        /// What happened.
        failure: Failure,
    },
    /// A file that runs outside of a transaction needs a connection that keeps its search path.
    #[error(
        "a migration that runs outside of a transaction needs a direct connection to the database; \
         database.url leads to a pooler"
    )]
    NotDirect,
    /// Applied and known migrations differ.
    #[error("{0}")]
    Diverged(String),
    /// The database failed around the migrations.
    #[error(transparent)]
    Database(#[from] Failure),
}

/// The server's words, which tokio-postgres hides behind "db error".
pub(super) fn describe(failure: &Failure) -> String {
    match failure {
        Failure::Postgres(error) => error.as_db_error().map_or_else(
            || error.to_string(),
            |db| format!("{} (SQLSTATE {})", db.message(), db.code().code()),
        ),
        other => other.to_string(),
    }
}
