//! The transaction under both scopes: sends the preamble with the first query and the commit with the last, and
//! rolls back when it is dropped.
//!
//! Promises: nothing runs before the preamble or after the commit; a connection returns to its pool with a
//! `ROLLBACK` queued on it, or is discarded. Must not know: which schema or role a transaction has; the caller
//! hands in the preamble that sets them.

mod abandoned;
mod answer;
mod copy;
mod files;
mod parts;
mod run;

pub(super) use self::answer::AnswerLimit;
use self::answer::millis;
pub(in crate::pg) use self::files::BatchFailure;
pub(super) use self::run::{REACH_NODES, READ_ONLY};

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures_util::future::{join, join_all};
use futures_util::poll;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Row, SimpleQueryMessage, SimpleQueryRow, Statement};

use crate::domain::names::TenantId;
use crate::pg::error::{Failure, means_damage};
use crate::pg::pool::affinity::CheckedOut;
use crate::pg::rules::Statements;
use crate::pg::rules::engine::Engine;
use crate::pg::scope::column_types::BuiltinTypes;
use crate::pg::scope::commits::{Commits, Sent};
use crate::pg::scope::param::{Param, typed, types, values};
use crate::pg::scope::place::Place;

/// Ends a transaction. `COMMIT` alone reports success even if the transaction has failed and is rolled
/// back; the `SELECT` before it makes that an error.
pub(super) const COMMIT: &str = "SELECT 1; COMMIT";

/// Ends a transaction whose last query is pipelined with the commit. The result of that query says what the
/// `SELECT` of [`COMMIT`] would: a failed transaction refuses every query, so a query that succeeded ran in a
/// sound transaction, and nothing comes between it and the commit. Omitting the `SELECT` saves a tenth of the
/// CPU time of a guarded read.
const COMMIT_AFTER_QUERY: &str = "COMMIT";

/// The most statements that one connection keeps prepared. Fixed SQL never reaches it; SQL that is composed at
/// run time would otherwise grow without bound, here and in the server.
const MAX_CACHED: usize = 1_000;

/// Whether a statement writes nothing but what a function that it calls may write.
fn is_read(sql: &str) -> bool {
    let mut words = sql.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| !word.is_empty());
    let is = |word: &str, all: &[&str]| all.iter().any(|one| word.eq_ignore_ascii_case(one));
    match words.next() {
        Some(first) if is(first, &["SELECT"]) => true,
        Some(first) if is(first, &["WITH"]) => {
            !words.any(|word| is(word, &["INSERT", "UPDATE", "DELETE", "MERGE"]))
        }
        _ => false,
    }
}

/// The transaction under both scopes.
pub(super) struct Tx {
    /// None once the transaction is committed, rolled back or its connection is discarded.
    connection: Option<CheckedOut>,
    /// `BEGIN` and the settings, sent with the first query.
    preamble: String,
    /// Whether the preamble was sent.
    preamble_sent: AtomicBool,
    /// Whether the server has accepted the preamble.
    preamble_accepted: AtomicBool,
    /// Whether the server has refused the preamble. Nothing is sent after that: if `BEGIN` itself failed, a
    /// statement would run outside a transaction.
    preamble_refused: AtomicBool,
    /// Whether a statement has failed, on the server or before it was sent.
    failed: AtomicBool,
    /// Whether a commit was sent, after which nothing may run.
    commit_sent: AtomicBool,
    /// Whether the server has committed.
    committed: AtomicBool,
    /// Whether migration files run in it, so that its connection is discarded unless it is committed.
    runs_files: AtomicBool,
    /// The longest wait for the answer to a message, in milliseconds; none at the largest number.
    answer_within: AtomicU64,
    /// Whether the server has ended the connection. The socket closes a moment after it says so.
    connection_ended: AtomicBool,
    /// The number of queries sent and not yet answered.
    pub(super) in_flight: AtomicUsize,
    /// Whether a statement has changed rows of a tenant.
    wrote: AtomicBool,
    /// The number of savepoints and portals so far, for their names.
    named: AtomicUsize,
    /// The number of queries sent since the transaction began.
    sent: AtomicUsize,
    statements: Statements,
    /// Longest wait for a cancel request to be delivered.
    wait_timeout: Duration,
    place: Place,
    /// None if all statements are ours, which return only built-in types.
    builtin_types: Option<Arc<BuiltinTypes>>,
    /// The tenant that it is inside of.
    tenant: Option<TenantId>,
    /// Whether each statement of a text is sent in a message of its own.
    one_statement_a_message: bool,
    /// Whether an abandoned query is cancelled.
    may_cancel: bool,
}

