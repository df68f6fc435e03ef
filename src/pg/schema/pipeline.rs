//! Migrates several schemas pipelined on one connection, each in one message from `BEGIN` to `COMMIT`, without
//! reading their histories first.
//!
//! A message holds no rows of `COPY`: a prefix whose remaining files have some is migrated step by step. Nor does the
//! migrator have rights in a schema that was made before there was that role: its message fails.
//!
//! The expected history comes from the tenant's row, and the script verifies it: the statement that adds a row to
//! the history fails if the schema's history differs. A schema that was not migrated this way takes the slower
//! path (`enter` and `catch_up`), which reads the
//! history and names the file and the line that failed.

use std::collections::HashSet;
use std::fmt::Write as _;

use time::OffsetDateTime;

use crate::domain::names::SchemaName;
use crate::migrations::{AppliedPrefix, HISTORY_TABLE, MigrationSet, Piece};
use crate::pg::db::Db;
use crate::pg::error::Failure;
use crate::pg::rules::Rules;
use crate::pg::scope::{Entry, PublicTx, Script};

use super::frame::Frame;

/// A schema to bring up to date.
pub struct MigrationTarget<'a> {
    /// The schema.
    pub schema: SchemaName,
    /// The prefix of the set that it is expected to have applied.
    pub prefix: &'a AppliedPrefix,
}

/// The outcome for one schema.
pub enum PipelinedOutcome {
    /// It is up to date.
    Migrated,
    /// It was not changed. The cause is unknown here; it may only have been queued behind a schema that failed.
    NotMigrated,
    /// A lock was not granted, or the connection was lost. It was not changed, unless the answer to its commit was
    /// lost.
    Interrupted(Failure),
}

/// Brings schemas up to date, each in its own transaction, pipelined on one connection; returns the outcome of each
/// in order.
///
/// # Errors
/// [`Failure`] if no connection is available.
pub async fn catch_up_pipelined(
    db: &Db,
    set: &MigrationSet,
    targets: &[MigrationTarget<'_>],
    entry: Entry,
    now: OffsetDateTime,
) -> Result<Vec<PipelinedOutcome>, Failure> {
    let script = |target: &MigrationTarget<'_>| {
        let frame = Frame::new(set, &target.schema, db.rules(), entry.flush);
        let sql = set.script(&target.schema, target.prefix, &frame, now);
        Script { schema: target.schema.clone(), mark: frame.mark().clone(), sql }
    };
    let scripts: Vec<_> = targets.iter().map(script).collect();
    let outcomes = db.run_pipelined(&scripts, entry).await?.into_iter().map(|ran| match ran {
        Ok(()) => PipelinedOutcome::Migrated,
        Err(failure) if failure.is_unavailable() || failure.is_retryable() => {
            PipelinedOutcome::Interrupted(failure)
        }
        Err(_failure) => PipelinedOutcome::NotMigrated,
    });
    Ok(outcomes.collect())
}

impl MigrationSet {
    /// Builds one script that runs the files after a prefix and adds their rows to the history. It fails unless the
    /// history is that of the prefix, and the transaction is the one that began inside the schema.
    fn script(
        &self,
        schema: &SchemaName,
        prefix: &AppliedPrefix,
        frame: &Frame,
        now: OffsetDateTime,
    ) -> String {
        let mut script = String::new();
        let mut is_first = true;
        for at in &prefix.files.0 {
            if !is_first {
                let _ = writeln!(script, "{};", frame.settings());
            }
            script.extend(self.extensions(*at).flat_map(|statement| [statement, "\n;\n"]));
            if is_first {
                script.push_str(frame.open_marked());
            } else {
                script.push_str(&frame.open());
            }
            for piece in self.pieces(*at) {
                if let Piece::Statements { sql, .. } = piece {
                    script.push_str(";\n");
                    script.push_str(sql);
                }
            }
            // The semicolon is on its own line, so that it is not part of a comment at the end of the file.
            let row = if is_first {
                self.first_history_row(*at, schema, prefix, now, frame.guard())
            } else {
                self.history_row(*at, schema, now)
            };
            let _ = write!(script, "\n;\n{};\n{row};\n", frame.close());
            is_first = false;
        }
        script
    }
}

/// Returns the schemas that are migrated step by step, which gives them the rights of a new one: those in which the
/// migrator may create nothing, and those whose history a role other than its owner may write. One query for all schemas
/// replaces a check in each message.
///
/// # Errors
/// [`Failure`].
pub async fn schemas_with_other_rights(
    tx: &PublicTx,
    rules: &Rules,
) -> Result<HashSet<String>, Failure> {
    let sql = "SELECT nspname::text AS schema
                 FROM pg_class
                 JOIN pg_namespace ON pg_namespace.oid = relnamespace
                WHERE relname = $1
                  AND (EXISTS (SELECT FROM aclexplode(relacl)
                                WHERE grantee <> relowner AND privilege_type = 'INSERT')
                       OR ($2::text IS NOT NULL
                           AND NOT EXISTS (SELECT FROM aclexplode(nspacl)
                                            WHERE grantee = $2::text::regrole AND privilege_type = 'CREATE')))";
    let migrator = rules.migrator().map(str::to_owned);
    let rows = tx.query(sql, &[&HISTORY_TABLE, &migrator]).await?;
    Ok(rows.iter().map(|row| row.get("schema")).collect())
}
