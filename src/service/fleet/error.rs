//! How a failed migration becomes an error of the service.

use crate::domain::error::Error;
use crate::pg::schema::error::ApplyError;

/// Sorts a failed migration by remedy: failures of the database keep their kind.
pub(in crate::service) fn to_error(during: &'static str, error: ApplyError) -> Error {
    match error {
        ApplyError::Database(failure) | ApplyError::Interrupted { failure, .. } => {
            failure.during(during)
        }
        other => Error::internal(during, other),
    }
}
