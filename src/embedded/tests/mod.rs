//! Tests with real servers in real folders. Where a test kills the parent process of a server, the parent is this
//! test program, started again to run one ignored test.

mod attach;
mod ends;
mod refusals;
mod shared;
mod usage_lock;

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio_postgres::{Config, NoTls, config::Host};

use crate::embedded::process::Watcher;
use crate::embedded::*;

/// Tells the re-executed test program where to start a server.
const PARENT_DIR: &str = "ROWHOUSE_TEST_PARENT_DIR";
const SOON: Duration = Duration::from_secs(20);

fn settings(data_dir: &Path) -> Settings {
    Settings {
        data_dir: data_dir.to_path_buf(),
        bin_dir: None,
        durability: Durability::None,
        listen_tcp: None,
        max_connections: 20,
    }
}

async fn started(data_dir: &Path) -> Server {
    Server::start(&settings(data_dir)).await.expect("the server starts")
}

async fn refused(settings: &Settings) -> EmbeddedError {
    Server::start(settings).await.expect_err("the server does not start")
}

async fn ask(config: &Config, query: &str) -> String {
    let client = connect(config).await.expect("the connection succeeds");
    client.query_one(query, &[]).await.expect("the query runs").get(0)
}

async fn execute(server: &Server, statements: &str) {
    let client =
        connect(&server.connect_config("rowhouse")).await.expect("the connection succeeds");
    client.batch_execute(statements).await.expect("the statements run");
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("the folder is there");
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

async fn soon(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < SOON, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn server_pid(data_dir: &Path) -> u32 {
    let text =
        fs::read_to_string(data_dir.join("postgres/postmaster.pid")).expect("a server is running");
    text.lines().next().unwrap().parse().unwrap()
}

/// Starts this program as another process, which starts a server, writes one row and waits.
fn parent(data_dir: &Path) -> Child {
    let (_, module) = module_path!().split_once("::").unwrap();
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("{module}::a_parent_to_be_killed"), "--ignored", "--nocapture"])
        .env(PARENT_DIR, data_dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn wait_until_serving(parent: &mut Child) {
    let mut lines = BufReader::new(parent.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("serving")), "the parent's server starts");
}

#[tokio::test]
#[ignore = "the parent that other tests start and kill"]
async fn a_parent_to_be_killed() {
    let Some(data_dir) = std::env::var_os(PARENT_DIR) else { return };
    let durable = Settings { durability: Durability::Full, ..settings(Path::new(&data_dir)) };
    let server = Server::start(&durable).await.unwrap();
    execute(&server, "CREATE TABLE kept (word text); INSERT INTO kept VALUES ('kept')").await;
    println!("serving");
    io::stdout().flush().unwrap();
    std::future::pending::<()>().await;
}
