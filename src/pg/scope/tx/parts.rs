//! Parts of a transaction: savepoints, and results that are read piece by piece.

use std::sync::atomic::Ordering;

use tokio_postgres::RowStream;

use super::Tx;
use crate::pg::error::Failure;
use crate::pg::scope::param::{Param, typed, values};

impl Tx {
    /// Returns the name of the next savepoint or portal.
    pub(in crate::pg::scope) fn next_savepoint(&self) -> String {
        format!("rowhouse_{}", self.named.fetch_add(1, Ordering::Relaxed))
    }

    /// Undoes what came after a savepoint. The transaction is sound again.
    pub(in crate::pg::scope) async fn back_to_savepoint(&self, name: &str) -> Result<(), Failure> {
        self.batch(&format!("ROLLBACK TO SAVEPOINT {name}; RELEASE SAVEPOINT {name}")).await?;
        self.failed.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Runs a query and returns its rows as they arrive.
    pub(in crate::pg::scope) async fn query_raw(
        &self,
        sql: &str,
        params: &[&dyn Param],
    ) -> Result<RowStream, Failure> {
        self.run(|| async {
            let client = self.client();
            match self.prepare(self.statements, sql, params).await? {
                None => client.query_typed_raw(sql, typed(params)).await,
                Some(statement) => client.query_raw(&statement, values(params)).await,
            }
        })
        .await
    }

    /// Records that a stream of rows has failed.
    pub(in crate::pg::scope) fn failed_in_stream(&self, error: tokio_postgres::Error) -> Failure {
        self.failed.store(true, Ordering::Relaxed);
        self.note_error(&error);
        self.in_tenant(error.into())
    }
}
