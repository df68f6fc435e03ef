//! Why a set of migrations could not be applied to a schema: with the file, and the line in it.

use crate::migrations::{HistoryError, LoadError};
use crate::pg::connect::dedicated::OpenError;
use crate::pg::error::Failure;

/// Why a set could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The set itself cannot be used.
    #[error(transparent)]
    Load(#[from] LoadError),
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
    #[error("{file}: {}", .failure.server_message())]
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

impl From<HistoryError> for ApplyError {
    fn from(error: HistoryError) -> Self {
        match error {
            HistoryError::Ahead { found, known } => Self::Ahead { found, known },
            HistoryError::Diverged(what) => Self::Diverged(what),
        }
    }
}

impl From<OpenError> for ApplyError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::NotDirect => Self::NotDirect,
            OpenError::Failed(failure) => Self::Database(failure),
        }
    }
}
