//! Jobs on fleet migrations: recovering those whose process is gone, deleting old ledger entries.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use uuid::Uuid;

use super::{Job, Next};
use crate::service::Fleet;
use crate::service::fleet::RecoveryOutcome;

/// The interval between two searches for old ledgers. Nothing waits for them.
const PRUNE_EVERY: Duration = Duration::from_hours(1);

/// Continues a migration whose process is gone, one a run. If it is cancelled, its lease expires and another process
/// continues.
pub(super) fn recover(fleet: &Fleet, every: Duration) -> Job {
    let reported = Arc::new(Mutex::new(None));
    Job::new("recover_fleet_migrations", every, fleet, move |fleet, ctx| {
        let reported = Arc::clone(&reported);
        async move {
            let found = fleet.recover(&ctx).await?;
            report(&found, &mut reported.lock().unwrap_or_else(PoisonError::into_inner));
            Ok(Next::AfterInterval)
        }
    })
}

/// Deletes the ledger entries of old migrations. If it is cancelled, the next run continues.
pub(super) fn prune(fleet: &Fleet, retention: Duration) -> Job {
    Job::new("prune_fleet_ledgers", PRUNE_EVERY, fleet, move |fleet, ctx| async move {
        let count = fleet.prune(&ctx, retention).await?;
        if count > 0 {
            tracing::info!(count, "deleted the ledger entries of old fleet migrations");
        }
        Ok(Next::AfterInterval)
    })
}

/// Logs the outcome of a search. A migration that this server cannot run is logged once, not at each search.
fn report(found: &RecoveryOutcome, reported: &mut Option<Uuid>) {
    match found {
        RecoveryOutcome::Nothing => {}
        RecoveryOutcome::Recovered(id) => {
            tracing::info!(operation.id = %id, "recovered a fleet migration whose process is gone");
        }
        RecoveryOutcome::Late(id) => {
            tracing::debug!(operation.id = %id, "another process recovered a fleet migration first");
        }
        RecoveryOutcome::OtherSet { id, target_version } => {
            if is_news(reported, *id) {
                tracing::warn!(
                    operation.id = %id,
                    target_version,
                    "a fleet migration without a process targets another set of migrations than this \
                     server has; leaving it alone"
                );
            }
        }
        RecoveryOutcome::NotDirect(id) => {
            if is_news(reported, *id) {
                tracing::warn!(
                    operation.id = %id,
                    "a fleet migration without a process needs a direct connection to the database, and \
                     database.url leads to a pooler; leaving it alone"
                );
            }
        }
    }
}

/// Whether this operation differs from the one that was reported last.
fn is_news(reported: &mut Option<Uuid>, id: Uuid) -> bool {
    reported.replace(id) != Some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_is_reported_once() {
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let mut last = None;
        let told: Vec<bool> =
            [one, one, two, two, two].map(|id| is_news(&mut last, id)).into_iter().collect();
        assert_eq!(told, [true, false, true, false, false]);
    }
}
