//! How a transaction begins inside a schema to migrate it: its lock, its time limits, and the identity by which it is
//! recognised at its end.

use std::fmt::Write as _;
use std::time::Duration;

use postgres_protocol::escape::escape_literal;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::domain::Access;
use crate::domain::names::SchemaName;
use crate::pg::error::Failure;
use crate::pg::rules::{Rules, TimeLimits, write_limits};
use crate::pg::scope::PublicTx;
use crate::pg::scope::row_lock::Lock;

/// When a commit is written to disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flush {
    /// Before the commit is answered, if the server's own settings say so.
    Now,
    /// Shortly after it is answered (`synchronous_commit = off`): a crash of the server may lose the whole
    /// transaction and all later ones. The next commit with [`Flush::Now`] writes all earlier ones too.
    Later,
}

/// How a transaction inside a schema begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// When its commit is written to disk.
    pub flush: Flush,
    /// The transaction fails unless it begins before this time, by the database's clock.
    pub before: Option<OffsetDateTime>,
}

/// What a transaction does if the row of its schema's lock is missing.
#[derive(Clone, Copy)]
pub(super) enum MissingLock<'a> {
    /// Inserts it.
    Insert,
    /// Begins without a lock and does not set this mark. Saves a statement.
    LeaveUnmarked(&'a TxMark),
}

/// By what the end of a file recognises that it is in the transaction in which the file began: a setting with a random
/// value, which ends with the transaction.
#[derive(Debug, Clone)]
pub(in crate::pg) struct TxMark(Uuid);

impl TxMark {
    /// A mark that no other transaction has.
    pub(in crate::pg) fn new() -> Self {
        Self(Uuid::new_v4())
    }

    /// Returns the statement that sets it.
    pub(in crate::pg) fn set(&self) -> String {
        format!("SET LOCAL rowhouse.transaction = '{}'", self.0)
    }

    /// Returns the SQL expression that sets it.
    fn set_expression(&self) -> String {
        format!("set_config('rowhouse.transaction', '{}', true)", self.0)
    }

    /// Returns the SQL expression that is true if it is set.
    ///
    /// Qualified, so that a file that changes the search path cannot put functions of its own in front.
    pub(in crate::pg) fn is_set(&self) -> String {
        format!(
            "pg_catalog.current_setting('rowhouse.transaction', true) OPERATOR(pg_catalog.=) '{}'",
            self.0
        )
    }
}

/// What runs in one schema, in a transaction that begins there.
pub(in crate::pg) struct Script {
    /// The schema.
    pub schema: SchemaName,
    /// Set when the transaction begins, if the schema's lock was granted.
    pub mark: TxMark,
    /// The statements, at least one.
    pub sql: String,
}

/// Sets the search path of a control-plane transaction to a schema that it has created and will roll back, to run the
/// control plane's own migrations there.
pub(in crate::pg) async fn enter_scratch_schema(
    tx: &PublicTx,
    schema: &SchemaName,
) -> Result<(), Failure> {
    tx.batch(&format!("SET LOCAL search_path = {schema}, extensions, pg_temp")).await
}

/// Sets the search path of a control-plane transaction to no schema, so that the server qualifies every name.
pub(in crate::pg) async fn leave_schemas(tx: &PublicTx) -> Result<(), Failure> {
    tx.batch("SET LOCAL search_path = pg_catalog, pg_temp").await
}

