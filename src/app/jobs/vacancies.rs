//! The job that keeps the stock of vacancies.

use std::time::{Duration, Instant};

use futures_util::FutureExt;

use super::{Job, Next};
use crate::service::Vacancies;
use crate::service::vacancies::TendOutcome;

/// How often the stock is checked where no set-up asks: for what other processes and a deployment changed.
const EVERY: Duration = Duration::from_secs(30);

/// How long the job waits after a set-up has asked, so that one check serves set-ups that follow closely.
const GATHER: Duration = Duration::from_millis(100);

/// Builds and rebuilds vacancies, one piece of work a run. After each piece it pauses for as long as the work
/// took: it is at most half of one connection's load, and slows down with the database.
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
