//! Hands out transactions that can see exactly one scope: the control plane or one tenant.
//!
//! A [`TenantTx`] is the only way to a tenant's tables. Role, search path and time limits are set with
//! `SET LOCAL`, in the same message as `BEGIN`, and that message is sent together with the first query:
//! one round trip, and no setting outlives the transaction. A session-level `SET` would survive into
//! the next request on the connection, and behind a pooler into the session of another client. (An unnamed
//! query that this process has not run before takes one more round trip: [`BuiltinTypes`].)
//!
//! Three rules keep a statement inside its scope:
//! - The guard is armed before `BEGIN` is sent. Dropped without a commit (after an error, a panic or a cancelled
//!   request), it queues a `ROLLBACK` before anything that the next user of the connection sends.
//! - Dropped with a query still in flight, or after a panic in the middle of a message, the guard discards the
//!   connection and cancels the query, because the next user of the connection would have to wait for it.
//! - A tenant's statements use the extended protocol, which takes one statement a message, and start with one of
//!   [`ALLOWED`](crate::pg::scope::allowed::ALLOWED): statements cannot be stacked, and none that could change the
//!   role is sent to the server.
//!
//! While something is open in the database that the isolation of tenants needs closed, each statement is also read
//! ([`guard`]), and a transaction begins with a reset of the session ([`reset`]).
//!
//! `public` is not in a tenant's search path on purpose. A tenant query that needs a shared table is two
//! queries. Nothing else in the crate enters a tenant; `tests/api/isolation.rs` attacks this file in every way
//! that we know. To add an attack, add it there first.

pub mod allowed;
mod column_types;
mod commits;
pub mod copy;
mod event_signal;
pub(in crate::pg) mod guard;
mod in_schema;
mod large_results;
mod lock_holders;
pub mod param;
mod place;
mod reset;
mod row_lock;
mod savepoint;
mod shared;
mod tx;

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::{Row, SimpleQueryRow};

pub(in crate::pg) use self::column_types::BuiltinTypes;
pub use self::commits::{Commits, Sent};
use self::copy::{RowSink, RowSource};
pub use self::event_signal::EventSignal;
use self::event_signal::RaiseAtEnd;
use self::guard::Guard;
pub use self::in_schema::{Entry, Flush};
use self::in_schema::{MissingLock, begin_in_schema, begin_snapshot, is_late};
pub(in crate::pg) use self::in_schema::{
    Script, TX_IDENTITY_QUERY, TxMark, enter_scratch_schema, fail_with, leave_schemas, pin, unpin,
};
pub use self::large_results::{Portal, Rows};
pub(in crate::pg) use self::lock_holders::LockHolders;
pub(in crate::pg) use self::place::Beside;
use self::place::Place;
use self::reset::{write_reset, write_seed};
pub use self::row_lock::Lock;
pub(crate) use self::shared::Left;
pub use self::shared::SharedTx;
pub(in crate::pg) use self::tx::BatchFailure;
use self::tx::{AnswerLimit, COMMIT, Tx};
use super::error::Failure;
use crate::domain::Access;
use crate::domain::names::{SchemaName, TenantId};
use crate::pg::pool::affinity::CheckedOut;
use crate::pg::rules::{Rules, Statements, TimeLimits, write_limits};
use crate::pg::scope::allowed::check_allowed;
use crate::pg::scope::param::Param;

/// A transaction inside one tenant: it has the tenant's role and sees the tenant's schema only. One that was begun for
/// reading is `READ ONLY`: the server refuses to write in it.
///
/// Dropped without [`commit`](TenantTx::commit), it rolls back.
#[must_use = "a transaction that is dropped is rolled back"]
pub struct TenantTx {
    tx: Tx,
    /// Reads each statement; none if nothing is open in the database.
    guard: Option<Arc<Guard>>,
}

/// A transaction on the control plane, as the owner.
///
/// Dropped without [`commit`](PublicTx::commit), it rolls back without waiting; a transaction that only reads is
/// best dropped.
#[must_use = "a transaction that is dropped is rolled back"]
pub struct PublicTx(Tx, Statements, RaiseAtEnd);

impl TenantTx {
    pub(in crate::pg) fn new(
        connection: CheckedOut,
        tenant: TenantId,
        access: Access,
        rules: &Rules,
        beside: Beside,
        builtin_types: Arc<BuiltinTypes>,
        guard: Option<Arc<Guard>>,
    ) -> Self {
        let schema = SchemaName::of(tenant);
        let tenant = Some(tenant);
        Self::inside(connection, schema, tenant, access, rules, beside, builtin_types, guard)
    }

