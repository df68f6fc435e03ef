//! What gives and takes the rows of a `COPY` that are too many to hold.

use bytes::Bytes;

/// Takes the rows of a `COPY .. TO stdout`, one after the other.
pub trait RowSink: Send {
    /// Why it cannot go on.
    type Error: Send;

    /// Takes a row, with its line end. While it waits, the server does.
    fn row(&mut self, row: Bytes) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// Gives the bytes of a `COPY .. FROM stdin`.
pub trait RowSource: Send {
    /// Why it cannot go on.
    type Error: Send;

    /// Gives the next bytes; `None` at the end.
    fn chunk(&mut self) -> impl Future<Output = Result<Option<Bytes>, Self::Error>> + Send;
}
