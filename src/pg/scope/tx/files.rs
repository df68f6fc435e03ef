//! What migration files need of a transaction: the number of statements that completed, rows of `COPY`, and a connection
//! that is discarded unless the files are committed.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::{SinkExt, TryStreamExt};
use tokio_postgres::{SimpleQueryMessage, SimpleQueryStream};

use super::Tx;
use crate::migrations::messages;
use crate::pg::error::Failure;

/// How many bytes of rows are sent in one message of `COPY`.
const COPY_CHUNK: usize = 64 * 1024;

/// Why a text with several statements failed.
pub(in crate::pg) struct BatchFailure {
    /// Where the message that failed begins in the text, in bytes. The server counts positions from there.
    pub(in crate::pg) from: usize,
    /// How many statements of the text had completed.
    pub(in crate::pg) completed: usize,
    /// The failure of the next one.
    pub(in crate::pg) failure: Failure,
}

/// How far a text has come.
#[derive(Default)]
struct Progress {
    from: AtomicUsize,
    completed: AtomicUsize,
}

impl Progress {
    fn failed(self, failure: Failure) -> BatchFailure {
        let (from, completed) = (self.from.into_inner(), self.completed.into_inner());
        BatchFailure { from, completed, failure }
    }
}

impl Tx {
    /// As [`batch`](Self::batch); a failure tells how many statements had completed.
    pub(in crate::pg::scope) async fn batch_counted(&self, sql: &str) -> Result<(), BatchFailure> {
        let progress = Progress::default();
        let outcome = self.run(|| self.send(sql, &progress)).await;
        outcome.map_err(|failure| progress.failed(failure))
    }

    /// As [`commit_with`](Self::commit_with); a failure tells how many statements had completed.
    pub(in crate::pg::scope) async fn commit_counted(
        &self,
        ending: &str,
    ) -> Result<(), BatchFailure> {
        let progress = Progress::default();
        let outcome = self.commit_by(self.send(ending, &progress)).await;
        outcome.map_err(|failure| progress.failed(failure))
    }

    /// Runs whole transactions one after the other, each statement in a message of its own. None is begun after one that
    /// failed, and nothing is sent before the server has answered `BEGIN`: a statement must not run outside of it.
    pub(in crate::pg::scope) async fn run_in_turn(
        &self,
        transactions: &[(String, &str)],
    ) -> Vec<Result<(), Failure>> {
        let mut outcomes = Vec::with_capacity(transactions.len());
        for (preamble, script) in transactions {
            let has_failed = outcomes.last().is_some_and(Result::is_err);
            outcomes.push(if has_failed {
                Err(Failure::NotEntered)
            } else {
                let script = format!("{script}\n;\nCOMMIT");
                let running = async {
                    self.client().batch_execute(preamble).await?;
                    self.send(&script, &Progress::default()).await
                };
                self.run_once(running).await
            });
        }
        outcomes
    }

    /// Sends a text as the engine takes it, and counts the statements that complete.
    async fn send(&self, sql: &str, progress: &Progress) -> Result<(), tokio_postgres::Error> {
        progress.from.store(0, Ordering::Relaxed);
        progress.completed.store(0, Ordering::Relaxed);
        if !self.one_statement_a_message {
            let answers = self.client().simple_query_raw(sql).await?;
            return count_completed(answers, &progress.completed).await;
        }
        let mut sent = Vec::new();
        for range in messages(sql) {
            let message = sql.get(range.clone()).unwrap_or_default();
            // Sent here, and answered below: all messages of a text are sent before anything that is polled behind it.
            sent.push((range.start, self.client().simple_query_raw(message).await?));
        }
        // After the first that fails the server refuses the others, and a COMMIT among them rolls back: it completes, and
        // does not count.
        let (mut outcome, after_failure) = (Ok(()), AtomicUsize::new(0));
        for (from, answers) in sent {
            let completed = if outcome.is_ok() { &progress.completed } else { &after_failure };
            let answered = count_completed(answers, completed).await;
            if outcome.is_ok() && answered.is_err() {
                progress.from.store(from, Ordering::Relaxed);
                outcome = answered;
            }
        }
        outcome
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

/// Reads the answers to one message, and counts the statements that complete.
async fn count_completed(
    answers: SimpleQueryStream,
    completed: &AtomicUsize,
) -> Result<(), tokio_postgres::Error> {
    let mut answers = pin!(answers);
    while let Some(answer) = answers.try_next().await? {
        if matches!(answer, SimpleQueryMessage::CommandComplete(_)) {
            completed.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}