    /// Refuses a statement that could leave the tenant.
    fn check(&self, sql: &str) -> Result<(), Failure> {
        check_allowed(sql)?;
        self.guard.as_ref().map_or(Ok(()), |guard| guard.check(sql))
    }

    /// Runs a query and returns its rows.
    ///
    /// # Errors
    /// [`Failure`]; after it the transaction can only be dropped.
    pub async fn query(&self, sql: &str, params: &[&dyn Param]) -> Result<Vec<Row>, Failure> {
        self.check(sql)?;
        self.tx.query(sql, params).await
    }

    /// Runs a query that returns exactly one row.
    ///
    /// # Errors
    /// As [`TenantTx::query`], and [`Failure::RowCount`].
    pub async fn query_one(&self, sql: &str, params: &[&dyn Param]) -> Result<Row, Failure> {
        exactly_one(self.query(sql, params).await?)
    }

    /// Runs a query that returns at most one row.
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

    /// Runs a statement and returns the number of rows that it affected.
    ///
    /// # Errors
    /// As [`TenantTx::query`].
    pub async fn execute(&self, sql: &str, params: &[&dyn Param]) -> Result<u64, Failure> {
        self.check(sql)?;
        self.tx.execute(sql, params).await
    }

    /// Runs one last query and commits, in a single round trip. As a transaction's only query it is the
    /// cheapest way to read or write inside a tenant.
    ///
    /// # Errors
    /// As [`TenantTx::query`]; then nothing is committed. If the connection broke
    /// ([`Failure::sqlstate`] is none), the outcome is unknown, as with every commit.
    pub async fn query_and_commit(
        self,
        sql: &str,
        params: &[&dyn Param],
    ) -> Result<Vec<Row>, Failure> {
        self.check(sql)?;
        self.tx.query_and_commit(sql, params).await
    }

    /// Commits.
    ///
    /// # Errors
    /// If an earlier statement had failed; the transaction was rolled back.
    pub async fn commit(self) -> Result<(), Failure> {
        self.tx.commit().await
    }
}

impl PublicTx {
    pub(in crate::pg) fn new(
        connection: CheckedOut,
        rules: &Rules,
        limits: &TimeLimits,
        beside: Beside,
        events: EventSignal,
    ) -> Self {
        let mut preamble =
            String::from("BEGIN; SET LOCAL search_path = public, extensions, pg_temp");
        write_limits(&mut preamble, limits);
        let answer = Some(limits.answer());
        let tx = Self::with_preamble(connection, preamble, None, answer, rules, beside);
        Self(tx.0, tx.1, RaiseAtEnd::new(events))
    }

    /// Records that an audit event is written in this transaction: when it has ended, the [`EventSignal`] is raised.
    pub(in crate::pg) fn writes_event(&self) {
        self.2.note();
    }

    /// Begins inside a schema, as the owner, for migrations of a tenant that already exists: takes the schema's
    /// [`Lock`]. `statement_timeout` is off, because a migration may take long; `lock_timeout` is not.
    pub(in crate::pg) fn in_schema(
        connection: CheckedOut,
        schema: &SchemaName,
        entry: Entry,
        rules: &Rules,
        beside: Beside,
    ) -> Self {
        let preamble = begin_in_schema(schema, entry, rules, MissingLock::Insert);
        Self::with_preamble(connection, preamble, Some(schema), None, rules, beside)
    }

    /// Begins a snapshot of a schema and of the control plane, as the owner, with these tables locked against what
    /// would rewrite them; see [`begin_snapshot`].
    pub(in crate::pg) fn snapshot(
        connection: CheckedOut,
        (schema, tables, access): (&SchemaName, &[String], Access),
        rules: &Rules,
        beside: Beside,
        events: EventSignal,
    ) -> Self {
        let preamble = begin_snapshot(schema, tables, access, rules);
        let tx = Self::with_preamble(connection, preamble, Some(schema), None, rules, beside);
        Self(tx.0, tx.1, RaiseAtEnd::new(events))
    }

    /// Runs several transactions pipelined on one connection, one message each. Each begins as
    /// [`in_schema`](Self::in_schema) does, runs its script (at least one statement) and commits. Returns the outcome
    /// of each, in order. A script whose schema's [`Lock`] has no row yet finds that its [mark](TxMark) is not set.
    ///
    /// The server stops at the first statement that fails, so that script is not committed, and the transactions
    /// after it fail as well without having done anything.
    pub(in crate::pg) async fn run_pipelined(
        connection: CheckedOut,
        scripts: &[Script],
        entry: Entry,
        rules: &Rules,
        beside: Beside,
    ) -> Vec<Result<(), Failure>> {
        let transactions: Vec<(String, &str)> = scripts
            .iter()
            .map(|script| {
                let missing = MissingLock::LeaveUnmarked(&script.mark);
                (begin_in_schema(&script.schema, entry, rules, missing), script.sql.as_str())
            })
            .collect();
        let Self(tx, ..) =
            Self::with_preamble(connection, String::new(), None, None, rules, beside);
        tx.run_pipelined(&transactions).await
    }

