//! An archive without a database: written, read, cut off and packed too small.

use bytes::Bytes;

use super::Progress;
use super::export::{AUDIT, audit_part, table_part};
use super::pack::Packer;
use super::reader::Reader;
use super::unpack::Unpacker;
use super::writer::Writer;
use crate::domain::archive::{Block, Manifest, MemberKind, PART_RAW_MAX, Rows, Table, padding};
use crate::domain::error::Result;
use crate::pg::portability::{RowBlock, RowSink};

type Kind = fn(usize, usize) -> MemberKind;

fn tables() -> Vec<Table> {
    let table = |name: &str| Table { name: name.to_owned(), columns: Vec::new(), estimate: 0 };
    vec![table("notes"), table("tags")]
}

async fn pack(writer: &mut Writer<'_>, which: (usize, Kind), name: &str, rows: &[&str]) -> Rows {
    let (tables, mut progress) = (tables(), Progress::default());
    let mut packer = Packer::new(writer, &tables, which, name, &mut progress, &|_| ()).unwrap();
    let (names, rows) = rows.split_first().unwrap();
    packer.names(Bytes::copy_from_slice(names.as_bytes())).await.unwrap();
    for row in rows {
        let bytes = Bytes::copy_from_slice(row.as_bytes());
        packer.rows(RowBlock { bytes, rows: 1 }).await.unwrap();
    }
    packer.finish().await.unwrap()
}

async fn write() -> Vec<u8> {
    let (mut out, tables) = (Vec::new(), tables());
    let mut writer = Writer::new(&mut out, 1_795_000_000);
    for kind in [MemberKind::Header, MemberKind::Members] {
        writer.file(&kind.name(&tables), b"{}").await.unwrap();
    }
    let notes = ["id,\"odd\nname\"\n", "1,\"a\nb\"\n", "2,c\n"];
    let packed = vec![
        pack(&mut writer, (0, table_part), "notes", &notes).await,
        pack(&mut writer, (1, table_part), "tags", &["word\n"]).await,
    ];
    let manifest = Manifest {
        format: 1,
        rows: 2,
        bytes: packed.iter().map(|table| table.bytes).sum(),
        tables: packed,
        audit: pack(&mut writer, (0, audit_part), AUDIT, &["at\n", "now\n"]).await,
        sequences: Vec::new(),
        sha256: writer.digest(),
    };
    let manifest = serde_json::to_vec(&manifest).unwrap();
    writer.file(&MemberKind::Manifest.name(&tables), &manifest).await.unwrap();
    writer.file(&MemberKind::Signature.name(&tables), b"jws").await.unwrap();
    writer.finish().await.unwrap();
    out
}

/// Reads all of an archive and compares it with its manifest.
async fn read(mut archive: &[u8]) -> Result<Manifest> {
    let mut reader = Reader::new(&mut archive);
    reader.tables = tables();
    reader.file(MemberKind::Header).await?;
    reader.file(MemberKind::Members).await?;
    let (mut found, mut progress) = (Vec::new(), Progress::default());
    let parts: [(usize, Kind, &str); 3] =
        [(0, table_part, "notes"), (1, table_part, "tags"), (0, audit_part, AUDIT)];
    for (at, kind, name) in parts {
        let source = Unpacker::new(&mut reader, (at, kind), name, &mut progress, &|_| ())?;
        found.push(source.finish().await?);
    }
    let manifest = reader.file(MemberKind::Manifest).await?;
    reader.file(MemberKind::Signature).await?;
    reader.finish().await?;
    let manifest: Manifest =
        serde_json::from_slice(&manifest).map_err(|error| reader.invalid(error.to_string()))?;
    for (found, expected) in found.iter_mut().zip(&manifest.tables) {
        found.rows = expected.rows; // the server counts them
    }
    super::manifest::compare(&manifest, reader.digest(), &found)?;
    Ok(manifest)
}

#[tokio::test]
async fn an_archive_is_read_as_it_was_written() {
    let manifest = read(&write().await).await.unwrap();
    let parts = &manifest.tables[0].parts;
    assert_eq!((manifest.tables[0].rows, parts.len(), parts[0].bytes), (2, 1, 26));
    assert_eq!(manifest.tables[1].bytes, 0);
}

#[tokio::test]
async fn an_archive_that_is_cut_off_anywhere_is_refused() {
    let archive = write().await;
    for end in (0..archive.len()).step_by(64) {
        let code = read(&archive[..end]).await.unwrap_err().detailed_code();
        assert_eq!(code, "archive_invalid", "at {end}");
    }
}

#[tokio::test]
async fn an_archive_with_any_byte_changed_is_refused() {
    let archive = write().await;
    let signature = archive.len() - 1024 - 512;
    for at in (0..archive.len()).filter(|at| !(signature..signature + 3).contains(at)) {
        let mut changed = archive.clone();
        changed[at] ^= 0x20;
        // A space in the manifest may stand for another; its signature is not checked here.
        if let Ok(manifest) = read(&changed).await {
            assert_eq!(manifest, read(&archive).await.unwrap(), "byte {at}");
        }
    }
}

#[tokio::test]
async fn what_unpacks_to_more_than_a_part_may_have_is_refused() {
    let tables = tables();
    let mut text = b"id\n".to_vec();
    text.resize(usize::try_from(PART_RAW_MAX).unwrap() + 100, b'x');
    let packed = zstd::stream::encode_all(text.as_slice(), 1).unwrap();
    let mut archive = Vec::new();
    let files = [
        (MemberKind::Header, &b"{}"[..]),
        (MemberKind::Members, b"[]"),
        (table_part(0, 0), &packed),
    ];
    for (kind, content) in files {
        let (name, size) = (kind.name(&tables), content.len() as u64);
        archive.extend_from_slice(&Block { name, size, made_at: 1 }.to_bytes().unwrap());
        archive.extend_from_slice(content);
        archive.resize(archive.len() + padding(size), 0);
    }
    assert_eq!(read(&archive).await.unwrap_err().detailed_code(), "archive_too_large");
}
