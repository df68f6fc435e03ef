//! Where a transaction works, and what it needs beside its connection: to cancel a query, and to say what it waited for.

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::error::SqlState;

use super::lock_holders::LockHolders;
use crate::domain::names::SchemaName;
use crate::pg::error::Failure;
use crate::pg::rules::Tls;

/// What a transaction needs beside its connection.
#[derive(Clone)]
pub(in crate::pg) struct Beside {
    /// The TLS of a cancel request.
    pub(in crate::pg) tls: Tls,
    pub(in crate::pg) lock_holders: Arc<LockHolders>,
}

/// Where a transaction works.
pub(super) struct Place {
    /// The schema of a tenant; none in the control plane.
    pub(super) schema: Option<SchemaName>,
    /// The longest wait for a lock.
    pub(super) lock_timeout: Duration,
    /// The longest wait for the answer to a message; none for migrations of a tenant, which an operator can cancel.
    pub(super) answer_within: Option<Duration>,
    pub(super) beside: Beside,
}

impl Place {
    /// Turns an error of the server into a failure that says what can be said only here.
    pub(super) async fn explain(
        &self,
        error: tokio_postgres::Error,
        took: Duration,
        may_be_read_only: bool,
    ) -> Failure {
        match error.code() {
            // A wait that was limited to less is not worth a search.
            Some(&SqlState::LOCK_NOT_AVAILABLE) if took >= self.lock_timeout => {
                let (schema, waited) = (self.schema.as_ref(), self.lock_timeout);
                // On the heap, so that every statement does not carry room for it.
                let search = Box::pin(self.beside.lock_holders.describe(schema, &error, waited));
                let wait = search.await;
                Failure::LockTimeout { error, wait }
            }
            Some(&SqlState::READ_ONLY_SQL_TRANSACTION) if may_be_read_only => {
                Failure::ReadOnly(error)
            }
            _ => Failure::Postgres(error),
        }
    }
}
