//! Which failures are lost races: nothing is wrong with the statement, and nothing that it did is left. It was too early,
//! too late or in the way of another transaction, and the same transaction may succeed a moment later.

use tokio_postgres::error::SqlState;

use super::Failure;

/// How the messages begin of internal errors that mean a lost race. Internal errors are not translated.
const INTERNAL_RACES: [&str; 4] = [
    "tuple concurrently updated",
    "tuple concurrently deleted",
    // What the catalogs named was dropped before it was read.
    "cache lookup failed for ",
    "could not open relation with OID ",
];

impl Failure {
    /// Whether the whole transaction may succeed if it is retried: it lost a race, or did not get a lock in time.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.is_locked() || self.is_lost_race()
    }

    /// Whether the transaction conflicted with another one, on its rows or on those of the system catalogs.
    #[must_use]
    pub fn is_lost_race(&self) -> bool {
        let conflicts = [&SqlState::T_R_SERIALIZATION_FAILURE, &SqlState::T_R_DEADLOCK_DETECTED];
        self.sqlstate().is_some_and(|state| conflicts.contains(&state)) || self.is_catalog_race()
    }

    /// Whether another transaction changed the same row of a system catalog at the same time: both made an object of
    /// one name, both granted or revoked on one object, or one dropped what the other was reading. PostgreSQL checks
    /// for the object first, so one that was there before gives another error.
    fn is_catalog_race(&self) -> bool {
        let Some(db) = self.postgres().and_then(tokio_postgres::Error::as_db_error) else {
            return false;
        };
        match *db.code() {
            // A distributed engine drops the schema's name on its way from a worker node.
            SqlState::UNIQUE_VIOLATION => match (db.schema(), db.constraint()) {
                (Some(schema), _) => schema == "pg_catalog",
                (None, constraint) => constraint.is_some_and(|name| name.starts_with("pg_")),
            },
            SqlState::INTERNAL_ERROR => {
                INTERNAL_RACES.iter().any(|race| db.message().starts_with(race))
            }
            _ => false,
        }
    }

    /// Whether the role or the schema of a tenant could not be entered, and may be a moment later: the session may not
    /// know yet of a role, or of a membership in it, that was committed just before. Of the statements that begin a
    /// transaction only.
    pub(in crate::pg) fn is_entry_race(&self) -> bool {
        let too_early = [
            &SqlState::INSUFFICIENT_PRIVILEGE,
            &SqlState::INVALID_PARAMETER_VALUE,
            &SqlState::UNDEFINED_OBJECT,
            &SqlState::INVALID_SCHEMA_NAME,
        ];
        self.sqlstate().is_some_and(|state| too_early.contains(&state)) || self.is_lost_race()
    }
}
