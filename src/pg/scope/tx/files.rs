//! What migration files need of a transaction: the number of statements that completed, rows of `COPY`, and a connection
//! that is discarded unless the files are committed.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::{SinkExt, TryStreamExt};
use tokio_postgres::SimpleQueryMessage;

use super::Tx;
use crate::pg::error::Failure;

/// How many bytes of rows are sent in one message of `COPY`.
const COPY_CHUNK: usize = 64 * 1024;

/// Why a message with several statements failed.
pub(in crate::pg) struct BatchFailure {
    /// How many of its statements had completed.
    pub(in crate::pg) completed: usize,
    /// The failure of the next one.
    pub(in crate::pg) failure: Failure,
}

impl Tx {
    /// As [`batch`](Self::batch); a failure tells how many statements had completed.
    pub(in crate::pg::scope) async fn batch_counted(&self, sql: &str) -> Result<(), BatchFailure> {
        let completed = AtomicUsize::new(0);
        let outcome = self.run(|| self.count_completed(sql, &completed)).await;
        outcome.map_err(|failure| BatchFailure { completed: completed.into_inner(), failure })
    }

    /// As [`commit_with`](Self::commit_with); a failure tells how many statements had completed.
    pub(in crate::pg::scope) async fn commit_counted(
        &self,
        ending: &str,
    ) -> Result<(), BatchFailure> {
        let completed = AtomicUsize::new(0);
        let outcome = self.commit_by(self.count_completed(ending, &completed)).await;
        outcome.map_err(|failure| BatchFailure { completed: completed.into_inner(), failure })
    }

    /// Runs statements and counts those that complete.
    async fn count_completed(
        &self,
        sql: &str,
        completed: &AtomicUsize,
    ) -> Result<(), tokio_postgres::Error> {
        completed.store(0, Ordering::Relaxed);
        let mut answers = pin!(self.client().simple_query_raw(sql).await?);
        while let Some(answer) = answers.try_next().await? {
            if matches!(answer, SimpleQueryMessage::CommandComplete(_)) {
                completed.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Runs `COPY .. FROM stdin` with these rows.
    pub(in crate::pg::scope) async fn copy_in(
        &self,
        copy: &str,
        rows: &str,
    ) -> Result<(), Failure> {
        self.run(|| async {
            let mut sink = pin!(self.client().copy_in::<_, Bytes>(copy).await?);
            for chunk in rows.as_bytes().chunks(COPY_CHUNK) {
                sink.feed(Bytes::copy_from_slice(chunk)).await?;
            }
            sink.finish().await.map(drop)
        })
        .await
    }

    /// Declares that migration files run in this transaction.
    pub(in crate::pg::scope) fn runs_files(&self) {
        self.runs_files.store(true, Ordering::Relaxed);
    }
}
