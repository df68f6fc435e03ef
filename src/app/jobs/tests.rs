use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::domain::error::Conflict;
use crate::telemetry::Exposition;

fn job(name: &'static str, runs: &Arc<AtomicUsize>, run: fn(usize) -> Result<Next, Error>) -> Job {
    Job::new(name, Duration::from_secs(10), runs, move |runs, _ctx| async move {
        run(runs.fetch_add(1, Ordering::Relaxed))
    })
}

/// Runs the jobs for this long on a paused clock, and returns the metrics.
async fn after(time: Duration, jobs: Vec<Job>) -> String {
    let metrics = Arc::new(Metrics::default());
    let jobs = Jobs::of(jobs, &Clock::system(), &metrics);
    tokio::time::sleep(time).await;
    jobs.stop().await;
    metrics.render(Exposition::Text)
}

#[tokio::test(start_paused = true)]
async fn a_job_that_panics_or_fails_ends_neither_itself_nor_the_others() {
    let [good, failing, panicking] = [(); 3].map(|()| Arc::new(AtomicUsize::new(0)));
    let metrics = after(
        Duration::from_mins(2),
        vec![
            job("panicking", &panicking, |_| panic!("on purpose")),
            job("failing", &failing, |_| Err(Error::Conflict(Conflict::Concurrent))),
            job("good", &good, |_| Ok(Next::AfterInterval)),
        ],
    )
    .await;
    // Every 10 to 11 seconds, at once the first time.
    assert!((11..=13).contains(&good.load(Ordering::Relaxed)), "{good:?}");
    // After 1, 2, 4, 8, 16, 32 and 60 seconds.
    for runs in [&failing, &panicking] {
        assert!((6..=8).contains(&runs.load(Ordering::Relaxed)), "{runs:?}");
    }
    let counted = |line: &str| {
        let found = metrics.lines().find_map(|metric| metric.strip_prefix(line));
        found.map_or(0, |count| count.trim().parse::<usize>().unwrap())
    };
    let runs = |name: &str, outcome: &str| {
        counted(&format!("rowhouse_job_runs_total{{job=\"{name}\",outcome=\"{outcome}\"}}"))
    };
    assert_eq!(runs("panicking", "panicked"), panicking.load(Ordering::Relaxed), "{metrics}");
    assert_eq!(runs("failing", "failed"), failing.load(Ordering::Relaxed), "{metrics}");
    assert_eq!(runs("good", "done"), good.load(Ordering::Relaxed), "{metrics}");
    assert!(metrics.contains("rowhouse_job_last_success_timestamp_seconds{job=\"good\"}"));
    assert!(!metrics.contains("rowhouse_job_last_success_timestamp_seconds{job=\"failing\"}"));
}

#[tokio::test(start_paused = true)]
async fn after_a_success_the_back_off_starts_anew() {
    let runs = Arc::new(AtomicUsize::new(0));
    let flaky = job("flaky", &runs, |run| {
        if run % 4 == 3 {
            Ok(Next::AfterInterval)
        } else {
            Err(Error::Conflict(Conflict::Concurrent))
        }
    });
    after(Duration::from_mins(1), vec![flaky]).await;
    // Three failures take 7 seconds and a success 10: at least 3 rounds of 4 in a minute.
    assert!((12..=16).contains(&runs.load(Ordering::Relaxed)), "{runs:?}");
}

#[tokio::test(start_paused = true)]
async fn a_job_with_more_to_do_or_that_is_asked_runs_before_its_interval() {
    let [busy, asked] = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
    after(
        Duration::from_secs(8),
        vec![
            job("busy", &busy, |_| Ok(Next::After(Duration::from_secs(1)))),
            job("asked", &asked, |_| {
                Ok(Next::When(tokio::time::sleep(Duration::from_secs(2)).boxed()))
            }),
        ],
    )
    .await;
    assert!((7..=9).contains(&busy.load(Ordering::Relaxed)), "{busy:?}");
    assert_eq!(asked.load(Ordering::Relaxed), 4);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_visits_every_tenant_does_not_run_when_the_server_starts() {
    let runs = Arc::new(AtomicUsize::new(0));
    let delayed = || job("delayed", &runs, |_| Ok(Next::AfterInterval)).not_at_start();
    after(Duration::from_secs(9), vec![delayed()]).await;
    assert_eq!(runs.load(Ordering::Relaxed), 0);
    after(Duration::from_secs(12), vec![delayed()]).await;
    assert_eq!(runs.load(Ordering::Relaxed), 1);
}
