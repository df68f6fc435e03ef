//! Runs the files of a set inside a transaction that has entered a schema, and adds them to its history.
//!
//! Files are sent one message each, several at a time, because a round trip a file would dominate the cost. Rows of
//! `COPY` are sent apart. A file comes first in its message, so that the server's positions are those of the file, and
//! the server answers each statement, so that the one that failed is known where it gives no position.

use std::fmt::Write as _;

use futures_util::future::{join, join_all};
use time::OffsetDateTime;

use super::error::ApplyError;
use super::frame::{Frame, TRANSACTION_CHANGED};
use crate::migrations::{MigrationSet, Pending, Piece, file_name};
use crate::pg::error::{Failure, line_at, offset_of};
use crate::pg::scope::{BatchFailure, PublicTx};

/// How many messages are sent together. `join_all` polls this few futures in order, and so they are sent in order.
const PIPELINED: usize = 16;

/// How a migration ends after its files have run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completion {
    /// The transaction stays open.
    KeepOpen,
    /// The transaction is committed.
    Commit,
}

/// A message to the server.
enum Message<'a> {
    /// Statements; those of a file come first.
    Statements { sql: String, part: Option<Part<'a>> },
    /// `COPY .. FROM stdin` and its rows.
    Rows { copy: &'a str, rows: &'a str, at: usize, line: usize },
}

/// The part of a file that a message begins with.
#[derive(Clone, Copy)]
struct Part<'a> {
    /// The index of the file.
    at: usize,
    sql: &'a str,
    /// The line in the file where the part begins.
    line: usize,
}

impl MigrationSet {
    /// Runs files in the schema that `tx` has entered, and adds them to its history. The statements `ending` run
    /// behind the last file as the owner, in the same message; the commit, if any, is pipelined behind them.
    ///
    /// # Errors
    /// The file that failed; the transaction is then aborted.
    pub(in crate::pg) async fn run(
        &self,
        tx: &PublicTx,
        files: &Pending,
        frame: &Frame,
        ending: &str,
        completion: Completion,
        now: OffsetDateTime,
    ) -> Result<(), ApplyError> {
        tx.runs_files();
        let ending = match completion {
            Completion::Commit => ending.to_owned(),
            Completion::KeepOpen => format!("{}; {ending}", frame.settings()),
        };
        let mut messages = self.messages(files, frame, now);
        let mut last = Message::Statements { sql: ending.clone(), part: None };
        if let Some(Message::Statements { sql, .. }) = messages.last_mut() {
            sql.push_str(";\n");
            sql.push_str(&ending);
            last = messages.pop().unwrap_or(last);
        }
        let mut rest = messages.as_slice();
        while let Some(first) = rest.first() {
            if let Message::Rows { copy, rows, at, line } = first {
                let copied = tx.copy_in(copy, rows).await;
                copied.map_err(|failure| self.failed_in_rows(*at, *line, copy, failure))?;
                rest = rest.get(1..).unwrap_or_default();
                continue;
            }
            let is_batch = |message: &&Message<'_>| matches!(message, Message::Statements { .. });
            let count = rest.iter().take(PIPELINED).take_while(is_batch).count();
            let (some, later) = rest.split_at(count);
            rest = later;
            // Sent together and answered in this order, so the first failure is returned.
            let running = join_all(some.iter().map(|message| self.send(tx, message)));
            let (ran, ended) = if rest.is_empty() {
                let (ran, ended) = join(running, self.send_last(tx, &last, completion)).await;
                (ran, Some(ended))
            } else {
                (running.await, None)
            };
            ran.into_iter().collect::<Result<(), _>>()?;
            if let Some(ended) = ended {
                return ended;
            }
        }
        self.send_last(tx, &last, completion).await
    }

