//! Reads an archive to its end without a database.

use tokio::io::AsyncRead;

use super::export::{AUDIT, audit_part, table_part};
use super::reader::Reader;
use super::unpack::Unpacker;
use super::{Progress, entries, manifest};
use crate::domain::archive::{Manifest, MemberKind};
use crate::domain::error::Result;

/// Reads all of an archive and compares it with its manifest, as an import does. The rows are not stored and not counted,
/// and it is not asked who signed it. For tests of the reader with hostile input.
///
/// # Errors
/// [`ArchiveProblem`](crate::domain::archive::ArchiveProblem).
#[doc(hidden)]
pub async fn scan_unauthorized(input: &mut (dyn AsyncRead + Unpin + Send)) -> Result<Manifest> {
    let mut reader = Reader::new(input);
    let header = entries::header(&mut reader).await?;
    entries::tenant(&reader, &header)?;
    entries::members(&mut reader).await?;
    let (mut found, mut progress) = (Vec::new(), Progress::default());
    for (at, table) in header.tables.iter().enumerate() {
        let which = (at, table_part as fn(usize, usize) -> MemberKind);
        let source = Unpacker::new(&mut reader, which, &table.name, &mut progress, &|_| ())?;
        found.push(source.finish().await?);
    }
    let which = (0, audit_part as fn(usize, usize) -> MemberKind);
    let source = Unpacker::new(&mut reader, which, AUDIT, &mut progress, &|_| ())?;
    found.push(source.finish().await?);
    let text = reader.file(MemberKind::Manifest).await?;
    reader.file(MemberKind::Signature).await?;
    reader.finish().await?;
    let read: Manifest = serde_json::from_slice(&text)
        .map_err(|error| reader.invalid(format!("manifest.json cannot be read: {error}")))?;
    for (found, expected) in found.iter_mut().zip(&read.tables) {
        found.rows = expected.rows;
    }
    manifest::compare(&read, reader.digest(), &found)?;
    Ok(read)
}
