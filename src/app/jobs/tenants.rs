//! Jobs on tenants: erasing expired profiles, purging deleted tenants, looking for damaged ones.

use std::time::Duration;

use futures_util::FutureExt;

use super::{Job, Next};
use crate::service::{Damage, Lifecycle, Profiles};

/// How often damaged tenants are looked for, if no request finds one.
const CHECK_EVERY: Duration = Duration::from_mins(5);

/// How long the job waits after a request has found one, so that one search serves several.
const GATHER: Duration = Duration::from_secs(1);

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

/// Looks for damaged tenants, and logs how many there are.
pub(super) fn check_damage(damage: &Damage) -> Job {
    Job::new("check_tenants", CHECK_EVERY, damage, |damage, ctx| async move {
        damage.check(&ctx).await?;
        Ok(Next::When(
            async move {
                damage.found_unauthorized().await;
                tokio::time::sleep(GATHER).await;
            }
            .boxed(),
        ))
    })
}
