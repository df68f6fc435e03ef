//! Remembers which statements return only columns of built-in types, so that they can be sent without being
//! described first.
//!
//! Must not know: what any statement is for.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{PoisonError, RwLock};

use tokio_postgres::Statement;
use tokio_postgres::types::Type;

/// The most statements that [`BuiltinTypes`] remembers.
const MAX_STATEMENTS: usize = 10_000;

/// The unnamed statements that are known to return only columns of built-in types, by a digest of their text.
///
/// tokio-postgres looks up an unknown type (an enum, `citext`) on the same connection before it reads the
/// rows, and so waits for ever behind a result that fills its buffers (rust-postgres#1348). A statement
/// that is not in this set is therefore described first, in a round trip of its own.
#[derive(Default)]
pub(in crate::pg) struct BuiltinTypes {
    digests: RwLock<HashSet<u64>>,
    hasher: RandomState,
}

impl BuiltinTypes {
    pub(in crate::pg) fn contains(&self, sql: &str) -> bool {
        let digests = self.digests.read().unwrap_or_else(PoisonError::into_inner);
        digests.contains(&self.hasher.hash_one(sql))
    }

    pub(in crate::pg) fn learn(&self, sql: &str, statement: &Statement) {
        let all_builtin =
            statement.columns().iter().all(|c| Type::from_oid(c.type_().oid()).is_some());
        if all_builtin {
            let mut digests = self.digests.write().unwrap_or_else(PoisonError::into_inner);
            if digests.len() >= MAX_STATEMENTS {
                digests.clear();
            }
            digests.insert(self.hasher.hash_one(sql));
        }
    }
}
