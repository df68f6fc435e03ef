//! Savepoints: a part of a tenant's transaction that can fail without the rest.

use super::TenantTx;
use crate::pg::error::Failure;

impl TenantTx {
    /// Runs a part of the transaction. If it fails, what it did is undone, and the transaction goes on as it was before.
    ///
    /// ```no_run
    /// # async fn add(tx: rowhouse::TenantTx) -> Result<(), rowhouse::Problem> {
    /// let tagged = tx
    ///     .savepoint(async || tx.execute("INSERT INTO tags (name) VALUES ($1)", &[&"work"]).await)
    ///     .await;
    /// let is_new = tagged.is_ok(); // the transaction is sound in either case
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of the part, and of the database.
    pub async fn savepoint<T, E: From<Failure>>(
        &self,
        part: impl AsyncFnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let name = self.tx.next_savepoint();
        self.tx.batch(&format!("SAVEPOINT {name}")).await?;
        let outcome = part().await;
        match &outcome {
            Ok(_) => self.tx.batch(&format!("RELEASE SAVEPOINT {name}")).await?,
            Err(_) => self.tx.back_to_savepoint(&name).await?,
        }
        outcome
    }
}
