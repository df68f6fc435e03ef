//! One server for all processes of a test run: the first starts it, and it ends when the last of them has ended.
//!
//! Each process holds the writing end of a FIFO in the server's folder open. A shell, the *watcher*, reads the FIFO:
//! the system closes the ends of a process that ends, also of one that is killed, so that the read returns when no
//! process is left. The watcher then waits a moment for another one, because a test runner starts one after the other;
//! then it moves the folder away, stops the server and removes the folder. It runs before the server is started: a
//! start that is killed leaves nothing either.
//!
//! Promises: a process that has opened the FIFO has a server until it ends, because the watcher reads on; one that
//! cannot open it either finds the watcher between two reads and tries again, or finds the folder moved, or finds that
//! there is no watcher and starts one. A lock in the folder lets one process do that at a time.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tokio_postgres::Config;

use crate::embedded::attach::running;
use crate::embedded::error::Context;
use crate::embedded::paths::{Paths, holds_a_socket};
use crate::embedded::process::Lifetime;
use crate::embedded::usage_lock::acquired;
use crate::embedded::{
    EmbeddedError, LOCK_TIMEOUT, Server, Settings, binaries, blocking, os, quote, stale_server,
};

const LOCK: &str = "shared.lock";
const USERS: &str = "users";
const WATCHER_PID: &str = "watcher.pid";
/// The database that every cluster has.
const MAINTENANCE: &str = "postgres";
/// What a folder is called that the watcher has moved away; its process id follows.
const ENDED: &str = "ended-";
const POLL: Duration = Duration::from_millis(5);

/// The program of the watcher. Its arguments are the folder and how many seconds it waits for another process.
///
/// The process that sleeps has the FIFO open too: the read returns after that time at the earliest. Each process that
/// uses the server writes one byte when it comes, so a read without bytes means that none came.
const WATCHER: &str = r#"
trap '' HUP INT TERM
folder=$1
while :; do
    sleep "$2" >"$folder/users" &
    [ -n "$(cat "$folder/users")" ] || break
