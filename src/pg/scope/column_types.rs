//! Remembers which statements give columns of built-in types alone, so that they can be sent without being
//! described first. Must not know: what any of them is for.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{PoisonError, RwLock};

use tokio_postgres::Statement;
use tokio_postgres::types::Type;

/// Texts that [`PlainStatements`] remembers.
const MAX_PLAIN: usize = 10_000;

/// Unnamed statements that give columns of built-in types and no others, by a digest of their text.
///
/// tokio-postgres looks an unknown type (an enum, `citext`) up on the same connection before it reads the
/// rows, and so waits for ever behind a result that fills its buffers (rust-postgres#1348). A statement
/// that is not known to be plain is therefore described first, in a round trip of its own.
#[derive(Default)]
pub(in crate::pg) struct PlainStatements {
    digests: RwLock<HashSet<u64>>,
    hasher: RandomState,
}

impl PlainStatements {
    pub(in crate::pg) fn contains(&self, sql: &str) -> bool {
        let digests = self.digests.read().unwrap_or_else(PoisonError::into_inner);
        digests.contains(&self.hasher.hash_one(sql))
    }

    pub(in crate::pg) fn learn(&self, sql: &str, statement: &Statement) {
        let is_plain =
            statement.columns().iter().all(|c| Type::from_oid(c.type_().oid()).is_some());
        if is_plain {
            let mut digests = self.digests.write().unwrap_or_else(PoisonError::into_inner);
            if digests.len() >= MAX_PLAIN {
                digests.clear();
            }
            digests.insert(self.hasher.hash_one(sql));
        }
    }
}
