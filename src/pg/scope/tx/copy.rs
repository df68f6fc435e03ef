//! `COPY` of rows that are too many to hold: they are given and taken one message at a time.

use std::pin::pin;

use bytes::Bytes;
use futures_util::{SinkExt, TryStreamExt};

use super::Tx;
use crate::pg::error::Failure;
use crate::pg::scope::copy::{RowSink, RowSource};

impl Tx {
    /// Runs `COPY .. TO stdout` and hands each row on. If the sink cannot go on, the inner error says why, and the
    /// connection is discarded with the transaction.
    pub(in crate::pg::scope) async fn copy_out<S: RowSink>(
        &self,
        copy: &str,
        sink: &mut S,
    ) -> Result<Result<(), S::Error>, Failure> {
        let work = async {
            let mut rows = pin!(self.client().copy_out(copy).await?);
            while let Some(row) = rows.try_next().await? {
                if let Err(stopped) = sink.row(row).await {
                    // The server goes on to send rows.
                    self.runs_files();
                    return Ok(Err(stopped));
                }
            }
            Ok(Ok(()))
        };
        self.run_once(work).await
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
