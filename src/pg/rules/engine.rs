//! The engine behind the database, found once at start.

/// What executes the statements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Engine {
    /// One PostgreSQL server.
    #[default]
    Postgres,
    /// The coordinator of a Citus cluster, which places the schema of each tenant on one of its nodes.
    Citus {
        /// Whether the settings say so and the extension is not there. Only the test suite does that: statements are sent
        /// as to Citus, and nothing is asked that only Citus can answer.
        is_forced: bool,
    },
}

impl Engine {
    /// Returns the word in the log, the metrics and reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Citus { .. } => "citus",
        }
    }

    /// Whether statements are sent as Citus needs them.
    #[must_use]
    pub const fn is_citus(self) -> bool {
        matches!(self, Self::Citus { .. })
    }

    /// Whether there are nodes that can be asked.
    #[must_use]
    pub const fn has_nodes(self) -> bool {
        matches!(self, Self::Citus { is_forced: false })
    }

    /// Whether each statement is sent in a message of its own. Citus hands the whole text of a message to the nodes for
    /// some statements (`CREATE INDEX`, most of `ALTER TABLE`), and they refuse a text of several.
    #[must_use]
    pub const fn takes_one_statement_a_message(self) -> bool {
        self.is_citus()
    }
}

impl std::fmt::Display for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
