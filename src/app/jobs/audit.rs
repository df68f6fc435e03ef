//! The job that seals audit events, which puts them into the feed.

use std::time::Duration;

use futures_util::FutureExt;

use super::{Job, Next};
use crate::service::Audit;
use crate::service::audit::SealOutcome;

/// How long the job waits after an event was written, so that one seal serves several; and until it asks again where
/// another process seals.
const GATHER: Duration = Duration::from_millis(100);

/// How often the chain is looked at while readers of this process wait for events, which other processes may write.
const AWAITED_EVERY: Duration = Duration::from_millis(250);

/// Seals the events that this process writes soon after their commit, and at each interval those of other processes, of
/// commands and of servers that have ended.
pub(super) fn seal(audit: &Audit, every: Duration) -> Job {
    Job::new("seal_audit_events", every, audit, |audit, ctx| async move {
        Ok(match audit.tend(&ctx).await? {
            SealOutcome::Busy => Next::After(GATHER),
            SealOutcome::Done => Next::When(
                async move {
                    if audit.is_awaited() {
                        let _ = tokio::time::timeout(AWAITED_EVERY, audit.asked()).await;
                    } else {
                        audit.asked().await;
                    }
                    tokio::time::sleep(GATHER).await;
                }
                .boxed(),
            ),
        })
    })
}
