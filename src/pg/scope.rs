//! Hands out transactions that can see exactly one place: the control plane or one tenant.
//!
//! A [`TenantTx`] is the only way to a tenant's tables. Role, search path and time limits are set with
//! `SET LOCAL`, in the same message as `BEGIN`, and that message travels together with the first query:
//! one round trip, and nothing that outlives the transaction. A session-level `SET` would survive into
//! the next request that borrows the connection, and would reach a stranger behind a pooler. (An unnamed
//! query that this process has not met before takes one round trip more: [`PlainStatements`].)
//!
//! Three rules keep the door shut whatever happens behind it:
//! - the guard is armed before `BEGIN` is sent: dropped without a commit (an error, a panic, a cancelled
//!   request) it queues a `ROLLBACK` ahead of whatever the next borrower sends;
//! - dropped with a query still in flight, or after a panic in the middle of a message, the connection is
//!   given up and the query cancelled, because the next borrower would have to wait for it;
//! - a tenant's statements go through the extended protocol, one a message, and start with one of
//!   [`ALLOWED`](super::statement::ALLOWED): nothing stacks, and nothing that could change the role ever reaches the server.
//!
//! `public` is left out of a tenant's path on purpose. A tenant query that needs a shared table is two
//! queries. Nothing else in the crate enters a tenant; `tests/api/isolation.rs` tries to get around this
//! file in every way we could think of. Found another? Add it there first.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::fmt::Write as _;
use std::hash::BuildHasher;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::task::Poll;
use std::time::Duration;

use futures_util::future::join;
use futures_util::{FutureExt, poll};
use tokio_postgres::error::{Severity, SqlState};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Row, SimpleQueryMessage, SimpleQueryRow, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::error::Failure;
use super::lanes::Loan;
use super::param::Param;
use super::pool::{Rules, Statements, TimeLimits, write_limits};
use super::statement::check_allowed;
use crate::domain::names::SchemaName;

/// Ends a transaction. `COMMIT` alone answers OK even where the transaction has failed and is rolled
/// back; the `SELECT` in front makes that an error.
const COMMIT: &str = "SELECT 1; COMMIT";

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

/// Texts that [`PlainStatements`] remembers.
const MAX_PLAIN: usize = 10_000;

/// A transaction inside one tenant: its role, its schema, nothing else.
///
/// Dropped without [`commit`](TenantTx::commit) it rolls back.
#[must_use = "a transaction that is dropped is rolled back"]
pub struct TenantTx(Tx);

/// A transaction on the control plane, as the owner.
///
/// Dropped without [`commit`](PublicTx::commit) it rolls back, without waiting: what only reads is best
/// dropped.
#[must_use = "a transaction that is dropped is rolled back"]
pub struct PublicTx(Tx);

/// When a commit is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flush {
    /// Before it is answered, as far as the server's own settings say so.
    Now,
    /// A moment later: a crash of the server may lose it, as a whole, with all that came after it. The next
    /// commit that is answered from disk puts all before it there as well.
    Later,
}

impl TenantTx {
    pub(super) fn new(
        connection: Loan,
        schema: &SchemaName,
        rules: &Rules,
        tls: MakeRustlsConnect,
        plain: Arc<PlainStatements>,
    ) -> Self {
        let mut preamble = String::with_capacity(256);
        preamble.push_str("BEGIN");
        if rules.isolation == super::pool::Isolation::Role {
            let _ = write!(preamble, "; SET LOCAL ROLE {schema}");
        }
        let _ = write!(preamble, "; SET LOCAL search_path = {schema}, extensions, pg_temp");
        if !rules.limits_stand {
            write_limits(&mut preamble, &rules.limits);
        }
        Self(Tx::new(
            connection,
            preamble,
            rules.statements,
            rules.limits.connect,
            tls,
            Some(plain),
        ))
    }

    /// Runs a query and gives its rows.
    ///
    /// # Errors
    /// [`Failure`]; the transaction can then only be dropped.
    pub async fn query(&self, sql: &str, params: &[&dyn Param]) -> Result<Vec<Row>, Failure> {
        check_allowed(sql)?;
        self.0.query(sql, params).await
    }

    /// Runs a query that gives exactly one row.
    ///
    /// # Errors
    /// As [`TenantTx::query`], and [`Failure::RowCount`].
    pub async fn query_one(&self, sql: &str, params: &[&dyn Param]) -> Result<Row, Failure> {
        exactly_one(self.query(sql, params).await?)
    }

