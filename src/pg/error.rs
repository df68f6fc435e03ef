//! Turns what PostgreSQL says into what a caller can do about it.
//!
//! SQLSTATE first; a constraint's name is optional and may carry a suffix `_<digits>`, which a
//! distributed engine adds to the names on its shards.

use tokio_postgres::error::SqlState;

use crate::domain::error::{Cause, Conflict, Error};

/// A query or a connection that failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The database answered with an error, or the connection broke.
    #[error("the database refused or broke off")]
    Postgres(#[from] tokio_postgres::Error),
    /// No connection could be had in time.
    #[error("no database connection could be had")]
    Pool(#[from] deadpool_postgres::PoolError),
    /// The door does not let this kind of statement through.
    #[error(
        "a tenant transaction runs SELECT, INSERT, UPDATE, DELETE, MERGE, WITH, VALUES and TABLE, not {0:?}"
    )]
    NotAllowed(String),
    /// The transaction could not enter its scope, and nothing runs outside of it.
    #[error("the transaction did not begin")]
    NotEntered,
    /// The query was to give one row and gave another number.
    #[error("expected one row")]
    RowCount,
    /// The transaction was to begin before a certain moment, and did not.
    #[error("the transaction began too late")]
    Late,
}

impl Failure {
    /// The database's error code, where it is the database that answered.
    #[must_use]
    pub fn sqlstate(&self) -> Option<&SqlState> {
        match self {
            Self::Postgres(error) | Self::Pool(deadpool_postgres::PoolError::Backend(error)) => {
                error.code()
            }
            Self::Pool(_)
            | Self::NotAllowed(_)
            | Self::NotEntered
            | Self::RowCount
            | Self::Late => None,
        }
    }

    /// Whether the failure is a violation of this unique or foreign key constraint.
    #[must_use]
    pub fn violates(&self, constraint: &str) -> bool {
        let Self::Postgres(error) = self else { return false };
        let Some(db) = error.as_db_error() else { return false };
        let is_violation =
            [&SqlState::UNIQUE_VIOLATION, &SqlState::FOREIGN_KEY_VIOLATION].contains(&db.code());
        let names_it = |name: &str| {
            name.strip_prefix(constraint).is_some_and(|rest| {
                rest.is_empty()
                    || rest.strip_prefix('_').is_some_and(|digits| {
                        !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
                    })
            })
        };
        is_violation
            && match db.constraint() {
                Some(name) => names_it(name),
                // The field is lost on its way from a worker node; the text still quotes the name.
                None => db.message().split('"').any(names_it),
            }
    }

    /// Whether the failure is that this column must have a value and was given none.
    #[must_use]
    pub fn lacks(&self, table: &str, column: &str) -> bool {
        let Self::Postgres(error) = self else { return false };
        error.as_db_error().is_some_and(|db| {
            *db.code() == SqlState::NOT_NULL_VIOLATION
                && db.table() == Some(table)
                && db.column() == Some(column)
        })
    }

    /// Whether a statement of ours failed that quotes these words where it does, by making a number of them.
    #[must_use]
    pub fn quotes(&self, words: &str) -> bool {
        let Self::Postgres(error) = self else { return false };
        error.as_db_error().is_some_and(|db| {
            *db.code() == SqlState::INVALID_TEXT_REPRESENTATION && db.message().contains(words)
        })
    }

    /// Whether the whole transaction may be sent again with hope: it lost a race, or never arrived.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.sqlstate().is_some_and(|state| {
            [
                &SqlState::T_R_SERIALIZATION_FAILURE,
                &SqlState::T_R_DEADLOCK_DETECTED,
                &SqlState::LOCK_NOT_AVAILABLE,
            ]
            .contains(&state)
        })
    }

    /// Whether the server is away, going, full or too slow: not our fault, and over one day.
    #[must_use]
    pub fn is_away(&self) -> bool {
        match self {
            Self::Pool(_) => true,
            Self::Postgres(error) => error.is_closed() || error.code().is_none_or(means_away),
            Self::NotAllowed(_) | Self::NotEntered | Self::RowCount | Self::Late => false,
        }
    }

    /// What the server said, or what the network did.
    #[must_use]
    pub fn server_message(&self) -> String {
        match self {
            Self::Postgres(error) => server_message(error),
            other => other.to_string(),
        }
    }

    /// Sorts the failure by remedy, with what was being done in the present tense.
    #[must_use]
    pub fn during(self, during: &'static str) -> Error {
        if self.is_retryable() {
            Error::Conflict(Conflict::Concurrent)
        } else if self.is_away() {
            Error::unavailable(during, self.without_rows())
        } else {
            Error::internal(during, self.without_rows())
        }
    }

    /// The failure in words for the log. PostgreSQL's detail is left out: it quotes the failing row, and
    /// addresses and password hashes with it.
    fn without_rows(self) -> Cause {
        match &self {
            Self::Postgres(error) => format!("{self}: {}", server_message(error)).into(),
            Self::Pool(_)
            | Self::NotAllowed(_)
            | Self::NotEntered
            | Self::RowCount
            | Self::Late => self.into(),
        }
    }
}

/// Whether a code says that the server is away, going, full or too slow, rather than that we are wrong.
fn means_away(state: &SqlState) -> bool {
    let code = state.code();
    code.starts_with("08") // connection exceptions
        || code.starts_with("53") // out of connections, memory, disk
        || code.starts_with("57") // shutting down, starting up, statement timeout
        || code.starts_with("58") // system error outside of PostgreSQL
}

/// What the server said, or what the network did; tokio-postgres's own text hides both.
#[must_use]
pub fn server_message(error: &tokio_postgres::Error) -> String {
    if let Some(db) = error.as_db_error() {
        return format!("{} (SQLSTATE {})", db.message(), db.code().code());
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

/// The line in a text that the server complains of, where it gave a position inside of it.
pub(in crate::pg) fn line_of(failure: &Failure, sql: &str) -> Option<usize> {
    let Failure::Postgres(error) = failure else { return None };
    let Some(tokio_postgres::error::ErrorPosition::Original(at)) = error.as_db_error()?.position()
    else {
        return None;
    };
    let at = usize::try_from(*at).ok()?;
    (at <= sql.chars().count())
        .then(|| 1 + sql.chars().take(at.saturating_sub(1)).filter(|c| *c == '\n').count())
}

/// `.during("read tenant row")` on the result of a query.
pub trait During<T> {
    /// Sorts a failure by remedy; see [`Failure::during`].
    ///
    /// # Errors
    /// The failure, as an [`Error`].
    fn during(self, during: &'static str) -> Result<T, Error>;
}

impl<T> During<T> for Result<T, Failure> {
    fn during(self, during: &'static str) -> Result<T, Error> {
        self.map_err(|failure| failure.during(during))
    }
}

/// Application handlers that use `?` on a query of theirs.
impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        failure.during("run a query of the application")
    }
}
