//! The jobs of an application: one server of all runs a job at a time, by a lease in the database.

use std::sync::Arc;

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;

use super::{Job, Next};
use crate::app::backend::operator;
use crate::app::context::Context;
use crate::app::options::{ApplicationJob, RunJob};
use crate::domain::Clock;
use crate::domain::error::{Error, Result};
use crate::service::Leases;
use crate::service::leases::LEASE;

/// How often a server asks whether a job is due.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// How long a job waits after a run that failed, unless it runs more often.
const AFTER_FAILURE: Duration = Duration::from_mins(1);

/// A job with what it runs on.
#[derive(Clone)]
struct OwnJob {
    name: &'static str,
    every: Duration,
    run: RunJob,
    context: Context,
    leases: Leases,
    clock: Clock,
}

/// Runs a job of an application whenever it is due and no other server runs it.
pub(super) fn run(
    job: &ApplicationJob,
    every: Duration,
    context: Context,
    leases: &Leases,
    clock: &Clock,
) -> Job {
    let (name, run) = (job.name, Arc::clone(&job.run));
    let own = OwnJob { name, every, run, context, leases: leases.clone(), clock: clock.clone() };
    Job::new(name, ASK_EVERY.min(every), &own, |own, _| async move { own.run_if_due().await })
}

impl OwnJob {
    async fn run_if_due(&self) -> Result<Next> {
        let Some(run) = self.leases.claim(&operator(&self.clock), self.name).await? else {
            return Ok(Next::AfterInterval);
        };
        tracing::debug!(job = self.name, "a job of the application runs");
        let working = AssertUnwindSafe((self.run)(self.context.clone())).catch_unwind();
        let mut working = std::pin::pin!(working);
        let beat = LEASE.unsigned_abs() / 3;
        let outcome = loop {
            tokio::select! {
                outcome = &mut working => break outcome,
                () = tokio::time::sleep(beat) => {
                    let ctx = operator(&self.clock);
                    // A failure to ask is not a lost lease; the next beat asks again.
                    if let Ok(false) = self.leases.renew(&ctx, self.name, run).await {
                        let lost = "another server has taken its lease";
                        return Err(Error::unavailable("run a job of the application", lost));
                    }
                }
            }
        };
        let outcome = outcome.unwrap_or_else(|_panic| {
            Err(Error::internal("run a job of the application", "it panicked"))
        });
        let pause = if outcome.is_ok() { self.every } else { self.every.min(AFTER_FAILURE) };
        let ctx = operator(&self.clock);
        let due_at = ctx.now + pause;
        self.leases.finish(&ctx, self.name, run, due_at, outcome.is_ok()).await?;
        outcome.map(|()| Next::AfterInterval)
    }
}
