//! The machinery under both scopes: sends the preamble with the first query, the commit with the last, and
//! leaves nothing behind when it is dropped.
//!
//! Promises: nothing runs in front of the preamble or behind the commit; a connection goes back with a
//! `ROLLBACK` queued on it, or not at all. Must not know: which place a transaction is in; the preamble, which
//! says so, is handed in.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures_util::future::{join, join_all};
use futures_util::{FutureExt, poll};
use tokio_postgres::error::{Severity, SqlState};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Row, SimpleQueryMessage, SimpleQueryRow, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::pg::error::Failure;
use crate::pg::pool::affinity::CheckedOut;
use crate::pg::rules::Statements;
use crate::pg::scope::column_types::PlainStatements;
use crate::pg::scope::param::Param;

/// Ends a transaction. `COMMIT` alone answers OK even where the transaction has failed and is rolled
/// back; the `SELECT` in front makes that an error.
pub(super) const COMMIT: &str = "SELECT 1; COMMIT";

/// Ends a transaction whose last query is answered in the same breath. That answer says what the `SELECT`
/// would: a failed transaction refuses every query, so one that succeeded stood in a sound transaction,
/// and between it and this nothing comes. Leaving the `SELECT` out saves a tenth of the CPU time of a
/// guarded read.
const COMMIT_AFTER_QUERY: &str = "COMMIT";

/// How long a cancel request waits where the server has not yet said that the transaction began. One
/// that overtook `BEGIN` would let the query behind it run outside of the transaction.
const CANCEL_GRACE: Duration = Duration::from_millis(100);

/// Statements that one connection keeps prepared. Fixed SQL never gets there; SQL that is put together at
/// run time would otherwise grow without bound, here and in the server.
const MAX_CACHED: usize = 1_000;

/// The machinery under both scopes.
pub(super) struct Tx {
    /// Gone once committed, rolled back or given up.
    connection: Option<CheckedOut>,
    /// `BEGIN` and the settings, sent with the first query.
    preamble: String,
    /// Whether the preamble was sent.
    begun: AtomicBool,
    /// Whether the server has accepted it.
    entered: AtomicBool,
    /// Whether the server has refused it. Nothing is sent after that: where it was `BEGIN` itself that
    /// failed, there is no transaction to hold it.
    refused: AtomicBool,
    /// Whether anything was refused, by the server or before it was sent.
    failed: AtomicBool,
    /// Whether a commit was sent, behind which nothing may run.
    committing: AtomicBool,
    /// Whether the server has committed.
    committed: AtomicBool,
    /// Whether the server has ended the connection, which closes a moment after it says so.
    ended: AtomicBool,
    /// Queries sent and not yet answered.
    in_flight: AtomicUsize,
    statements: Statements,
    /// Longest wait for a cancel request to be delivered.
    wait_timeout: Duration,
    tls: MakeRustlsConnect,
    /// None where all statements are ours and plain.
    plain: Option<Arc<PlainStatements>>,
}

impl Tx {
    pub(super) fn new(
        connection: CheckedOut,
        preamble: String,
        statements: Statements,
        wait_timeout: Duration,
        tls: MakeRustlsConnect,
        plain: Option<Arc<PlainStatements>>,
    ) -> Self {
        Self {
            connection: Some(connection),
            preamble,
            begun: AtomicBool::new(false),
            entered: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            committing: AtomicBool::new(false),
            committed: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
            statements,
            wait_timeout,
            tls,
            plain,
        }
    }

    pub(super) fn with_statements(mut self, statements: Statements) -> Self {
        self.statements = statements;
        self
    }

    fn client(&self) -> &CheckedOut {
        self.connection
            .as_ref()
            .expect("the connection is there until the transaction ends, which consumes it")
    }