    /// Runs a query that gives at most one row.
    ///
    /// # Errors
    /// As [`TenantTx::query`], and [`Failure::RowCount`].
    pub async fn query_opt(
        &self,
        sql: &str,
        params: &[&dyn Param],
    ) -> Result<Option<Row>, Failure> {
        at_most_one(self.query(sql, params).await?)
    }

    /// Runs a statement and gives the number of rows that it touched.
    ///
    /// # Errors
    /// As [`TenantTx::query`].
    pub async fn execute(&self, sql: &str, params: &[&dyn Param]) -> Result<u64, Failure> {
        check_allowed(sql)?;
        self.0.execute(sql, params).await
    }

    /// Runs one last query and commits, in a single round trip. As a transaction's only query it is the
    /// cheapest way to read or write inside a tenant.
    ///
    /// # Errors
    /// As [`TenantTx::query`]; nothing is then committed. Where the connection broke
    /// ([`Failure::sqlstate`] is none) the outcome is unknown, as with every commit.
    pub async fn query_and_commit(
        self,
        sql: &str,
        params: &[&dyn Param],
    ) -> Result<Vec<Row>, Failure> {
        check_allowed(sql)?;
        self.0.query_and_commit(sql, params).await
    }

    /// Commits.
    ///
    /// # Errors
    /// Where a statement had failed before: the transaction was rolled back.
    pub async fn commit(self) -> Result<(), Failure> {
        self.0.commit().await
    }
}

impl PublicTx {
    pub(super) fn new(connection: Loan, rules: &Rules, tls: MakeRustlsConnect) -> Self {
        let mut preamble =
            String::from("BEGIN; SET LOCAL search_path = public, extensions, pg_temp");
        write_limits(&mut preamble, &rules.limits);
        Self(Tx::new(connection, preamble, Statements::Unnamed, rules.limits.connect, tls, None))
    }

    /// One that begins inside of a schema, as the owner, for migrations of a tenant that is there already: with
    /// the lock of [`schemas::lock`](super::schemas::lock) on it. A migration may take long; a lock that it waits
    /// for may not.
    pub(super) fn inside(
        connection: Loan,
        schema: &SchemaName,
        flush: Flush,
        rules: &Rules,
        tls: MakeRustlsConnect,
    ) -> Self {
        let mut preamble = format!("BEGIN; SET LOCAL search_path = {schema}, extensions, pg_temp");
        write_limits(&mut preamble, &TimeLimits { statement: Duration::ZERO, ..rules.limits });
        if flush == Flush::Later {
            preamble.push_str("; SET LOCAL synchronous_commit = off");
        }
        let _ = write!(preamble, "; SELECT pg_advisory_xact_lock(hashtextextended('{schema}', 0))");
        Self(Tx::new(connection, preamble, Statements::Unnamed, rules.limits.connect, tls, None))
    }

    /// Runs a query and gives its rows.
    pub(crate) async fn query(
        &self,
        sql: &str,
        params: &[&dyn Param],
    ) -> Result<Vec<Row>, Failure> {
        self.0.query(sql, params).await
    }

    /// Runs a query that gives at most one row.
    pub(crate) async fn query_opt(
        &self,
        sql: &str,
        params: &[&dyn Param],
    ) -> Result<Option<Row>, Failure> {
        at_most_one(self.query(sql, params).await?)
    }

    /// Runs a query that gives exactly one row.
    pub(crate) async fn query_one(&self, sql: &str, params: &[&dyn Param]) -> Result<Row, Failure> {
        exactly_one(self.query(sql, params).await?)
    }

    /// Runs a statement and gives the number of rows that it touched.
    pub(crate) async fn execute(&self, sql: &str, params: &[&dyn Param]) -> Result<u64, Failure> {
        self.0.execute(sql, params).await
    }

    /// Runs one last query and commits, in a single round trip.
    pub(crate) async fn query_and_commit(
        self,
        sql: &str,
        params: &[&dyn Param],
    ) -> Result<Vec<Row>, Failure> {
        self.0.query_and_commit(sql, params).await
    }

    /// Rolls back and waits for it, where what comes next may look at what is left.
    pub(super) async fn roll_back(mut self) -> Result<(), Failure> {
        self.0.run(self.0.client().batch_execute("ROLLBACK")).await?;
        self.0.connection = None;
        Ok(())
    }

