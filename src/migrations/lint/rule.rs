//! The rules: an id that never changes, how bad it is, why, and what to do instead.
//!
//! To add a rule: a line here, its check in the file of what it looks at, its cases in `tests.rs`.

use std::fmt;
use std::str::FromStr;

/// What a statement would not survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum Severity {
    /// A distributed engine: it cannot run there, or means something else.
    Distributed,
    /// A rolling deploy: a program of the version before still runs and breaks on it.
    RollingDeploy,
    /// Traffic: it keeps a table locked while it works.
    Lock,
    /// Nobody looked: a person must.
    Unchecked,
}

impl Severity {
    /// The word in the output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Declares the rules once: variant, id, severity, why, what instead.
macro_rules! rules {
    ($($variant:ident = $id:literal, $severity:ident, $why:literal, $instead:literal;)+) => {
        /// One rule.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Rule { $(#[doc = $why] $variant,)+ }

        impl Rule {
            /// Every rule, in the order of their declaration.
            pub const ALL: &'static [Rule] = &[$(Rule::$variant,)+];

            /// The name by which it is allowed; never changes.
            #[must_use]
            pub const fn id(self) -> &'static str {
                match self { $(Rule::$variant => $id,)+ }
            }

            /// What a statement that breaks it would not survive.
            #[must_use]
            pub const fn severity(self) -> Severity {
                match self { $(Rule::$variant => Severity::$severity,)+ }
            }

            /// Why, in a sentence.
            #[must_use]
            pub const fn why(self) -> &'static str {
                match self { $(Rule::$variant => $why,)+ }
            }

            /// What to do instead, in a sentence.
            #[must_use]
            pub const fn instead(self) -> &'static str {
                match self { $(Rule::$variant => $instead,)+ }
            }
        }
    };
}

