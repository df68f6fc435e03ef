//! The jobs on new tenants: keeping the stock of vacancies full, and checking that new tenants can be made.

use std::time::{Duration, Instant};

use futures_util::FutureExt;

use super::{Job, Next};
use crate::domain::Error;
use crate::service::vacancies::TendOutcome;
use crate::service::{Provisioning, Vacancies};

/// How often the stock is checked if no set-up asks for it, because other processes or a deployment may have changed
/// it.
const EVERY: Duration = Duration::from_secs(30);

/// How long the job waits after a set-up has asked, so that one check serves several set-ups.
const GATHER: Duration = Duration::from_millis(100);

/// Builds and rebuilds vacancies, one piece of work a run. After each run it pauses for as long as the run
/// took: it uses at most half of one connection's time, and slows down with the database.
pub(super) fn replenish(vacancies: &Vacancies) -> Job {
    Job::new("replenish_vacancies", EVERY, vacancies, |vacancies, ctx| async move {
        let start = Instant::now();
        Ok(match vacancies.tend(&ctx).await? {
            TendOutcome::Worked => Next::After(start.elapsed()),
            TendOutcome::Done | TendOutcome::Busy => Next::When(
                async move {
                    vacancies.asked().await;
                    tokio::time::sleep(GATHER).await;
                }
                .boxed(),
            ),
        })
    })
}

/// How often it is checked whether new tenants can be made. An operator may have migrated tenants or repaired the database
/// meanwhile.
const CHECK_EVERY: Duration = Duration::from_mins(5);

/// How soon that is checked again while they cannot be made.
const CHECK_AGAIN: Duration = Duration::from_secs(15);

/// Builds a tenant from the migrations and takes it back. That the migrations are at fault is logged when it is found, and
/// is no failure of the job.
pub(super) fn check_new_tenants(provisioning: &Provisioning) -> Job {
    Job::new("check_new_tenants", CHECK_EVERY, provisioning, |provisioning, ctx| async move {
        match provisioning.check(&ctx).await {
            Ok(()) => Ok(Next::AfterInterval),
            Err(Error::Fleet(_)) => Ok(Next::After(CHECK_AGAIN)),
            Err(error) => Err(error),
        }
    })
}