    /// Rolls back by giving the connection up: its backend has looked at so many tables that it would keep
    /// their descriptions in memory for ever.
    pub(super) fn give_up(mut self) {
        if let Some(connection) = self.0.connection.take() {
            drop(connection.give_up());
        }
    }

    /// Runs several statements in one message; for DDL, whose identifiers come from [`SchemaName`].
    pub(super) async fn batch(&self, sql: &str) -> Result<(), Failure> {
        self.0.run(self.0.client().batch_execute(sql)).await
    }

    /// Begins, and runs a query in the same message; gives its rows, as text.
    pub(super) async fn begin_with(&self, query: &str) -> Result<Vec<SimpleQueryRow>, Failure> {
        self.0.begin_with(query).await
    }

    /// Runs several statements (at least one) in one message and commits with it. The server stops at the first
    /// that fails, also where one failed in a message that is still on its way, and then does not get as far as
    /// the commit; so what must not be committed is prevented by a statement that fails.
    ///
    /// # Errors
    /// Where anything has failed, before or in this message: the transaction is rolled back.
    pub(super) async fn batch_and_commit(&self, sql: &str) -> Result<(), Failure> {
        self.0.commit_with(&format!("{sql}\n;\nCOMMIT")).await
    }

    /// Commits.
    ///
    /// # Errors
    /// Where a statement had failed before: the transaction was rolled back.
    pub(crate) async fn commit(self) -> Result<(), Failure> {
        self.0.commit().await
    }

    /// Commits behind statements that are polled together with this one and before it, in their round
    /// trip: `join!(tx.execute(..), tx.execute(..), tx.commit_behind())`. The server takes them in this
    /// order, and commits only if all of them went well. Where one could not even be sent, neither is the
    /// commit; and nothing is sent after it.
    ///
    /// # Errors
    /// Where anything has failed, before or together with it: the transaction is rolled back.
    pub(crate) async fn commit_behind(&self) -> Result<(), Failure> {
        self.0.commit_with(COMMIT).await
    }
}

/// Points a control-plane transaction at a tenant's schema while migrations run, as the owner.
pub(super) async fn enter_schema(
    tx: &PublicTx,
    schema: &SchemaName,
    limits: &TimeLimits,
) -> Result<(), Failure> {
    // A migration may take long; a lock that it waits for may not.
    let sql = format!(
        "SET LOCAL search_path = {schema}, extensions, pg_temp; SET LOCAL statement_timeout = 0; \
         SET LOCAL lock_timeout = {}",
        limits.lock.as_millis()
    );
    tx.batch(&sql).await
}

/// Points it back.
pub(super) async fn leave_schema(tx: &PublicTx, limits: &TimeLimits) -> Result<(), Failure> {
    let sql = format!(
        "SET LOCAL search_path = public, extensions, pg_temp; SET LOCAL statement_timeout = {}",
        limits.statement.as_millis()
    );
    tx.batch(&sql).await
}

/// A connection of its own for what PostgreSQL runs outside of a transaction alone, as the owner. It sees one
/// schema from its first moment to its last: the path is part of how it connects, nothing is set on it, and
/// it is closed rather than lent again. A pooler does not take the path, or does not keep it; both show.
pub(super) struct Lone(tokio_postgres::Client);

impl Lone {
    pub(super) async fn open(
        endpoint: &super::pool::Endpoint,
        schema: &SchemaName,
        limits: &TimeLimits,
    ) -> Result<Self, super::migrations::MigrationError> {
        use super::migrations::MigrationError;
        let path = format!("{schema},extensions,pg_temp");
        let before = endpoint.config.get_options().unwrap_or_default();
        let mut config = endpoint.config.clone();
        config.options(format!(
            "{before} -c search_path={path} -c statement_timeout=0 -c lock_timeout={}",
            limits.lock.as_millis()
        ));
        let connecting = config.connect(endpoint.tls.clone());
        let (client, connection) = match connecting.await {
            Err(error) if error.code() == Some(&SqlState::PROTOCOL_VIOLATION) => {
                return Err(MigrationError::NotDirect);
            }
            outcome => outcome.map_err(Failure::from)?,
        };
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = %error, "a connection of its own broke");
            }
        });
        let row = client.query_typed("SELECT current_setting('search_path')", &[]).await;
        let found = row.map_err(Failure::from)?;
        let found = found.first().map(|row| row.get::<_, String>(0)).unwrap_or_default();
        if found.replace(' ', "") == path {
            Ok(Self(client))
        } else {
            Err(MigrationError::NotDirect)
        }
    }

    /// Runs one statement in a message of its own.
    pub(super) async fn run(&self, sql: &str) -> Result<(), Failure> {
        Ok(self.0.batch_execute(sql).await?)
    }
}