    /// Returns the messages for these files, each with the statements of the frame and the row of the history.
    fn messages<'a>(
        &'a self,
        files: &Pending,
        frame: &Frame,
        now: OffsetDateTime,
    ) -> Vec<Message<'a>> {
        let mut messages: Vec<Message<'a>> = Vec::new();
        if let Some(first) = files.0.first() {
            messages.push(Message::Statements { sql: self.before(*first, frame), part: None });
        }
        for (position, at) in files.0.iter().enumerate() {
            for piece in self.pieces(*at) {
                messages.push(match piece {
                    Piece::Statements { sql, line } => Message::Statements {
                        sql: sql.to_owned(),
                        part: Some(Part { at: *at, sql, line }),
                    },
                    Piece::Rows { copy, rows, line } => Message::Rows { copy, rows, at: *at, line },
                });
            }
            let (close, row) = (frame.close(), self.history_row(*at, &frame.schema, now));
            let mut behind = format!("{close};\n{row}");
            if let Some(next) = files.0.get(position + 1) {
                let _ = write!(behind, ";\n{};\n{}", frame.settings(), self.before(*next, frame));
            }
            match messages.last_mut() {
                Some(Message::Statements { sql, part: Some(part) }) if part.at == *at => {
                    // The semicolon is on its own line, so that it is not part of a comment at the end of the file.
                    sql.push_str("\n;\n");
                    sql.push_str(&behind);
                }
                _ => messages.push(Message::Statements { sql: behind, part: None }),
            }
        }
        messages
    }

    /// Returns the statements before a file: the extensions that it needs, and those of the frame.
    fn before(&self, at: usize, frame: &Frame) -> String {
        let mut statements: String =
            self.extensions(at).flat_map(|statement| [statement, "\n;\n"]).collect();
        statements.push_str(&frame.open());
        statements
    }

    async fn send(&self, tx: &PublicTx, message: &Message<'_>) -> Result<(), ApplyError> {
        let Message::Statements { sql, part } = message else { return Ok(()) };
        tx.batch_counted(sql).await.map_err(|failed| self.failed_in(*part, failed))
    }

    async fn send_last(
        &self,
        tx: &PublicTx,
        message: &Message<'_>,
        completion: Completion,
    ) -> Result<(), ApplyError> {
        let Message::Statements { sql, part } = message else { return Ok(()) };
        let sent = match completion {
            Completion::Commit => tx.batch_and_commit_counted(sql).await,
            Completion::KeepOpen => tx.batch_counted(sql).await,
        };
        sent.map_err(|failed| self.failed_in(*part, failed))
    }

    /// Converts the failure of a message: an error of its file, with the statement, or a failure of the database.
    fn failed_in(&self, part: Option<Part<'_>>, failed: BatchFailure) -> ApplyError {
        let BatchFailure { from, completed, failure } = failed;
        let Some(Part { at, sql, line }) = part else { return failure.into() };
        let offset = sql.get(from..).and_then(|message| Some(from + offset_of(&failure, message)?));
        // What cannot be parsed fails before any statement of its message has run.
        let statement = match offset {
            Some(offset) => Self::statement_at(sql, offset),
            None => Self::nth_statement(sql, completed),
        };
        let within = offset.and_then(|offset| line_at(sql, offset));
        let within = within.or(statement.as_ref().map(|(line, _)| *line));
        let text = statement.map(|(_, text)| text);
        self.failed(at, within.map(|within| line + within - 1), text, failure)
    }

    /// Converts the failure of a `COPY`: the server tells the number of the row.
    fn failed_in_rows(&self, at: usize, line: usize, copy: &str, failure: Failure) -> ApplyError {
        let row = failure.copied_row();
        let line = row.map_or(line, |row| line + copy.lines().count() + row - 1);
        self.failed(at, Some(line), None, failure)
    }

    /// Converts a failure while a file ran: an error of the file, with its line and the first line of the statement,
    /// or an interruption.
    pub(in crate::pg) fn failed(
        &self,
        at: usize,
        line: Option<usize>,
        statement: Option<String>,
        failure: Failure,
    ) -> ApplyError {
        let file = file_name(&self.migrations[at]);
        if failure.is_unavailable() || failure.is_retryable() {
            return ApplyError::Interrupted { file, line, failure };
        }
        if failure.has_marker(TRANSACTION_CHANGED) {
            let message =
                "a file ended the transaction or changed the schema or role that it runs in";
            return ApplyError::Failed {
                file,
                line: None,
                message: message.to_owned(),
                needs_commit: false,
            };
        }
        let mut message = failure.explanation();
        if let Some(statement) = statement {
            message = format!("{message}, in: {statement}");
        }
        let needs_commit = failure.needs_commit();
        ApplyError::Failed { file, line, message, needs_commit }
    }
}
