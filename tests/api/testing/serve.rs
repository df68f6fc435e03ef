//! `rowhouse testing serve`: a server for tests that are not written in Rust.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio_postgres::NoTls;

use crate::support::{Caller, Program, TestApp};

const SOON: Duration = Duration::from_secs(30);

struct Serving {
    child: Child,
    /// Open for as long as the test wants the server.
    stdin: Option<ChildStdin>,
    started: Value,
    _program: Program,
}

impl Serving {
    fn start() -> Self {
        let program = Program::embedded();
        let command = program.command(env!("CARGO_BIN_EXE_rowhouse"), &["testing", "serve"]);
        Self::of(program, command)
    }

    fn of(program: Program, mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).spawn().expect("the program starts");
        let stdin = child.stdin.take();
        let mut line = String::new();
        let stdout = child.stdout.take().expect("stdout is piped");
        BufReader::new(stdout).read_line(&mut line).expect("it prints a line");
        let started = serde_json::from_str(&line);
        let started = started.unwrap_or_else(|error| panic!("{error}: {line:?}"));
        Self { child, stdin, started, _program: program }
    }

    fn text(&self, member: &str) -> &str {
        self.started[member].as_str().unwrap_or_else(|| panic!("no {member}: {}", self.started))
    }

    async fn works(&self) {
        let root = Caller::new(self.text("url"), Some(self.text("root_token")));
        let made = root.post("/api/tenant/setup", &TestApp::setup_body("acme")).await;
        assert_eq!(made.status, 201, "{made:?}");
        let sql = connect(self.text("database_url")).await.expect("the database is there");
        let row = sql.query_one("SELECT count(*) FROM tenants WHERE slug = 'acme'", &[]).await;
        assert_eq!(row.expect("tenants can be counted").get::<_, i64>(0), 1);
    }

    async fn is_gone_soon(&self) {
        let began = Instant::now();
        while connect(self.text("database_url")).await.is_ok() {
            assert!(began.elapsed() < SOON, "the database is still there");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let address = self.text("url").trim_start_matches("http://").to_owned();
        let listens = tokio::net::TcpStream::connect(address).await;
        assert!(listens.is_err(), "the server still listens");
    }

    fn exit_code(&mut self) -> Option<i32> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("its status can be read") {
                return status.code();
            }
            assert!(began.elapsed() < SOON, "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn connect(url: &str) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

fn signal(name: &str, pid: u32) {
    let status = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status();
    assert!(status.expect("there is a shell").success());
}

#[tokio::test(flavor = "multi_thread")]
async fn it_serves_until_stdin_ends_and_leaves_nothing() {
    let mut serving = Serving::start();
    serving.works().await;
    drop(serving.stdin.take());
    assert_eq!(serving.exit_code(), Some(0));
    serving.is_gone_soon().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_serves_until_a_signal_and_leaves_nothing() {
    for name in ["TERM", "INT"] {
        let mut serving = Serving::start();
        signal(name, serving.child.id());
        assert_eq!(serving.exit_code(), Some(0), "{name}");
        serving.is_gone_soon().await;
    }
}

/// The shell that started it is killed, and its stdin stays open.
#[tokio::test(flavor = "multi_thread")]
async fn it_ends_with_the_process_that_started_it() {
    let program = Program::embedded();
    let script = "exec 3<&0; \"$0\" testing serve <&3 & wait";
    let command = program.command("sh", &["-c", script, env!("CARGO_BIN_EXE_rowhouse")]);
    let mut serving = Serving::of(program, command);
    serving.works().await;
    serving.child.kill().expect("the shell can be killed");
    serving.is_gone_soon().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_of_them_have_databases_of_their_own() {
    let (first, second) = (Serving::start(), Serving::start());
    // Both take the same slug.
    first.works().await;
    second.works().await;
    assert_ne!(first.text("database_url"), second.text("database_url"));
}

/// As a shell starts a program in the background: without a terminal, and with a stdin that has nothing to give.
#[tokio::test(flavor = "multi_thread")]
async fn a_stdin_that_is_no_pipe_does_not_end_it() {
    let program = Program::embedded();
    let script = "\"$0\" testing serve </dev/null & wait";
    let command = program.command("sh", &["-c", script, env!("CARGO_BIN_EXE_rowhouse")]);
    let serving = Serving::of(program, command);
    tokio::time::sleep(Duration::from_secs(1)).await;
    serving.works().await;
}
