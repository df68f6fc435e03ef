//! A `rowhouse serve` of its own process, and the ground that it stands on.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rowhouse::embedded;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

use crate::support::postgres;

/// A start replays what the last life left, and the machine may be busy.
const START_PATIENCE: Duration = Duration::from_mins(1);

/// What outlives the server: its database, its folder, its root token.
pub struct Ground {
    pub root_token: String,
    /// How many schemas the server builds ahead of time.
    pub vacancies: usize,
    folder: tempfile::TempDir,
    /// None where the server brings its own.
    database_url: Option<String>,
}

/// A running server; killed when dropped.
pub struct Serve {
    pub address: String,
    child: Child,
    /// Held, because a server that cannot write to its stdout may well stop.
    _stdout: BufReader<ChildStdout>,
}

impl Ground {
    /// A database that is there without us.
    pub fn on(database_url: String) -> Self {
        let mut ground = Self::embedded();
        ground.database_url = Some(database_url);
        ground
    }

    /// A data dir for an embedded server, with full durability as `serve` always has it.
    pub fn embedded() -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let root_token = Uuid::new_v4().to_string();
        Self { root_token, vacancies: 0, folder, database_url: None }
    }

    pub fn is_embedded(&self) -> bool {
        self.database_url.is_none()
    }

    /// A connection as the owner.
    pub async fn connect(&self) -> Client {
        if let Some(url) = &self.database_url {
            return postgres::connect(url).await;
        }
        let config = embedded::running(self.data_dir(), "rowhouse").expect("the server runs");
        let (client, connection) = config.connect(NoTls).await.expect("the server takes us");
        tokio::spawn(connection);
        client
    }

    /// Kills the embedded PostgreSQL, whose number its own file says.
    pub fn kill_postgres(&self) {
        let pid_file = self.data_dir().join("postgres").join("postmaster.pid");
        let text = std::fs::read_to_string(pid_file).expect("the server runs");
        let pid = text.lines().next().expect("the first line is the number");
        signal("KILL", pid.trim().parse().expect("the first line is a number"));
    }

    /// The folder itself: it is the one that an unprivileged server may be let into.
    fn data_dir(&self) -> &Path {
        self.folder.path()
    }

    fn log(&self) -> std::path::PathBuf {
        self.folder.path().join("serve.log")
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- the server's log\n{}", last_lines(&self.log()));
        }
    }
}

impl Serve {
    /// Starts the built program and waits until it says where it listens.
    pub async fn start(ground: &Ground) -> Self {
        let log = std::fs::File::options().append(true).create(true).open(ground.log());
        let mut command = Command::new(env!("CARGO_BIN_EXE_rowhouse"));
        command
            .arg("serve")
            .env_clear()
            .env("ROWHOUSE_LISTEN", "127.0.0.1:0")
            .env("ROWHOUSE_ROOT_TOKEN", &ground.root_token)
            .env("ROWHOUSE_DATA_DIR", ground.data_dir())
            .env("ROWHOUSE_DATABASE__MAX_CONNECTIONS", "20")
            // A set-up should be in its transaction, not in a hash, most of the time.
            .env("ROWHOUSE_AUTH__HASH_MEMORY_KIB", "8")
            .env("ROWHOUSE_AUTH__HASH_ITERATIONS", "1")
            .env("ROWHOUSE_TENANTS__VACANCIES", ground.vacancies.to_string())
            // No rowhouse.toml lies here.
            .current_dir(ground.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log.expect("a log can be opened"))
            .kill_on_drop(true);
        if let Some(url) = &ground.database_url {
            command.env("DATABASE_URL", url);
        }
        let mut child = command.spawn().expect("the program was built");
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let address = tokio::time::timeout(START_PATIENCE, address(&mut stdout)).await;
        let address = address.ok().flatten().unwrap_or_else(|| panic!("the server does not start"));
        Self { address, child, _stdout: stdout }
    }

    /// Stops it where it is; it never runs again.
    pub fn freeze(&self) {
        signal("STOP", self.child.id().expect("it runs"));
    }

    /// SIGKILL, and waits until it is gone.
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

/// The standard library sends SIGKILL alone; the shell knows the others.
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
