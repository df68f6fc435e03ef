//! Deletes the rows of tenants of operations that ended long ago. The operations stay, with their counts.
//!
//! Failed tenants are kept as long as their operation can be retried, which is as long as this program has the set
//! that it migrates to. A program with another set may have deleted them nevertheless: then a retry is refused
//! rather than done for some tenants only.

use std::time::Duration;

use crate::auth::CallContext;
use crate::domain::Permission;
use crate::domain::error::Result;
use crate::pg::control::operation_tenants::prune::prune;
use crate::pg::error::During;
use crate::service::fleet::commands::Fleet;

/// Rows that one statement deletes.
const BATCH: i64 = 1000;

impl Fleet {
    /// Deletes the rows of tenants of operations that ended longer ago than this, and returns how many. It deletes in
    /// batches, each in a transaction of its own; if cancelled, the next run continues.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn prune(&self, ctx: &CallContext, older_than: Duration) -> Result<i64> {
        ctx.require(Permission::MigrateFleet)?;
        let age = time::Duration::try_from(older_than).unwrap_or(time::Duration::MAX);
        // Further back than the calendar reaches: nothing is that old.
        let Some(before) = ctx.now.checked_sub(age) else { return Ok(0) };
        let during = "delete tenants of old operations";
        let mut sum = 0;
        loop {
            let tx = self.db.public().await.during(during)?;
            let deleted =
                prune(tx, before, self.set().fingerprint(), BATCH).await.during(during)?;
            sum += deleted;
            if deleted < BATCH {
                return Ok(sum);
            }
        }
    }
}
