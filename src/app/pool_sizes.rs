//! How the connection budget is shared out: to the main runtime, to each worker, and one connection that is
//! kept free for the replacement of another.

use crate::app::Purpose;
use crate::pg::rules::PoolSizes;

/// Of the connection budget, the part that the main runtime's control pool gets, which provisions.
const PROVISIONING_SHARE: usize = 5;

/// Tenant connections of the main runtime: what has run out is erased on one.
const MAIN_RUNTIME: usize = 2;

/// The least that a worker can serve with.
const LEAST: PoolSizes = PoolSizes { control: 1, runtime: 2 };

/// The pools of the main runtime of a server.
const fn main(budget: usize) -> PoolSizes {
    PoolSizes { control: budget / PROVISIONING_SHARE, runtime: MAIN_RUNTIME }
}

/// The pools of the main runtime, which a command that migrates need share with nobody.
pub(super) const fn main_for(purpose: Purpose, budget: usize) -> PoolSizes {
    match purpose {
        Purpose::Migrate => {
            PoolSizes { control: budget.saturating_sub(MAIN_RUNTIME), runtime: MAIN_RUNTIME }
        }
        Purpose::Serve | Purpose::Operate => main(budget),
    }
}

/// How many tenants a fleet migration may work on at the same time, by the main runtime's pools. Set-ups of a
/// server go on beside it, and both need a connection to tell that they live.
pub(super) fn fleet_workers(purpose: Purpose, main: PoolSizes) -> usize {
    let most = match purpose {
        Purpose::Migrate => main.control.saturating_sub(2),
        Purpose::Serve | Purpose::Operate => main.control / 2,
    };
    most.max(1)
}

/// How many of the workers that are wished for there are connections for, and the pools of each. `reserve`
/// is what is kept free.
pub(super) fn workers(budget: usize, reserve: usize, wished: usize) -> (usize, PoolSizes) {
    let main = main(budget);
    let left = budget.saturating_sub(main.control + main.runtime + reserve);
    let workers = wished.min(left / (LEAST.control + LEAST.runtime)).max(1);
    let each = left / workers;
    // Recognising the caller takes one short query on a control connection, the rest of a request is on
    // the tenant's side.
    let control = (each / 3).max(LEAST.control);
    (workers, PoolSizes { control, runtime: each.saturating_sub(control).max(LEAST.runtime) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_pools_together_stay_within_the_budget_whatever_the_number_of_workers() {
        for budget in 10..500 {
            for reserve in [0, 1] {
                for wished in [1, 2, 3, 8, 64, 1024] {
                    let (workers, each) = workers(budget, reserve, wished);
                    let main = main(budget);
                    let all = main.control
                        + main.runtime
                        + reserve
                        + workers * (each.control + each.runtime);
                    assert!(all <= budget, "{all} of {budget}: {workers} workers, {each:?}");
                    assert!((1..=wished).contains(&workers), "{workers} of {wished} workers");
                    assert!(each.control >= 1 && each.runtime >= 2, "{each:?}");
                }
            }
        }
    }

    #[test]
    fn where_there_is_room_every_worker_gets_its_share() {
        let (workers, each) = workers(40, 1, 2);
        assert_eq!((workers, each), (2, PoolSizes { control: 4, runtime: 10 }));
    }
}
