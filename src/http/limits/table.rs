//! A map of bounded size from clients to expiry times.
//!
//! A flood from many addresses creates entries, and each entry takes memory. The map is divided into parts with a lock
//! each; a full part first removes expired entries, then those that expire next. An expired entry is equivalent to none,
//! so nothing is lost; the one that expires next has the least effect.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use governor::nanos::Nanos;
use governor::state::StateStore;

/// The number of parts, so that workers seldom wait for each other. A power of two.
const PARTS: usize = 16;

/// Largest number of entries in one part. All parts of a table hold 65,536, which take up to 4 MB.
const PART_MAX: usize = 4096;

/// The number of new entries after which a part is swept, so that it shrinks when a flood is over.
const SWEEP_EVERY: usize = 512;

/// A keyed hash of a client, an account or a credential, valid within this process only. It reveals no address, and an
/// attacker cannot construct collisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key(u128);

/// Computes keys with the random state of this process.
#[derive(Debug, Default)]
pub(super) struct Keys(RandomState, RandomState);

impl Keys {
    pub(super) fn of(&self, what: impl std::hash::Hash) -> Key {
        let halves = [self.0.hash_one(&what), self.1.hash_one(&what)].map(u128::from);
        let [high, low] = halves;
        Key(high << 64 | low)
    }
}

/// The map. A value is the expiry time, in nanoseconds since the process started.
#[derive(Debug, Default)]
pub(super) struct Table([Mutex<Part>; PARTS]);

#[derive(Debug, Default)]
struct Part {
    ends: HashMap<Key, u64>,
    /// New entries since the last sweep.
    fresh: usize,
}

impl Part {
    fn put(&mut self, key: Key, end: u64, now: u64) {
        if let Some(found) = self.ends.get_mut(&key) {
            *found = end;
            return;
        }
        self.fresh += 1;
        if self.fresh >= SWEEP_EVERY || self.ends.len() >= PART_MAX {
            self.fresh = 0;
            self.ends.retain(|_, end| *end > now);
            if self.ends.len() < self.ends.capacity() / 4 {
                self.ends.shrink_to_fit();
            }
        }
        if self.ends.len() >= PART_MAX {
            self.evict();
        }
        self.ends.insert(key, end);
    }

    /// Removes the eighth that expires next, so that a flood triggers this now and then and not for each key.
    fn evict(&mut self) {
        let mut ends: Vec<u64> = self.ends.values().copied().collect();
        let (_, last, _) = ends.select_nth_unstable(PART_MAX / 8);
        let last = *last;
        // All with the same expiry time go; a few too many do no harm.
        self.ends.retain(|_, end| *end > last);
    }
}

impl Table {
    fn part(&self, key: &Key) -> MutexGuard<'_, Part> {
        let at = key.0 as usize % PARTS;
        let part = self.0.get(at).unwrap_or(&self.0[0]);
        // A part is consistent after every statement that can panic.
        part.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores a key until `end`.
    pub(super) fn put(&self, key: Key, end: Nanos, now: Nanos) {
        self.part(&key).put(key, end.as_u64(), now.as_u64());
    }

    /// Returns whether a key is stored and has not expired.
    pub(super) fn has(&self, key: Key, now: Nanos) -> bool {
        self.part(&key).ends.get(&key).is_some_and(|end| *end > now.as_u64())
    }

    /// Returns how long a key is still stored.
    pub(super) fn left(&self, key: Key, now: Nanos) -> Option<std::time::Duration> {
        let end = self.part(&key).ends.get(&key).copied()?;
        let left = end.saturating_sub(now.as_u64());
        (left > 0).then(|| std::time::Duration::from_nanos(left))
    }

    pub(super) fn forget(&self, key: Key) {
        self.part(&key).ends.remove(&key);
    }

    /// Moves a key's expiry time back.
    pub(super) fn shorten(&self, key: Key, by: Nanos) {
        if let Some(end) = self.part(&key).ends.get_mut(&key) {
            *end = end.saturating_sub(by.as_u64());
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.0.iter().map(|part| part.lock().unwrap().ends.len()).sum()
    }
}

/// The state that [`governor`] keeps for each key: when its bucket will be full again.
#[derive(Debug, Clone)]
pub(super) struct Buckets {
    pub(super) table: std::sync::Arc<Table>,
    /// The time of one cell.
    pub(super) cell: Nanos,
}

impl StateStore for Buckets {
    type Key = Key;

    fn measure_and_replace<T, F, E>(&self, key: &Key, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut part = self.table.part(key);
        let before = part.ends.get(key).copied().map(Nanos::new);
        let (outcome, end) = decide(before)?;
        // A new key's bucket lacks one cell, so its expiry time is that far from now.
        let now = end.saturating_sub(self.cell);
        part.put(*key, end.as_u64(), now.as_u64());
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_keys_does_not_exceed_the_limit() {
        let (keys, table) = (Keys::default(), Table::default());
        let kept = keys.of("an entry that expires last");
        table.put(kept, Nanos::new(u64::MAX), Nanos::new(0));
        for client in 0..u64::try_from(PARTS * PART_MAX * 3).unwrap() {
            table.put(keys.of(client), Nanos::new(client + 1_000_000_000), Nanos::new(0));
        }
        assert!(table.len() <= PARTS * PART_MAX);
        assert!(table.has(kept, Nanos::new(1)));
    }

    #[test]
    fn expired_entries_are_removed_and_their_memory_is_freed() {
        let (keys, table) = (Keys::default(), Table::default());
        let capacity = || table.0.iter().map(|p| p.lock().unwrap().ends.capacity()).sum::<usize>();
        for client in 0..u64::try_from(PARTS * PART_MAX).unwrap() {
            table.put(keys.of(client), Nanos::new(10), Nanos::new(0));
        }
        let flooded = capacity();
        for later in 0..u64::try_from(PARTS * SWEEP_EVERY * 2).unwrap() {
            table.put(keys.of(("later", later)), Nanos::new(30), Nanos::new(20));
        }
        assert!(table.len() <= PARTS * SWEEP_EVERY * 2, "{} entries", table.len());
        assert!(capacity() < flooded / 2, "{} of {flooded}", capacity());
    }

    #[test]
    fn a_key_is_meaningful_only_within_its_process() {
        let (here, there) = (Keys::default(), Keys::default());
        assert_eq!(here.of("una@example.com"), here.of("una@example.com"));
        assert_ne!(here.of("una@example.com"), there.of("una@example.com"));
        assert!(!format!("{:?}", here.of("una@example.com")).contains("una"));
    }
}
