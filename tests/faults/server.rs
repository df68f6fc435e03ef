//! The built program: `rowhouse serve` in a process of its own, and commands that end.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio_postgres::NoTls;

use crate::cluster::free_port;

/// A UUID, as the program wants it.
pub(crate) const ROOT_TOKEN: &str = "5c1d7c52-9d0e-4a43-9e0b-5d3b6a2f7c11";
const SECRET_KEY: &str = "the secret key of all faults, which is not one";

/// A start may wait for a database that replays its log, on a busy machine.
const START_TIMEOUT: Duration = Duration::from_mins(1);
/// The longest time for a command and for a graceful stop.
const END_TIMEOUT: Duration = Duration::from_mins(2);

/// The time limits of every server of the suite. Cheap hashes, so that a set-up spends its time in the database.
const ENVIRONMENT: &[(&str, &str)] = &[
    ("ROWHOUSE_ROOT_TOKEN", ROOT_TOKEN),
    ("ROWHOUSE_SECRET_KEY", SECRET_KEY),
    ("ROWHOUSE_AUTH__HASH_MEMORY_KIB", "8"),
    ("ROWHOUSE_AUTH__HASH_ITERATIONS", "1"),
    ("ROWHOUSE_HTTP__WORKERS", "2"),
    ("ROWHOUSE_HTTP__REQUEST_TIMEOUT", "3s"),
    ("ROWHOUSE_HTTP__SHUTDOWN_TIMEOUT", "3s"),
    ("ROWHOUSE_DATABASE__MAX_CONNECTIONS", "20"),
    ("ROWHOUSE_DATABASE__CONNECT_TIMEOUT", "1s"),
    ("ROWHOUSE_DATABASE__STATEMENT_TIMEOUT", "2500ms"),
    ("ROWHOUSE_DATABASE__LOCK_TIMEOUT", "2s"),
    ("ROWHOUSE_DATABASE__IDLE_IN_TRANSACTION_TIMEOUT", "2500ms"),
    ("ROWHOUSE_LOG__FILTER", "warn"),
    ("ROWHOUSE_TENANTS__VACANCIES", "0"),
    ("ROWHOUSE_TENANTS__PURGE_INTERVAL", "1s"),
    ("ROWHOUSE_FLEET__LEASE", "1s"),
    ("ROWHOUSE_FLEET__TAKE_UP_INTERVAL", "500ms"),
    ("ROWHOUSE_LIMITS__REQUESTS_TOKEN", "0"),
    ("ROWHOUSE_LIMITS__REQUESTS_TENANT", "0"),
];

/// Where a server's log goes.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Log {
    /// A file, which the report of a failure quotes.
    #[default]
    File,
    /// A pipe that is never read.
    Unread,
    /// A device that is full.
    Full,
}

/// A server that can be killed and started again at the same address.
pub(crate) struct Server {
    pub(crate) address: String,
    port: u16,
    folder: TempDir,
    environment: Vec<(String, String)>,
    log: Log,
    /// Runs the program, for example with another clock.
    pub(crate) wrapper: Vec<String>,
    running: Option<Running>,
}

struct Running {
    child: Child,
    /// Kept open, because a server that cannot write to its stdout may stop.
    _stdout: BufReader<ChildStdout>,
    _stderr: Option<ChildStderr>,
}