/// Returns the preamble of a transaction that begins inside a schema. Temporary tables come first in its path, as they do
/// in psql: a file that makes one with the name of a table means the temporary one from then on.
pub(super) fn begin_in_schema(
    schema: &SchemaName,
    entry: Entry,
    rules: &Rules,
    missing: MissingLock<'_>,
) -> String {
    let mut preamble = format!("BEGIN; SET LOCAL search_path = {schema}, extensions");
    write_limits(&mut preamble, &TimeLimits { statement: Duration::ZERO, ..rules.limits });
    if entry.flush == Flush::Later {
        preamble.push_str("; SET LOCAL synchronous_commit = off");
    }
    let lock = Lock::Schema(schema);
    match missing {
        MissingLock::Insert => {
            let _ = write!(preamble, "; {}; SELECT locked.name", lock.insert_sql());
        }
        MissingLock::LeaveUnmarked(mark) => {
            let _ = write!(preamble, "; SELECT {}", mark.set_expression());
        }
    }
    if let Some(before) = entry.before {
        let before = escape_literal(&before.format(&Rfc3339).unwrap_or_default());
        // Read after the lock, which it may have waited for.
        let late = fail_with(LATE_MARKER);
        let _ = write!(preamble, ", CASE WHEN clock_timestamp() >= {before} THEN {late} END");
    }
    // A subquery, so that the row is locked before the expressions above are evaluated.
    let _ = write!(preamble, " FROM ({}) AS locked", lock.select_sql());
    preamble
}

/// Settings with which values are written and read as text: the same bytes on every server, whatever its own settings.
/// With `row_security` off a policy that would hide rows is an error. Without synchronized scans, a table is read in the
/// order in which it is stored.
const PINNED: [(&str, &str); 9] = [
    ("DateStyle", "'ISO, YMD'"),
    ("IntervalStyle", "'postgres'"),
    ("TimeZone", "'UTC'"),
    ("extra_float_digits", "3"),
    ("bytea_output", "'hex'"),
    ("lc_monetary", "'C'"),
    ("xmloption", "'content'"),
    ("row_security", "off"),
    ("synchronize_seqscans", "off"),
];

/// Returns the statements that pin how values are written as text.
pub(in crate::pg) fn pin() -> String {
    PINNED.map(|(name, value)| format!("SET LOCAL {name} = {value}")).join("; ")
}

/// Returns the statements that undo [`pin`].
pub(in crate::pg) fn unpin() -> String {
    PINNED.map(|(name, _)| format!("SET LOCAL {name} TO DEFAULT")).join("; ")
}

/// Returns the preamble of a snapshot that reads a schema and the control plane, whose tables need qualified names.
///
/// The tables are locked before the first query takes the snapshot. A rewritten table looks empty in a snapshot that is
/// older than the rewrite, without an error; a rewrite needs a lock that conflicts with this one.
pub(super) fn begin_snapshot(
    schema: &SchemaName,
    tables: &[String],
    access: Access,
    rules: &Rules,
) -> String {
    let read_only = match access {
        Access::Read => " READ ONLY",
        Access::Write => "",
    };
    let mut preamble = format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ{read_only}; SET LOCAL search_path = {schema}, extensions, pg_temp"
    );
    write_limits(&mut preamble, &TimeLimits { statement: Duration::ZERO, ..rules.limits });
    let _ = write!(preamble, "; {}", pin());
    if !tables.is_empty() {
        let _ =
            write!(preamble, "; LOCK TABLE ONLY {} IN ACCESS SHARE MODE", tables.join(", ONLY "));
    }
    preamble
}

/// The text in the server's error if a transaction begins too late; the server quotes it in every language.
const LATE_MARKER: &str = "rowhouse: late";

/// The SQL expression, a text, that makes a statement fail with a marker where it is evaluated: it asks for a setting that
/// does not exist. In a `CASE` it is evaluated only in its branch. To plan it costs less than a cast that fails.
pub(in crate::pg) fn fail_with(marker: &str) -> String {
    format!("pg_catalog.current_setting('{marker}')")
}

/// Whether a transaction failed because it began too late ([`Entry::before`]).
pub(super) fn is_late(failure: &Failure) -> bool {
    failure.has_marker(LATE_MARKER)
}

/// The query for the identity of the current transaction: its id, search path and role.
///
/// Qualified, so that a file that changes the search path cannot put functions of its own in front.
pub(in crate::pg) const TX_IDENTITY_QUERY: &str = "SELECT pg_catalog.concat_ws(' ', pg_catalog.pg_current_xact_id(), \
     pg_catalog.current_setting('search_path'), current_user) AS identity";
