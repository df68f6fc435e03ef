//! What gives and takes the rows of a `COPY` that are too many to hold.

use bytes::{Bytes, BytesMut};

/// The bytes up to which whole rows are put together: one message of the server is one row, and to hand each to another
/// thread would cost more than to read it.
const BLOCK: usize = 256 << 10;

/// Some rows of a `COPY .. TO stdout`, whole and with their line ends. How rows are put together depends on their sizes
/// alone.
#[derive(Debug, Default)]
pub struct RowBlock {
    /// The rows.
    pub bytes: Bytes,
    /// How many there are.
    pub rows: u64,
}

/// Takes the rows of a `COPY .. TO stdout`, one block after the other.
pub trait RowSink: Send {
    /// Why it cannot go on.
    type Error: Send;

    /// Takes the first line: the names of the columns.
    fn names(&mut self, line: Bytes) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Takes rows. While it waits, the server does.
    fn rows(&mut self, block: RowBlock) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// Gives the bytes of a `COPY .. FROM stdin`.
pub trait RowSource: Send {
    /// Why it cannot go on.
    type Error: Send;

    /// Gives the next bytes; `None` at the end.
    fn chunk(&mut self) -> impl Future<Output = Result<Option<Bytes>, Self::Error>> + Send;
}

/// Puts rows together.
#[derive(Debug, Default)]
pub(in crate::pg::scope) struct Gathering {
    bytes: BytesMut,
    rows: u64,
}

impl Gathering {
    /// Adds a row. Returns the block before it, if the row does not fit into that.
    pub(in crate::pg::scope) fn add(&mut self, row: &[u8]) -> Option<RowBlock> {
        let is_full = self.rows > 0 && self.bytes.len() + row.len() > BLOCK;
        let full = is_full.then(|| self.take());
        if self.bytes.is_empty() {
            self.bytes.reserve(BLOCK.max(row.len()));
        }
        self.bytes.extend_from_slice(row);
        self.rows += 1;
        full
    }

    /// Returns the rows since the last block.
    pub(in crate::pg::scope) fn take(&mut self) -> RowBlock {
        let bytes = std::mem::take(&mut self.bytes).freeze();
        RowBlock { bytes, rows: std::mem::take(&mut self.rows) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_put_together_whole_and_a_large_one_is_alone() {
        let mut gathering = Gathering::default();
        let half = vec![b'a'; BLOCK / 2];
        assert!(gathering.add(&half).is_none());
        assert!(gathering.add(&half).is_none());
        let full = gathering.add(&vec![b'b'; BLOCK * 2]).expect("the third does not fit");
        assert_eq!((full.rows, full.bytes.len()), (2, BLOCK / 2 * 2));
        let large = gathering.add(b"c").expect("nothing fits beside the large one");
        assert_eq!((large.rows, large.bytes.len()), (1, BLOCK * 2));
        let last = gathering.take();
        assert_eq!((last.rows, &*last.bytes), (1, &b"c"[..]));
        assert_eq!(gathering.take().rows, 0);
    }
}
