//! The nodes of a cluster that the owner cannot use.

/// The nodes of a cluster on which the owner may not create schemas. A node that is added gets no privileges on the
/// database, and from then on no schema can be created at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodesWithoutRight {
    /// Their hosts and ports.
    pub nodes: String,
    /// The statement that grants it on all of them.
    pub statement: String,
}

impl NodesWithoutRight {
    /// Returns what is wrong.
    #[must_use]
    pub fn what(&self) -> String {
        let nodes = &self.nodes;
        format!(
            "the owner may not create schemas on {nodes}, so that no tenant can be created or migrated"
        )
    }

    /// Returns who is to run the statement, and where.
    #[must_use]
    pub fn remedy(&self) -> String {
        let statement = &self.statement;
        format!("let the owner of the database or a superuser run on the coordinator: {statement}")
    }
}
