//! Writes the files of an archive, one after the other.

use std::io::ErrorKind;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use crate::domain::archive::{ArchiveProblem, Block, END, padding};
use crate::domain::error::{Error, Result};

pub(super) const WRITE: &str = "write the archive";

/// How many bytes are written at once.
const CHUNK: usize = 1 << 20;

/// The usual level of compression. Higher ones take twice the time and save little of CSV.
pub(super) const LEVEL: i32 = 1;

/// The longest wait for one write, and for less than [`PACE`] bytes.
const WAIT_MAX: Duration = Duration::from_mins(1);

/// The bytes that are written within [`WAIT_MAX`]: 1 MiB a second.
const PACE: u64 = 60 << 20;

/// An archive that is being written.
pub(super) struct Writer<'a> {
    out: &'a mut (dyn AsyncWrite + Unpin + Send),
    made_at: u64,
    /// The level of compression.
    pub(super) level: i32,
    hash: Sha256,
    written: u64,
    /// The time that was spent waiting since [`since`](Self::since).
    waited: Duration,
    /// The bytes that were written in that time.
    since: u64,
}

impl<'a> Writer<'a> {
    pub(super) fn new(out: &'a mut (dyn AsyncWrite + Unpin + Send), made_at: u64) -> Self {
        let (hash, waited) = (Sha256::new(), Duration::ZERO);
        Self { out, made_at, level: LEVEL, hash, written: 0, waited, since: 0 }
    }

    /// Writes a file.
    pub(super) async fn file(&mut self, name: &str, content: &[u8]) -> Result<()> {
        let size = content.len() as u64;
        let block = Block { name: name.to_owned(), size, made_at: self.made_at };
        let block = block.to_bytes().ok_or_else(|| Error::internal(WRITE, NotNamed))?;
        self.write(&block).await?;
        self.write(content).await?;
        let zeros = END.get(..padding(size)).unwrap_or_default();
        self.write(zeros).await
    }

    /// Returns the SHA-256 of all that was written, in hex.
    pub(super) fn digest(&self) -> String {
        hex::encode(self.hash.clone().finalize())
    }

    /// Writes the end of the archive and returns its size.
    pub(super) async fn finish(mut self) -> Result<u64> {
        self.write(&END).await?;
        self.out.flush().await.map_err(explain)?;
        Ok(self.written)
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hash.update(bytes);
        for chunk in bytes.chunks(CHUNK) {
            let began_at = Instant::now();
            let written = timeout(WAIT_MAX, self.out.write_all(chunk)).await;
            written.map_err(|_elapsed| ArchiveProblem::ReaderStalled)?.map_err(explain)?;
            self.waited += began_at.elapsed();
            self.since += chunk.len() as u64;
            if self.waited >= WAIT_MAX {
                if self.since < PACE {
                    return Err(ArchiveProblem::ReaderStalled.into());
                }
                (self.waited, self.since) = (Duration::ZERO, 0);
            }
        }
        self.written += bytes.len() as u64;
        Ok(())
    }
}

fn explain(error: std::io::Error) -> Error {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            ArchiveProblem::NoRoom.into()
        }
        _ => Error::internal(WRITE, error),
    }
}

#[derive(Debug, thiserror::Error)]
#[error("a file of the archive has no valid name or size")]
struct NotNamed;
