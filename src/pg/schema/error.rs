//! Errors of applying a set of migrations to a schema, with the file and its line.

use crate::migrations::HistoryError;
use crate::pg::connect::dedicated::OpenError;
use crate::pg::error::Failure;

/// Why a set could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The schema's history contradicts the set.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// A statement of a file failed; everything was rolled back.
    #[error("{file}{}: {message}", .line.map(|l| format!(", line {l}")).unwrap_or_default())]
    Failed {
        /// The file.
        file: String,
        /// The line, from 1, if the server reported one.
        line: Option<usize>,
        /// The server's message, with its detail and hint, and the statement.
        message: String,
        /// Whether the file may succeed if the files before it are committed first.
        needs_commit: bool,
    },
    /// The connection was lost or a lock was not granted while a file ran. The file is not at fault.
    #[error(
        "{file}{}: {}",
        .line.map(|l| format!(", line {l}")).unwrap_or_default(),
        .failure.server_message()
    )]
    Interrupted {
        /// The file.
        file: String,
        /// The line of the statement that ran, from 1, if it is known.
        line: Option<usize>,
        /// The failure.
        failure: Failure,
    },
    /// A file that runs outside a transaction needs a connection that keeps its search path.
    #[error(
        "a migration that runs outside a transaction needs a direct connection to the database; \
         database.url leads to a pooler"
    )]
    NotDirect,
    /// The database failed outside a file.
    #[error(transparent)]
    Database(#[from] Failure),
}

impl From<OpenError> for ApplyError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::NotDirect => Self::NotDirect,
            OpenError::Failed(failure) => Self::Database(failure),
        }
    }
}
