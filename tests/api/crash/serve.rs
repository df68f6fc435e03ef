//! A `rowhouse serve` in a process of its own, and the database and folder that it uses.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rowhouse::embedded;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

use crate::support::postgres;

/// A start may replay the log of the previous run, on a busy machine.
const START_TIMEOUT: Duration = Duration::from_mins(1);

/// What outlives the server process: its database, its folder and its root token.
pub struct Fixture {
    pub root_token: String,
    /// The number of vacancies that the server keeps.
    pub vacancies: usize,
    folder: tempfile::TempDir,
    /// `None` if the server starts the embedded PostgreSQL.
    database_url: Option<String>,
}

/// A running server; killed when dropped.
pub struct Serve {
    pub address: String,
    child: Child,
    /// Kept open, because a server that cannot write to its stdout may stop.
    _stdout: BufReader<ChildStdout>,
}

impl Fixture {
    /// Uses an existing database.
    pub fn on(database_url: String) -> Self {
        let mut fixture = Self::embedded();
        fixture.database_url = Some(database_url);
        fixture
    }

    /// Uses a data directory for the embedded PostgreSQL, with full durability as `serve` always has it.
    pub fn embedded() -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let root_token = Uuid::new_v4().to_string();
        Self { root_token, vacancies: 0, folder, database_url: None }
    }

    pub fn is_embedded(&self) -> bool {
        self.database_url.is_none()
    }

    /// Connects as the owner.
    pub async fn connect(&self) -> Client {
        if let Some(url) = &self.database_url {
            return postgres::connect(url).await;
        }
        let config = embedded::running(self.data_dir(), "rowhouse").expect("the server runs");
        let (client, connection) =
            config.connect(NoTls).await.expect("the server accepts a connection");
        tokio::spawn(connection);
        client
    }

    /// Kills the embedded PostgreSQL by the process id in its `postmaster.pid`.
    pub fn kill_postgres(&self) {
        let pid_file = self.data_dir().join("postgres").join("postmaster.pid");
        let text = std::fs::read_to_string(pid_file).expect("the server runs");
        let pid = text.lines().next().expect("the first line is the process id");
        signal("KILL", pid.trim().parse().expect("the first line is a number"));
    }

    /// The folder itself, because only this folder is made accessible to an unprivileged server.
    fn data_dir(&self) -> &Path {
        self.folder.path()
    }

    fn log(&self) -> std::path::PathBuf {
        self.folder.path().join("serve.log")
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- log of the server\n{}", last_lines(&self.log()));
        }
    }
}

impl Serve {
    /// Starts the built program and waits until it prints its address.
    pub async fn start(fixture: &Fixture) -> Self {
        let log = std::fs::File::options().append(true).create(true).open(fixture.log());
        let mut command = Command::new(env!("CARGO_BIN_EXE_rowhouse"));
        command
            .arg("serve")
            .env_clear()
            .env("ROWHOUSE_LISTEN", "127.0.0.1:0")
            .env("ROWHOUSE_ROOT_TOKEN", &fixture.root_token)
            .env("ROWHOUSE_SECRET_KEY", crate::support::SECRET_KEY)
            .env("ROWHOUSE_DATA_DIR", fixture.data_dir())
            .env("ROWHOUSE_DATABASE__MAX_CONNECTIONS", "20")
            // Cheap hashes, so that a set-up spends most of its time in its transaction.
            .env("ROWHOUSE_AUTH__HASH_MEMORY_KIB", "8")
            .env("ROWHOUSE_AUTH__HASH_ITERATIONS", "1")
            .env("ROWHOUSE_TENANTS__VACANCIES", fixture.vacancies.to_string())
            // There is no rowhouse.toml in this folder.
            .current_dir(fixture.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log.expect("a log can be opened"))
            .kill_on_drop(true);
        if let Some(url) = &fixture.database_url {
            command.env("DATABASE_URL", url);
        }
        let mut child = command.spawn().expect("the program was built");
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let address = tokio::time::timeout(START_TIMEOUT, address(&mut stdout)).await;
        let address = address.ok().flatten().unwrap_or_else(|| panic!("the server does not start"));
        Self { address, child, _stdout: stdout }
    }

    /// Stops the process; it never runs again.
    pub fn freeze(&self) {
        signal("STOP", self.child.id().expect("it runs"));
    }

    /// Sends SIGKILL and waits for the end of the process.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("it can be killed");
    }
}

async fn address(stdout: &mut BufReader<ChildStdout>) -> Option<String> {
    let mut lines = stdout.lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(address) = line.strip_prefix("listening on ") {
            return Some(address.to_owned());
        }
    }
    None
}

/// Sends a signal through the shell, because the standard library sends SIGKILL only.
fn signal(name: &str, pid: u32) {
    let sent = std::process::Command::new("/bin/sh")
        .args(["-c", "kill -\"$1\" \"$2\"", "signal", name, &pid.to_string()])
        .status();
    assert!(sent.is_ok_and(|status| status.success()), "{pid} can be sent SIG{name}");
}

fn last_lines(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