    /// Runs `work`, with the preamble in front of it where this is the first. Both are polled together
    /// and in this order, so that they travel together and in this order.
    ///
    /// Where the preamble fails (the role is gone, say) `BEGIN` has opened a transaction all the same,
    /// now a failed one, so `work` is refused by the server rather than run outside of the guard.
    async fn run<T>(
        &self,
        work: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Failure> {
        if self.refused.load(Ordering::Relaxed) || self.committing.load(Ordering::Relaxed) {
            return Err(Failure::NotEntered);
        }
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        let outcome = if self.begun.swap(true, Ordering::Relaxed) {
            work.await
        } else {
            let (began, outcome) = join(self.enter(), work).await;
            began.and(outcome)
        };
        // Not reached where the future is dropped half-way or `work` panics: the count stays up, and
        // `drop` knows.
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        if let Err(error) = &outcome {
            self.failed.store(true, Ordering::Relaxed);
            if ends_connection(error) {
                self.ended.store(true, Ordering::Relaxed);
            }
        }
        Ok(outcome?)
    }

    async fn enter(&self) -> Result<(), tokio_postgres::Error> {
        let began = self.client().batch_execute(&self.preamble).await;
        let which = if began.is_ok() { &self.entered } else { &self.refused };
        which.store(true, Ordering::Relaxed);
        began
    }

    /// Begins, and runs a query in the same message; gives its rows, as text.
    pub(super) async fn begin_with(&self, query: &str) -> Result<Vec<SimpleQueryRow>, Failure> {
        let message = format!("{};\n{query}", self.preamble);
        self.begun.store(true, Ordering::Relaxed);
        let began = self.run(self.client().simple_query(&message)).await;
        let which = if began.is_ok() { &self.entered } else { &self.refused };
        which.store(true, Ordering::Relaxed);
        let mut rows = Vec::new();
        for answer in began? {
            match answer {
                // Those of the statements before it are of no interest.
                SimpleQueryMessage::RowDescription(_) => rows.clear(),
                SimpleQueryMessage::Row(row) => rows.push(row),
                _ => {}
            }
        }
        Ok(rows)
    }

    /// Messages that each hold all of a transaction, from its `BEGIN` to its `COMMIT`, one behind the other without
    /// waiting for an answer. The server ends none that has failed, and refuses those behind it.
    pub(super) async fn one_behind_the_other(
        mut self,
        messages: &[String],
    ) -> Vec<Result<(), Failure>> {
        *self.begun.get_mut() = true;
        let sent = messages.iter().map(|message| self.run(self.client().batch_execute(message)));
        let outcomes = join_all(sent).await;
        if outcomes.iter().all(Result::is_ok) {
            self.connection = None; // clean: back to the pool, nothing to roll back
        }
        outcomes
    }

    pub(super) async fn query(
        &self,
        sql: &str,
        params: &[&dyn Param],
    ) -> Result<Vec<Row>, Failure> {
        self.run(async {
            let statement = self.prepare(sql, params).await?;
            self.send_query(statement.as_ref(), sql, params).await
        })
        .await
    }

    pub(super) async fn execute(&self, sql: &str, params: &[&dyn Param]) -> Result<u64, Failure> {
        let client = self.client();
        self.run(async {
            match self.statements {
                // Unlike a query it looks at no column, and so needs no [`PlainStatements`].
                Statements::Unnamed => client.execute_typed(sql, &typed(params)).await,
                Statements::Cached => {
                    let statement = self.prepare_cached(sql, params).await?;
                    let outcome = client.execute(&statement, &values(params)).await;
                    self.forget_if_stale(outcome.as_ref().err(), sql, params);
                    outcome
                }
            }
        })
        .await
    }

    /// The statement in the cache, where statements are cached. Where they are not, none, but the types
    /// of its columns are known afterwards.
    async fn prepare(
        &self,
        sql: &str,
        params: &[&dyn Param],
    ) -> Result<Option<Statement>, tokio_postgres::Error> {
        match (self.statements, &self.plain) {
            (Statements::Cached, _) => self.prepare_cached(sql, params).await.map(Some),
            (Statements::Unnamed, Some(plain)) if !plain.contains(sql) => {
                let statement = self.client().prepare_typed(sql, &types(params)).await?;
                plain.learn(sql, &statement);
                // Dropped here and so closed inside of the transaction: a pooler may give the next one
                // to another server.
                Ok(None)
            }
            (Statements::Unnamed, _) => Ok(None),
        }
    }

    async fn prepare_cached(
        &self,
        sql: &str,
        params: &[&dyn Param],
    ) -> Result<Statement, tokio_postgres::Error> {
        let client = self.client();
        if client.statement_cache.size() >= MAX_CACHED {
            client.statement_cache.clear();
        }
        client.prepare_typed_cached(sql, &types(params)).await
    }

    async fn send_query(
        &self,
        statement: Option<&Statement>,
        sql: &str,
        params: &[&dyn Param],
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        let client = self.client();
        let outcome = match statement {
            None => client.query_typed(sql, &typed(params)).await,
            Some(statement) => client.query(statement, &values(params)).await,
        };
        self.forget_if_stale(outcome.as_ref().err(), sql, params);
        outcome
    }

    /// The last query and the commit, together. A statement that is not yet prepared is prepared first:
    /// were the commit already on its way, the query would run outside of the transaction.
    pub(super) async fn query_and_commit(
        mut self,
        sql: &str,
        params: &[&dyn Param],
    ) -> Result<Vec<Row>, Failure> {
        let rows = self
            .run(async {
                let statement = self.prepare(sql, params).await?;
                let mut query = pin!(self.send_query(statement.as_ref(), sql, params));
                let commit = self.client().batch_execute(COMMIT_AFTER_QUERY);
                let (rows, committed) = match poll!(query.as_mut()) {
                    // A parameter that cannot be encoded: the query was never sent, and the commit of
                    // what came before it must not be either.
                    Poll::Ready(Err(error)) => return Err(error),
                    Poll::Ready(Ok(rows)) => (Ok(rows), commit.await),
                    Poll::Pending => join(query, commit).await,
                };
                let rows = rows?;
                committed?;
                Ok(rows)
            })
            .await?;
        self.connection = None; // clean: back to the pool, nothing to roll back
        Ok(rows)
    }

    pub(super) async fn commit(mut self) -> Result<(), Failure> {
        if self.begun.load(Ordering::Relaxed) {
            self.batch(COMMIT).await?;
        }
        self.connection = None;
        Ok(())
    }

    /// Commits behind what is still on its way, on its own or with more statements in front.
    pub(super) async fn commit_with(&self, ending: &str) -> Result<(), Failure> {
        // What cannot be encoded has failed by now, unsent: it must not be left out of a commit.
        if self.failed.load(Ordering::Relaxed) {
            return Err(Failure::NotEntered);
        }
        let committed = self.run(async {
            self.committing.store(true, Ordering::Relaxed);
            self.client().batch_execute(ending).await
        });
        committed.await?;
        self.committed.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Runs several statements in one message.
    pub(super) async fn batch(&self, sql: &str) -> Result<(), Failure> {
        self.run(self.client().batch_execute(sql)).await
    }

    pub(super) async fn roll_back(mut self) -> Result<(), Failure> {
        self.batch("ROLLBACK").await?;
        self.connection = None;
        Ok(())
    }

    pub(super) fn discard(mut self) {
        if let Some(connection) = self.connection.take() {
            drop(connection.discard());
        }
    }

    /// A statement whose tables have changed under it, or that the server has lost, is of no more use;
    /// the next try prepares anew.
    fn forget_if_stale(
        &self,
        error: Option<&tokio_postgres::Error>,
        sql: &str,
        params: &[&dyn Param],
    ) {
        let stale = [&SqlState::FEATURE_NOT_SUPPORTED, &SqlState::INVALID_SQL_STATEMENT_NAME];
        if error.and_then(tokio_postgres::Error::code).is_some_and(|code| stale.contains(&code)) {
            self.client().statement_cache.remove(sql, &types(params));
        }
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        if !*self.begun.get_mut() || *self.committed.get_mut() {
            return; // nothing was sent, or all of it is over
        }
        if *self.ended.get_mut() {
            // Lent once more before it is seen to be closed, it would fail somebody who did nothing.
            drop(connection.discard());
            return;
        }
        if *self.in_flight.get_mut() == 0 {
            // Polled once, it is queued in front of whatever the next borrower sends.
            let _ = connection.batch_execute("ROLLBACK").now_or_never();
            return;
        }
        let discarded = connection.discard();
        // Without a runtime to send it from, the statement's own time limit ends the query.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let cancel = discarded.cancel_token();
        let (tls, wait_timeout) = (self.tls.clone(), self.wait_timeout);
        let entered = *self.entered.get_mut();
        runtime.spawn(async move {
            if !entered {
                tokio::time::sleep(CANCEL_GRACE).await;
            }
            match tokio::time::timeout(wait_timeout, cancel.cancel_query(tls)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::debug!(error = %error, "a query that nobody waits for could not be cancelled");
                }
                Err(_elapsed) => {
                    tracing::debug!("a query that nobody waits for could not be cancelled in time");
                }
            }
            // Not before: a pooler knows whose query to cancel for as long as the client is there.
            drop(discarded);
        });
    }
}

/// Whether nothing more can come over the connection after this.
fn ends_connection(error: &tokio_postgres::Error) -> bool {
    error.is_closed()
        || error.as_db_error().is_some_and(|db| {
            matches!(db.parsed_severity(), Some(Severity::Fatal | Severity::Panic))
        })
}

fn typed<'a>(params: &[&'a dyn Param]) -> Vec<(&'a (dyn ToSql + Sync), Type)> {
    params.iter().map(|param| (param.as_sql(), param.sql_type())).collect()
}

fn types(params: &[&dyn Param]) -> Vec<Type> {
    params.iter().map(|param| param.sql_type()).collect()
}

fn values<'a>(params: &[&'a dyn Param]) -> Vec<&'a (dyn ToSql + Sync)> {
    params.iter().map(|param| param.as_sql()).collect()
}
