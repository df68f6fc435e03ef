//! Background work of a server: a list of [`Job`]s, and the one driver that runs them.
//!
//! Each job has a task of its own. After a run the driver waits for the job's interval, with jitter, so that
//! the servers of one deployment do not all query the database at the same moment; after a failed run it waits
//! for a back-off that doubles. A job that panics is logged, counted and run again: it ends neither the server
//! nor the other jobs. When the server stops, running jobs are cancelled: an open transaction is
//! rolled back, and a later run, in any process, continues.
//!
//! To add a job: a function in the file of its noun that returns a [`Job`], and a line in [`all`].

mod archives;
mod audit;
mod clock;
mod connections;
mod fleet;
mod measurements;
mod own;
mod sessions;
mod signing_keys;
mod tenants;
mod vacancies;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::task::JoinSet;

use super::Backend;
use super::backend::operator;
use super::options::ApplicationJob;
use crate::auth::CallContext;
use crate::domain::{Clock, Error};
use crate::telemetry::{JobOutcome, Metrics};

/// The pause after the first failed run; each further failure doubles it.
const FIRST_BACK_OFF: Duration = Duration::from_secs(1);

/// The longest pause after a failed run. A job with a short interval pauses for some intervals at most.
const LONGEST_BACK_OFF: Duration = Duration::from_mins(1);

/// How many of its intervals a job pauses at most after a failed run.
const BACK_OFF_INTERVALS: u32 = 8;

/// The largest random extension of a pause, as a fraction of it.
const JITTER: f64 = 0.1;

/// How long a server that stops waits for its last refusals to be written.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a server that stops waits for its announcement to other servers, which is optional.
const ANNOUNCE_TIMEOUT: Duration = Duration::from_millis(500);

/// Work that a server repeats for as long as it runs.
struct Job {
    /// The value of the label `job` in the metrics, and of the field in the log.
    name: &'static str,
    /// The pause between two runs.
    every: Duration,
    /// The pause before the first run: none, or an interval for work that visits every tenant, which must not slow down a
    /// deployment.
    first: Duration,
    run: Run,
}

/// The function that runs a job once, as the operator.
type Run = Box<dyn FnMut(CallContext) -> BoxFuture<'static, Result<Next, Error>> + Send>;

/// When a job runs again.
enum Next {
    /// After its interval.
    AfterInterval,
    /// After this pause: there is more to do.
    After(Duration),
    /// After its interval, or when this future is ready, whichever is earlier.
    When(BoxFuture<'static, ()>),
}

/// All jobs of a server with these settings.
fn all(
    backend: &Backend,
    metrics: &Arc<Metrics>,
    intervals: &Intervals,
    own_jobs: &[(ApplicationJob, Duration)],
) -> Vec<Job> {
    let services = &backend.services;
    let mut jobs = vec![
        tenants::erase_profiles(&services.profiles, intervals.erase),
        tenants::purge(&services.lifecycle, intervals.purge),
        tenants::check_damage(&services.damage),
        archives::sweep(&services.stored_archives),
        audit::seal(&services.audit, intervals.seal),
        vacancies::replenish(&services.vacancies),
        vacancies::check_new_tenants(&services.provisioning),
        sessions::delete_ended(&services.sessions),
        sessions::write_refusals(&services.refusals),
        signing_keys::reload(&services.signing_keys),
        measurements::take(services, metrics),
    ];
    jobs.extend(intervals.idle.map(|idle| connections::close_unused(&backend.database, idle)));
    jobs.extend(backend.database_clock.as_ref().map(clock::read));
    jobs.extend(intervals.recover.map(|every| fleet::recover(&services.fleet, every)));
    jobs.extend(intervals.retention.map(|retention| fleet::prune(&services.fleet, retention)));
    jobs.extend(own_jobs.iter().map(|(job, every)| {
        own::run(job, *every, backend.context(), &services.leases, &backend.clock)
    }));
    jobs
}

/// The intervals of the jobs, from the settings.
pub(super) struct Intervals {
    /// Between two searches for expired profiles.
    pub(super) erase: Duration,
    /// Between two searches for tenants to purge.
    pub(super) purge: Duration,
    /// Between two searches for audit events to seal, beside those that the events themselves cause.
    pub(super) seal: Duration,
    /// Between two searches for fleet migrations without a process. None: this server recovers none.
    pub(super) recover: Option<Duration>,
    /// How long the ledger of a fleet migration is kept. None: for ever.
    pub(super) retention: Option<Duration>,
    /// How long a connection is unused before it is closed. None: for ever.
    pub(super) idle: Option<Duration>,
}

/// The running jobs of a server. Dropped, all of them are cancelled.
pub(super) struct Jobs(JoinSet<()>);

impl Jobs {
    /// Starts the jobs on the runtime that calls this, none before this pause.
    pub(super) fn start(
        backend: &Backend,
        metrics: &Arc<Metrics>,
        intervals: &Intervals,
        own_jobs: &[(ApplicationJob, Duration)],
        pause: Duration,
    ) -> Self {
        let mut jobs = all(backend, metrics, intervals, own_jobs);
        for job in &mut jobs {
            job.first = job.first.max(pause);
        }
        Self::of(jobs, &backend.clock, metrics)
    }

