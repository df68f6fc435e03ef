//! Removes archives that are not needed: expired exports, and what killed servers left.

use std::time::Duration;

use super::{Job, Next};
use crate::service::StoredArchives;

/// The interval between two searches.
const EVERY: Duration = Duration::from_mins(1);

/// Removes what is not needed. If it is cancelled, the next run continues.
pub(super) fn sweep(archives: &StoredArchives) -> Job {
    Job::new("sweep_archives", EVERY, archives, |archives, ctx| async move {
        let count = archives.sweep(&ctx).await?;
        if count > 0 {
            tracing::info!(count, "removed archives that are not needed");
        }
        Ok(Next::AfterInterval)
    })
}
