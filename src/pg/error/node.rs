//! What the errors of a cluster's nodes look like: a node that is away, and names with the number of a shard behind them.

use tokio_postgres::error::SqlState;

use super::Failure;

/// How the messages of Citus begin that say that a node is away. They have an SQLSTATE of class 08, or that of an internal
/// error, which means much else too. Those that are sent to a node are not translated.
const NODE_AWAY: [&str; 2] =
    ["connection to the remote node ", "failure on connection marked as essential"];

/// Whether an error says that a node of the cluster is away.
pub(super) fn is_node_away(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|db| {
        let code = db.code().code();
        (code.starts_with("08") || *db.code() == SqlState::INTERNAL_ERROR)
            && NODE_AWAY.iter().any(|begin| db.message().starts_with(begin))
    })
}

/// Whether a name in an error is this one, or this one on a shard: a distributed engine adds `_<digits>`.
pub(super) fn is_name_of(found: &str, name: &str) -> bool {
    found.strip_prefix(name).is_some_and(|rest| {
        rest.is_empty()
            || rest.strip_prefix('_').is_some_and(|digits| {
                !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
            })
    })
}

impl Failure {
    /// Whether a node of the cluster that a statement needs is away. The server itself is not: a statement that needs
    /// another node succeeds.
    #[must_use]
    pub(crate) fn is_node_away(&self) -> bool {
        self.postgres().is_some_and(is_node_away)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_recognised_with_the_number_of_a_shard_and_with_nothing_else() {
        for (found, is_it) in [
            ("tenants", true),
            ("tenants_102027", true),
            ("tenants_", false),
            ("tenants_10a", false),
            ("tenants2", false),
            ("tenant", false),
        ] {
            assert_eq!(is_name_of(found, "tenants"), is_it, "{found}");
        }
    }
}