impl Tx {
    pub(super) fn new(
        connection: CheckedOut,
        preamble: String,
        statements: Statements,
        wait_timeout: Duration,
        place: Place,
        builtin_types: Option<Arc<BuiltinTypes>>,
    ) -> Self {
        Self {
            answer_within: AtomicU64::new(millis(place.answer_within)),
            connection: Some(connection),
            preamble,
            preamble_sent: AtomicBool::new(false),
            preamble_accepted: AtomicBool::new(false),
            preamble_refused: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            commit_sent: AtomicBool::new(false),
            committed: AtomicBool::new(false),
            runs_files: AtomicBool::new(false),
            connection_ended: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
            wrote: AtomicBool::new(false),
            named: AtomicUsize::new(0),
            sent: AtomicUsize::new(0),
            statements,
            wait_timeout,
            place,
            builtin_types,
            tenant: None,
            one_statement_a_message: false,
            may_cancel: true,
        }
    }

    /// The same transaction, with statements that are sent as the engine takes them. Only on a direct connection an
    /// abandoned query is cancelled.
    pub(super) fn sent_to(mut self, engine: Engine, is_direct: bool) -> Self {
        self.one_statement_a_message = engine.takes_one_statement_a_message();
        self.may_cancel = is_direct;
        self
    }

    /// The same transaction, inside a tenant, which its failures name.
    pub(super) fn inside(mut self, tenant: TenantId) -> Self {
        self.tenant = Some(tenant);
        self
    }

