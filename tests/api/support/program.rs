//! The built program, run the way a person or a script runs it: with only the environment variables that a
//! test set, in a temporary folder, and with a time limit on everything that might hang.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{SECRET_KEY, TestDatabase, TestEngine, through_pooler};

/// The longest wait for the program; even on a busy machine, nothing that works takes this long.
const LIMIT: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(10);

/// The program with its environment and working folder.
pub struct Program {
    folder: TempDir,
    environment: Vec<(String, String)>,
}

/// The outcome of a run that has ended.
#[derive(Debug)]
pub struct Completed {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl Completed {
    /// Parses stdout, which must be one JSON document.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Asserts the exit code.
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }
}

impl Program {
    /// Creates a program without a database URL, which uses the embedded server.
    pub fn embedded() -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let program = Self { folder, environment: Vec::new() };
        let path = inherited("PATH").unwrap_or_default();
        // Cheap hashes and few connections, because these tests are about neither.
        program
            .with("PATH", &path)
            .with("ROWHOUSE_LISTEN", "127.0.0.1:0")
            .with("ROWHOUSE_AUTH__HASH_MEMORY_KIB", "8")
            .with("ROWHOUSE_AUTH__HASH_ITERATIONS", "1")
            .with("ROWHOUSE_DATABASE__MAX_CONNECTIONS", "10")
            .with("ROWHOUSE_HTTP__WORKERS", "1")
            .with("ROWHOUSE_TENANTS__VACANCIES", "0")
            .with_data_dir_in_folder()
    }

    /// Creates a program on an existing database.
    pub fn on(database: &TestDatabase) -> Self {
        let mut program = Self::embedded()
            .with("DATABASE_URL", &through_pooler(&database.url()))
            .with("ROWHOUSE_SECRET_KEY", SECRET_KEY);
        for (key, value) in TestEngine::of_run().settings() {
            let variable = format!("ROWHOUSE_{}", key.replace('.', "__").to_uppercase());
            program = program.with(&variable, &value);
        }
        program
    }

    /// Uses the working folder itself as the data dir, because an unprivileged server can enter it.
    fn with_data_dir_in_folder(self) -> Self {
        let folder = self.folder().display().to_string();
        self.with("ROWHOUSE_DATA_DIR", &folder)
    }

    /// Makes the folder traversable, so that the account that runs PostgreSQL for root can enter folders in it.
    pub fn with_traversable_folder(self) -> Self {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o711);
        std::fs::set_permissions(self.folder(), mode).expect("the mode can be changed");
        self
    }

    /// Adds the programs of PostgreSQL, such as `pg_dump`, to the path, where they are not on it.
    pub fn with_postgres_programs(self) -> Self {
        let path = inherited("PATH").unwrap_or_default();
        let folder = crate::postgres_programs::binaries();
        self.with("PATH", &format!("{}:{path}", folder.display()))
    }

    /// Sets a variable; the last value for a name applies.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Returns the working folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Builds a command with this environment and folder, without starting it.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(self.folder())
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs the program to its end with an empty stdin. It blocks the thread: a test with a server of its own has a runtime of
    /// several threads, so that a transaction of the server which the program waits for goes on.
    pub fn run(&self, arguments: &[&str]) -> Completed {
        finish(self.command(env!("CARGO_BIN_EXE_rowhouse"), arguments), None)
    }

    /// Runs the program to its end with this text on stdin.
    pub fn run_with_stdin(&self, arguments: &[&str], stdin: &str) -> Completed {
        finish(self.command(env!("CARGO_BIN_EXE_rowhouse"), arguments), Some(stdin))
    }

    /// Creates a tenant by the command line, whose admin is the same person each time; prints JSON.
    pub fn create_tenant(&self, slug: &str) -> Completed {
        self.run_with_stdin(&create_tenant_arguments(slug), super::PASSWORD)
    }

    /// Runs a script in a shell whose `PATH` contains the program.
    pub fn shell(&self, script: &str) -> Completed {
        let program = Path::new(env!("CARGO_BIN_EXE_rowhouse"));
        let folder = program.parent().expect("the program has a parent folder").display();
        let inherited = inherited("PATH").unwrap_or_default();
        let set = self.environment.iter().rev().find(|(name, _)| name == "PATH");
        let path = format!("{folder}:{}", set.map_or(&inherited, |(_, path)| path));
        let mut command = self.command("sh", &["-c", script]);
        command.env("PATH", path);
        finish(command, None)
    }

    /// As [`serve`](Self::serve), under a limit on the address space of the process in KiB, as `ulimit -v` sets it. The
    /// address space has more than is used: stacks, the program itself, and what the allocator reserves.
    pub fn serve_within(&self, address_space: u64) -> RunningServer {
        let script = format!("ulimit -v {address_space} && exec \"$0\" serve");
        RunningServer::start(self.command("sh", &["-c", &script, env!("CARGO_BIN_EXE_rowhouse")]))
    }

    /// As [`serve`](Self::serve), with another stderr.
    pub fn serve_with_stderr(&self, stderr: impl Into<Stdio>) -> RunningServer {
        let mut command = self.command(env!("CARGO_BIN_EXE_rowhouse"), &["serve"]);
        command.stderr(stderr);
        RunningServer::start(command)
    }

    /// Starts the server and waits for its address.
    pub fn serve(&self, arguments: &[&str]) -> RunningServer {
        let mut all = vec!["serve"];
        all.extend(arguments);
        RunningServer::start(self.command(env!("CARGO_BIN_EXE_rowhouse"), &all))
    }
}

