//! The engine that the servers under test are to take their database for.
//!
//! `TEST_ENGINE=citus` forces the engine Citus on an ordinary PostgreSQL: statements are sent as to a cluster, through a
//! proxy that checks them ([`super::recording`]). That proves what the code sends, and nothing about Citus.
//! `TEST_CITUS=1` says that the database of `TEST_DATABASE_URL` is the coordinator of a cluster (`make test-citus`).

/// An engine of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TestEngine {
    /// An ordinary PostgreSQL.
    Postgres,
    /// An ordinary PostgreSQL that is taken for a cluster.
    ForcedCitus,
    /// A cluster.
    Citus,
}

impl TestEngine {
    /// Returns the engine of this run.
    pub fn of_run() -> Self {
        #[expect(clippy::disallowed_methods, reason = "settings of the test suite")]
        let variable = |name| std::env::var(name).unwrap_or_default();
        match (variable("TEST_CITUS").as_str(), variable("TEST_ENGINE").as_str()) {
            ("1", _) => Self::Citus,
            (_, "citus") => Self::ForcedCitus,
            (_, "" | "postgres") => Self::Postgres,
            (_, other) => panic!("TEST_ENGINE is {other:?}, not postgres or citus"),
        }
    }

    /// Returns the role that owns what migration files make, as `SET ROLE` and `OWNER TO` take it.
    pub const fn owner_of_files(self) -> (&'static str, &'static str) {
        match self {
            Self::Postgres => ("rowhouse_migrator", "rowhouse_migrator"),
            Self::ForcedCitus | Self::Citus => ("NONE", "CURRENT_USER"),
        }
    }

    /// Returns a script of a test as the messages that the server takes: Citus takes most of DDL alone. A script that is a
    /// transaction stays one message, and has no such DDL.
    pub fn messages(self, script: &str) -> Vec<&str> {
        if self != Self::Citus || script.contains("$$") || script.trim_start().starts_with("BEGIN")
        {
            return vec![script];
        }
        let mut is_quoted = false;
        let statements = script.split(|character| {
            is_quoted ^= character == '\'';
            character == ';' && !is_quoted
        });
        statements.filter(|statement| !statement.trim().is_empty()).collect()
    }

    /// Returns the settings of a server under test, which those of a test override. Most tests of isolation are about
    /// roles, which are not what a server on Citus takes by itself.
    pub fn settings(self) -> Vec<(&'static str, String)> {
        let role = ("database.isolation", "role".to_owned());
        match self {
            Self::Postgres => Vec::new(),
            Self::ForcedCitus => vec![("database.engine", "citus".to_owned()), role],
            Self::Citus => vec![role],
        }
    }
}
