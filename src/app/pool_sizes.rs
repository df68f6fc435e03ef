//! Divides the connection budget among the main runtime, the workers, and the connection that is reserved for the
//! replacement of another.

use crate::app::Purpose;
use crate::pg::rules::PoolSizes;

/// The divisor of the connection budget for the main runtime's control pool, which provisions: a fifth of it.
const PROVISIONING_SHARE: usize = 5;

/// Tenant connections of the main runtime. One of them erases expired profiles.
const MAIN_RUNTIME: usize = 2;

/// The smallest pools that a worker can serve with.
const LEAST: PoolSizes = PoolSizes { control: 1, runtime: 2 };

/// Returns the pools of the main runtime of a server.
const fn main(budget: usize) -> PoolSizes {
    PoolSizes { control: budget / PROVISIONING_SHARE, runtime: MAIN_RUNTIME }
}

/// Returns the pools of the main runtime. A command that migrates has no workers, so its main runtime gets the whole
/// budget.
pub(super) const fn main_for(purpose: Purpose, budget: usize) -> PoolSizes {
    match purpose {
        Purpose::Migrate => {
            PoolSizes { control: budget.saturating_sub(MAIN_RUNTIME), runtime: MAIN_RUNTIME }
        }
        Purpose::Serve | Purpose::Operate => main(budget),
    }
}

/// The pools of the listener for operators, which only asks whether the server is ready.
pub(super) const MANAGEMENT: PoolSizes = PoolSizes { control: 1, runtime: 0 };

/// The pools of the tests in this process, which use the services beside a server.
#[cfg(feature = "testing")]
pub(super) const FOR_TESTS: PoolSizes = PoolSizes { control: 4, runtime: 16 };

/// Returns how many tenants a fleet migration may migrate at the same time, by the main runtime's pools. In a server,
/// set-ups run at the same time, and both need a connection for their heartbeats.
pub(super) fn fleet_workers(purpose: Purpose, main: PoolSizes) -> usize {
    let most = match purpose {
        Purpose::Migrate => main.control.saturating_sub(2),
        Purpose::Serve | Purpose::Operate => main.control / 2,
    };
    most.max(1)
}

/// Returns the number of workers, at most `wanted`, that the budget has connections for, and the pools of each.
/// `reserve` connections are kept free.
pub(super) fn workers(budget: usize, reserve: usize, wanted: usize) -> (usize, PoolSizes) {
    let main = main(budget);
    let left = budget.saturating_sub(main.control + main.runtime + reserve);
    let workers = wanted.min(left / (LEAST.control + LEAST.runtime)).max(1);
    let each = left / workers;
    // Authenticating the caller takes one short query on a control connection; the rest of a request runs on a
    // tenant connection.
    let control = (each / 3).max(LEAST.control);
    (workers, PoolSizes { control, runtime: each.saturating_sub(control).max(LEAST.runtime) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_pools_together_stay_within_the_budget_whatever_the_number_of_workers() {
        for budget in 10..500 {
            for reserve in [0, 1, 1 + MANAGEMENT.control] {
                for wanted in [1, 2, 3, 8, 64, 1024] {
                    let (workers, each) = workers(budget, reserve, wanted);
                    let main = main(budget);
                    let all = main.control
                        + main.runtime
                        + reserve
                        + workers * (each.control + each.runtime);
                    assert!(all <= budget, "{all} of {budget}: {workers} workers, {each:?}");
                    assert!((1..=wanted).contains(&workers), "{workers} of {wanted} workers");
                    assert!(each.control >= 1 && each.runtime >= 2, "{each:?}");
                }
            }
        }
    }

    #[test]
    fn with_enough_connections_every_worker_gets_its_share() {
        let (workers, each) = workers(40, 1, 2);
        assert_eq!((workers, each), (2, PoolSizes { control: 4, runtime: 10 }));
    }
}