rules! {
    Sequence = "sequence", Distributed,
        "a sequence counts on one node alone, and a moved schema goes on with the wrong number",
        "use a uuid key that the application makes";
    NoPrimaryKey = "no-primary-key", Distributed,
        "without a primary key a table can be neither replicated nor moved while it is written to",
        "give it one, named: CONSTRAINT <table>_pkey PRIMARY KEY";
    OwnType = "own-type", Distributed,
        "a type that a schema owns must be there on each node before its tables, and an enum or domain cannot be changed under load",
        "use text with a named CHECK, or a table";
    Trigger = "trigger", Distributed,
        "a distributed engine runs no triggers on its tables, or runs them elsewhere",
        "write the second row in the application, in the same transaction";
    RewriteRule = "rule", Distributed,
        "a distributed engine knows no rewrite rules",
        "write the second statement in the application";
    SideEffects = "function-side-effects", Distributed,
        "a function or procedure that may write runs on one node and cannot reach the others' rows",
        "move it into the application, or declare it IMMUTABLE or STABLE if it only reads";
    CrossSchema = "cross-schema", Distributed,
        "a tenant's schema stands for itself: what it names elsewhere is on another node, or not its to read",
        "leave the schema's name out; what several tenants share is read by a query of its own";
    UnnamedConstraint = "unnamed-constraint", Distributed,
        "a name that the server makes up differs between engines, so nothing can refer to it later",
        "name it: CONSTRAINT <table>_<column>_<key|check|fkey>";
    ConstraintInAddColumn = "constraint-in-add-column", Distributed,
        "a distributed engine refuses a constraint within ADD COLUMN",
        "add the column, then the constraint in a statement of its own";
    Deferrable = "deferrable-constraint", Distributed,
        "a constraint that is checked at the end of a transaction cannot be checked across nodes",
        "make it NOT DEFERRABLE, and write the rows in the right order";
    DdlInBody = "ddl-in-body", Distributed,
        "a table that is made inside DO or a function is unknown to a distributed engine, and to this check",
        "write the statement at the top level of the file";
    VolatileOverColumns = "volatile-over-columns", Distributed,
        "a function whose result may differ from node to node cannot be part of a distributed write",
        "compute the value in the application and bind it";
    SelectStar = "select-star", Distributed,
        "what * means changes with the table, and with the order in which nodes got their columns",
        "name the columns";
    SessionLock = "session-lock", Distributed,
        "a lock of the session outlives the transaction, and behind a pooler it is somebody else's",
        "use pg_advisory_xact_lock";
    Extension = "extension", Distributed,
        "an extension is there once in a database and cannot be made once a tenant",
        "have the operator install it, in the schema extensions";
    DropTable = "drop-table", RollingDeploy,
        "a program of the version before still uses it",
        "drop it one release later, when no program does";
    DropColumn = "drop-column", RollingDeploy,
        "a program of the version before still reads and writes it",
        "stop using it, and drop it one release later";
    Rename = "rename", RollingDeploy,
        "a program of the version before still uses the old name",
        "add the new one, write both, move the reads, and drop the old one a release later";
    AddColumnNotNull = "add-column-not-null", RollingDeploy,
        "a program of the version before inserts rows without it, and rows that are there have no value",
        "give it a constant default, or make it NOT NULL a release later";
    CreateIndex = "create-index-blocking", Lock,
        "CREATE INDEX lets nobody write to the table until it is done",
        "use CREATE INDEX CONCURRENTLY, in a file that runs outside a transaction";
    Reindex = "reindex-blocking", Lock,
        "REINDEX lets nobody write to the table, nor read by the index, until it is done",
        "use REINDEX .. CONCURRENTLY, outside a migration";
    AlterColumnType = "alter-column-type", Lock,
        "a new type writes the whole table and its indexes anew, and lets nobody read meanwhile",
        "add a column of the new type, fill it in parts, and move over; allow this where the type is a wider one of the same kind";
    TableRewrite = "table-rewrite", Lock,
        "this writes the whole table anew, and lets nobody read meanwhile",
        "add a plain column and fill it in parts";
    SetNotNull = "set-not-null", Lock,
        "SET NOT NULL reads the whole table while nobody else may",
        "add CHECK (<column> IS NOT NULL) NOT VALID, validate it in a later file, then SET NOT NULL believes it";
    AddConstraint = "add-constraint-blocking", Lock,
        "the constraint is checked against the whole table while nobody may write to it",
        "add it NOT VALID and validate it in a later file; for a key build the index first and add it USING INDEX";
    VolatileDefault = "add-column-volatile-default", Lock,
        "a default that differs from row to row writes the whole table anew, and lets nobody read meanwhile",
        "add the column without a default and fill it in parts; a constant or now() is kept beside the table instead";
    VacuumFull = "vacuum-full", Lock,
        "VACUUM FULL writes the whole table anew, lets nobody read meanwhile, and cannot run in a transaction",
        "leave it to autovacuum, or to the operator";
    Cluster = "cluster", Lock,
        "CLUSTER writes the whole table anew and lets nobody read meanwhile",
        "leave it to the operator";
    LockTable = "lock-table", Lock,
        "LOCK TABLE holds everybody else up until the migration ends",
        "leave it out; each statement takes the lock that it needs";
    Truncate = "truncate", Lock,
        "TRUNCATE takes the table away from readers and writers, and its rows for good",
        "delete in parts, or do it in the application";
    Refresh = "refresh-blocking", Lock,
        "REFRESH MATERIALIZED VIEW lets nobody read the view until it is done",
        "give it a unique index and refresh it CONCURRENTLY";
    NotChecked = "not-checked", Unchecked,
        "this check cannot read the statement, so nobody knows",
        "read it by the other rules, and allow it";
    BadAllow = "bad-allow", Unchecked,
        "this allows nothing: the rule is unknown, the reason is missing, or there is nothing to allow",
        "write `-- rowhouse: allow <rule-id> <reason>` on the line before, or take it away";
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

/// A name that is no rule.
#[derive(Debug, thiserror::Error)]
#[error("no rule is called {0:?}")]
pub struct UnknownRule(String);

impl FromStr for Rule {
    type Err = UnknownRule;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.iter().copied().find(|rule| rule.id() == given);
        found.ok_or_else(|| UnknownRule(given.to_owned()))
    }
}
