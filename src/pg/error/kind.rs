//! Of which kind a failure is, by its SQLSTATE and the names that it carries.

use tokio_postgres::error::{Severity, SqlState};

use super::Failure;
use super::node::{is_name_of, is_node_away};

impl Failure {
    /// Whether the failure is a violation of this unique or foreign key constraint.
    #[must_use]
    pub fn violates(&self, constraint: &str) -> bool {
        let Self::Postgres(error) = self else { return false };
        let Some(db) = error.as_db_error() else { return false };
        let is_violation =
            [&SqlState::UNIQUE_VIOLATION, &SqlState::FOREIGN_KEY_VIOLATION].contains(&db.code());
        let names_it = |name: &str| is_name_of(name, constraint);
        is_violation
            && match db.constraint() {
                Some(name) => names_it(name),
                // A distributed engine drops the field on its way from a worker node; the message still quotes the name.
                None => db.message().split('"').any(names_it),
            }
    }

    /// Whether the failure is a NULL in this column, which is `NOT NULL`.
    #[must_use]
    pub fn is_null_in(&self, table: &str, column: &str) -> bool {
        let Self::Postgres(error) = self else { return false };
        error.as_db_error().is_some_and(|db| {
            *db.code() == SqlState::NOT_NULL_VIOLATION
                && if let (Some(found), Some(of)) = (db.table(), db.column()) {
                    is_name_of(found, table) && of == column
                } else {
                    // As for a constraint. The message quotes the column before the table.
                    let mut quoted = db.message().split('"').skip(1).step_by(2);
                    quoted.next() == Some(column)
                        && quoted.next().is_some_and(|found| is_name_of(found, table))
                }
        })
    }

    /// Whether a statement failed on purpose, because it asked for a setting with the name of this marker.
    #[must_use]
    pub fn has_marker(&self, marker: &str) -> bool {
        let Self::Postgres(error) = self else { return false };
        error.as_db_error().is_some_and(|db| {
            *db.code() == SqlState::UNDEFINED_OBJECT && db.message().contains(marker)
        })
    }

    /// Whether the connection ended while a statement ran, for a reason that may be the statement: its backend crashed
    /// or was told to end, or the statement asked for something that the protocol does not give it. Not if the server
    /// says that it ends all connections because another backend crashed.
    #[must_use]
    pub fn has_ended_connection(&self) -> bool {
        let Some(error) = self.postgres() else { return false };
        // The connection to a node of a cluster is another one.
        if is_node_away(error) {
            return false;
        }
        error.is_closed()
            || error.code().is_none_or(|state| {
                *state == SqlState::ADMIN_SHUTDOWN || state.code().starts_with("08")
            })
    }

    /// Whether the server, the database or the login has no connection left.
    #[must_use]
    pub fn is_server_full(&self) -> bool {
        self.sqlstate() == Some(&SqlState::TOO_MANY_CONNECTIONS)
    }

    /// Whether the server starts or recovers from a crash: it is there, and takes no connections yet.
    #[must_use]
    pub fn is_starting(&self) -> bool {
        self.sqlstate() == Some(&SqlState::CANNOT_CONNECT_NOW)
    }

    /// Whether the statement was cancelled: by a request, or by a `statement_timeout` that it had set.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.sqlstate() == Some(&SqlState::QUERY_CANCELED)
    }

    /// Whether a statement names a table that does not exist.
    #[must_use]
    pub(in crate::pg) fn is_undefined_table(&self) -> bool {
        self.sqlstate() == Some(&SqlState::UNDEFINED_TABLE)
    }

    /// Whether a lock was not granted in time.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.sqlstate() == Some(&SqlState::LOCK_NOT_AVAILABLE)
    }

    /// Whether the server is unreachable, shutting down, full, too slow or read-only: a temporary condition, not an
    /// error in our statement.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Pool(_)
            | Self::TenantBusy
            | Self::NoConnection
            | Self::NoAnswer(_)
            | Self::ReadOnly(_) => true,
            other => other.postgres().is_some_and(|error| {
                error.is_closed()
                    || error.code().is_none_or(means_unavailable)
                    || is_node_away(error)
                    || ends_session(error)
            }),
        }
    }

    /// Whether there is a schema of that name already.
    #[must_use]
    pub fn is_duplicate_schema(&self) -> bool {
        self.sqlstate() == Some(&SqlState::DUPLICATE_SCHEMA)
    }
}

/// Whether the server has ended the session with this error, as after too long a pause in a transaction: a process that
/// stood still is not at fault.
fn ends_session(error: &tokio_postgres::Error) -> bool {
    let severity = error.as_db_error().and_then(tokio_postgres::error::DbError::parsed_severity);
    matches!(severity, Some(Severity::Fatal | Severity::Panic))
}

/// Whether an SQLSTATE means that the server is unavailable, not that the statement is wrong.
fn means_unavailable(state: &SqlState) -> bool {
    let code = state.code();
    code.starts_with("08") // connection exceptions
        || code.starts_with("53") // out of connections, memory, disk
        || code.starts_with("57") // shutting down, starting up, statement timeout
        || code.starts_with("58") // system error outside PostgreSQL
}
