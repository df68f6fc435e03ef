//! Looks after the ledger of fleet migrations for as long as the server runs: goes on with what somebody left,
//! and forgets what is old.

use std::time::Duration;

use tokio::time::MissedTickBehavior;
use uuid::Uuid;

use crate::app::Backend;
use crate::service::fleet::Look;

/// How often it is looked for tenants of old migrations: nobody waits for it.
const PRUNE_EVERY: Duration = Duration::from_hours(1);

/// Goes on with migrations whose process is gone; one look each time. Dropped in the middle it leaves a lease
/// that runs out.
pub(in crate::app) async fn take_up_for_ever(backend: &Backend, every: Option<Duration>) {
    let Some(every) = every else { return std::future::pending().await };
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = None;
    loop {
        ticks.tick().await;
        match Box::pin(backend.services.fleet.take_up_left(&backend.operator())).await {
            Ok(Look::Nothing) => {}
            Ok(Look::Taken(id)) => {
                tracing::info!(operation.id = %id, "going on with a fleet migration that was left");
            }
            Ok(Look::Late(id)) => {
                tracing::debug!(operation.id = %id, "somebody else went on with a fleet migration");
            }
            Ok(Look::OtherSet { id, target_version }) => {
                if is_news(&mut last, id) {
                    tracing::warn!(
                        operation.id = %id,
                        target_version,
                        "a fleet migration was left that migrates to another set than this server has: leaving it alone"
                    );
                }
            }
            Ok(Look::NotDirect(id)) => {
                if is_news(&mut last, id) {
                    tracing::warn!(
                        operation.id = %id,
                        "a fleet migration was left that needs a direct connection to the database, and database.url leads to a pooler: leaving it alone"
                    );
                }
            }
            Err(error) => {
                tracing::warn!(error = %error.chain(), "could not look for a fleet migration that was left");
            }
        }
    }
}

/// Forgets what became of each tenant of old migrations, again and again. Dropped in the middle it leaves the
/// rest to the next time.
pub(in crate::app) async fn prune_for_ever(backend: &Backend, retention: Option<Duration>) {
    let Some(retention) = retention else { return std::future::pending().await };
    let mut ticks = tokio::time::interval(PRUNE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match Box::pin(backend.services.fleet.prune(&backend.operator(), retention)).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "forgot tenants of old fleet migrations"),
            Err(error) => {
                tracing::warn!(error = %error.chain(), "could not forget tenants of old fleet migrations");
            }
        }
    }
}

/// Whether this one was not the last to be told of, as it now is.
fn is_news(last: &mut Option<Uuid>, id: Uuid) -> bool {
    last.replace(id) != Some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_is_told_of_once() {
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let mut last = None;
        let told: Vec<bool> =
            [one, one, two, two, two].map(|id| is_news(&mut last, id)).into_iter().collect();
        assert_eq!(told, [true, false, true, false, false]);
    }
}
