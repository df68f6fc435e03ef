//! Requests wait for a connection to the database: because one tenant holds many of them behind a lock, or because there
//! are fewer than the server may open.

use std::time::Duration;

use crate::cluster::Shape;
use crate::noise::{Noise, make_tenant};
use crate::server::run_program;
use crate::stage::{Length, Setup, Stage};

/// How long requests are counted.
const WINDOW: Duration = Duration::from_millis(1500);

/// How long noisy clients take to have what they can.
const SETTLE: Duration = Duration::from_millis(500);

/// The clients of one tenant that ask without a pause.
const NOISY: usize = 40;

/// The others are served at this part of their rate or more. The rest is for a busy machine: where they wait for the
/// tenant, it is a twentieth.
const KEPT_PART: usize = 3;

async fn served(stage: &Stage) -> usize {
    let before = stage.shared.stats.count("ok");
    tokio::time::sleep(WINDOW).await;
    stage.shared.stats.count("ok") - before
}

/// Locks a table of a tenant until the result is dropped, and has many clients ask for it.
async fn ask_for_a_locked_table(stage: &Stage) -> (tokio_postgres::Client, Noise) {
    let schema = make_tenant(stage, &format!("locked-{}", fastrand::u32(..))).await;
    let sql = stage.cluster().connect().await;
    let lock = format!("BEGIN; LOCK TABLE {}.profiles IN ACCESS EXCLUSIVE MODE", schema.name);
    sql.batch_execute(&lock).await.expect("the table can be locked");
    let noise = Noise::start(&stage.servers[0].address, &[schema.slug], NOISY);
    tokio::time::sleep(SETTLE).await;
    (sql, noise)
}

/// A worker has four connections for tenants. The others are served almost as before, and none of them is refused.
pub(crate) async fn a_table_of_a_tenant_is_locked(name: &'static str, length: Length) {
    let mut stage = Stage::open(Setup::default()).await;
    stage.load().await;
    for _ in 0..length.rounds(1) {
        let before = served(&stage).await;
        let (lock, noise) = ask_for_a_locked_table(&stage).await;
        let beside = served(&stage).await;
        if beside * KEPT_PART < before {
            let problem = format!("{beside} requests beside a locked table, {before} before");
            stage.problems.push(problem);
        }
        drop(lock);
        stage.problems.extend(noise.finish().await);
    }
    stage.finish(name).await;
}

/// What waits for a connection or for a lock is answered before the process ends, which lets requests finish for longer
/// than one may take.
pub(crate) async fn a_server_is_told_to_stop(name: &'static str, length: Length) {
    let setup = Setup { allows_cuts: true, ..Setup::default() };
    let mut stage = Stage::open(setup.with("ROWHOUSE_HTTP__SHUTDOWN_TIMEOUT", "6s")).await;
    stage.load().await;
    for _ in 0..length.rounds(1) {
        let (lock, noise) = ask_for_a_locked_table(&stage).await;
        stage
            .fault(async |stage| {
                let (ended, wrong) = tokio::join!(stage.servers[0].terminate(), noise.finish());
                stage.problems.extend(wrong);
                if !ended.0 || ended.1 > Duration::from_secs(10) {
                    stage.problems.push(format!("success and time of the stop: {ended:?}"));
                }
                drop(lock);
                stage.servers[0].start().await;
            })
            .await;
    }
    stage.finish(name).await;
}

/// PostgreSQL gives fewer connections than the server may open, and the server takes what there is. A command of the
/// operator works all the same.
pub(crate) async fn the_database_has_too_few_connections(name: &'static str, length: Length) {
    let shape = Shape { max_connections: 14, ..Shape::default() };
    let mut stage = Stage::open(Setup { shape, ..Setup::default() }).await;
    stage.load().await;
    let mut slugs = Vec::new();
    for number in 0..8 {
        slugs.push(make_tenant(&stage, &format!("busy-{number}")).await.slug);
    }
    for _ in 0..length.rounds(1) {
        stage
            .fault(async |stage| {
                let noise = Noise::start(&stage.servers[0].address, &slugs, NOISY);
                tokio::time::sleep(SETTLE).await;
                for _ in 0..3 {
                    stage.problems.extend(examine(stage).await);
                }
                stage.problems.extend(noise.finish().await);
            })
            .await;
    }
    if stage.servers[0].log_lines_with("has no connection left").is_empty() {
        stage.problems.push("the server was never short of connections".to_owned());
    }
    stage.finish(name).await;
}

/// Runs `doctor`, which may find what is being made at that moment; returns why it could not examine the database.
async fn examine(stage: &Stage) -> Option<String> {
    let url = stage.cluster().url(None);
    let folder = stage.servers[0].folder();
    let failure = run_program(Some(&url), folder, &["doctor", "--json"]).await.err()?;
    (!failure.contains("\"findings\"")).then_some(failure)
}