    fn of(jobs: Vec<Job>, clock: &Clock, metrics: &Arc<Metrics>) -> Self {
        let mut tasks = JoinSet::new();
        for job in jobs {
            tasks.spawn(job.repeat(clock.clone(), Arc::clone(metrics)));
        }
        Self(tasks)
    }

    /// Cancels the jobs and waits until none of them holds a connection.
    pub(super) async fn stop(mut self) {
        self.0.shutdown().await;
    }
}

/// Writes what was refused and is not in the audit trail yet.
pub(super) async fn write_last_refusals(backend: &Backend) {
    let ctx = backend.operator();
    let writing = backend.services.refusals.write(&ctx);
    match tokio::time::timeout(WRITE_TIMEOUT, writing).await {
        Ok(Ok(_count)) => {}
        Ok(Err(error)) => {
            tracing::warn!(error = %error.chain(), "failed to write what was refused");
        }
        Err(_elapsed) => tracing::warn!("failed to write what was refused in time"),
    }
}

/// Tells other servers that this one stops.
pub(super) async fn announce_stop(backend: &Backend) {
    let ctx = backend.operator();
    let retiring = backend.services.vacancies.retire(&ctx);
    match tokio::time::timeout(ANNOUNCE_TIMEOUT, retiring).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::debug!(error = %error.chain(), "failed to announce the stop to other servers");
        }
        Err(_elapsed) => tracing::debug!("failed to announce the stop to other servers in time"),
    }
}

impl Job {
    /// A job that calls a service; `run` gets a clone of it each time.
    fn new<S, F>(
        name: &'static str,
        every: Duration,
        service: &S,
        run: impl Fn(S, CallContext) -> F + Send + 'static,
    ) -> Self
    where
        S: Clone + Send + 'static,
        F: Future<Output = Result<Next, Error>> + Send + 'static,
    {
        let service = service.clone();
        let run: Run = Box::new(move |ctx| run(service.clone(), ctx).boxed());
        Self { name, every, first: Duration::ZERO, run }
    }

    /// Returns the pause after this failure, and doubles it for the next.
    fn next_back_off(&self, back_off: &mut Duration) -> Duration {
        let pause = *back_off;
        let longest = self.every.saturating_mul(BACK_OFF_INTERVALS);
        let longest = LONGEST_BACK_OFF.min(longest).max(FIRST_BACK_OFF);
        *back_off = (pause * 2).min(longest);
        pause
    }

    /// The same job, which does not run when the server starts.
    fn not_at_start(self) -> Self {
        Self { first: with_jitter(self.every), ..self }
    }

    async fn repeat(mut self, clock: Clock, metrics: Arc<Metrics>) {
        let mut back_off = FIRST_BACK_OFF;
        if !self.first.is_zero() {
            tokio::time::sleep(self.first).await;
        }
        loop {
            let running = (self.run)(operator(&clock));
            let outcome = AssertUnwindSafe(running).catch_unwind().await;
            let next = match outcome {
                Ok(Ok(next)) => {
                    metrics.count_job_run(self.name, JobOutcome::Done);
                    #[expect(
                        clippy::cast_precision_loss,
                        reason = "seconds since 1970 fit an f64 for the next million years"
                    )]
                    metrics.set_job_success(self.name, clock.now().unix_timestamp() as f64);
                    back_off = FIRST_BACK_OFF;
                    next
                }
                Ok(Err(error)) => {
                    metrics.count_job_run(self.name, JobOutcome::Failed);
                    tracing::warn!(
                        job = self.name,
                        error = %error.chain(),
                        retry_in_s = back_off.as_secs(),
                        "a background job failed"
                    );
                    Next::After(self.next_back_off(&mut back_off))
                }
                Err(_panic) => {
                    metrics.count_job_run(self.name, JobOutcome::Panicked);
                    tracing::error!(
                        job = self.name,
                        retry_in_s = back_off.as_secs(),
                        "a background job panicked"
                    );
                    Next::After(self.next_back_off(&mut back_off))
                }
            };
            match next {
                Next::AfterInterval => tokio::time::sleep(with_jitter(self.every)).await,
                Next::After(pause) => tokio::time::sleep(with_jitter(pause)).await,
                Next::When(ready) => {
                    let _ = tokio::time::timeout(with_jitter(self.every), ready).await;
                }
            }
        }
    }
}

fn with_jitter(pause: Duration) -> Duration {
    pause.mul_f64(1.0 + JITTER * fastrand::f64())
}

#[cfg(test)]
mod tests;
