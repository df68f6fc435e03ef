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
/// How long a stop waits for users of the server before it logs what it waits for.
const LOG_AFTER: Duration = Duration::from_secs(1);

/// Keeps the server of another process running. Dropped, it no longer does.
#[derive(Debug)]
pub struct UsageLock {
    _lock: File,
}

/// Marks the server of this process as one that stops when its command is done.
#[derive(Debug)]
pub(super) struct EphemeralMarker {
    _lock: File,
}

/// Proves that no other process uses the server. A process that tries to, waits.
#[derive(Debug)]
pub(super) struct ExclusiveLock {
    _lock: File,
}

impl UsageLock {
    /// Waits for a server that is being stopped. Whether there is a server is for the caller to check.
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
    /// Sets the marker; none where another process has set it.
    pub(super) fn set(data_dir: &Path) -> Result<Option<Self>, EmbeddedError> {
        let lock = open(data_dir, EPHEMERAL_LOCK)?;
        Ok(acquired(lock.try_lock(), data_dir)?.then_some(Self { _lock: lock }))
    }

    /// Waits until no process has set the marker; returns whether one had.
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
    /// Waits until no other process uses the server, however long that takes.
    pub(super) async fn acquire(data_dir: &Path) -> Result<Self, EmbeddedError> {
        let lock = open(data_dir, USAGE_LOCK)?;
        let begin = Instant::now();
        let mut logged = false;
        while !acquired(lock.try_lock(), data_dir)? {
            if !logged && begin.elapsed() > LOG_AFTER {
                logged = true;
                tracing::warn!(
                    "another command uses the embedded PostgreSQL server of this process; it is stopped when \
                     that command is done"
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

/// Whether a lock was acquired, from the result of an attempt that does not wait.
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
