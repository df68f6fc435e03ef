//! `COPY` of rows that are too many to hold: they are given and taken one message at a time.

use std::pin::pin;

use bytes::Bytes;
use futures_util::{SinkExt, TryStreamExt};
use tokio::sync::mpsc::{self, Sender};
use tokio_postgres::CopyOutStream;

use super::Tx;
use crate::pg::error::Failure;
use crate::pg::scope::copy::{Gathering, RowBlock, RowSink, RowSource};

impl Tx {
    /// Runs `COPY .. (HEADER) TO stdout` and hands the rows on. If the sink cannot go on, the inner error says why, and
    /// the connection is discarded with the transaction.
    pub(in crate::pg::scope) async fn copy_out<S: RowSink>(
        &self,
        copy: &str,
        sink: &mut S,
    ) -> Result<Result<(), S::Error>, Failure> {
        let work = async {
            let rows = self.client().copy_out(copy).await?;
            // One is on its way while the sink works on another and the next is read.
            let (blocks, mut received) = mpsc::channel(1);
            // In a task of its own, which the runtime keeps on the thread of the connection: the rows come in small
            // messages.
            let reading = tokio::spawn(read(rows, blocks));
            let mut is_begun = false;
            while let Some(block) = received.recv().await {
                let taken = if std::mem::replace(&mut is_begun, true) {
                    sink.rows(block).await
                } else {
                    sink.names(block.bytes).await
                };
                if let Err(stopped) = taken {
                    // The server goes on to send rows.
                    self.runs_files();
                    return Ok(Some(Err(stopped)));
                }
            }
            match reading.await {
                Ok(read) => read.map(|()| Some(Ok(()))),
                // Without its task, the last rows may be missing.
                Err(_ended) => Ok(None),
            }
        };
        self.run_once(work).await?.ok_or(Failure::RowCount)
    }

    /// Runs `COPY .. FROM stdin` with what the source gives. If the source cannot go on, the inner error says why, and
    /// the transaction has failed.
    pub(in crate::pg::scope) async fn copy_from<S: RowSource>(
        &self,
        copy: &str,
        source: &mut S,
    ) -> Result<Result<u64, S::Error>, Failure> {
        let work = async {
            let mut sink = pin!(self.client().copy_in::<_, Bytes>(copy).await?);
            loop {
                match source.chunk().await {
                    Ok(Some(chunk)) => sink.send(chunk).await?,
                    Ok(None) => return Ok(Ok(sink.finish().await?)),
                    // Dropped without its end, the `COPY` fails.
                    Err(stopped) => return Ok(Err(stopped)),
                }
            }
        };
        self.run_once(work).await
    }
}

/// Reads rows and sends them in blocks, the first line alone. Ends early if the blocks are no longer wanted.
async fn read(rows: CopyOutStream, blocks: Sender<RowBlock>) -> Result<(), tokio_postgres::Error> {
    let mut rows = pin!(rows);
    let Some(bytes) = rows.try_next().await? else { return Ok(()) };
    let mut full = Some(RowBlock { bytes, rows: 0 });
    let mut gathering = Gathering::default();
    loop {
        if let Some(block) = full
            && blocks.send(block).await.is_err()
        {
            return Ok(());
        }
        let Some(row) = rows.try_next().await? else { break };
        full = gathering.add(&row);
    }
    let last = gathering.take();
    if last.rows > 0 {
        // An error only says that the blocks are no longer wanted.
        let _ = blocks.send(last).await;
    }
    Ok(())
}
