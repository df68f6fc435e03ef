//! Jobs on tenants: erasing expired profiles, purging deleted tenants.

use std::time::Duration;

use super::{Job, Next};
use crate::service::{Lifecycle, Profiles};

/// Erases expired profiles. Reads hide them already.
pub(super) fn erase_profiles(profiles: &Profiles, every: Duration) -> Job {
    Job::new("erase_profiles", every, profiles, |profiles, ctx| async move {
        let count = profiles.erase_expired(&ctx).await?;
        if count > 0 {
            tracing::info!(count, "erased expired profiles");
        }
        Ok(Next::AfterInterval)
    })
    .not_at_start()
}

/// Purges deleted tenants whose grace period is over.
pub(super) fn purge(lifecycle: &Lifecycle, every: Duration) -> Job {
    Job::new("purge_tenants", every, lifecycle, |lifecycle, ctx| async move {
        lifecycle.purge_due(&ctx).await?;
        Ok(Next::AfterInterval)
    })
}
