//! Creates the cluster, and builds the command lines of `initdb` and `postgres`.

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
use crate::embedded::process::{Lifetime, Process};
use crate::embedded::{Durability, EmbeddedError, SUPERUSER, Settings, os};

/// Prefix of the folder in which initdb works; our process id follows.
const UNFINISHED: &str = "postgres.tmp-";
/// How many lines of the log an error shows.
const LOG_LINES: usize = 15;
/// How many bytes of the log are read for that; a log line is rarely longer than a screen.
const LOG_BYTES: u64 = 16 * 1024;

/// Settings that make commits fast. With them a crash may destroy the whole cluster.
const WITHOUT_DURABILITY: [&str; 6] = [
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "wal_level=minimal",
    "max_wal_senders=0",
    "autovacuum=off",
];

/// Creates the cluster with initdb if there is none. The caller holds the lock, so an unfinished folder was left
/// behind by a start that was killed.
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
        // An empty folder holds nothing to lose.
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(_) => return Err(EmbeddedError::NotACluster { path: paths.cluster.clone() }),
    }
    let unfinished = paths.home.join(format!("{UNFINISHED}{}", std::process::id()));
    paths::private_folder(&unfinished, paths.account)?;
    let (log, log_begin) = paths.open_log()?;
    let command = initdb_command(&unfinished, paths, binaries, durability, log)?;
    let program = binaries.program("initdb");
    let mut initdb =
        Process::spawn(command, Lifetime::OfThisProcess).await.context("run", program)?;
    let status = initdb.exited().await;
    if !status.success() {
        sweep(&paths.home)?;
        return Err(EmbeddedError::Initdb {
            status: status.to_string(),
            log: paths.log_since(log_begin),
        });
    }
    fs::rename(&unfinished, &paths.cluster).context("rename into place", &paths.cluster)?;
    if durability == Durability::Full {
        // initdb has synced the files; the rename is only durable once the folder is synced too.
        File::open(&paths.home).and_then(|home| home.sync_all()).context("sync", &paths.home)?;
    }
    Ok(())
}

/// Removes the folders that an interrupted initdb left behind.
fn sweep(home: &Path) -> Result<(), EmbeddedError> {
    for entry in fs::read_dir(home).context("read", home)?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            tracing::info!(path = %entry.path().display(), "removing an unfinished cluster");
            remove(&entry.path()).context("remove", entry.path())?;
        }
    }
    Ok(())
}

/// Removes a folder. Retries, because an initdb that has just lost its parent may still write a few files.
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

/// Builds the command of a program that works on a data folder: with the right account, an empty environment
/// (neither PGPORT nor our secrets are passed on) and the log as its output.
fn command(
    program: &Path,
    folder: &Path,
    paths: &Paths,
    log: File,
) -> Result<Command, EmbeddedError> {
    let mut command = Command::new(program);
    command.arg("-D").arg(folder).current_dir(folder).env_clear();
    // The code matches English messages; and on macOS a server without a locale refuses to start.
    command.env("LC_ALL", "C");
    // initdb writes the time zone into the settings; this makes it the same on every machine.
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

/// Builds the server's command line. It holds all settings, so that none is left in the data dir from an
/// earlier start.
pub(super) fn server_command(
    paths: &Paths,
    binaries: &Binaries,
    settings: &Settings,
    port: u16,
    log: File,
) -> Result<Command, EmbeddedError> {
    let mut command = command(&binaries.program("postgres"), &paths.cluster, paths, log)?;
    let address = if settings.listen_tcp.is_some() { "127.0.0.1" } else { "" };
    // The value is a list of names: quotes protect a path with blanks or capitals.
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

/// Reads the superuser's password for TCP, or creates it on first use.
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

/// Sets a role's password. Sends the SCRAM verifier, because the server's log may contain the statement.
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
    /// Returns the last lines that were logged after this byte offset.
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
