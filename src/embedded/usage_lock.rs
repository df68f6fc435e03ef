//! Sees to it that nobody's server is stopped under them: a process that works on the server of another is its
//! guest, and the host stops it when the last guest has gone.
//!
//! Both are locks on files, so that a process that dies leaves, however it dies. A guest shares the lock of
//! the guest book; the host takes it alone before it stops the server, and until then newcomers may still come in.
//! A command that starts a server for itself holds a second lock for as long as the server runs: so others
//! can tell a server that will be gone in a moment from one that stays.

use std::{
    fs::{File, OpenOptions, TryLockError},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::{Duration, Instant},
};

use crate::embedded::error::Context;
use crate::embedded::{EmbeddedError, LOCK_PATIENCE, LOCK_POLL};

/// Held by all who work on a server that another process keeps.
const GUEST_BOOK: &str = "postgres.guests";
/// Held by a command while the server runs that it has started for itself.
const BRIEF: &str = "postgres.brief";
/// How long a host waits before it says what it waits for.
const TELL_AFTER: Duration = Duration::from_secs(1);

/// A place on the server that another process keeps. Dropped, it is free.
#[derive(Debug)]
pub struct Guest {
    _book: File,
}

/// That the server of this process will be gone in a moment, for others to see.
#[derive(Debug)]
pub(super) struct Brief {
    _lock: File,
}

/// That nobody is on the server, and nobody comes.
#[derive(Debug)]
pub(super) struct Alone {
    _book: File,
}

impl Guest {
    /// A place, once no host is about to stop its server; whether there is a server is still to be seen.
    pub(super) async fn enter(data_dir: &Path) -> Result<Self, EmbeddedError> {
        let book = open(data_dir, GUEST_BOOK)?;
        let begin = Instant::now();
        while !had(book.try_lock_shared(), data_dir)? {
            pause(begin, data_dir).await?;
        }
        Ok(Self { _book: book })
    }
}

impl Brief {
    /// Says it, unless another process says so already.
    pub(super) fn say(data_dir: &Path) -> Result<Option<Self>, EmbeddedError> {
        let lock = open(data_dir, BRIEF)?;
        Ok(had(lock.try_lock(), data_dir)?.then_some(Self { _lock: lock }))
    }

    /// Waits until no process says so; tells whether there was one to wait for.
    pub(super) async fn wait(data_dir: &Path) -> Result<bool, EmbeddedError> {
        let begin = Instant::now();
        let mut waited = false;
        while Self::say(data_dir)?.is_none() {
            if !waited {
                tracing::info!("waiting for a command that works on this data dir");
            }
            waited = true;
            pause(begin, data_dir).await?;
        }
        Ok(waited)
    }
}

impl Alone {
    /// Waits until the last guest has gone.
    pub(super) async fn wait(data_dir: &Path) -> Result<Self, EmbeddedError> {
        let book = open(data_dir, GUEST_BOOK)?;
        let begin = Instant::now();
        let mut told = false;
        while !had(book.try_lock(), data_dir)? {
            if !told && begin.elapsed() > TELL_AFTER {
                told = true;
                tracing::warn!(
                    "another command works on the embedded PostgreSQL server of this process; it is stopped when \
                     that one is done"
                );
            }
            tokio::time::sleep(LOCK_POLL).await;
        }
        Ok(Self { _book: book })
    }
}

fn open(data_dir: &Path, name: &str) -> Result<File, EmbeddedError> {
    let path = data_dir.join(name);
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    file.context("open", path)
}

/// Whether a lock was had that is not waited for.
pub(super) fn had(
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
    if begin.elapsed() > LOCK_PATIENCE {
        return Err(EmbeddedError::Busy { data_dir: data_dir.to_path_buf() });
    }
    tokio::time::sleep(LOCK_POLL).await;
    Ok(())
}
