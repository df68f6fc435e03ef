//! A log that cannot be written, and output that is not read: no request fails, no process ends, and what is lost is
//! counted.

use std::fs::File;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::program::RunningServer;
use crate::support::{Caller, Program, TestApp, TestDatabase};

const ROOT_TOKEN: &str = "5a0a4f43-6a39-4f5a-9a35-6a4f0c1f8f60";

const LONG: Duration = Duration::from_secs(50);

async fn program() -> (TestDatabase, Program) {
    let database = TestDatabase::create().await;
    let program = Program::on(&database)
        .with("ROWHOUSE_ROOT_TOKEN", ROOT_TOKEN)
        .with("ROWHOUSE_LOG__FILTER", "trace");
    (database, program)
}

/// Returns how many lines of the log were dropped so far.
async fn dropped(server: &RunningServer) -> u64 {
    let answer = Caller::new(&server.address, None).get("/metrics").await;
    assert_eq!(answer.status, 200);
    let line =
        answer.text.lines().find(|line| line.starts_with("rowhouse_log_lines_dropped_total "));
    let count = line.and_then(|line| line.split(' ').nth(1)).expect("there is such a metric");
    count.parse().expect("a counter is a number")
}

/// Asks until lines are dropped, and then sets up a tenant; every request is answered.
async fn ask_until_lines_are_dropped(server: &mut RunningServer) {
    let began = Instant::now();
    let root = Caller::new(&server.address, Some(ROOT_TOKEN));
    while dropped(server).await == 0 {
        assert!(began.elapsed() < LONG, "no line was dropped");
        for _ in 0..20 {
            assert_eq!(root.get("/api/tenant").await.status, 200);
        }
    }
    let made = root.post("/api/tenant/setup", &TestApp::setup_body("acme")).await;
    assert_eq!(made.status, 201, "{made:?}");
    assert!(server.is_running());
}

#[tokio::test]
async fn a_server_whose_log_is_not_read_answers_every_request_and_stops_when_told() {
    let (_database, program) = program().await;
    let (reader, writer) = std::io::pipe().expect("there is a pipe");
    let mut server = program.serve_with_stderr(writer);
    ask_until_lines_are_dropped(&mut server).await;
    let stopped = server.stop("TERM").expect(0);
    assert!(stopped.took < Duration::from_secs(15), "{stopped:?}");
    drop(reader);
}

#[tokio::test]
async fn a_server_whose_log_is_a_full_non_blocking_socket_answers_every_request() {
    let (_database, program) = program().await;
    let (reader, writer) = UnixStream::pair().expect("there is a pair of sockets");
    writer.set_nonblocking(true).expect("it can be set");
    let mut server = program.serve_with_stderr(OwnedFd::from(writer));
    ask_until_lines_are_dropped(&mut server).await;
    server.stop("TERM").expect(0);
    drop(reader);
}

#[tokio::test]
async fn a_server_whose_log_is_on_a_full_disk_or_a_closed_pipe_answers_every_request() {
    let (_database, program) = program().await;
    let full = File::options().write(true).open("/dev/full").expect("Linux has it");
    let mut server = program.serve_with_stderr(full);
    ask_until_lines_are_dropped(&mut server).await;
    server.stop("TERM").expect(0);

    let (_database, program) = self::program().await;
    let (reader, writer) = std::io::pipe().expect("there is a pipe");
    drop(reader);
    let mut server = program.serve_with_stderr(writer);
    ask_until_lines_are_dropped(&mut server).await;
    server.stop("TERM").expect(0);
}

#[tokio::test]
async fn a_server_whose_log_reaches_the_limit_on_the_size_of_files_answers_every_request() {
    let (_database, program) = program().await;
    let script = "ulimit -f 16 && exec \"$0\" serve 2>log";
    let mut server = RunningServer::start(
        program.command("sh", &["-c", script, env!("CARGO_BIN_EXE_rowhouse")]),
    );
    ask_until_lines_are_dropped(&mut server).await;
    server.stop("TERM").expect(0);
}

