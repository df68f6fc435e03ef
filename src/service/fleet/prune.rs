//! Forgets what became of each tenant of operations that ended long ago. The operations stay, and how many
//! tenants came to what.
//!
//! What failed is kept as long as its operation can be tried again, which is as long as this program has the
//! set that it migrates to. A program with another set may have forgotten it all the same: then a retry is
//! refused rather than done by half.

use std::time::Duration;

use super::Fleet;
use crate::auth::CallContext;
use crate::domain::Permission;
use crate::domain::error::Result;
use crate::pg::control::operation_tenants::prune::prune;
use crate::pg::error::During;

/// Rows that one statement removes.
const BATCH: i64 = 1000;

impl Fleet {
    /// Forgets the tenants of operations that ended longer ago than this; tells how many. Part by part, each
    /// in a transaction of its own: dropped half-way it leaves the rest to the next time.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn prune(&self, ctx: &CallContext, older_than: Duration) -> Result<i64> {
        ctx.require(Permission::MigrateFleet)?;
        let age = time::Duration::try_from(older_than).unwrap_or(time::Duration::MAX);
        // Longer ago than there is a calendar for: nothing is.
        let Some(before) = ctx.now.checked_sub(age) else { return Ok(0) };
        let during = "forget tenants of old operations";
        let mut sum = 0;
        loop {
            let tx = self.db.public().await.during(during)?;
            let gone = prune(tx, before, self.set().fingerprint(), BATCH).await.during(during)?;
            sum += gone;
            if gone < BATCH {
                return Ok(sum);
            }
        }
    }
}
