//! Makes the cluster, once and whole, and the command lines of the programs that work on it.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process::{Command, Stdio},
};

use tokio_postgres::Client;
use uuid::Uuid;

use crate::embedded::binaries::Binaries;
use crate::embedded::error::Context;
use crate::embedded::paths::{self, Paths};
use crate::embedded::process::Process;
use crate::embedded::{Durability, EmbeddedError, SUPERUSER, Settings, os};

/// What initdb is still working on, followed by our process id.
const UNFINISHED: &str = "postgres.tmp-";
/// How much of the log an error shows.
const LOG_LINES: usize = 15;
/// How much of the log is read for that; a line of the server's is rarely longer than a screen.
const LOG_BYTES: u64 = 16 * 1024;

/// Everything that makes a commit cost time. Without it a crash may cost the whole cluster.
const WITHOUT_DURABILITY: [&str; 6] = [
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "wal_level=minimal",
    "max_wal_senders=0",
    "autovacuum=off",
];

/// Runs initdb where there is no cluster yet. The caller holds the lock, so whatever is unfinished
/// was left by a start that was killed.
pub(super) async fn ensure(
    paths: &Paths,
    binaries: &Binaries,
    durability: Durability,
) -> Result<(), EmbeddedError> {
    let home = paths.home.clone();
    crate::embedded::blocking(move || sweep(&home)).await?;
    if paths.cluster.join("PG_VERSION").exists() {
        return Ok(());
    }
    match fs::remove_dir(&paths.cluster) {
        // An empty folder is no cluster and no loss.
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(_) => return Err(EmbeddedError::NotACluster { path: paths.cluster.clone() }),
    }
    let unfinished = paths.home.join(format!("{UNFINISHED}{}", std::process::id()));
    paths::private_folder(&unfinished, paths.account)?;
    let (log, log_begin) = paths.open_log()?;
    let command = initdb_command(&unfinished, paths, binaries, durability, log)?;
    let program = binaries.program("initdb");
    let status = Process::spawn(command).await.context("run", program)?.exited().await;
    if !status.success() {
        sweep(&paths.home)?;
        return Err(EmbeddedError::Initdb {
            status: status.to_string(),
            log: paths.log_since(log_begin),
        });
    }
    fs::rename(&unfinished, &paths.cluster).context("put in place", &paths.cluster)?;
    if durability == Durability::Full {
        // initdb has synced the files; their new name is the folder's.
        File::open(&paths.home).and_then(|home| home.sync_all()).context("sync", &paths.home)?;
    }
    Ok(())
}

/// Removes what an interrupted initdb has left.
fn sweep(home: &Path) -> Result<(), EmbeddedError> {
    for entry in fs::read_dir(home).context("read", home)?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            tracing::info!(path = %entry.path().display(), "removing an unfinished cluster");
            remove(&entry.path()).context("remove", entry.path())?;
        }
    }
    Ok(())
}

/// An initdb that has just lost its parent may write a few more files under our hands.
fn remove(path: &Path) -> std::io::Result<()> {
    const ATTEMPTS: usize = 20;
    const PAUSE: std::time::Duration = std::time::Duration::from_millis(50);
    for _ in 1..ATTEMPTS {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => std::thread::sleep(PAUSE),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            done => return done,
        }
    }
    fs::remove_dir_all(path)
}

/// A program that works on a folder: as the right account, with an environment that says nothing
/// (neither PGPORT nor our secrets), writing to the log.
fn command(
    program: &Path,
    folder: &Path,
    paths: &Paths,
    log: File,
) -> Result<Command, EmbeddedError> {
    let mut command = Command::new(program);
    command.arg("-D").arg(folder).current_dir(folder).env_clear();
    // Messages are read by us; and on macOS a server without a locale refuses to start.
    command.env("LC_ALL", "C");
    // initdb writes the zone into the settings: the same on every machine.
    command.env("TZ", "UTC");
    let for_errors = log.try_clone().context("share", paths.log_file())?;
    command.stdin(Stdio::null()).stdout(log).stderr(for_errors);
    os::detach(&mut command, paths.account);
    Ok(command)
}

fn initdb_command(
    folder: &Path,
    paths: &Paths,
    binaries: &Binaries,
    durability: Durability,
    log: File,
) -> Result<Command, EmbeddedError> {
    let mut command = command(&binaries.program("initdb"), folder, paths, log)?;
    command.args(["--username", SUPERUSER, "--encoding=UTF8", "--locale=C", "--data-checksums"]);
    command.args(["--auth-local=trust", "--auth-host=scram-sha-256", "--no-instructions"]);
    if durability == Durability::None {
        command.arg("--no-sync");
    }
    Ok(command)
}

/// The command line of the server. All settings are on it, so that none lingers in the data dir from
/// another start.
pub(super) fn server_command(
    paths: &Paths,
    binaries: &Binaries,
    settings: &Settings,
    port: u16,
    log: File,
) -> Result<Command, EmbeddedError> {
    let mut command = command(&binaries.program("postgres"), &paths.cluster, paths, log)?;
    let address = if settings.listen_tcp.is_some() { "127.0.0.1" } else { "" };
    // The value is a list of names: quotes keep a path with blanks or capitals in one piece.
    let mut socket_dir = OsString::from("unix_socket_directories=\"");
    socket_dir.push(paths.socket_dir.to_string_lossy().replace('"', "\"\""));
    socket_dir.push("\"");
    let mut options: Vec<OsString> = vec![
        socket_dir,
        format!("listen_addresses={address}").into(),
        format!("port={port}").into(),
        format!("max_connections={}", settings.max_connections).into(),
        "logging_collector=off".into(),
        "log_destination=stderr".into(),
    ];
    if settings.durability == Durability::None {
        options.extend(WITHOUT_DURABILITY.map(OsString::from));
    }
    for option in options {
        command.arg("-c").arg(option);
    }
    Ok(command)
}

/// The superuser's password for TCP, made at the first need.
pub(super) fn password(paths: &Paths) -> Result<String, EmbeddedError> {
    let path = paths.password_file();
    if let Ok(text) = fs::read_to_string(&path)
        && let kept = text.trim()
        && !kept.is_empty()
        && kept.bytes().all(|byte| byte.is_ascii_alphanumeric())
    {
        return Ok(kept.to_owned());
    }
    let made = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
    file.and_then(|mut file| file.write_all(made.as_bytes())).context("write", path)?;
    Ok(made)
}

/// Gives a role its password, as the verifier: the server's log may hold the statement.
pub(super) async fn set_password(
    client: &Client,
    role: &str,
    password: &str,
) -> Result<(), EmbeddedError> {
    let verifier = postgres_protocol::password::scram_sha_256(password.as_bytes());
    let set = client.batch_execute(&format!("ALTER ROLE {role} PASSWORD '{verifier}'")).await;
    set.map_err(|source| EmbeddedError::Query { during: "set the superuser's password", source })
}

impl Paths {
    /// The last lines of what was logged after a certain point.
    pub(super) fn log_since(&self, begin: u64) -> String {
        let mut text = Vec::new();
        let read = File::open(self.log_file()).and_then(|mut log| {
            let begin = begin.max(log.metadata()?.len().saturating_sub(LOG_BYTES));
            log.seek(SeekFrom::Start(begin))?;
            log.read_to_end(&mut text)
        });
        if let Err(error) = read {
            return format!("(the log cannot be read: {error})");
        }
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default().join("\n")
    }
}