impl Server {
    /// Prepares a server without starting it. Without a URL it starts an embedded PostgreSQL.
    pub(crate) fn new(url: Option<&str>, more: &[(String, String)], log: Log) -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let port = free_port();
        let mut environment = base_environment(url, folder.path());
        environment.push(("ROWHOUSE_LISTEN".to_owned(), format!("127.0.0.1:{port}")));
        environment.extend_from_slice(more);
        let address = format!("http://127.0.0.1:{port}");
        Self { address, port, folder, environment, log, wrapper: Vec::new(), running: None }
    }

    /// Sets a variable for the next start.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Starts the program and waits until it listens.
    pub(crate) async fn start(&mut self) {
        let program = env!("CARGO_BIN_EXE_rowhouse").to_owned();
        let mut words = self.wrapper.clone();
        words.extend([program, "serve".to_owned()]);
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(self.stderr())
            .kill_on_drop(true);
        let mut child = command.spawn().expect("the program was built");
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let stderr = child.stderr.take();
        let listening = tokio::time::timeout(START_TIMEOUT, listens(&mut stdout)).await;
        assert!(listening == Ok(true), "the server does not start:\n{}", self.last_log_lines());
        self.running = Some(Running { child, _stdout: stdout, _stderr: stderr });
    }

    fn stderr(&self) -> Stdio {
        match self.log {
            Log::File => {
                let file = File::options().append(true).create(true).open(self.log_path());
                file.expect("a log can be opened").into()
            }
            Log::Unread => Stdio::piped(),
            Log::Full => {
                File::options().write(true).open("/dev/full").expect("there is /dev/full").into()
            }
        }
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("serve.log")
    }

    pub(crate) fn last_log_lines(&self) -> String {
        last_lines(&self.log_path())
    }

    /// Returns the lines of its log that contain a text.
    pub(crate) fn log_lines_with(&self, text: &str) -> Vec<String> {
        let log = std::fs::read_to_string(self.log_path()).unwrap_or_default();
        log.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
    }

    /// Returns the folder of its data.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Connects to the embedded PostgreSQL as the owner.
    pub(crate) async fn connect_to_embedded(&self) -> tokio_postgres::Client {
        let config = rowhouse::embedded::running(self.folder(), "rowhouse");
        let connected = config.expect("the embedded server runs").connect(NoTls).await;
        let (client, connection) = connected.expect("the embedded server accepts a connection");
        tokio::spawn(connection);
        client
    }

    /// Kills the main process of the embedded PostgreSQL.
    pub(crate) fn kill_embedded(&self) {
        let file = self.folder().join("postgres").join("postmaster.pid");
        let text = std::fs::read_to_string(file).expect("the embedded server runs");
        let pid = text.lines().next().and_then(|line| line.trim().parse().ok());
        signal("KILL", &[pid.expect("the first line is the process id")]);
    }

    fn pid(&self) -> u32 {
        let running = self.running.as_ref().expect("the server was started");
        running.child.id().expect("the server has not been waited for")
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.running.as_mut().is_some_and(|running| matches!(running.child.try_wait(), Ok(None)))
    }

    /// Stops the process, which then answers nothing and closes nothing.
    pub(crate) fn freeze(&self) {
        signal("STOP", &[self.pid()]);
    }

    pub(crate) fn thaw(&self) {
        signal("CONT", &[self.pid()]);
    }

    /// Sends SIGKILL and waits for the end of the process.
    pub(crate) async fn kill(&mut self) {
        let mut running = self.running.take().expect("the server was started");
        running.child.kill().await.expect("the server can be killed");
    }

    /// Sends SIGTERM; returns whether it ended with success, and how long that took.
    pub(crate) async fn terminate(&mut self) -> (bool, Duration) {
        let began = Instant::now();
        signal("TERM", &[self.pid()]);
        let mut running = self.running.take().expect("the server was started");
        let ended = tokio::time::timeout(END_TIMEOUT, running.child.wait()).await;
        let status = ended.expect("the server ends").expect("its status can be read");
        (status.success(), began.elapsed())
    }
}

fn base_environment(url: Option<&str>, folder: &Path) -> Vec<(String, String)> {
    let path = std::env::var_os("PATH").unwrap_or_default().to_string_lossy().into_owned();
    let mut environment = vec![
        ("PATH".to_owned(), path),
        ("ROWHOUSE_DATA_DIR".to_owned(), folder.display().to_string()),
    ];
    environment
        .extend(ENVIRONMENT.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    environment.extend(url.map(|url| ("DATABASE_URL".to_owned(), url.to_owned())));
    environment
}

/// Runs a command of the program to its end; returns what it printed, as an error if it was no success.
pub(crate) async fn run_program(
    url: Option<&str>,
    folder: &Path,
    arguments: &[&str],
) -> Result<String, String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rowhouse"));
    command.args(arguments).env_clear().envs(base_environment(url, folder));
    // An operator's command waits as long as it does by default.
    command.env("ROWHOUSE_DATABASE__CONNECT_TIMEOUT", "5s");
    let output = tokio::time::timeout(END_TIMEOUT, command.stdin(Stdio::null()).output()).await;
    let output = output.expect("the command ends").expect("the program was built");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    if output.status.success() {
        return Ok(out);
    }
    Err(format!("{arguments:?}: {}\n{out}\n{err}", output.status))
}

async fn listens(stdout: &mut BufReader<ChildStdout>) -> bool {
    let mut lines = stdout.lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if line.starts_with("listening on ") {
            return true;
        }
    }
    false
}

/// Returns whether this machine has a device that is always full.
pub(crate) fn has_a_full_device() -> bool {
    Path::new("/dev/full").exists()
}

/// Sends a signal through the shell, because the standard library sends SIGKILL only. A process may have ended.
pub(crate) fn signal(name: &str, pids: &[u32]) {
    for pid in pids.iter().filter(|pid| **pid != 0) {
        let mut command = std::process::Command::new("/bin/sh");
        command.args(["-c", "kill -\"$1\" \"$2\" 2>/dev/null", "signal", name, &pid.to_string()]);
        let _ = command.status();
    }
}

pub(crate) fn last_lines(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
