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
//!   [`ALLOWED`](crate::pg::scope::allowed::ALLOWED): nothing stacks, and nothing that could change the role ever
//!   reaches the server.
//!
//! `public` is left out of a tenant's path on purpose. A tenant query that needs a shared table is two
//! queries. Nothing else in the crate enters a tenant; `tests/api/isolation.rs` tries to get around this
//! file in every way we could think of. Found another? Add it there first.

pub mod allowed;
mod column_types;
pub mod param;
mod tx;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use postgres_protocol::escape::escape_literal;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio_postgres::{Row, SimpleQueryRow};
use tokio_postgres_rustls::MakeRustlsConnect;

pub(in crate::pg) use self::column_types::PlainStatements;
use self::tx::{COMMIT, Tx};
use super::error::Failure;
use crate::domain::names::SchemaName;
use crate::pg::pool::affinity::CheckedOut;
use crate::pg::rules::{Rules, Statements, TimeLimits, write_limits};
use crate::pg::scope::allowed::check_allowed;
use crate::pg::scope::param::Param;

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
pub struct PublicTx(Tx, Statements);

/// When a commit is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flush {
    /// Before it is answered, as far as the server's own settings say so.
    Now,
    /// A moment later: a crash of the server may lose it, as a whole, with all that came after it. The next
    /// commit that is answered from disk puts all before it there as well.
    Later,
}

/// How a transaction begins that works inside of a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// When its commit is on disk.
    pub flush: Flush,
    /// It fails unless it has begun before this moment, by the database's clock.
    pub before: Option<OffsetDateTime>,
}

