//! Unpacks the parts of a table into its rows.

use bytes::Bytes;
use sha2::{Digest, Sha256};
use zstd::stream::raw::{Decoder, InBuffer, Operation, OutBuffer};

use super::reader::Reader;
use super::{OnProgress, Progress};
use crate::domain::archive::{ArchiveProblem, MemberKind, PART_RAW_MAX, Part, Rows};
use crate::domain::error::{Error, Result};
use crate::pg::portability::RowSource;

/// How much is unpacked at once.
const BUFFER: usize = 128 << 10;

/// The most bytes of the line with the names of the columns.
const NAMES_MAX: usize = 1 << 20;

/// Gives the rows of a table; the first line has the names of the columns.
pub(super) struct Unpacker<'a, 'r> {
    reader: &'a mut Reader<'r>,
    kind: fn(usize, usize) -> MemberKind,
    table: usize,
    decoder: Decoder<'static>,
    input: Vec<u8>,
    taken: usize,
    output: Vec<u8>,
    /// Whether a part has begun, and whether its frame has ended.
    state: State,
    packed_hash: Sha256,
    part: Part,
    /// The names of the columns in the first part.
    names: Vec<u8>,
    /// The line of names in a part, as far as it was read; none once it was.
    line: Option<Line>,
    hash: Sha256,
    rows: Rows,
    progress: &'a mut Progress,
    on_progress: OnProgress<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Before,
    Within,
    FrameEnded,
    Done,
}

/// A line of CSV that is being read.
#[derive(Debug, Default)]
struct Line {
    bytes: Vec<u8>,
    is_quoted: bool,
}

impl Line {
    /// Takes the bytes up to the end of the line; returns how many, and whether the end is among them.
    fn take(&mut self, bytes: &[u8]) -> (usize, bool) {
        for (at, byte) in bytes.iter().enumerate() {
            match byte {
                b'"' => self.is_quoted = !self.is_quoted,
                b'\n' if !self.is_quoted => {
                    self.bytes.extend_from_slice(bytes.get(..=at).unwrap_or_default());
                    return (at + 1, true);
                }
                _ => {}
            }
        }
        self.bytes.extend_from_slice(bytes);
        (bytes.len(), false)
    }
}

impl<'a, 'r> Unpacker<'a, 'r> {
    /// Gives the rows of the table at `table`, or of what else `kind` names.
    pub(super) fn new(
        reader: &'a mut Reader<'r>,
        (table, kind): (usize, fn(usize, usize) -> MemberKind),
        name: &str,
        progress: &'a mut Progress,
        on_progress: OnProgress<'a>,
    ) -> Result<Self> {
        let decoder = Decoder::new().map_err(|e| Error::internal("read the archive", e))?;
        let rows = Rows { name: name.to_owned(), ..Rows::default() };
        Ok(Self {
            reader,
            kind,
            table,
            decoder,
            input: Vec::new(),
            taken: 0,
            output: vec![0; BUFFER],
            state: State::Before,
            packed_hash: Sha256::new(),
            part: Part::default(),
            names: Vec::new(),
            line: None,
            hash: Sha256::new(),
            rows,
            progress,
            on_progress,
        })
    }

    /// Reads what is left and returns what was found. The rows are not counted: the server does that.
    pub(super) async fn finish(mut self) -> Result<Rows> {
        while self.next().await?.is_some() {}
        self.rows.sha256 = hex::encode(self.hash.finalize());
        Ok(self.rows)
    }

    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            match self.state {
                State::Before => self.begin_part().await?,
                State::Within => {
                    if let Some(chunk) = self.decode().await? {
                        return Ok(Some(chunk));
                    }
                }
                State::FrameEnded => self.end_part().await?,
                State::Done => return Ok(None),
            }
        }
    }

    async fn begin_part(&mut self) -> Result<()> {
        let kind = (self.kind)(self.table, self.rows.parts.len());
        let size = self.reader.expect(kind).await?.size;
        self.decoder.reinit().map_err(|e| Error::internal("read the archive", e))?;
        self.packed_hash = Sha256::new();
        self.part = Part { packed: size, ..Part::default() };
        self.line = Some(Line::default());
        self.input.clear();
        self.taken = 0;
        self.state = State::Within;
        Ok(())
    }

    /// Unpacks some bytes; `None` if there are no rows among them.
    async fn decode(&mut self) -> Result<Option<Bytes>> {
        if self.taken == self.input.len() {
            if self.reader.left() == 0 {
                return Err(self.reader.invalid("the compressed data is cut off"));
            }
            self.input = self.reader.some(usize::MAX).await?;
            self.packed_hash.update(&self.input);
            self.taken = 0;
        }
        let mut input = InBuffer::around(self.input.get(self.taken..).unwrap_or_default());
        let mut output = OutBuffer::around(self.output.as_mut_slice());
        let ran = self.decoder.run(&mut input, &mut output);
        let (read, written) = (input.pos(), output.pos());
        let left =
            ran.map_err(|e| self.reader.invalid(format!("the compressed data is damaged: {e}")))?;
        self.taken += read;
        self.part.bytes += written as u64;
        if self.part.bytes > PART_RAW_MAX {
            let member = self.reader.peek().await?.name.clone();
            return Err(ArchiveProblem::TooLarge { member, limit: PART_RAW_MAX }.into());
        }
        if left == 0 {
            self.state = State::FrameEnded;
        }
        let unpacked = Bytes::copy_from_slice(self.output.get(..written).unwrap_or_default());
        self.without_names(unpacked)
    }

    /// Removes the line of names from all parts but the first.
    fn without_names(&mut self, unpacked: Bytes) -> Result<Option<Bytes>> {
        let mut rows = unpacked;
        if let Some(mut line) = self.line.take() {
            let (taken, is_whole) = line.take(&rows);
            if line.bytes.len() > NAMES_MAX {
                return Err(self.reader.invalid("the line of column names is too long"));
            }
            rows = rows.slice(taken..);
            if !is_whole {
                self.line = Some(line);
                return Ok(None);
            }
            if self.rows.parts.is_empty() {
                self.names.clone_from(&line.bytes);
                self.note_rows(&rows);
                line.bytes.extend_from_slice(&rows);
                return Ok(Some(line.bytes.into()));
            }
            if line.bytes != self.names {
                return Err(self
                    .reader
                    .invalid("the column names differ from those of the first part"));
            }
        }
        self.note_rows(&rows);
        Ok((!rows.is_empty()).then_some(rows))
    }

    fn note_rows(&mut self, rows: &[u8]) {
        self.hash.update(rows);
        self.rows.bytes += rows.len() as u64;
        self.progress.bytes += rows.len() as u64;
        (self.on_progress)(*self.progress);
    }

    async fn end_part(&mut self) -> Result<()> {
        if self.taken < self.input.len() || self.reader.left() > 0 {
            return Err(self.reader.invalid("something follows the compressed data"));
        }
        if self.line.is_some() {
            return Err(self.reader.invalid("the line of column names is missing"));
        }
        self.reader.end().await?;
        self.part.sha256 = hex::encode(std::mem::take(&mut self.packed_hash).finalize());
        self.rows.parts.push(self.part.clone());
        let next = (self.kind)(self.table, self.rows.parts.len());
        let is_more = self.reader.peek().await?.kind == next;
        self.state = if is_more { State::Before } else { State::Done };
        Ok(())
    }
}

impl RowSource for Unpacker<'_, '_> {
    type Error = Error;

    async fn chunk(&mut self) -> Result<Option<Bytes>> {
        self.next().await
    }
}