/// Unnamed statements that give columns of built-in types and no others, by a digest of their text.
///
/// tokio-postgres looks an unknown type (an enum, `citext`) up on the same connection before it reads the
/// rows, and so waits for ever behind a result that fills its buffers (rust-postgres#1348). A statement
/// that is not known to be plain is therefore described first, in a round trip of its own.
#[derive(Default)]
pub(super) struct PlainStatements {
    digests: RwLock<HashSet<u64>>,
    hasher: RandomState,
}

impl PlainStatements {
    fn contains(&self, sql: &str) -> bool {
        let digests = self.digests.read().unwrap_or_else(PoisonError::into_inner);
        digests.contains(&self.hasher.hash_one(sql))
    }

    fn learn(&self, sql: &str, statement: &Statement) {
        let is_plain =
            statement.columns().iter().all(|c| Type::from_oid(c.type_().oid()).is_some());
        if is_plain {
            let mut digests = self.digests.write().unwrap_or_else(PoisonError::into_inner);
            if digests.len() >= MAX_PLAIN {
                digests.clear();
            }
            digests.insert(self.hasher.hash_one(sql));
        }
    }
}

/// The machinery under both scopes.
struct Tx {
    /// Gone once committed, rolled back or given up.
    connection: Option<Loan>,
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
    patience: Duration,
    tls: MakeRustlsConnect,
    /// None where all statements are ours and plain.
    plain: Option<Arc<PlainStatements>>,
}

impl Tx {
    fn new(
        connection: Loan,
        preamble: String,
        statements: Statements,
        patience: Duration,
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
            patience,
            tls,
            plain,
        }
    }

    fn client(&self) -> &Loan {
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

    async fn begin_with(&self, query: &str) -> Result<Vec<SimpleQueryRow>, Failure> {
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

    async fn query(&self, sql: &str, params: &[&dyn Param]) -> Result<Vec<Row>, Failure> {
        self.run(async {
            let statement = self.prepare(sql, params).await?;
            self.send_query(statement.as_ref(), sql, params).await
        })
        .await
    }

    async fn execute(&self, sql: &str, params: &[&dyn Param]) -> Result<u64, Failure> {
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
    async fn query_and_commit(
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

    async fn commit(mut self) -> Result<(), Failure> {
        if self.begun.load(Ordering::Relaxed) {
            self.run(self.client().batch_execute(COMMIT)).await?;
        }
        self.connection = None;
        Ok(())
    }

    async fn commit_with(&self, ending: &str) -> Result<(), Failure> {
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
            drop(connection.give_up());
            return;
        }
        if *self.in_flight.get_mut() == 0 {
            // Polled once, it is queued in front of whatever the next borrower sends.
            let _ = connection.batch_execute("ROLLBACK").now_or_never();
            return;
        }
        let given_up = connection.give_up();
        // Without a runtime to send it from, the statement's own time limit ends the query.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let cancel = given_up.cancel_token();
        let (tls, patience) = (self.tls.clone(), self.patience);
        let entered = *self.entered.get_mut();
        runtime.spawn(async move {
            if !entered {
                tokio::time::sleep(CANCEL_GRACE).await;
            }
            match tokio::time::timeout(patience, cancel.cancel_query(tls)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::debug!(error = %error, "a query that nobody waits for could not be cancelled");
                }
                Err(_elapsed) => {
                    tracing::debug!("a query that nobody waits for could not be cancelled in time");
                }
            }
            // Not before: a pooler knows whose query to cancel for as long as the client is there.
            drop(given_up);
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

fn exactly_one(mut rows: Vec<Row>) -> Result<Row, Failure> {
    if rows.len() == 1 { rows.pop().ok_or(Failure::RowCount) } else { Err(Failure::RowCount) }
}

fn at_most_one(mut rows: Vec<Row>) -> Result<Option<Row>, Failure> {
    if rows.len() > 1 { Err(Failure::RowCount) } else { Ok(rows.pop()) }
}