    /// Statements are unnamed: [`commit_behind`](Self::commit_behind) would overtake one that must be prepared
    /// first. Only the last query of [`query_and_commit`](Self::query_and_commit) is sent as the rules say.
    fn with_preamble(
        connection: CheckedOut,
        preamble: String,
        schema: Option<&SchemaName>,
        answer_within: Option<Duration>,
        rules: &Rules,
        beside: Beside,
    ) -> Self {
        let wait_timeout = rules.limits.connect;
        let (schema, lock_timeout) = (schema.cloned(), rules.limits.lock);
        let place = Place { schema, lock_timeout, answer_within, beside };
        let tx = Tx::new(connection, preamble, Statements::Unnamed, wait_timeout, place, None)
            .sent_to(rules.engine, rules.direct.owner);
        Self(tx, rules.control_statements, RaiseAtEnd::new(EventSignal::default()))
    }

    /// Runs a query and returns its rows.
    pub(crate) async fn query(
        &self,
        sql: &str,
        params: &[&dyn Param],
    ) -> Result<Vec<Row>, Failure> {
        self.0.query(sql, params).await
    }

    /// As [`query`](Self::query), but the query is prepared as the rules say, so
    /// [`commit_behind`](Self::commit_behind) must not be polled together with it.
    pub(crate) async fn query_prepared(
        &self,
        sql: &str,
        params: &[&dyn Param],
    ) -> Result<Vec<Row>, Failure> {
        self.0.query_as(self.1, sql, params).await
    }

    /// Runs a query that returns at most one row.
    pub(crate) async fn query_opt(
        &self,
        sql: &str,
        params: &[&dyn Param],
    ) -> Result<Option<Row>, Failure> {
        at_most_one(self.query(sql, params).await?)
    }

    /// Runs a query that returns exactly one row.
    pub(crate) async fn query_one(&self, sql: &str, params: &[&dyn Param]) -> Result<Row, Failure> {
        exactly_one(self.query(sql, params).await?)
    }

    /// Runs a statement and returns the number of rows that it affected.
    pub(crate) async fn execute(&self, sql: &str, params: &[&dyn Param]) -> Result<u64, Failure> {
        self.0.execute(sql, params).await
    }

    /// Runs one last query and commits, in a single round trip.
    pub(crate) async fn query_and_commit(
        self,
        sql: &str,
        params: &[&dyn Param],
    ) -> Result<Vec<Row>, Failure> {
        self.0.with_statements(self.1).query_and_commit(sql, params).await
    }

    /// Rolls back and waits for it, so that the next transaction sees the effect.
    pub(in crate::pg) async fn roll_back(self) -> Result<(), Failure> {
        self.0.roll_back().await
    }

    /// Rolls back by discarding the connection: its backend has read so many tables that it would keep their
    /// descriptions in memory for as long as it lives.
    pub(in crate::pg) fn discard(self) {
        self.0.discard();
    }

    /// Runs several statements, in one message if the engine takes that; for DDL, whose identifiers come from
    /// [`SchemaName`].
    pub(in crate::pg) async fn batch(&self, sql: &str) -> Result<(), Failure> {
        self.0.batch(sql).await
    }

    /// Begins and runs a query in the same message; returns its rows as text.
    ///
    /// # Errors
    /// [`Failure::Late`] if it begins later than [`Entry::before`].
    pub(in crate::pg) async fn begin_with(
        &self,
        query: &str,
    ) -> Result<Vec<SimpleQueryRow>, Failure> {
        let begun = self.0.begin_with(query).await;
        begun.map_err(|failure| if is_late(&failure) { Failure::Late } else { failure })
    }

    /// As [`batch`](Self::batch); a failure tells how many statements had completed.
    pub(in crate::pg) async fn batch_counted(&self, sql: &str) -> Result<(), BatchFailure> {
        self.0.batch_counted(sql).await
    }

