//! Connects one command to a server: the server that another process keeps running, or one that it starts itself.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Instant;

use tokio_postgres::Config;

use crate::embedded::error::Context;
use crate::embedded::paths::Paths;
use crate::embedded::usage_lock::{self, EphemeralMarker, UsageLock};
use crate::embedded::{
    EmbeddedError, LOCK_POLL, LOCK_TIMEOUT, SUPERUSER, Server, Settings, binaries, blocking,
};

/// Returns how to connect to the server that another Rowhouse process runs on this data dir, if that server is
/// ready. The command line uses it to work beside `serve`.
#[must_use]
pub fn running(data_dir: &Path, database: &str) -> Option<Config> {
    let text = std::fs::read_to_string(data_dir.join("postgres").join("postmaster.pid")).ok()?;
    // Line 4 is the port, line 5 the folder of the socket, line 8 the server's status (PostgreSQL,
    // src/include/utils/pidfile.h). A server that is starting or stopping refuses connections.
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let (port, socket_dir) = (lines.get(3)?.parse().ok()?, *lines.get(4)?);
    if *lines.get(7)? != "ready" {
        return None;
    }
    let socket = Path::new(socket_dir).join(format!(".s.PGSQL.{port}"));
    // A stale file outlives its server; a socket that takes connections does not.
    std::os::unix::net::UnixStream::connect(socket).ok()?;
    let mut config = Config::new();
    config.host_path(socket_dir).port(port).user(SUPERUSER).dbname(database);
    Some(config)
}

/// The server that a command uses, by the process that started it.
#[derive(Debug)]
pub enum ServerHandle {
    /// Started by this process, which must stop it. [`Server::stop`] waits for other processes that use it.
    Own(Box<Server>),
    /// Started by another process, which keeps it running until this lock is dropped.
    Other(UsageLock),
}

/// Attaches to the server that another process runs on this data dir, or starts one; returns how to connect.
///
/// # Errors
/// Those of [`Server::start`].
pub async fn attach_or_start(
    settings: &Settings,
    database: &str,
) -> Result<(Config, ServerHandle), EmbeddedError> {
    if !has_cluster(&settings.data_dir)? {
        // Before anything is created, as in `Server::start`.
        let (named, cluster) = (settings.bin_dir.clone(), Paths::cluster_in(&settings.data_dir));
        blocking(move || binaries::find(named.as_deref(), &cluster)).await?;
    }
    let begin = Instant::now();
    loop {
        // The usage lock comes first: a server that is found running after that keeps running.
        let (data_dir, lock) = Paths::open_lock(&settings.data_dir)?;
        let usage = UsageLock::acquire(&data_dir).await?;
        // A server that is being started may accept connections before its database exists.
        let is_starting = !usage_lock::acquired(lock.try_lock_shared(), &data_dir)?;
        if !is_starting {
            if let Some(config) = running(&data_dir, database) {
                return Ok((config, ServerHandle::Other(usage)));
            }
            drop((usage, lock));
            if let Some(ephemeral) = EphemeralMarker::set(&data_dir)? {
                match Server::start(settings).await {
                    Ok(mut server) => {
                        server.ephemeral = Some(ephemeral);
                        return Ok((
                            server.connect_config(database),
                            ServerHandle::Own(Box::new(server)),
                        ));
                    }
                    // Another process started a server at the same moment.
                    Err(EmbeddedError::AlreadyRunning { .. }) if begin.elapsed() < LOCK_TIMEOUT => {
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        // Another process is starting or stopping the server.
        if begin.elapsed() > LOCK_TIMEOUT {
            return Err(EmbeddedError::Busy { data_dir });
        }
        tokio::time::sleep(LOCK_POLL).await;
    }
}

/// Whether a data dir holds a cluster, whether or not its server is running.
///
/// # Errors
/// If that cannot be seen, for example because this user may not enter the folder.
pub fn has_cluster(data_dir: &Path) -> Result<bool, EmbeddedError> {
    // The cluster itself may belong to the account that runs the server, and is not entered.
    let cluster = Paths::cluster_in(data_dir);
    match std::fs::metadata(cluster.join("PG_VERSION")) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            cluster.try_exists().context("read", data_dir)
        }
        Err(_) => Ok(false),
    }
}