impl TenantTx {
    pub(in crate::pg) fn new(
        connection: CheckedOut,
        schema: &SchemaName,
        rules: &Rules,
        tls: MakeRustlsConnect,
        plain: Arc<PlainStatements>,
    ) -> Self {
        let mut preamble = String::with_capacity(256);
        preamble.push_str("BEGIN");
        if rules.isolation == crate::pg::rules::Isolation::Role {
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
    pub(in crate::pg) fn new(
        connection: CheckedOut,
        rules: &Rules,
        tls: MakeRustlsConnect,
    ) -> Self {
        let mut preamble =
            String::from("BEGIN; SET LOCAL search_path = public, extensions, pg_temp");
        write_limits(&mut preamble, &rules.limits);
        Self::with(connection, preamble, rules, tls)
    }

    /// One that begins inside of a schema, as the owner, for migrations of a tenant that is there already: with
    /// the lock of [`locks::lock`](crate::pg::locks::lock) on it, and notes where it is, for [`stands`]. A
    /// migration may take long; a lock that it waits for may not.
    pub(in crate::pg) fn inside(
        connection: CheckedOut,
        schema: &SchemaName,
        entry: Entry,
        rules: &Rules,
        tls: MakeRustlsConnect,
    ) -> Self {
        Self::with(connection, entering(schema, entry, rules), rules, tls)
    }

    /// Several transactions that each begin as [`inside`](Self::inside) does, run their script (at least one
    /// statement) and commit, one behind the other in a message each; what became of each, in their order. The
    /// server stops at the first statement of a script that fails, and so does not get as far as its commit, nor to
    /// those behind it: they have failed as well, and nothing of them is done.
    pub(in crate::pg) async fn one_behind_the_other(
        connection: CheckedOut,
        scripts: &[(SchemaName, String)],
        entry: Entry,
        rules: &Rules,
        tls: MakeRustlsConnect,
    ) -> Vec<Result<(), Failure>> {
        let message = |(schema, script): &(SchemaName, String)| {
            format!("{};\n{script}\n;\nCOMMIT", entering(schema, entry, rules))
        };
        let messages: Vec<String> = scripts.iter().map(message).collect();
        let Self(tx, _) = Self::with(connection, String::new(), rules, tls);
        tx.one_behind_the_other(&messages).await
    }

    /// Statements go unnamed: [`commit_behind`](Self::commit_behind) would overtake one that is still to be
    /// prepared. The last one of [`query_and_commit`](Self::query_and_commit) goes as the rules say.
    fn with(
        connection: CheckedOut,
        preamble: String,
        rules: &Rules,
        tls: MakeRustlsConnect,
    ) -> Self {
        let wait_timeout = rules.limits.connect;
        let tx = Tx::new(connection, preamble, Statements::Unnamed, wait_timeout, tls, None);
        Self(tx, rules.control_statements)
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
        self.0.with_statements(self.1).query_and_commit(sql, params).await
    }

    /// Rolls back and waits for it, where what comes next may look at what is left.
    pub(in crate::pg) async fn roll_back(self) -> Result<(), Failure> {
        self.0.roll_back().await
    }

    /// Rolls back by giving the connection up: its backend has looked at so many tables that it would keep
    /// their descriptions in memory for ever.
    pub(in crate::pg) fn discard(self) {
        self.0.discard();
    }

    /// Runs several statements in one message; for DDL, whose identifiers come from [`SchemaName`].
    pub(in crate::pg) async fn batch(&self, sql: &str) -> Result<(), Failure> {
        self.0.batch(sql).await
    }

    /// Begins, and runs a query in the same message; gives its rows, as text.
    pub(in crate::pg) async fn begin_with(
        &self,
        query: &str,
    ) -> Result<Vec<SimpleQueryRow>, Failure> {
        self.0.begin_with(query).await
    }

    /// Runs several statements (at least one) in one message and commits with it. The server stops at the first
    /// that fails, also where one failed in a message that is still on its way, and then does not get as far as
    /// the commit; so what must not be committed is prevented by a statement that fails.
    ///
    /// # Errors
    /// Where anything has failed, before or in this message: the transaction is rolled back.
    pub(in crate::pg) async fn batch_and_commit(&self, sql: &str) -> Result<(), Failure> {
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

/// The preamble of a transaction that begins inside of a schema.
fn entering(schema: &SchemaName, entry: Entry, rules: &Rules) -> String {
    let mut preamble = format!("BEGIN; SET LOCAL search_path = {schema}, extensions, pg_temp");
    write_limits(&mut preamble, &TimeLimits { statement: Duration::ZERO, ..rules.limits });
    if entry.flush == Flush::Later {
        preamble.push_str("; SET LOCAL synchronous_commit = off");
    }
    let _ = write!(
        preamble,
        "; SELECT pg_advisory_xact_lock(hashtextextended('{schema}', 0)), \
                  set_config('{NOTED}', ({PLACE}), true)"
    );
    if let Some(before) = entry.before {
        let before = escape_literal(&before.format(&Rfc3339).unwrap_or_default());
        // Behind the lock, for which it may have waited. A number is made of what is none, and not of a constant,
        // which the server would try before it looks at the clock.
        let _ = write!(
            preamble,
            ", CASE WHEN clock_timestamp() >= {before} THEN concat('{LATE}', clock_timestamp())::bigint END"
        );
    }
    preamble
}

/// What the server says where a transaction begins too late; it quotes these words whatever its language.
const LATE: &str = "rowhouse: late at ";

/// Whether it failed because it began too late ([`Entry::before`]).
pub(in crate::pg) fn is_late(failure: &Failure) -> bool {
    failure.quotes(LATE)
}

/// Where a transaction noted down in which place it began. It ends with the transaction.
const NOTED: &str = "rowhouse.place";

/// The expression that tells whether a transaction that began inside of a schema is still the same, in the same
/// place.
pub(in crate::pg) fn stands() -> String {
    format!("({PLACE}) = current_setting('{NOTED}', true)")
}

/// Points a control-plane transaction at a tenant's schema while migrations run, as the owner.
pub(in crate::pg) async fn enter_schema(
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
pub(in crate::pg) async fn leave_schema(tx: &PublicTx, limits: &TimeLimits) -> Result<(), Failure> {
    let sql = format!(
        "SET LOCAL search_path = public, extensions, pg_temp; SET LOCAL statement_timeout = {}",
        limits.statement.as_millis()
    );
    tx.batch(&sql).await
}

pub(in crate::pg) fn exactly_one(mut rows: Vec<Row>) -> Result<Row, Failure> {
    if rows.len() == 1 { rows.pop().ok_or(Failure::RowCount) } else { Err(Failure::RowCount) }
}

fn at_most_one(mut rows: Vec<Row>) -> Result<Option<Row>, Failure> {
    if rows.len() > 1 { Err(Failure::RowCount) } else { Ok(rows.pop()) }
}

/// The expression that gives the transaction, the path and the role in one value.
pub(in crate::pg) const PLACE: &str =
    "concat_ws(' ', pg_current_xact_id(), current_setting('search_path'), current_user)";

/// The query that gives [`PLACE`].
pub(in crate::pg) fn here() -> String {
    format!("SELECT {PLACE} AS here")
}