    /// Runs several statements (at least one) and the commit in one message. The server stops at the first failure,
    /// in this message or in one that is still in flight, and does not reach the commit; so a statement that fails
    /// prevents it.
    ///
    /// # Errors
    /// If any statement has failed, before or in this message; the transaction is rolled back.
    pub(in crate::pg) async fn batch_and_commit_counted(
        &self,
        sql: &str,
    ) -> Result<(), BatchFailure> {
        self.0.commit_counted(&format!("{sql}\n;\nCOMMIT")).await
    }

    /// Runs `COPY .. FROM stdin` with these rows.
    pub(in crate::pg) async fn copy_in(&self, copy: &str, rows: &str) -> Result<(), Failure> {
        self.0.copy_in(copy, rows).await
    }

    /// Runs `COPY .. (HEADER) TO stdout` and hands the rows to a sink.
    ///
    /// # Errors
    /// The inner error is the sink's; the transaction can then only be dropped.
    pub(in crate::pg) async fn copy_out<S: RowSink>(
        &self,
        copy: &str,
        sink: &mut S,
    ) -> Result<Result<(), S::Error>, Failure> {
        self.0.copy_out(copy, sink).await
    }

    /// Runs `COPY .. FROM stdin` with what a source gives; returns the number of rows.
    ///
    /// # Errors
    /// The inner error is the source's; the transaction can then only be dropped.
    pub(in crate::pg) async fn copy_from<S: RowSource>(
        &self,
        copy: &str,
        source: &mut S,
    ) -> Result<Result<u64, S::Error>, Failure> {
        self.0.copy_from(copy, source).await
    }

    /// Lets the next messages wait longer for their answers, for statements without a limit of the server.
    pub(in crate::pg) fn may_take_long(&self) {
        self.0.limit_answers(AnswerLimit::Long);
    }

    /// Lets all messages wait for their answers without a limit: for work on a tenant's own rows, which an operator
    /// watches.
    pub(in crate::pg) fn may_take_any_time(&self) {
        self.0.limit_answers(AnswerLimit::None);
    }

    /// Declares that migration files run in this transaction. What they leave in the session is undone behind each
    /// file; if the transaction is not committed, its connection is discarded, because session locks and prepared
    /// statements survive a rollback.
    pub(in crate::pg) fn runs_files(&self) {
        self.0.runs_files();
    }

    /// Commits.
    ///
    /// # Errors
    /// If an earlier statement had failed; the transaction was rolled back.
    pub(crate) async fn commit(self) -> Result<(), Failure> {
        self.0.commit().await
    }

    /// Commits after statements that are polled together with it and before it, in the same round
    /// trip: `join!(tx.execute(..), tx.execute(..), tx.commit_behind())`. The server runs them in this
    /// order and commits only if all of them succeed. If one of them cannot be sent, the commit is not sent
    /// either; nothing is sent after the commit.
    ///
    /// # Errors
    /// If any statement has failed, before or together with it; the transaction is rolled back.
    pub(crate) async fn commit_behind(&self) -> Result<(), Failure> {
        self.0.commit_with(COMMIT).await
    }
}

/// Sets the search path of a control-plane transaction to a tenant's schema while migrations run, as the owner.
pub(in crate::pg) async fn enter_schema(
    tx: &PublicTx,
    schema: &SchemaName,
    limits: &TimeLimits,
) -> Result<(), Failure> {
    tx.may_take_long();
    // A migration may take long; its wait for a lock may not.
    let sql = format!(
        "SET LOCAL search_path = {schema}, extensions; SET LOCAL statement_timeout = 0; \
         SET LOCAL lock_timeout = {}",
        limits.lock.as_millis()
    );
    tx.batch(&sql).await
}

/// Returns the statements that set the search path back to the control plane.
pub(in crate::pg) fn leave_schema_sql(limits: &TimeLimits) -> String {
    format!(
        "SET LOCAL search_path = public, extensions, pg_temp; SET LOCAL statement_timeout = {}",
        limits.statement.as_millis()
    )
}

/// Sets the search path back to the control plane.
pub(in crate::pg) async fn leave_schema(tx: &PublicTx, limits: &TimeLimits) -> Result<(), Failure> {
    tx.0.limit_answers(AnswerLimit::Usual);
    tx.batch(&leave_schema_sql(limits)).await
}

pub(in crate::pg) fn exactly_one(mut rows: Vec<Row>) -> Result<Row, Failure> {
    if rows.len() == 1 { rows.pop().ok_or(Failure::RowCount) } else { Err(Failure::RowCount) }
}

fn at_most_one(mut rows: Vec<Row>) -> Result<Option<Row>, Failure> {
    if rows.len() > 1 { Err(Failure::RowCount) } else { Ok(rows.pop()) }
}
