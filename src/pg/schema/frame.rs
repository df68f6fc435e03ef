//! What surrounds each migration file in its transaction: the role that it runs as, and the clean-up after it.
//!
//! A file runs as [`MIGRATOR`](crate::pg::rules::MIGRATOR), which has rights in the schemas of tenants and none on
//! `public`, on the database or on roles; on Citus as the owner ([`Rules::migrator`]). Behind the file the server is asked whether the transaction, the schema and the role are still those in
//! which it began. Then everything that could outlive the file is undone: settings, temporary tables, cursors,
//! prepared statements, session locks. So a file does the same whether it runs alone or together with others, and the
//! next user of the connection finds nothing of it. The history is written by the owner.
//!
//! Each query costs a noticeable part of what a small file takes; a `SET` costs nearly nothing. So what only some sets
//! can leave behind is undone only for a set whose files mention the word, and a transaction is recognised by a mark
//! that is set with it, which ends with it.

use std::fmt::Write as _;
use std::time::Duration;

use crate::domain::names::SchemaName;
use crate::migrations::{HistoryGuard, Mention, MigrationSet};
use crate::pg::rules::{Rules, TimeLimits, write_limits};
use crate::pg::scope::{Flush, TxMark, fail_with};

/// Part of the server's message if a file has changed its transaction, schema or role. The server quotes it in every
/// language.
pub(super) const TRANSACTION_CHANGED: &str = "rowhouse: transaction changed";

/// Deallocates the statements that SQL has prepared, and not those that our own connection has.
const DEALLOCATE: &str = "DO $$ DECLARE name text; BEGIN
    FOR name IN SELECT p.name FROM pg_catalog.pg_prepared_statements p WHERE p.from_sql LOOP
        EXECUTE format('DEALLOCATE %I', name);
    END LOOP; END $$";

/// The statements around the files of a set in one schema.
pub(in crate::pg) struct Frame {
    /// The schema.
    pub(super) schema: SchemaName,
    /// By what the end of a file recognises the transaction.
    mark: TxMark,
    /// The statements before a file.
    open: String,
    /// The end of a file, as the migrator.
    end: String,
    /// The clean-up, as the owner.
    clean_up: String,
    /// The settings with which a file begins.
    settings: String,
    guard: HistoryGuard,
}

impl Frame {
    /// Returns the frame for a set whose files run in a schema. `flush` is how the transaction began.
    pub(in crate::pg) fn new(
        set: &MigrationSet,
        schema: &SchemaName,
        rules: &Rules,
        flush: Flush,
    ) -> Self {
        let limits = &rules.limits;
        let role = rules.migrator();
        let is_role = match role {
            Some(role) => format!("'{role}'"),
            None => "session_user".to_owned(),
        };
        let mark = TxMark::new();
        let mut end = String::new();
        if set.mentions(Mention::Deferrable) {
            // Checked as the migrator: a trigger that is deferred to the commit would run as the owner.
            end.push_str(&check_deferred(schema));
        }
        let savepoint = set.mentions(Mention::Savepoint);
        if savepoint {
            // Releases also the savepoints that the file has left.
            end.push_str("RELEASE SAVEPOINT rowhouse_file; ");
        }
        let _ = write!(
            end,
            "SELECT CASE WHEN {} \
             AND pg_catalog.current_setting('search_path') OPERATOR(pg_catalog.=) '{schema}, extensions' \
             AND current_user OPERATOR(pg_catalog.=) {is_role} THEN '' ELSE {} END; \
             SET LOCAL ROLE NONE",
            mark.is_set(),
            fail_with(TRANSACTION_CHANGED)
        );
        let mut clean_up = String::new();
        for (word, statement) in [
            (Mention::Temporary, "DISCARD TEMP"),
            (Mention::Cursor, "CLOSE ALL"),
            (Mention::Listen, "UNLISTEN *"),
            (Mention::AdvisoryLock, "SELECT pg_catalog.pg_advisory_unlock_all()"),
            (Mention::Prepare, DEALLOCATE),
        ] {
            if set.mentions(word) {
                let _ = write!(clean_up, "{statement}; ");
            }
        }
        // The row of the history must not wait for a lock without end.
        let lock = limits.lock.as_millis();
        let _ = write!(clean_up, "RESET ALL; SET LOCAL lock_timeout = {lock}");
        if flush == Flush::Later {
            clean_up.push_str("; SET LOCAL synchronous_commit = off");
        }
        let mut settings = format!("SET LOCAL search_path = {schema}, extensions");
        write_limits(&mut settings, &TimeLimits { statement: Duration::ZERO, ..*limits });
        if let Some(here) = rules.keep_ddl_here() {
            let _ = write!(settings, "; {here}");
        }
        let mut open = format!("SET LOCAL ROLE {}", role.unwrap_or("NONE"));
        if savepoint {
            open.push_str("; SAVEPOINT rowhouse_file");
        }
        let guard = if rules.engine.is_citus() { HistoryGuard::Apart } else { HistoryGuard::InRow };
        Self { schema: schema.clone(), mark, open, end, clean_up, settings, guard }
    }

    /// The mark of the transaction, for one that sets it itself when it begins.
    pub(super) fn mark(&self) -> &TxMark {
        &self.mark
    }

    /// How the first row of the history is guarded.
    pub(super) const fn guard(&self) -> HistoryGuard {
        self.guard
    }

    /// Returns the statements before a file in a transaction that has no mark yet.
    pub(in crate::pg) fn open(&self) -> String {
        format!("{}; {}", self.mark.set(), self.open)
    }

    /// Returns the statements before the first file in a transaction that [sets the mark](Self::mark) when it begins.
    pub(super) fn open_marked(&self) -> &str {
        &self.open
    }

    /// Returns the statements behind a file. The current role is then the owner again, and nothing but the row of the
    /// history may follow without [`settings`](Self::settings).
    pub(in crate::pg) fn close(&self) -> String {
        format!("{}; {}", self.end, self.clean_up)
    }

    /// Returns the statements that set again what [`close`](Self::close) has reset.
    pub(in crate::pg) fn settings(&self) -> &str {
        &self.settings
    }
}

/// Builds the statement that checks what is deferred, and then defers again what is deferred unless a file says otherwise.
///
/// By name: `SET CONSTRAINTS ALL` would hold for the constraints that the next file creates, too.
fn check_deferred(schema: &SchemaName) -> String {
    format!(
        "DO $$ DECLARE k record; BEGIN
            FOR k IN SELECT c.conname AS name FROM pg_catalog.pg_constraint c
                      WHERE c.connamespace = '{schema}'::regnamespace AND c.condeferrable LOOP
                EXECUTE format('SET CONSTRAINTS {schema}.%I IMMEDIATE', k.name);
            END LOOP;
            FOR k IN SELECT c.conname AS name FROM pg_catalog.pg_constraint c
                      WHERE c.connamespace = '{schema}'::regnamespace
                      GROUP BY c.conname HAVING bool_or(c.condeferred) AND bool_and(c.condeferrable) LOOP
                EXECUTE format('SET CONSTRAINTS {schema}.%I DEFERRED', k.name);
            END LOOP; END $$; "
    )
}
