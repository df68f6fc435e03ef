//! Checks an archive without a tenant: its form, its digests and its signature.

use sha2::{Digest, Sha256};
use tokio::io::AsyncRead;

use super::export::{AUDIT, audit_part, table_part};
use super::reader::Reader;
use super::unpack::Unpacker;
use super::{Archives, OnProgress, Progress, entries, manifest};
use crate::domain::archive::{Header, Manifest, MemberKind};
use crate::domain::error::Result;

/// An archive that is what its manifest says.
#[derive(Debug, Clone)]
pub struct Inspected {
    /// The header.
    pub header: Header,
    /// The manifest.
    pub manifest: Manifest,
    /// The SHA-256 of the manifest, in hex.
    pub manifest_sha256: String,
    /// Whether a key of this installation signed it. If not, an import must be told which keys to trust.
    pub is_trusted: bool,
}

impl Archives {
    /// Reads an archive to its end, and refuses one that an import would refuse for its form, its digests or a false
    /// signature. Rows are not counted: only the database reads them.
    pub(in crate::service) async fn inspect(
        &self,
        input: &mut (dyn AsyncRead + Unpin + Send),
        on_progress: OnProgress<'_>,
    ) -> Result<Inspected> {
        let mut reader = Reader::new(input);
        let header = entries::header(&mut reader).await?;
        entries::tenant(&reader, &header)?;
        entries::members(&mut reader).await?;
        let mut progress = Progress { of: header.tables.len(), ..Progress::default() };
        let mut found = Vec::new();
        for (at, table) in header.tables.iter().enumerate() {
            let which = (at, table_part as fn(usize, usize) -> MemberKind);
            let source =
                Unpacker::new(&mut reader, which, &table.name, &mut progress, on_progress)?;
            found.push(source.finish().await?);
            progress.tables += 1;
            on_progress(progress);
        }
        let which = (0, audit_part as fn(usize, usize) -> MemberKind);
        let source = Unpacker::new(&mut reader, which, AUDIT, &mut progress, &|_| ())?;
        found.push(source.finish().await?);
        let text = reader.file(MemberKind::Manifest).await?;
        let jws = reader.file(MemberKind::Signature).await?;
        reader.finish().await?;
        let is_trusted = manifest::is_signed_here(&self.db, &text, &jws).await?;
        let manifest: Manifest = serde_json::from_slice(&text)
            .map_err(|error| reader.invalid(format!("manifest.json cannot be read: {error}")))?;
        for (rows, expected) in found.iter_mut().zip(&manifest.tables) {
            rows.rows = expected.rows;
        }
        manifest::compare(&manifest, reader.digest(), &found)?;
        let manifest_sha256 = hex::encode(Sha256::digest(&text));
        Ok(Inspected { header, manifest, manifest_sha256, is_trusted })
    }
}