done
cluster=$(readlink "$folder/postgres") || cluster=$folder/postgres
ended=$folder.ended-$$
mv "$folder" "$ended" || exit
here=$cluster
[ "$cluster" = "$folder/postgres" ] && here=$ended/postgres
pid=$(head -n 1 "$here/postmaster.pid")
is_running() {
    { tr '\0' ' ' <"/proc/$pid/cmdline" || ps -ww -o command= -p "$pid"; } | grep -q -F -e "$cluster"
}
if [ -n "$pid" ] && is_running; then
    kill -QUIT "$pid"
    tries=0
    while is_running && [ "$tries" -lt 100 ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
    is_running && kill -KILL "$pid"
fi
[ "$here" = "$cluster" ] && rm -rf "${cluster%/*}"
rm -rf "$ended"
"#;

/// A server that this process uses together with others. It runs at least until this is dropped.
#[derive(Debug)]
pub struct SharedServer {
    config: Config,
    data_dir: PathBuf,
    _usage: File,
}

impl SharedServer {
    /// Returns a folder for a server that is shared by the processes that name this path, such as the folder that a
    /// build writes to. It is below the folder for temporary files, where the account that runs the server for root can
    /// enter it.
    #[must_use]
    pub fn folder_for(path: &Path) -> PathBuf {
        use std::os::unix::ffi::OsStrExt;
        let digest = hex::encode(Sha256::digest(path.as_os_str().as_bytes()));
        let name = format!("rowhouse-test-{}", digest.get(..12).unwrap_or(&digest));
        let temporary = std::env::temp_dir().join(&name);
        if holds_a_socket(&temporary.join("socket")) {
            temporary
        } else {
            Path::new("/tmp").join(name)
        }
    }

    /// Attaches to the shared server of the settings' folder, or starts it. It ends `grace` after the last process that
    /// used it, and the folder is removed.
    ///
    /// # Errors
    /// Those of [`Server::start`].
    pub async fn attach_or_start(
        settings: &Settings,
        grace: Duration,
    ) -> Result<Self, EmbeddedError> {
        if !settings.data_dir.exists() {
            // Before anything is created: without the programs, no folder is left behind.
            let (named, cluster) =
                (settings.bin_dir.clone(), Paths::cluster_in(&settings.data_dir));
            blocking(move || binaries::find(named.as_deref(), &cluster)).await?;
        }
        let begin = Instant::now();
        loop {
            if let Some(server) = Box::pin(Self::attempt(settings, grace)).await? {
                return Ok(server);
            }
            if begin.elapsed() > LOCK_TIMEOUT {
                return Err(EmbeddedError::Busy { data_dir: settings.data_dir.clone() });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Returns none while another process starts the server, or the watcher ends it.
    async fn attempt(settings: &Settings, grace: Duration) -> Result<Option<Self>, EmbeddedError> {
        let (data_dir, lock) = match Paths::open_lock_named(&settings.data_dir, LOCK) {
            // The watcher has moved the folder meanwhile.
            Err(EmbeddedError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                return Ok(None);
            }
            opened => opened?,
        };
        require_own(&data_dir)?;
        if !acquired(lock.try_lock(), &data_dir)? || !is_at(&lock, &data_dir.join(LOCK)) {
            return Ok(None);
        }
        let usage = match open_users(&data_dir)? {
            Some(usage) if has_watcher(&data_dir) => usage,
            // A process of a watcher that was killed still reads, until the users of its server have ended.
            Some(_) => return Ok(None),
            // Between two reads, or about to end.
            None if has_watcher(&data_dir) => return Ok(None),
            None => {
                clear(&data_dir).await?;
                start_watcher(&data_dir, grace)?;
                wait_for_watcher(&data_dir).await?
            }
        };
        let config = if let Some(config) = running(&data_dir, MAINTENANCE) {
            config
        } else {
            let settings = Settings { data_dir: data_dir.clone(), ..settings.clone() };
            let server = Server::start_for(&settings, Lifetime::Unbound).await?;
            server.connect_config(MAINTENANCE)
        };
        Ok(Some(Self { config, data_dir, _usage: usage }))
    }

    /// Returns how to connect as the superuser over the unix socket.
    #[must_use]
    pub fn connect_config(&self, database: &str) -> Config {
        let mut config = self.config.clone();
        config.dbname(database);
        config
    }

    /// Returns the superuser's URL over the unix socket.
    #[must_use]
    pub fn database_url(&self, database: &str) -> String {
        let port = self.port();
        let host = match self.config.get_hosts().first() {
            Some(tokio_postgres::config::Host::Unix(folder)) => folder.to_string_lossy(),
            _ => "".into(),
        };
        let (database, host) = (quote::percent_encoded(database), quote::percent_encoded(&host));
        format!("postgresql://{}@/{database}?host={host}&port={port}", super::SUPERUSER)
    }

    /// Returns the superuser's URL over TCP, for programs that know no unix sockets; none if the server was started
    /// without TCP.
    #[must_use]
    pub fn tcp_url(&self, database: &str) -> Option<String> {
        let password = fs::read_to_string(self.data_dir.join("postgres-password")).ok()?;
        let (password, port) = (password.trim(), self.port());
        let database = quote::percent_encoded(database);
        Some(format!("postgresql://{}:{password}@127.0.0.1:{port}/{database}", super::SUPERUSER))
    }

    fn port(&self) -> u16 {
        self.config.get_ports().first().copied().unwrap_or(super::SOCKET_PORT)
    }
}

/// Refuses a folder of another account, which may have created it to read what is in it.
fn require_own(data_dir: &Path) -> Result<(), EmbeddedError> {
    let owner = fs::metadata(data_dir).context("read", data_dir)?.uid();
    if owner == os::effective_uid() {
        Ok(())
    } else {
        Err(EmbeddedError::NotOurs { path: data_dir.to_path_buf(), owner })
    }
}

/// Whether a file that was opened at a path is still there.
fn is_at(file: &File, path: &Path) -> bool {
    let id = |found: fs::Metadata| (found.dev(), found.ino());
    let (opened, there) = (file.metadata().map(id).ok(), fs::metadata(path).map(id).ok());
    opened.is_some() && opened == there
}

/// Opens the FIFO and announces this process; none if no watcher reads.
fn open_users(data_dir: &Path) -> Result<Option<File>, EmbeddedError> {
    let path = data_dir.join(USERS);
    let opened = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(&path);
    let mut users = match opened {
        Ok(users) if users.metadata().is_ok_and(|found| found.file_type().is_fifo()) => users,
        Ok(_) => return Ok(None),
        Err(error)
            if error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENXIO) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error).context("open", path),
    };
    match users.write_all(b"x") {
        Ok(()) => Ok(Some(users)),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(None),
        Err(error) => Err(error).context("write", path),
    }
}

/// Whether the watcher runs.
fn has_watcher(data_dir: &Path) -> bool {
    let pid = fs::read_to_string(data_dir.join(WATCHER_PID)).ok();
    let pid = pid.and_then(|text| text.trim().parse().ok());
    pid.is_some_and(|pid| stale_server::is_program_on(pid, data_dir))
}

/// Ends what a killed watcher left: the server, its folder, and folders that were moved away.
async fn clear(data_dir: &Path) -> Result<(), EmbeddedError> {
    let link = Paths::cluster_in(data_dir);
    if let Ok(cluster) = fs::canonicalize(&link) {
        stale_server::kill(&cluster).await?;
    }
    let data_dir = data_dir.to_path_buf();
    blocking(move || {
        if let Some(home) = fs::read_link(&link).ok().as_deref().and_then(Path::parent) {
            let _ = fs::remove_dir_all(home);
        }
        for entry in fs::read_dir(&data_dir).context("read", &data_dir)?.flatten() {
            if entry.file_name() != LOCK {
                remove(&entry.path())?;
            }
        }
        let (Some(parent), Some(name)) = (data_dir.parent(), data_dir.file_name()) else {
            return Ok(());
        };
        let moved = format!("{}.{ENDED}", name.to_string_lossy());
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&moved) {
                // Its watcher may be removing it at this moment.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        Ok(())
    })
    .await
}

fn remove(path: &Path) -> Result<(), EmbeddedError> {
    let is_folder = fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
    let removed = if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error).context("remove", path),
        _ => Ok(()),
    }
}

fn start_watcher(data_dir: &Path, grace: Duration) -> Result<(), EmbeddedError> {
    let fifo = data_dir.join(USERS);
    os::make_fifo(&fifo).context("create", fifo)?;
    // In its own process group: what ends a test and its children, or Ctrl-C, must not end it.
    let watcher = Command::new("/bin/sh")
        .args(["-c", WATCHER, "rowhouse-watcher"])
        .arg(data_dir)
        .arg(grace.as_secs().max(1).to_string())
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("run", "/bin/sh")?;
    let path = data_dir.join(WATCHER_PID);
    fs::write(&path, watcher.id().to_string()).context("write", path)
}

async fn wait_for_watcher(data_dir: &Path) -> Result<File, EmbeddedError> {
    let begin = Instant::now();
    loop {
        if let Some(usage) = open_users(data_dir)? {
            return Ok(usage);
        }
        if begin.elapsed() > LOCK_TIMEOUT {
            return Err(EmbeddedError::Busy { data_dir: data_dir.to_path_buf() });
        }
        tokio::time::sleep(POLL).await;
    }
}
