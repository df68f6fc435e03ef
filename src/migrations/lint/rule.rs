//! The rules, each with a stable id, a severity, a reason and a remedy.
//!
//! To add a rule: declare it here, add its check in `statements`, `expressions` or `words`, and its cases in
//! `tests.rs`.

use std::fmt;
use std::str::FromStr;

/// What a statement would break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum Severity {
    /// The tenant's isolation: its effect depends on what the schemas of other tenants hold.
    Isolation,
    /// A distributed engine: it cannot run there, or has another effect.
    Distributed,
    /// A rolling deploy: a process of the previous version is still running and fails.
    RollingDeploy,
    /// Traffic: it blocks a table while it runs.
    Lock,
    /// Unknown: the statement must be reviewed by hand.
    Unchecked,
}

impl Severity {
    /// The word in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Declares the rules once: variant, id, severity, reason, remedy.
macro_rules! rules {
    ($($variant:ident = $id:literal, $severity:ident, $why:literal, $instead:literal;)+) => {
        /// One rule.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Rule { $(#[doc = $why] $variant,)+ }

        impl Rule {
            /// Every rule, in the order of their declaration.
            pub const ALL: &'static [Rule] = &[$(Rule::$variant,)+];

            /// The id in reports and allowances; never changes.
            #[must_use]
            pub const fn id(self) -> &'static str {
                match self { $(Rule::$variant => $id,)+ }
            }

            /// What a statement that breaks the rule would break.
            #[must_use]
            pub const fn severity(self) -> Severity {
                match self { $(Rule::$variant => Severity::$severity,)+ }
            }

            /// The reason, as a sentence without a full stop.
            #[must_use]
            pub const fn why(self) -> &'static str {
                match self { $(Rule::$variant => $why,)+ }
            }

            /// The remedy, as a sentence without a full stop.
            #[must_use]
            pub const fn instead(self) -> &'static str {
                match self { $(Rule::$variant => $instead,)+ }
            }
        }
    };
}

