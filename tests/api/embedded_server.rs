//! The embedded PostgreSQL server ends by itself: it is started again, or the process ends with the reason.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::program::RunningServer;
use crate::support::{Caller, Program, TestApp};

const LONG: Duration = Duration::from_secs(50);

const ROOT_TOKEN: &str = "5a0a4f43-6a39-4f5a-9a35-6a4f0c1f8f60";

fn program() -> Program {
    Program::embedded().with_traversable_folder().with("ROWHOUSE_ROOT_TOKEN", ROOT_TOKEN)
}

/// Returns the process id of the server on this data dir.
fn postmaster(data_dir: &Path) -> u32 {
    let file = std::fs::read_to_string(data_dir.join("postgres/postmaster.pid"));
    let text = file.expect("a server is running");
    text.lines().next().and_then(|line| line.parse().ok()).expect("the first line is its id")
}

fn kill(pid: u32) {
    let kill = Command::new("sh").args(["-c", &format!("kill -KILL {pid}")]).status();
    assert!(kill.expect("there is a shell").success());
}

/// Makes each further start of the server fail: it can no longer read the control file of its cluster.
fn damage(data_dir: &Path) {
    let file =
        std::fs::File::options().write(true).open(data_dir.join("postgres/global/pg_control"));
    file.and_then(|file| file.set_len(16)).expect("the file can be cut");
}

async fn wait_until_ready(server: &RunningServer) {
    let caller = Caller::new(&server.address, None);
    let began = Instant::now();
    while caller.get("/readyz").await.status != 200 {
        assert!(began.elapsed() < LONG, "it is not ready again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_server_that_was_killed_is_started_again_and_no_tenant_is_lost() {
    let program = program();
    let mut server = program.serve(&[]);
    let root = Caller::new(&server.address, Some(ROOT_TOKEN));
    let made = root.post("/api/tenant/setup", &TestApp::setup_body("acme")).await;
    assert_eq!(made.status, 201, "{made:?}");
    for round in 1..=2 {
        let killed = postmaster(program.folder());
        kill(killed);
        let began = Instant::now();
        while server.stderr_with("").matches("ended by itself").count() < round {
            assert!(began.elapsed() < LONG, "the end is not logged");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        wait_until_ready(&server).await;
        assert_ne!(postmaster(program.folder()), killed);
        assert_eq!(root.get("/api/tenant").await.body[0]["slug"], "acme");
    }
    let more = root.post("/api/tenant/setup", &TestApp::setup_body("globex")).await;
    assert_eq!(more.status, 201, "{more:?}");
    // A command finds the new server.
    let listed = program.run(&["tenant", "list", "--json"]).expect(0).json();
    assert_eq!(listed.as_array().map(Vec::len), Some(2), "{listed}");
    assert!(server.is_running());
    server.stop("TERM").expect(0);
    assert!(!program.folder().join("postgres/postmaster.pid").exists(), "it is stopped");
}

#[tokio::test]
async fn a_server_that_cannot_be_started_again_ends_the_process_with_the_reason() {
    let program = program();
    let server = program.serve(&[]);
    damage(program.folder());
    kill(postmaster(program.folder()));
    server.stderr_with("failed to start the embedded PostgreSQL server again");
    let answer = Caller::new(&server.address, Some(ROOT_TOKEN)).get("/api/tenant").await;
    assert_eq!(answer.status, 503, "it answers meanwhile");
    let ended = server.wait().expect(1);
    let (_, last) = ended.stderr.rsplit_once("\nrowhouse: ").expect("the reason is told");
    assert!(
        last.starts_with("cannot serve: the embedded PostgreSQL server ended by itself"),
        "{last}"
    );
    assert!(last.contains("5 times") && last.contains("pg_control"), "{last}");
}

#[tokio::test]
async fn a_stop_while_the_server_is_being_started_again_is_obeyed_at_once() {
    let program = program();
    let server = program.serve(&[]);
    damage(program.folder());
    kill(postmaster(program.folder()));
    server.stderr_with("failed to start the embedded PostgreSQL server again");
    let stopped = server.stop("TERM").expect(0);
    assert!(stopped.took < Duration::from_secs(12), "{stopped:?}");
}

#[tokio::test]
async fn a_server_that_is_stopped_is_not_started_again() {
    let program = program();
    let server = program.serve(&[]);
    let setups: Vec<_> = (0..4)
        .map(|number| {
            let root = Caller::new(&server.address, Some(ROOT_TOKEN));
            let body = json!(TestApp::setup_body(&format!("t{number}")));
            tokio::spawn(async move { root.post("/api/tenant/setup", &body).await.status })
        })
        .collect();
    for setup in setups {
        assert_eq!(setup.await.expect("it is answered"), 201);
    }
    let stopped = server.stop("TERM").expect(0);
    assert!(!stopped.stderr.contains("ended by itself"), "{stopped:?}");
}
