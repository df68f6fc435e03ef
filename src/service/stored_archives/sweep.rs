//! Removes what is not needed: expired exports, and what killed servers left.

use super::StoredArchives;
use super::keeper::explain;
use crate::auth::CallContext;
use crate::domain::Permission;
use crate::domain::error::Result;
use crate::pg::During;
use crate::pg::control::{archives, imports};

const SWEEP: &str = "remove archives";

impl StoredArchives {
    /// Deletes exports whose time is over, records that archives failed whose server is gone, and removes content of this
    /// server's store that belongs to no archive any more. Returns how many archives and files it removed. Safe to run on
    /// several servers at once.
    ///
    /// # Errors
    /// Those of the rights check and of the database; [`StoreUnavailable`](
    /// crate::domain::archive::ArchiveProblem::StoreUnavailable).
    pub async fn sweep(&self, ctx: &CallContext) -> Result<usize> {
        ctx.require(Permission::ManageArchives)?;
        let tx = self.db.public().await.during(SWEEP)?;
        archives::fail_abandoned(&tx, ctx.now).await?;
        archives::prune(&tx, ctx.now).await?;
        imports::sweep(&tx, ctx.now).await?;
        let expired = archives::expired(&tx, ctx.now).await?;
        tx.commit().await.during(SWEEP)?;
        let mut removed = expired.len();
        for record in expired {
            let tx = self.db.public().await.during(SWEEP)?;
            self.remove(tx, ctx, &record).await?;
        }
        // Listed before it is asked which are needed: a file that is begun meanwhile is not in the list.
        let store = &self.keeper.store;
        let keys = store.list().await.map_err(|error| explain(&error, SWEEP))?;
        if keys.is_empty() {
            return Ok(removed);
        }
        let tx = self.db.public().await.during(SWEEP)?;
        for key in archives::not_needed(&tx, &keys).await? {
            store.delete(key).await.map_err(|error| explain(&error, SWEEP))?;
            removed += 1;
        }
        Ok(removed)
    }
}
