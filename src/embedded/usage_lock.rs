//! Keeps an embedded server running while any process uses it.
//!
//! A process that uses a server which another process started holds a shared lock on a file; the process that
//! started the server takes that lock exclusively before it stops the server. A command that started a server for
//! itself holds a second lock for as long as the server runs, so that other processes can tell a server that stops
//! in a moment from one that stays. Locks on files end with their process, however it ends.

use std::{
    fs::{File, OpenOptions, TryLockError},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::{Duration, Instant},
};

use crate::embedded::error::Context;
use crate::embedded::{EmbeddedError, LOCK_POLL, LOCK_TIMEOUT};

/// The file that users of a server lock.
const USAGE_LOCK: &str = "postgres.usage";
/// The file that a command locks for as long as its own server runs.
const EPHEMERAL_LOCK: &str = "postgres.ephemeral";
/// How long a stop waits for other processes before it logs a warning.
const LOG_AFTER: Duration = Duration::from_secs(1);

/// Keeps the server of another process running until it is dropped.
#[derive(Debug)]
pub struct UsageLock {
    _lock: File,
}

/// Marks this process's server as ephemeral: it stops when its command is done.
#[derive(Debug)]
pub(super) struct EphemeralMarker {
    _lock: File,
}

/// Proves that no other process uses the server; a process that wants to use it waits until this is dropped.
#[derive(Debug)]
pub(super) struct ExclusiveLock {
    _lock: File,
}

impl UsageLock {
    /// Acquires the lock; waits while a server is being stopped. The caller checks whether a server is running.
    pub(super) async fn acquire(data_dir: &Path) -> Result<Self, EmbeddedError> {
        let lock = open(data_dir, USAGE_LOCK)?;
        let begin = Instant::now();
        while !acquired(lock.try_lock_shared(), data_dir)? {
            pause(begin, data_dir).await?;
        }
        Ok(Self { _lock: lock })
    }
}

impl EphemeralMarker {
    /// Sets the marker; `None` if another process has set it.
    pub(super) fn set(data_dir: &Path) -> Result<Option<Self>, EmbeddedError> {
        let lock = open(data_dir, EPHEMERAL_LOCK)?;
        Ok(acquired(lock.try_lock(), data_dir)?.then_some(Self { _lock: lock }))
    }

    /// Waits until the marker is not set; returns whether it was set.
    pub(super) async fn wait_until_unset(data_dir: &Path) -> Result<bool, EmbeddedError> {
        let begin = Instant::now();
        let mut waited = false;
        while Self::set(data_dir)?.is_none() {
            if !waited {
                tracing::info!("waiting for a command that uses this data dir");
            }
            waited = true;
            pause(begin, data_dir).await?;
        }
        Ok(waited)
    }
}

impl ExclusiveLock {
    /// Acquires the lock; waits without a timeout until no other process uses the server.
    pub(super) async fn acquire(data_dir: &Path) -> Result<Self, EmbeddedError> {
        let lock = open(data_dir, USAGE_LOCK)?;
        let begin = Instant::now();
        let mut logged = false;
        while !acquired(lock.try_lock(), data_dir)? {
            if !logged && begin.elapsed() > LOG_AFTER {
                logged = true;
                tracing::warn!(
                    "another process uses the embedded PostgreSQL server; it is stopped when that process is done"
                );
            }
            tokio::time::sleep(LOCK_POLL).await;
        }
        Ok(Self { _lock: lock })
    }
}

fn open(data_dir: &Path, name: &str) -> Result<File, EmbeddedError> {
    let path = data_dir.join(name);
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    file.context("open", path)
}

/// Whether a lock was acquired, from the result of a non-blocking attempt.
pub(super) fn acquired(
    outcome: Result<(), TryLockError>,
    data_dir: &Path,
) -> Result<bool, EmbeddedError> {
    match outcome {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(source)) => Err(source).context("lock", data_dir),
    }
}

async fn pause(begin: Instant, data_dir: &Path) -> Result<(), EmbeddedError> {
    if begin.elapsed() > LOCK_TIMEOUT {
        return Err(EmbeddedError::Busy { data_dir: data_dir.to_path_buf() });
    }
    tokio::time::sleep(LOCK_POLL).await;
    Ok(())
}