    /// The same transaction, outside of every tenant.
    pub(super) fn inside_none(mut self) -> Self {
        self.tenant = None;
        self
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

    /// The failure of a statement, which names the tenant if that may be damaged.
    fn in_tenant(&self, failure: Failure) -> Failure {
        match (self.tenant, failure) {
            (Some(tenant), Failure::Postgres(error)) if means_damage(&error) => {
                let not_entered = self.preamble_refused.load(Ordering::Relaxed);
                Failure::InTenant { tenant, not_entered, error }
            }
            (_, failure) => failure,
        }
    }

    /// Begins and runs a query in the same message; returns its rows as text.
    pub(super) async fn begin_with(&self, query: &str) -> Result<Vec<SimpleQueryRow>, Failure> {
        let message = format!("{};\n{query}", self.preamble);
        self.preamble_sent.store(true, Ordering::Relaxed);
        let began = self.run_once(self.client().simple_query(&message)).await;
        self.note_preamble(&began);
        let mut rows = Vec::new();
        for answer in began? {
            match answer {
                // The rows of the statements before it are not wanted.
                SimpleQueryMessage::RowDescription(_) => rows.clear(),
                SimpleQueryMessage::Row(row) => rows.push(row),
                _ => {}
            }
        }
        Ok(rows)
    }

    /// Runs several transactions, each a preamble that begins with `BEGIN` and a script, and commits each. Without waiting
    /// for an answer in between, unless each statement has a message of its own. A transaction that has failed does not
    /// reach its `COMMIT`, and those after it do nothing.
    pub(super) async fn run_pipelined(
        mut self,
        transactions: &[(String, &str)],
    ) -> Vec<Result<(), Failure>> {
        *self.preamble_sent.get_mut() = true;
        *self.runs_files.get_mut() = true;
        let outcomes = if self.one_statement_a_message {
            self.run_in_turn(transactions).await
        } else {
            let message =
                |(preamble, script): &(String, &str)| format!("{preamble};\n{script}\n;\nCOMMIT");
            let messages: Vec<String> = transactions.iter().map(message).collect();
            let sent =
                messages.iter().map(|message| self.run_once(self.client().batch_execute(message)));
            join_all(sent).await
        };
        if outcomes.iter().all(Result::is_ok) {
            self.connection = None; // back to the pool: nothing to roll back
        }
        outcomes
    }

    pub(super) async fn query(
        &self,
        sql: &str,
        params: &[&dyn Param],
    ) -> Result<Vec<Row>, Failure> {
        self.query_as(self.statements, sql, params).await
    }

    /// Runs a query whose statement is sent in this way.
    pub(super) async fn query_as(
        &self,
        statements: Statements,
        sql: &str,
        params: &[&dyn Param],
    ) -> Result<Vec<Row>, Failure> {
        self.run(|| async {
            let statement = self.prepare(statements, sql, params).await?;
            self.send_query(statement.as_ref(), sql, params).await
        })
        .await
    }

    pub(super) async fn execute(&self, sql: &str, params: &[&dyn Param]) -> Result<u64, Failure> {
        let client = self.client();
        let changed = self
            .run(|| async {
                match self.statements {
                    // Unlike a query it reads no column, and so needs no [`BuiltinTypes`].
                    Statements::Unnamed => client.execute_typed(sql, &typed(params)).await,
                    Statements::Cached => {
                        let statement = self.prepare_cached(sql, params).await?;
                        let outcome = client.execute(&statement, &values(params)).await;
                        self.forget_if_stale(outcome.as_ref().err(), sql, params);
                        outcome
                    }
                }
            })
            .await?;
        if changed > 0 && self.tenant.is_some() {
            self.wrote.store(true, Ordering::Relaxed);
        }
        Ok(changed)
    }

    /// Returns the prepared statement if statements are cached. If they are not, makes sure that the types of its
    /// columns are known, and returns none.
    async fn prepare(
        &self,
        statements: Statements,
        sql: &str,
        params: &[&dyn Param],
    ) -> Result<Option<Statement>, tokio_postgres::Error> {
        match (statements, &self.builtin_types) {
            (Statements::Cached, _) => self.prepare_cached(sql, params).await.map(Some),
            (Statements::Unnamed, Some(known)) if !known.contains(sql) => {
                let statement = self.client().prepare_typed(sql, &types(params)).await?;
                known.learn(sql, &statement);
                // Dropped here and so closed inside the transaction: a pooler may run the next transaction on
                // another server connection.
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

    /// Sends the last query and the commit together. A statement that is not yet prepared is prepared first:
    /// if the commit were already sent, the query would run outside the transaction.
    pub(super) async fn query_and_commit(
        mut self,
        sql: &str,
        params: &[&dyn Param],
    ) -> Result<Vec<Row>, Failure> {
        let rows = self
            .run(|| async {
                let statement = self.prepare(self.statements, sql, params).await?;
                let only_reads = is_read(sql) && self.sent.load(Ordering::Relaxed) == 1;
                let _sent = if only_reads { None } else { self.begin_commit() };
                let mut query = pin!(self.send_query(statement.as_ref(), sql, params));
                let commit = self.client().batch_execute(COMMIT_AFTER_QUERY);
                let (rows, committed) = match poll!(query.as_mut()) {
                    // A parameter cannot be encoded: the query was not sent, so the commit of the statements
                    // before it must not be sent either.
                    Poll::Ready(Err(error)) => return Err(error),
                    Poll::Ready(Ok(rows)) => (Ok(rows), commit.await),
                    Poll::Pending => join(query, commit).await,
                };
                let rows = rows?;
                committed?;
                Ok(rows)
            })
            .await?;
        self.connection = None; // back to the pool: nothing to roll back
        Ok(rows)
    }

    pub(super) async fn commit(mut self) -> Result<(), Failure> {
        if self.preamble_sent.load(Ordering::Relaxed) {
            let _sent = self.begin_commit();
            self.message(COMMIT).await?;
        }
        self.connection = None;
        Ok(())
    }

    /// Notes that a commit is sent, until the result is dropped; not of a transaction that writes nothing.
    fn begin_commit(&self) -> Option<Sent> {
        let writes = !self.preamble.starts_with(READ_ONLY);
        writes.then(|| Commits::of_present_work().begin())
    }

    /// Commits after the statements that are still in flight. `ending` ends with the commit, which more statements
    /// may precede.
    pub(super) async fn commit_with(&self, ending: &str) -> Result<(), Failure> {
        self.commit_by(self.client().batch_execute(ending)).await
    }

    async fn commit_by(
        &self,
        ending: impl Future<Output = Result<(), tokio_postgres::Error>>,
    ) -> Result<(), Failure> {
        // A statement that cannot be encoded has failed by now without being sent: the rest must not be committed.
        if self.failed.load(Ordering::Relaxed) {
            return Err(Failure::NotEntered);
        }
        let committed = self.run_once(async {
            self.commit_sent.store(true, Ordering::Relaxed);
            let _sent = self.begin_commit();
            ending.await
        });
        committed.await?;
        self.committed.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Runs several statements, in one message if the engine takes that.
    pub(super) async fn batch(&self, sql: &str) -> Result<(), Failure> {
        if self.one_statement_a_message {
            // On the heap, so that every transaction does not carry room for it.
            return Box::pin(self.batch_counted(sql)).await.map_err(|failed| failed.failure);
        }
        self.message(sql).await
    }

    /// Runs several statements in one message.
    async fn message(&self, sql: &str) -> Result<(), Failure> {
        self.run(|| self.client().batch_execute(sql)).await
    }

    pub(super) async fn roll_back(mut self) -> Result<(), Failure> {
        self.message("ROLLBACK").await?;
        if *self.runs_files.get_mut() {
            self.discard();
        } else {
            self.connection = None;
        }
        Ok(())
    }

    pub(super) fn discard(mut self) {
        if let Some(connection) = self.connection.take() {
            drop(connection.discard());
        }
    }

    /// Removes a statement from the cache if its tables have changed or the server has lost it, so that the next
    /// try prepares it again.
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
