//! Keeps files under keys: the archives of tenants that a server holds.
//!
//! Promises: a file has its key only once it is complete and on disk; a process that is killed leaves at most a draft,
//! which [`Store::list`] finds and [`Store::delete`] removes. Must not know: what is in a file, and who may read it.
//!
//! The store is a folder. A bucket of an object store fits behind the same calls: a [`Draft`] is a multipart upload, which
//! its end completes and its drop aborts, and a read names its range of bytes.

mod draft;

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use tokio::fs::{self, File};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncSeekExt, SeekFrom};
use uuid::Uuid;

pub use self::draft::{Complete, Draft};

/// What follows the key in the name of a file.
const SUFFIX: &str = ".rowhouse.tar";

/// What follows the name of a file that is not complete.
const PART: &str = ".part";

/// Bytes of the disk that are left to others: the database may be on it.
const RESERVE: u64 = 64 << 20;

/// The bytes of a file, as they are read.
pub type Content = Pin<Box<dyn AsyncRead + Send>>;

/// The files of a server.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// Names the folder, which is created with the first file.
    #[must_use]
    pub const fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Begins a file of at most `limit` bytes.
    ///
    /// # Errors
    /// If the file cannot be created.
    pub async fn create(&self, key: Uuid, limit: u64) -> io::Result<Draft> {
        self.create_folder().await?;
        Draft::create(self.path(key), limit).await
    }

    /// Reads a range of a complete file. The file may be deleted meanwhile.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none with this key; [`ErrorKind::UnexpectedEof`] if it ends before the range.
    pub async fn open(&self, key: Uuid, range: Range<u64>) -> io::Result<Content> {
        let mut file = File::open(self.path(key)).await?;
        if file.metadata().await?.len() < range.end {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        file.seek(SeekFrom::Start(range.start)).await?;
        Ok(Box::pin(file.take(range.end.saturating_sub(range.start))))
    }

    /// Deletes the file with this key, and the draft. That there is none is no error.
    ///
    /// # Errors
    /// If it cannot be deleted.
    pub async fn delete(&self, key: Uuid) -> io::Result<()> {
        for path in [self.path(key), draft::part(&self.path(key))] {
            match fs::remove_file(path).await {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Returns the keys of all files and drafts. Other files of the folder are none of ours.
    ///
    /// # Errors
    /// If the folder cannot be read. That there is none is no error.
    pub async fn list(&self) -> io::Result<Vec<Uuid>> {
        let mut entries = match fs::read_dir(&self.folder).await {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut keys = BTreeSet::new();
        while let Some(entry) = entries.next_entry().await? {
            keys.extend(entry.file_name().to_str().and_then(key_of));
        }
        Ok(keys.into_iter().collect())
    }

    /// Returns how many bytes may be written now: what is free on the disk, without a reserve.
    ///
    /// # Errors
    /// If the folder cannot be created or asked.
    pub async fn free_bytes(&self) -> io::Result<u64> {
        self.create_folder().await?;
        let folder = self.folder.clone();
        let asked = tokio::task::spawn_blocking(move || rustix::fs::statvfs(&folder)).await;
        let found = asked.map_err(io::Error::other)??;
        Ok(found.f_bavail.saturating_mul(found.f_frsize).saturating_sub(RESERVE))
    }

    fn path(&self, key: Uuid) -> PathBuf {
        self.folder.join(format!("{key}{SUFFIX}"))
    }

    async fn create_folder(&self) -> io::Result<()> {
        let folder: &Path = &self.folder;
        // The files have the data of tenants.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).await
    }
}

/// Returns the key of a file of ours.
fn key_of(name: &str) -> Option<Uuid> {
    let name = name.strip_suffix(PART).unwrap_or(name);
    let key: Uuid = name.strip_suffix(SUFFIX)?.parse().ok()?;
    // Other spellings of an id lead to no path of ours.
    name.starts_with(&key.to_string()).then_some(key)
}

#[cfg(test)]
mod tests;
