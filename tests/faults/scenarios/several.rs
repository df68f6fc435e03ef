//! Three servers share a database, and one of them is killed while it does work for all.

use std::path::Path;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::client::Mix;
use crate::inspection;
use crate::server::ROOT_TOKEN;
use crate::stage::{Length, Setup, Stage};

const SERVERS: usize = 3;
/// The longest wait for the work of a server that was killed to be done by another.
const LONGEST_WAIT: Duration = Duration::from_mins(2);

fn three_servers(mix: Mix) -> Setup {
    Setup { servers: SERVERS, allows_cuts: true, mix, ..Setup::default() }
}

/// The servers are restarted with one migration more, one of them migrates the tenants and is killed, and another one
/// continues where it was.
pub(crate) async fn one_of_three_servers_is_killed_in_a_migration(
    name: &'static str,
    length: Length,
) {
    let mix = Mix { set_ups: 6, profiles: 6, deletions: 0, purges: false };
    let mut stage = Stage::open(three_servers(mix)).await;
    stage.load().await;
    for round in 0..length.rounds(1).min(5) {
        stage.wait_for_writes(60).await;
        let version = inspection::built_in_version() + i32::try_from(round).expect("few") + 1;
        stage
            .fault(async |stage| {
                for server in 0..SERVERS {
                    stage.servers[server].terminate().await;
                    let folder = stage.servers[server].folder().join("migrations");
                    write_migrations(&folder, version);
                    let folder = folder.display().to_string();
                    stage.servers[server].set("ROWHOUSE_TENANT_MIGRATIONS", &folder);
                    stage.servers[server].start().await;
                }
                migrate_and_kill(stage).await;
            })
            .await;
        let sql = stage.cluster().connect().await;
        wait_for(&sql, "SELECT bool_and(state = 'done') FROM operations").await;
        stage.expected.version = version;
    }
    stage.finish(name).await;
}

/// Writes the built-in migrations and more of them, up to a version. Each takes a while.
fn write_migrations(folder: &Path, version: i32) {
    std::fs::create_dir_all(folder).expect("a folder can be made");
    let built_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("tenant_migrations");
    for entry in std::fs::read_dir(built_in).expect("the built-in migrations are there").flatten() {
        std::fs::copy(entry.path(), folder.join(entry.file_name())).expect("a file can be copied");
    }
    for number in inspection::built_in_version() + 1..=version {
        let sql = format!(
            "ALTER TABLE profiles ADD COLUMN more_{number} integer;\nSELECT pg_sleep(0.02);\n"
        );
        let path = folder.join(format!("V{number}__add_more_{number}.sql"));
        std::fs::write(path, sql).expect("a file can be written");
    }
}

/// Starts a fleet migration, and kills the server that runs it when it has migrated some tenants.
async fn migrate_and_kill(stage: &mut Stage) {
    let runner = fastrand::usize(0..SERVERS);
    let path = format!("{}/control/v1/migrations", stage.servers[runner].address);
    let request = reqwest::Client::new().request(Method::POST, path).bearer_auth(ROOT_TOKEN);
    let answer = request.json(&json!({ "workers": 2 })).send().await.expect("the server answers");
    let status = answer.status().as_u16();
    let body: Value = answer.json().await.unwrap_or_default();
    assert_eq!(status, 202, "{body}");
    let sql = stage.cluster().connect().await;
    let some = "SELECT count(*) >= 3 FROM operation_tenants WHERE state = 'done'
                   AND operation_id = (SELECT id FROM operations ORDER BY created_at DESC LIMIT 1)";
    wait_for(&sql, some).await;
    stage.servers[runner].kill().await;
    let unfinished = "SELECT bool_or(state <> 'done') FROM operations";
    let row = sql.query_one(unfinished, &[]).await.expect("operations can be read");
    if !row.get::<_, bool>(0) {
        stage.problems.push("the migration ended before its server was killed".to_owned());
    }
    wait_for(&sql, "SELECT bool_and(state = 'done') FROM operations").await;
    stage.servers[runner].start().await;
}

/// The servers purge what the clients delete.
pub(crate) async fn one_of_three_servers_is_killed_in_a_purge(name: &'static str, length: Length) {
    let mix = Mix { set_ups: 6, profiles: 6, deletions: 5, purges: false };
    let setup = three_servers(mix).with("ROWHOUSE_TENANTS__GRACE_PERIOD", "1s");
    kill_one_after_the_other(name, length, setup, true).await;
}

/// The servers keep vacancies, which the clients take.
pub(crate) async fn one_of_three_servers_is_killed_in_a_refill(name: &'static str, length: Length) {
    let mix = Mix { set_ups: 6, profiles: 6, deletions: 0, purges: false };
    let setup = three_servers(mix).with("ROWHOUSE_TENANTS__VACANCIES", "6");
    kill_one_after_the_other(name, length, setup, false).await;
}

async fn kill_one_after_the_other(name: &str, length: Length, setup: Setup, are_purged: bool) {
    let mut stage = Stage::open(setup).await;
    stage.expected.are_purged = are_purged;
    stage.load().await;
    for round in 0..length.rounds(SERVERS) {
        stage
            .fault(async |stage| {
                let pause = Duration::from_millis(fastrand::u64(100..800));
                tokio::time::sleep(pause).await;
                stage.servers[round % SERVERS].kill().await;
                tokio::time::sleep(Duration::from_millis(300)).await;
                stage.servers[round % SERVERS].start().await;
            })
            .await;
    }
    stage.finish(name).await;
}

/// One server stands still in the middle of its transactions, whose locks the others meet.
pub(crate) async fn one_of_three_servers_stands_still(name: &'static str, length: Length) {
    let mut setup = three_servers(Mix::default());
    setup.longest_wait = Some(Duration::from_secs(5));
    let mut stage = Stage::open(setup).await;
    stage.load().await;
    for round in 0..length.rounds(1) {
        stage
            .fault(async |stage| {
                stage.servers[round % SERVERS].freeze();
                tokio::time::sleep(Duration::from_millis(3500)).await;
                stage.servers[round % SERVERS].thaw();
            })
            .await;
    }
    stage.finish(name).await;
}

/// Returns whether a program can be given another clock.
pub(crate) fn can_change_a_clock() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join("faketime").exists())
}

/// The clock of one server is eight days ahead, a day longer than deleted tenants are kept.
pub(crate) async fn the_clock_of_one_of_three_servers_is_ahead(name: &'static str, length: Length) {
    let mix = Mix { set_ups: 6, profiles: 12, deletions: 4, purges: false };
    let mut setup = three_servers(mix);
    setup.allows_cuts = false;
    setup.wrappers = vec![vec!["faketime".to_owned(), "-f".to_owned(), "+8d".to_owned()]];
    let mut stage = Stage::open(setup).await;
    stage.load().await;
    // The servers look for tenants to purge once a second.
    for _ in 0..length.rounds(3) {
        stage.wait_for_writes(50).await;
        tokio::time::sleep(Duration::from_millis(1100)).await;
    }
    stage.finish(name).await;
}

async fn wait_for(sql: &Client, condition: &str) {
    let began = Instant::now();
    loop {
        let row = sql.query_one(condition, &[]).await.expect("the condition can be read");
        if row.get::<_, Option<bool>>(0) == Some(true) {
            return;
        }
        assert!(began.elapsed() < LONGEST_WAIT, "this does not become true: {condition}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
