//! The job that keeps the stock of vacancies full.

use std::time::{Duration, Instant};

use futures_util::FutureExt;

use super::{Job, Next};
use crate::service::Vacancies;
use crate::service::vacancies::TendOutcome;

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