rules! {
    CatalogWithoutSchema = "catalog-without-schema", Isolation,
        "the query finds objects of other schemas, those of other tenants too, so what this tenant gets depends on them",
        "say the schema, or a table without one: connamespace = current_schema()::regnamespace, conrelid = 'orders'::regclass, table_schema = current_schema(), to_regclass('orders')";
    Sequence = "sequence", Distributed,
        "a sequence is local to one node, and a moved schema continues with the wrong number",
        "use a uuid key that the application generates";
    NoPrimaryKey = "no-primary-key", Distributed,
        "a table without a primary key can be neither replicated nor moved while it is written to",
        "add a named one: CONSTRAINT <table>_pkey PRIMARY KEY";
    OwnType = "own-type", Distributed,
        "a type of the schema must exist on each node before its tables, and an enum or domain cannot be changed under load",
        "use text with a named CHECK, or a table";
    Trigger = "trigger", Distributed,
        "a distributed engine does not run triggers on its tables, or runs them on another node",
        "write the second row in the application, in the same transaction";
    RewriteRule = "rule", Distributed,
        "a distributed engine does not support rewrite rules",
        "write the second statement in the application";
    SideEffects = "function-side-effects", Distributed,
        "a function or procedure that may write runs on one node and cannot access rows on the others",
        "move it into the application, or declare it IMMUTABLE or STABLE if it only reads";
    CrossSchema = "cross-schema", Distributed,
        "an object in another schema may be on another node, or the tenant may not be allowed to read it",
        "leave the schema's name out; read shared data by a separate query";
    UnnamedConstraint = "unnamed-constraint", Distributed,
        "a generated name differs between engines, so that later statements cannot refer to it",
        "name it: CONSTRAINT <table>_<column>_<key|check|fkey>";
    ConstraintInAddColumn = "constraint-in-add-column", Distributed,
        "a distributed engine refuses a constraint within ADD COLUMN",
        "add the column, then the constraint in a separate statement";
    ConstraintAmongOthers = "constraint-among-others", Distributed,
        "a distributed engine refuses ADD CONSTRAINT together with another change of the table",
        "add each constraint in a statement of its own";
    Deferrable = "deferrable-constraint", Distributed,
        "a constraint that is checked at the end of a transaction cannot be checked across nodes",
        "make it NOT DEFERRABLE, and write the rows in the right order";
    DdlInBody = "ddl-in-body", Distributed,
        "a table that DO or a function creates is unknown to a distributed engine, and to this check",
        "write the statement at the top level of the file";
    NestedPartition = "nested-partition", Distributed,
        "a distributed engine refuses a partition that is itself partitioned",
        "partition once, by both columns or by a hash of them";
    VolatileOverColumns = "volatile-over-columns", Distributed,
        "a function whose result may differ between nodes cannot be part of a distributed write",
        "compute the value in the application and bind it";
    SelectStar = "select-star", Distributed,
        "the columns of * change with the table, and their order may differ between nodes",
        "name the columns";
    SessionLock = "session-lock", Distributed,
        "a session lock outlives the transaction, and behind a pooler it stays on a connection that other clients use",
        "use pg_advisory_xact_lock";
    Extension = "extension", Distributed,
        "an extension exists once in a database and cannot be created once a tenant",
        "let an operator install it in the schema extensions";
    DropTable = "drop-table", RollingDeploy,
        "a process of the previous version still uses it",
        "drop it one release later, when no process uses it";
    DropColumn = "drop-column", RollingDeploy,
        "a process of the previous version still reads and writes it",
        "stop using it, and drop it one release later";
    DropFunction = "drop-function", RollingDeploy,
        "a process of the previous version still calls it",
        "drop it one release later, when no process calls it";
    DropConstraint = "drop-constraint", RollingDeploy,
        "a process of the previous version still relies on the key, in ON CONFLICT too",
        "drop it one release later, when no process relies on it; allow this if it is no key";
    Rename = "rename", RollingDeploy,
        "a process of the previous version still uses the old name",
        "add the new one, write both, switch the reads, and drop the old one a release later";
    AddColumnNotNull = "add-column-not-null", RollingDeploy,
        "a process of the previous version inserts rows without it, and existing rows have no value",
        "give it a constant default, or make it NOT NULL a release later";
    CreateIndex = "create-index-blocking", Lock,
        "CREATE INDEX blocks writes to the table until it is done",
        "use CREATE INDEX CONCURRENTLY, in a file that runs outside a transaction";
    Reindex = "reindex-blocking", Lock,
        "REINDEX blocks writes to the table, and reads that use the index, until it is done",
        "use REINDEX .. CONCURRENTLY, outside a migration";
    AlterColumnType = "alter-column-type", Lock,
        "a new type rewrites the whole table and its indexes, and blocks reads and writes meanwhile",
        "add a column of the new type, fill it in batches, and switch to it; allow this if the type is a wider one of the same kind";
    TableRewrite = "table-rewrite", Lock,
        "this rewrites the whole table, and blocks reads and writes meanwhile",
        "add a plain column and fill it in batches";
    SetNotNull = "set-not-null", Lock,
        "SET NOT NULL scans the whole table while reads and writes are blocked",
        "add CHECK (<column> IS NOT NULL) NOT VALID, validate it in a later file; SET NOT NULL then skips the scan";
    AddConstraint = "add-constraint-blocking", Lock,
        "the constraint is checked against the whole table while writes are blocked",
        "add it NOT VALID and validate it in a later file; for a key build the index first and add it USING INDEX";
    VolatileDefault = "add-column-volatile-default", Lock,
        "a default that differs from row to row rewrites the whole table, and blocks reads and writes meanwhile",
        "add the column without a default and fill it in batches; a constant or now() is stored in the catalog instead";
    VacuumFull = "vacuum-full", Lock,
        "VACUUM FULL rewrites the whole table, blocks reads and writes meanwhile, and cannot run in a transaction",
        "leave it to autovacuum or an operator";
    Cluster = "cluster", Lock,
        "CLUSTER rewrites the whole table and blocks reads and writes meanwhile",
        "leave it to an operator";
    LockTable = "lock-table", Lock,
        "LOCK TABLE blocks other transactions until the migration ends",
        "leave it out; each statement takes the lock that it needs";
    Truncate = "truncate", Lock,
        "TRUNCATE blocks reads and writes, and deletes all rows",
        "delete in batches, or do it in the application";
    Refresh = "refresh-blocking", Lock,
        "REFRESH MATERIALIZED VIEW blocks reads of the view until it is done",
        "give it a unique index and refresh it CONCURRENTLY";
    NotChecked = "not-checked", Unchecked,
        "this check does not support the statement, so no rule was applied",
        "review it by the other rules, and allow it";
    BadAllow = "bad-allow", Unchecked,
        "the allowance covers no finding: the rule is unknown, the reason is missing, or there is no such finding",
        "write `-- rowhouse: allow <rule-id> <reason>` on the line before, or remove it";
}

impl Rule {
    /// Whether a distributed engine refuses the statement, or does something else than it says.
    #[must_use]
    pub const fn is_refused_when_distributed(self) -> bool {
        matches!(
            self,
            Self::Trigger
                | Self::DdlInBody
                | Self::ConstraintInAddColumn
                | Self::ConstraintAmongOthers
                | Self::NestedPartition
        )
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

/// A name that is not the id of a rule.
#[derive(Debug, thiserror::Error)]
#[error("unknown rule {0:?}")]
pub struct UnknownRule(String);

impl FromStr for Rule {
    type Err = UnknownRule;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.iter().copied().find(|rule| rule.id() == given);
        found.ok_or_else(|| UnknownRule(given.to_owned()))
    }
}