#[tokio::test]
async fn a_server_whose_output_is_on_a_full_disk_logs_its_address_and_serves() {
    let (_database, program) = program().await;
    let address = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        listener.local_addr().expect("it is bound")
    };
    let program = program
        .with("ROWHOUSE_LISTEN", &address.to_string())
        .with("ROWHOUSE_LOG__FILTER", "info")
        .with("ROWHOUSE_LOG__FORMAT", "json");
    let full = File::options().write(true).open("/dev/full").expect("Linux has it");
    let log = program.folder().join("log");
    let mut command = program.command(env!("CARGO_BIN_EXE_rowhouse"), &["serve"]);
    let mut child = command
        .stdout(full)
        .stderr(File::create(&log).expect("a file can be made"))
        .spawn()
        .expect("the program starts");
    let caller = Caller::new(&format!("http://{address}"), None);
    let logged = || std::fs::read_to_string(&log).expect("the log can be read");
    let began = Instant::now();
    while !logged().contains("listening on") {
        assert!(began.elapsed() < LONG, "{}", logged());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(caller.get("/healthz").await.status, 200);
    for line in logged().lines() {
        serde_json::from_str::<Value>(line).expect("each line is a JSON object");
    }
    assert!(logged().contains(&format!("listening on http://{address}")), "{}", logged());
    child.kill().expect("it runs");
    child.wait().expect("it ends");
}

#[tokio::test]
async fn a_command_whose_output_cannot_be_written_fails_with_the_reason_and_a_closed_pipe_is_no_failure()
 {
    let program = Program::embedded();
    for command in [&["openapi"][..], &["completions", "bash"]] {
        let run = |stdout: Stdio| {
            let mut command = program.command(env!("CARGO_BIN_EXE_rowhouse"), command);
            command.stdout(stdout).output().expect("the program runs")
        };
        let full = File::options().write(true).open("/dev/full").expect("Linux has it");
        let failed = run(full.into());
        assert_eq!(failed.status.code(), Some(1), "{failed:?}");
        let said = String::from_utf8_lossy(&failed.stderr);
        assert!(said.starts_with("rowhouse: cannot write to stdout: "), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");

        let (reader, writer) = std::io::pipe().expect("there is a pipe");
        drop(reader);
        let closed = run(writer.into());
        assert_eq!((closed.status.code(), closed.stderr.len()), (Some(0), 0), "{closed:?}");
    }
}

#[tokio::test]
async fn the_output_of_a_command_into_a_slow_non_blocking_socket_is_whole() {
    let program = Program::embedded();
    let whole = program.run(&["openapi"]).expect(0).stdout;
    let (mut reader, writer) = UnixStream::pair().expect("there is a pair of sockets");
    writer.set_nonblocking(true).expect("it can be set");
    let mut command = program.command(env!("CARGO_BIN_EXE_rowhouse"), &["openapi"]);
    let mut child = command.stdout(OwnedFd::from(writer)).spawn().expect("the program starts");
    // It holds the other end of the socket.
    drop(command);
    // Longer than it takes to fill the socket.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut read = String::new();
    std::io::Read::read_to_string(&mut reader, &mut read).expect("the socket can be read");
    assert!(child.wait().expect("it ends").success());
    assert_eq!(read, whole);
}

#[tokio::test]
async fn a_fatal_error_is_written_where_a_log_line_comes_late_and_where_stderr_is_read_slowly() {
    let program = Program::embedded().with("DATABASE_URL", "postgres://owner@127.0.0.1:1/none");
    let ran = program.run(&["tenant", "list"]).expect(7);
    assert!(ran.stderr.starts_with("rowhouse: cannot connect to the database at"), "{ran:?}");
    // The same if nothing can be written: the code reports it.
    let full = File::options().write(true).open("/dev/full").expect("Linux has it");
    let mut command = program.command(env!("CARGO_BIN_EXE_rowhouse"), &["tenant", "list"]);
    let ran = command.stderr(full).output().expect("the program runs");
    assert_eq!(ran.status.code(), Some(7), "{ran:?}");
}
