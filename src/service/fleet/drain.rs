//! The loop of a run: claims tenants in batches, starts workers, and lets the recorder write, until no tenant is left
//! or the run is told to stop.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio::time::{Interval, MissedTickBehavior};
use uuid::Uuid;

use crate::domain::operation::OperationKind;
use crate::pg::control::archives;
use crate::pg::control::operation_tenants::{self, Claimed};
use crate::service::fleet::retry::{TRIES, is_transient, retry};
use crate::service::fleet::stop::{StopReason, stop};
use crate::service::fleet::workers::Workers;

/// How long a migrated tenant may stay unrecorded while there are only a few of them.
const RECORD_EVERY: Duration = Duration::from_millis(100);

/// How often to look whether the exports have ended that tenants wait for.
const LOOK_FOR_EXPORTS_EVERY: Duration = Duration::from_millis(500);

/// Tenants to claim at a time, whatever the number of workers: a claim is a transaction too, and waits for the disk.
const CLAIMED_AT_LEAST: usize = 64;

/// More of them for each worker.
const CLAIMED_PER_WORKER: usize = 16;

/// Works until no tenant is left or the run is told to stop. Returns the tenants that were claimed and not begun.
///
/// Tenants are begun in order. While some are migrated, the next ones are claimed and the last ones recorded. When
/// this returns, every migrated tenant is recorded.
pub(super) async fn drain(workers: &Arc<Workers>, canary_only: bool) -> Vec<Uuid> {
    let batch = CLAIMED_AT_LEAST + workers.count * CLAIMED_PER_WORKER;
    let mut stopped = workers.stopped.clone();
    let mut tasks = JoinSet::new();
    let mut claiming = None;
    let mut recording: Option<JoinHandle<()>> = None;
    let (mut ticks, mut exports) = (every(RECORD_EVERY), every(LOOK_FOR_EXPORTS_EVERY));
    let mut all_claimed = false;
    let mut not_begun = Vec::new();
    loop {
        let waiting = workers.queue.len();
        if claiming.is_none() && !all_claimed && waiting <= batch / 2 {
            let workers = Arc::clone(workers);
            claiming = Some(tokio::spawn(async move { claim(&workers, batch, canary_only).await }));
        }
        if recording.is_none() && workers.recorder.is_due() {
            let workers = Arc::clone(workers);
            recording = Some(tokio::spawn(async move { workers.recorder.record().await }));
        }
        let is_drained = claiming.is_none() && waiting == 0 && tasks.is_empty();
        if is_drained && workers.queue.aside().is_empty() {
            break;
        }
        let mut is_time = false;
        tokio::select! {
            biased;
            _ = stopped.wait_for(Option::is_some) => break,
            claimed = join_claim(&mut claiming), if claiming.is_some() => {
                claiming = None;
                all_claimed = claimed.len() < batch;
                workers.queue.extend(claimed);
            }
            () = join_record(&mut recording), if recording.is_some() => recording = None,
            Some(ended) = tasks.join_next(), if !tasks.is_empty() => {
                note_end(workers, ended, &mut not_begun);
            }
            Ok(permit) = Arc::clone(&workers.permits).acquire_owned(), if waiting > 0 => {
                let workers = Arc::clone(workers);
                tasks.spawn(async move { workers.work(permit, batch / 2).await });
            }
            () = workers.queue.is_short.notified() => {}
            _ = ticks.tick() => workers.recorder.call_due(),
            _ = exports.tick(), if waiting == 0 && claiming.is_none() => is_time = true,
        }
        if is_time {
            take_back(workers).await;
        }
    }
    workers.queue.extend(join_claim(&mut claiming).await);
    not_begun.extend(workers.queue.take_all().into_iter().map(|claimed| claimed.tenant.uuid()));
    // Before waiting for the workers, which may take long.
    join_record(&mut recording).await;
    Box::pin(workers.recorder.record()).await;
    while let Some(ended) = tasks.join_next().await {
        note_end(workers, ended, &mut not_begun);
    }
    record_all(workers, &mut ticks).await;
    not_begun
}

fn every(period: Duration) -> Interval {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Records every migrated tenant.
async fn record_all(workers: &Workers, ticks: &mut Interval) {
    Box::pin(workers.recorder.record()).await;
    while workers.recorder.is_behind() {
        ticks.tick().await;
        Box::pin(workers.recorder.record()).await;
    }
}

/// Claims some tenants; none if no more are left, or if the ledger cannot be written.
async fn claim(workers: &Workers, batch: usize, canary_only: bool) -> Vec<Claimed> {
    let limit = i64::try_from(batch).unwrap_or(i64::MAX);
    let try_to_claim = || async {
        let tx = workers.engine.db.public().await?;
        let (operation, runner) = (workers.operation, workers.runner);
        let now = workers.engine.clock.now();
        operation_tenants::claim(tx, operation, runner, canary_only, limit, now).await
    };
    let claimed = retry(TRIES, is_transient, try_to_claim).await;
    let mut claimed = claimed.unwrap_or_else(|failure| {
        stop(&workers.stop, StopReason::Away(failure.to_string()));
        Vec::new()
    });
    if workers.kind == OperationKind::Distribute {
        // What is done to the tenant changes nothing of what its row says of its migrations.
        for one in &mut claimed {
            one.made_by = None;
        }
    }
    claimed
}

/// Puts the tenants that waited for the end of an export at the end of the queue. Those whose exports cannot be looked for
/// wait for the next time.
async fn take_back(workers: &Workers) {
    let aside = workers.queue.aside();
    if aside.is_empty() {
        return;
    }
    let exporting = async {
        let tx = workers.engine.db.public().await?;
        archives::exporting(&tx, &aside).await
    };
    match exporting.await {
        Ok(exporting) => workers.queue.take_back(&exporting),
        Err(failure) => {
            tracing::warn!(error = %failure, "could not look for the exports that tenants wait for");
        }
    }
}

/// Waits for a claim. One that failed has stopped the run.
async fn join_claim(claiming: &mut Option<JoinHandle<Vec<Claimed>>>) -> Vec<Claimed> {
    match claiming {
        Some(task) => task.await.unwrap_or_default(),
        None => Vec::new(),
    }
}

async fn join_record(recording: &mut Option<JoinHandle<()>>) {
    if let Some(task) = recording {
        // The next runner records what this task had, as after a crash.
        if let Err(panicked) = task.await {
            tracing::error!(error = %panicked, "a bug: could not record which tenants were migrated");
        }
    }
}

fn note_end(workers: &Workers, ended: Result<Vec<Uuid>, JoinError>, not_begun: &mut Vec<Uuid>) {
    match ended {
        Ok(tenants) => not_begun.extend(tenants),
        // A bug of ours: the row stays with this runner, and the next one reclaims it.
        Err(panicked) => stop(&workers.stop, StopReason::Away(panicked.to_string())),
    }
}
