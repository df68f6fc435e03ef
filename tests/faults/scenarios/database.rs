//! The database ends, crashes, stands still, or has no room.

use std::time::Duration;

use crate::cluster::Shape;
use crate::stage::{Length, Setup, Stage};

/// How long the database is away: long enough for every connection to notice.
const AWAY: Duration = Duration::from_millis(700);

/// Opens the usual stage and lets a fault happen as often as the length says.
async fn repeat(name: &str, length: Length, rounds: usize, fault: impl AsyncFn(&mut Stage)) {
    let mut stage = Stage::open(Setup::default()).await;
    stage.load().await;
    for _ in 0..length.rounds(rounds) {
        stage.fault(async |stage| fault(stage).await).await;
    }
    stage.finish(name).await;
}

pub(crate) async fn the_database_is_stopped_and_started(name: &'static str, length: Length) {
    repeat(name, length, 1, async |stage| {
        stage.cluster().stop("fast").await;
        tokio::time::sleep(AWAY).await;
        stage.cluster().start().await;
    })
    .await;
}

pub(crate) async fn the_database_is_stopped_at_once(name: &'static str, length: Length) {
    repeat(name, length, 1, async |stage| {
        stage.cluster().stop("immediate").await;
        tokio::time::sleep(AWAY).await;
        stage.cluster().start().await;
    })
    .await;
}

pub(crate) async fn the_database_is_killed(name: &'static str, length: Length) {
    repeat(name, length, 1, async |stage| {
        stage.cluster().kill();
        tokio::time::sleep(AWAY).await;
        stage.cluster().start().await;
    })
    .await;
}

/// All backends end when one crashes, and the server recovers by itself.
pub(crate) async fn a_backend_crashes(name: &'static str, length: Length) {
    repeat(name, length, 2, async |stage| {
        let sql = stage.cluster().connect().await;
        let busy = "SELECT pid FROM pg_stat_activity
                     WHERE usename = 'rowhouse_runtime' AND pid <> pg_backend_pid()
                     ORDER BY state = 'idle', random() LIMIT 1";
        let row = sql.query_one(busy, &[]).await.expect("the servers are connected");
        let pid = u32::try_from(row.get::<_, i32>(0)).expect("a process id is positive");
        crate::server::signal("KILL", &[pid]);
        tokio::time::sleep(AWAY).await;
    })
    .await;
}

pub(crate) async fn connections_are_terminated(name: &'static str, length: Length) {
    repeat(name, length, 1, async |stage| {
        let sql = stage.cluster().connect().await;
        // Now one, now all of them, and also those in the middle of a statement.
        for count in [1, 1, 1, 2, 3, 1000, 1, 1, 1000, 1, 2, 3] {
            let terminate = "SELECT pg_terminate_backend(pid)
                               FROM (SELECT pid FROM pg_stat_activity
                                      WHERE datname = current_database() AND pid <> pg_backend_pid()
                                        AND backend_type = 'client backend'
                                      ORDER BY random() LIMIT $1) AS chosen";
            sql.query(terminate, &[&i64::from(count)]).await.expect("backends can be terminated");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
}

/// Once for less than the time limits, so that requests wait, and once for more.
pub(crate) async fn the_database_stands_still(name: &'static str, length: Length) {
    let mut stage = Stage::open(Setup::default()).await;
    stage.load().await;
    for _ in 0..length.rounds(1) {
        for still in [Duration::from_millis(300), Duration::from_millis(3500)] {
            stage
                .fault(async |stage| {
                    stage.cluster().freeze();
                    tokio::time::sleep(still).await;
                    stage.cluster().thaw();
                })
                .await;
        }
    }
    stage.finish(name).await;
}

/// PostgreSQL refuses what needs room, or ends if its log has none. Room is all that it needs to go on.
pub(crate) async fn the_disk_is_full(name: &'static str, length: Length) {
    let shape = Shape { disk: Some(256), ..Shape::default() };
    let mut stage = Stage::open(Setup { shape, ..Setup::default() }).await;
    stage.load().await;
    for _ in 0..length.rounds(1).min(3) {
        stage
            .fault(async |stage| {
                let before = stage.shared.stats.count("503");
                stage.cluster().fill_disk().await;
                for _ in 0..100 {
                    if stage.shared.stats.count("503") > before + 10 {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                if stage.shared.stats.count("503") == before {
                    stage.problems.push("nothing was refused on a full disk".to_owned());
                }
                stage.cluster().free_disk().await;
                stage.cluster().start_if_ended().await;
            })
            .await;
    }
    stage.finish(name).await;
}

/// As after a failover to a server that is not promoted yet.
pub(crate) async fn the_database_is_in_recovery(name: &'static str, length: Length) {
    repeat(name, length, 1, async |stage| {
        stage.cluster().restart_in_recovery().await;
        tokio::time::sleep(AWAY).await;
        stage.cluster().promote().await;
    })
    .await;
}

/// The server starts it again.
pub(crate) async fn the_embedded_server_is_killed(name: &'static str, length: Length) {
    let mut stage = Stage::open(Setup { is_embedded: true, ..Setup::default() }).await;
    stage.load().await;
    for _ in 0..length.rounds(1) {
        stage
            .fault(async |stage| {
                stage.servers[0].kill_embedded();
                tokio::time::sleep(AWAY).await;
            })
            .await;
    }
    stage.finish(name).await;
}