#[expect(clippy::disallowed_methods, reason = "a test needs the PATH of its environment")]
fn inherited(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// A server in a separate process, which is killed when this value is dropped.
pub struct RunningServer {
    child: Child,
    stdout: Stream,
    stderr: Stream,
    /// Such as `http://127.0.0.1:40123`.
    pub address: String,
}

impl RunningServer {
    /// Starts a command that becomes a server, and waits for its address.
    pub fn start(mut command: Command) -> Self {
        let started = Instant::now();
        let mut child = command.spawn().expect("the program starts");
        let stdout = Stream::follow(child.stdout.take().expect("stdout is piped"));
        let stderr = match child.stderr.take() {
            Some(pipe) => Stream::follow(pipe),
            None => Stream::follow(std::io::empty()),
        };
        let mut server = Self { child, stdout, stderr, address: String::new() };
        loop {
            if let Some((line, _rest)) = server.stdout.text().split_once('\n') {
                let address = line.strip_prefix("listening on ");
                address
                    .unwrap_or_else(|| panic!("{line:?} is not an address"))
                    .clone_into(&mut server.address);
                return server;
            }
            let ended = server.child.try_wait().expect("the child's status can be read");
            let stderr = server.stderr.text();
            assert!(ended.is_none(), "the server ended with {ended:?}: {stderr}");
            assert!(started.elapsed() < LIMIT, "the server did not start in time: {stderr}");
            std::thread::sleep(POLL);
        }
    }

    /// Waits until stderr contains a text, and returns all of stderr.
    pub fn stderr_with(&self, text: &str) -> String {
        self.stderr.with(text)
    }

    /// Waits until stdout contains a text, and returns all of stdout.
    pub fn stdout_with(&self, text: &str) -> String {
        self.stdout.with(text)
    }

    /// Returns the host and the port.
    pub fn authority(&self) -> &str {
        self.address.strip_prefix("http://").expect("the address is a URL")
    }

    /// Returns the most memory that the process has used so far, in KiB.
    pub fn peak_memory(&self) -> u64 {
        let status = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(status).expect("the process runs on Linux");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        number.unwrap_or_else(|| panic!("no peak in {status}"))
    }

    /// Returns whether the process is still running.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("the child's status can be read").is_none()
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &kill]).status().expect("there is a shell");
        assert!(status.success(), "{kill}");
    }

    /// Waits until the process ends.
    pub fn wait(mut self) -> Completed {
        let began = Instant::now();
        let code = wait(&mut self.child).code();
        let took = began.elapsed();
        Completed { code, stdout: self.stdout.finish(), stderr: self.stderr.finish(), took }
    }

    /// Sends a signal and waits until the process ends.
    pub fn stop(self, signal: &str) -> Completed {
        self.signal(signal);
        self.wait()
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn finish(mut command: Command, stdin: Option<&str>) -> Completed {
    let began = Instant::now();
    if stdin.is_some() {
        command.stdin(Stdio::piped());
    }
    let mut child = command.spawn().expect("the program starts");
    if let Some((text, mut pipe)) = stdin.zip(child.stdin.take()) {
        // The write fails if the program ends without reading all of it.
        let _ = pipe.write_all(text.as_bytes());
    }
    let mut stdout = Stream::follow(child.stdout.take().expect("stdout is piped"));
    let mut stderr = Stream::follow(child.stderr.take().expect("stderr is piped"));
    let code = wait(&mut child).code();
    Completed { code, stdout: stdout.finish(), stderr: stderr.finish(), took: began.elapsed() }
}

/// Runs a command whose stdin stays open and empty, like a terminal without input.
pub fn finish_with_open_stdin(mut command: Command) -> Completed {
    let began = Instant::now();
    let mut child = command.stdin(Stdio::piped()).spawn().expect("the program starts");
    let held: Option<ChildStdin> = child.stdin.take();
    let mut stdout = Stream::follow(child.stdout.take().expect("stdout is piped"));
    let mut stderr = Stream::follow(child.stderr.take().expect("stderr is piped"));
    let code = wait(&mut child).code();
    drop(held);
    Completed { code, stdout: stdout.finish(), stderr: stderr.finish(), took: began.elapsed() }
}

/// Waits for the end of a process, at most [`LIMIT`].
fn wait(child: &mut Child) -> std::process::ExitStatus {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("the child's status can be read") {
            return status;
        }
        if began.elapsed() > LIMIT {
            let _ = child.kill();
            panic!("the program did not end in time");
        }
        std::thread::sleep(POLL);
    }
}

/// The output that a program has written so far.
struct Stream {
    text: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Stream {
    fn follow(pipe: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let written = Arc::clone(&text);
        let reader = std::thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while pipe.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
                let mut text = written.lock().expect("no thread panics while holding the lock");
                text.push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
        Self { text, reader: Some(reader) }
    }

    fn text(&self) -> String {
        self.text.lock().expect("no thread panics while holding the lock").clone()
    }

    /// Waits until it contains a text, and returns all of it.
    fn with(&self, text: &str) -> String {
        let began = Instant::now();
        loop {
            let written = self.text();
            if written.contains(text) {
                return written;
            }
            assert!(began.elapsed() < LIMIT, "{text:?} is not in {written}");
            std::thread::sleep(POLL);
        }
    }

    fn finish(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("a reader does not panic");
        }
        self.text()
    }
}

/// The arguments with which [`Program::create_tenant`] creates a tenant; the password comes from stdin.
pub fn create_tenant_arguments(slug: &str) -> Vec<&str> {
    let admin = ["--admin-email", "ada@example.com", "--admin-first-name", "Ada"];
    let more = ["--admin-last-name", "Admin", "--admin-password-stdin"];
    [&["tenant", "create", "--json", "--name", slug, "--slug", slug][..], &admin, &more].concat()
}
