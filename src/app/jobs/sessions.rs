//! Jobs on sessions and refused callers: deleting what has ended, writing what was refused.

use std::time::Duration;

use super::{Job, Next};
use crate::service::{Refusals, Sessions};

/// The interval of the search for ended sessions. They are refused already.
const DELETE_EVERY: Duration = Duration::from_hours(1);

/// How long a refusal waits for its event in the audit trail, unless a reader asks for it.
const WRITE_EVERY: Duration = Duration::from_mins(1);

/// Deletes sessions that have ended.
pub(super) fn delete_ended(sessions: &Sessions) -> Job {
    Job::new("delete_ended_sessions", DELETE_EVERY, sessions, |sessions, ctx| async move {
        let count = sessions.delete_ended(&ctx).await?;
        if count > 0 {
            tracing::info!(count, "deleted ended sessions");
        }
        Ok(Next::AfterInterval)
    })
    .not_at_start()
}

/// Writes what this process has refused into the audit trail.
pub(super) fn write_refusals(refusals: &Refusals) -> Job {
    Job::new("write_refusals", WRITE_EVERY, refusals, |refusals, ctx| async move {
        refusals.write(&ctx).await?;
        Ok(Next::AfterInterval)
    })
    .not_at_start()
}
