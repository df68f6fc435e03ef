//! A file that is being written.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use sha2::{Digest, Sha256};
use tokio::fs::{self, File, OpenOptions};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::PART;

/// A file that is not complete. Dropped, it is removed.
pub struct Draft {
    file: File,
    path: PathBuf,
    hash: Sha256,
    written: u64,
    limit: u64,
    is_full: bool,
    is_complete: bool,
}

/// A file that is complete and on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complete {
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256, in hex.
    pub sha256: String,
}

impl Draft {
    pub(super) async fn create(path: PathBuf, limit: u64) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(part(&path)).await?;
        let (hash, written) = (Sha256::new(), 0);
        Ok(Self { file, path, hash, written, limit, is_full: false, is_complete: false })
    }

    /// Whether more was to be written than the limit allows.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.is_full
    }

    /// Writes the rest to disk and gives the file its key.
    ///
    /// # Errors
    /// If the disk is full or fails; the file is then removed.
    pub async fn finish(mut self) -> io::Result<Complete> {
        self.file.flush().await?;
        self.file.sync_all().await?;
        fs::rename(part(&self.path), &self.path).await?;
        self.is_complete = true;
        if let Some(folder) = self.path.parent() {
            // The name is on disk only with its folder.
            File::open(folder).await?.sync_all().await?;
        }
        let sha256 = hex::encode(std::mem::take(&mut self.hash).finalize());
        Ok(Complete { bytes: self.written, sha256 })
    }
}

impl AsyncWrite for Draft {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.len() as u64 > self.limit - self.written {
            self.is_full = true;
            return Poll::Ready(Err(ErrorKind::QuotaExceeded.into()));
        }
        let written = ready!(Pin::new(&mut self.file).poll_write(context, bytes))?;
        self.hash.update(bytes.get(..written).unwrap_or_default());
        self.written += written as u64;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.file).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.file).poll_shutdown(context)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.is_complete {
            // What failed is reported; a draft that stays is removed by the next search for leftovers.
            let _ = std::fs::remove_file(part(&self.path));
        }
    }
}

/// Returns the path of a file while it is not complete.
pub(super) fn part(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(PART);
    name.into()
}
