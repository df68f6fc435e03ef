//! What the errors of a cluster's nodes look like: a node that is away, and names with the number of a shard behind them.

use tokio_postgres::error::{DbError, SqlState};

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

/// The first number that Citus gives a shard.
const FIRST_SHARD: u64 = 102_008;

/// Returns a text of an error with the names of the tables as they are on the coordinator: a node names the tables, indexes
/// and constraints of its shards, which have the number of the shard behind their names.
pub(super) fn without_shards(db: &DbError, text: &str) -> String {
    let of_node =
        db.where_().is_some_and(|context| context.contains("while executing command on "));
    if of_node { without_numbers(text) } else { text.to_owned() }
}

fn without_numbers(text: &str) -> String {
    const KINDS: [&str; 4] = ["relation ", "table ", "index ", "constraint "];
    let mut plain: Vec<&str> = Vec::new();
    // Every second part is within quotes.
    for (at, part) in text.split('"').enumerate() {
        let is_name = at % 2 == 1
            && plain.last().is_some_and(|before| KINDS.iter().any(|kind| before.ends_with(kind)));
        let named = part.rsplit_once('_').filter(|(_, number)| {
            is_name && number.parse::<u64>().is_ok_and(|number| number >= FIRST_SHARD)
        });
        plain.push(named.map_or(part, |(name, _)| name));
    }
    plain.join("\"")
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
    fn the_number_of_a_shard_is_left_out_behind_the_names_of_tables_indexes_and_constraints() {
        for (of_node, plain) in [
            (
                "null value in column \"id_102014\" of relation \"tags_102014\" violates not-null constraint",
                "null value in column \"id_102014\" of relation \"tags\" violates not-null constraint",
            ),
            (
                "duplicate key value violates unique constraint \"tags_pkey_102014\"",
                "duplicate key value violates unique constraint \"tags_pkey\"",
            ),
            ("relation \"tags_2024\" does not exist", "relation \"tags_2024\" does not exist"),
            ("table \"tags_202401_102014\"", "table \"tags_202401\""),
            ("an open \"quote", "an open \"quote"),
        ] {
            assert_eq!(without_numbers(of_node), plain);
        }
    }

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
