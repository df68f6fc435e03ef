//! Packs rows into the parts of a table.

use bytes::Bytes;
use sha2::{Digest, Sha256};
use zstd::stream::raw::{CParameter, Encoder, InBuffer, Operation, OutBuffer};

use super::writer::{WRITE, Writer};
use super::{OnProgress, Progress};
use crate::domain::archive::{
    ArchiveProblem, MemberKind, PART_PACKED, PART_RAW, PART_RAW_MAX, Part, Rows, Table,
};
use crate::domain::error::{Error, Result};
use crate::pg::portability::{RowBlock, RowSink};

/// The most that is compressed into at once.
const BUFFER: usize = 128 << 10;

/// Takes the rows of a table and writes them as parts.
pub(super) struct Packer<'a, 'w> {
    writer: &'a mut Writer<'w>,
    tables: &'a [Table],
    kind: fn(usize, usize) -> MemberKind,
    table: usize,
    encoder: Encoder<'static>,
    /// The line with the names of the columns, which each part has.
    names: Bytes,
    packed: Vec<u8>,
    scratch: Vec<u8>,
    part: Part,
    rows: Rows,
    hash: Sha256,
    progress: &'a mut Progress,
    on_progress: OnProgress<'a>,
}

impl<'a, 'w> Packer<'a, 'w> {
    /// Packs the rows of the table at `table`, or of what else `kind` names.
    pub(super) fn new(
        writer: &'a mut Writer<'w>,
        tables: &'a [Table],
        (table, kind): (usize, fn(usize, usize) -> MemberKind),
        name: &str,
        progress: &'a mut Progress,
        on_progress: OnProgress<'a>,
    ) -> Result<Self> {
        let mut encoder = Encoder::new(writer.level).map_err(failed)?;
        encoder.set_parameter(CParameter::ChecksumFlag(true)).map_err(failed)?;
        let rows = Rows { name: name.to_owned(), ..Rows::default() };
        Ok(Self {
            writer,
            tables,
            kind,
            table,
            encoder,
            names: Bytes::new(),
            packed: Vec::new(),
            scratch: vec![0; BUFFER],
            part: Part::default(),
            rows,
            hash: Sha256::new(),
            progress,
            on_progress,
        })
    }

    /// Writes the last part and returns what the manifest says of the table.
    pub(super) async fn finish(mut self) -> Result<Rows> {
        self.end_part().await?;
        self.rows.sha256 = hex::encode(self.hash.finalize());
        Ok(self.rows)
    }

    async fn take(&mut self, block: RowBlock) -> Result<()> {
        let size = block.bytes.len() as u64;
        if size + self.names.len() as u64 > PART_RAW_MAX {
            let member = (self.kind)(self.table, 0).name(self.tables);
            return Err(ArchiveProblem::TooLarge { member, limit: PART_RAW_MAX }.into());
        }
        let is_full = self.part.bytes + size > PART_RAW || self.packed.len() >= PART_PACKED;
        if self.part.rows > 0 && is_full {
            self.end_part().await?;
            let names = self.names.clone();
            self.compress(&names)?;
        }
        self.compress(&block.bytes)?;
        self.hash.update(&block.bytes);
        self.part.rows += block.rows;
        self.rows.rows += block.rows;
        self.rows.bytes += size;
        self.progress.rows += block.rows;
        self.progress.bytes += size;
        (self.on_progress)(*self.progress);
        Ok(())
    }

    fn compress(&mut self, lines: &[u8]) -> Result<()> {
        self.part.bytes += lines.len() as u64;
        let mut input = InBuffer::around(lines);
        while input.pos() < lines.len() {
            let mut output = OutBuffer::around(self.scratch.as_mut_slice());
            self.encoder.run(&mut input, &mut output).map_err(failed)?;
            self.packed.extend_from_slice(output.as_slice());
        }
        Ok(())
    }

    async fn end_part(&mut self) -> Result<()> {
        loop {
            let mut output = OutBuffer::around(self.scratch.as_mut_slice());
            let left = self.encoder.finish(&mut output, true).map_err(failed)?;
            self.packed.extend_from_slice(output.as_slice());
            if left == 0 {
                break;
            }
        }
        self.encoder.reinit().map_err(failed)?;
        let number = self.rows.parts.len();
        let name = (self.kind)(self.table, number).name(self.tables);
        self.writer.file(&name, &self.packed).await?;
        let mut part = std::mem::take(&mut self.part);
        part.packed = self.packed.len() as u64;
        part.sha256 = hex::encode(Sha256::digest(&self.packed));
        self.rows.parts.push(part);
        self.packed.clear();
        Ok(())
    }
}

impl RowSink for Packer<'_, '_> {
    type Error = Error;

    async fn names(&mut self, line: Bytes) -> Result<()> {
        self.names = line.clone();
        self.compress(&line)
    }

    async fn rows(&mut self, block: RowBlock) -> Result<()> {
        self.take(block).await
    }
}

fn failed(error: std::io::Error) -> Error {
    Error::internal(WRITE, error)
}
