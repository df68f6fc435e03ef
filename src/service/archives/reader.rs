//! Reads the files of an archive, one after the other, and accepts none but those that may follow.

use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::domain::archive::{
    AGE_MAGIC, ArchiveProblem, BLOCK, Block, END, JSON_MAX, MemberKind, PART_PACKED_MAX,
    SIGNATURE_MAX, Sequence, Table, padding,
};
use crate::domain::error::{Error, Result};

/// The file that is read next, or whose rest is.
#[derive(Debug, Clone)]
pub(super) struct Current {
    pub(super) kind: MemberKind,
    pub(super) name: String,
    pub(super) size: u64,
    /// The bytes that were not read yet.
    pub(super) left: u64,
}

/// An archive that is being read.
pub(super) struct Reader<'a> {
    input: &'a mut (dyn AsyncRead + Unpin + Send),
    offset: u64,
    hash: Sha256,
    /// The digest of all that came before the manifest.
    digest: Option<String>,
    made_at: Option<u64>,
    sequence: Sequence,
    /// The tables of the header.
    pub(super) tables: Vec<Table>,
    current: Option<Current>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(input: &'a mut (dyn AsyncRead + Unpin + Send)) -> Self {
        Self {
            input,
            offset: 0,
            hash: Sha256::new(),
            digest: None,
            made_at: None,
            sequence: Sequence::default(),
            tables: Vec::new(),
            current: None,
        }
    }

    /// Creates the problem of the file that is read.
    pub(super) fn invalid(&self, why: impl Into<String>) -> Error {
        let member = match &self.current {
            Some(current) => current.name.clone(),
            None => "the archive".to_owned(),
        };
        ArchiveProblem::Invalid { member, offset: self.offset, why: why.into() }.into()
    }

    /// Returns the digest of all that came before the manifest; empty until that is reached.
    pub(super) fn digest(&self) -> &str {
        self.digest.as_deref().unwrap_or_default()
    }

    /// Reads the block of the next file, unless that was done.
    pub(super) async fn peek(&mut self) -> Result<&Current> {
        if self.current.is_none() {
            let found = self.read_block().await?;
            self.current = Some(found);
        }
        self.current.as_ref().ok_or_else(|| Error::internal("read the archive", "no file"))
    }

    async fn read_block(&mut self) -> Result<Current> {
        let mut bytes = [0; BLOCK];
        self.fill(&mut bytes).await?;
        if self.made_at.is_none() && bytes.starts_with(AGE_MAGIC) {
            return Err(ArchiveProblem::Encrypted.into());
        }
        if bytes == END[..BLOCK] {
            return Err(self.invalid("the archive ends here, and files are missing"));
        }
        let block = Block::read(&bytes).map_err(|why| self.invalid(why))?;
        let Block { name, size, made_at } = block;
        if *self.made_at.get_or_insert(made_at) != made_at {
            return Err(self.invalid(format!("{name} has another time than the first file")));
        }
        let accepted = self.sequence.accept(&name, &self.tables);
        let kind =
            accepted.ok_or_else(|| self.invalid(format!("{name} is not the file that follows")))?;
        let limit = match kind {
            MemberKind::Header | MemberKind::Members | MemberKind::Manifest => JSON_MAX,
            MemberKind::Signature => SIGNATURE_MAX,
            MemberKind::Rows { .. } | MemberKind::Audit { .. } => PART_PACKED_MAX,
        };
        if size > limit {
            return Err(ArchiveProblem::TooLarge { member: name, limit }.into());
        }
        if kind == MemberKind::Manifest {
            self.digest = Some(hex::encode(self.hash.clone().finalize()));
        }
        self.hash.update(bytes);
        Ok(Current { kind, name, size, left: size })
    }

    /// Reads a file that must come next.
    pub(super) async fn file(&mut self, kind: MemberKind) -> Result<Vec<u8>> {
        let size = self.expect(kind).await?.size;
        let size = usize::try_from(size).map_err(|_large| self.invalid("the file is too large"))?;
        let mut content = Vec::new();
        while content.len() < size {
            let chunk = self.some(size - content.len()).await?;
            content.extend_from_slice(&chunk);
        }
        self.end().await?;
        Ok(content)
    }

    /// Refuses another file than this one.
    pub(super) async fn expect(&mut self, kind: MemberKind) -> Result<&Current> {
        let found = self.peek().await?.kind;
        if found == kind {
            return self.peek().await;
        }
        let missing = kind.name(&self.tables);
        Err(self.invalid(format!("{missing} is missing before it")))
    }

    /// Reads some bytes of the file, at most so many and at most 64 KiB.
    pub(super) async fn some(&mut self, most: usize) -> Result<Vec<u8>> {
        let left = self.current.as_ref().map_or(0, |current| current.left);
        let size = usize::try_from(left).unwrap_or(usize::MAX).min(most).min(64 << 10);
        let mut bytes = vec![0; size];
        self.fill(&mut bytes).await?;
        self.hash.update(&bytes);
        if let Some(current) = &mut self.current {
            current.left -= size as u64;
        }
        Ok(bytes)
    }

    /// Returns how many bytes of the file were not read yet.
    pub(super) fn left(&self) -> u64 {
        self.current.as_ref().map_or(0, |current| current.left)
    }

    /// Reads the zeros behind a file that was read.
    pub(super) async fn end(&mut self) -> Result<()> {
        let size = self.current.as_ref().map_or(0, |current| current.size);
        let mut zeros = vec![0; padding(size)];
        self.fill(&mut zeros).await?;
        self.hash.update(&zeros);
        if zeros.iter().any(|byte| *byte != 0) {
            return Err(self.invalid("the bytes behind the file are not zero"));
        }
        self.current = None;
        Ok(())
    }

    /// Reads the end of the archive.
    pub(super) async fn finish(&mut self) -> Result<()> {
        if !self.sequence.is_complete() {
            return Err(self.invalid("files are missing"));
        }
        let mut end = END;
        self.fill(&mut end).await?;
        if end != END {
            return Err(self.invalid("something follows the last file"));
        }
        match self.input.read(&mut [0; 1]).await {
            Ok(0) => Ok(()),
            Ok(_) => Err(self.invalid("something follows the end")),
            Err(error) => Err(Error::internal("read the archive", error)),
        }
    }

    async fn fill(&mut self, bytes: &mut [u8]) -> Result<()> {
        match self.input.read_exact(bytes).await {
            Ok(read) => {
                self.offset += read as u64;
                Ok(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                Err(self.invalid("the archive is cut off"))
            }
            Err(error) => Err(Error::internal("read the archive", error)),
        }
    }
}
