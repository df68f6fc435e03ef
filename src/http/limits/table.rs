//! A map from clients to points in time that never holds more than it may.
//!
//! Whoever floods us with ever new addresses makes entries, and each entry is memory. The map is cut into
//! parts with a lock each; a part that is full first gives up what has run out, then what would run out
//! next. An entry that has run out says the same as none at all, so nothing is lost by it; the one that
//! would run out next is the one that its owner misses least.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use governor::nanos::Nanos;
use governor::state::StateStore;

/// Parts, so that workers seldom wait for each other. A power of two.
const PARTS: usize = 16;

/// Entries of one part. All parts of a table hold 65,536, which take up to 4 MB.
const PART_MAX: usize = 4096;

/// New entries of a part after which it is swept, so that it shrinks when a flood is over.
const SWEEP_EVERY: usize = 512;

/// What stands for a client, an account or a credential: a keyed hash, good within this process only.
/// Nobody reads an address off it, and nobody finds two that meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key(u128);

/// Makes keys.
#[derive(Debug, Default)]
pub(super) struct Keys(RandomState, RandomState);

impl Keys {
    pub(super) fn of(&self, what: impl std::hash::Hash) -> Key {
        let halves = [self.0.hash_one(&what), self.1.hash_one(&what)].map(u128::from);
        let [high, low] = halves;
        Key(high << 64 | low)
    }
}

/// The map. A value is when it runs out, in nanoseconds since the process started.
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
            self.make_room();
        }
        self.ends.insert(key, end);
    }

    /// Gives up what would run out next: an eighth, so that a flood has this done to it now and then
    /// rather than for each key.
    fn make_room(&mut self) {
        let mut ends: Vec<u64> = self.ends.values().copied().collect();
        let (_, last, _) = ends.select_nth_unstable(PART_MAX / 8);
        let last = *last;
        // All that run out at the same time go; a few too many are no harm.
        self.ends.retain(|_, end| *end > last);
    }
}

impl Table {
    fn part(&self, key: &Key) -> MutexGuard<'_, Part> {
        let at = key.0 as usize % PARTS;
        let part = self.0.get(at).unwrap_or(&self.0[0]);
        // A part is whole after every statement that can panic.
        part.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a key until `end`.
    pub(super) fn put(&self, key: Key, end: Nanos, now: Nanos) {
        self.part(&key).put(key, end.as_u64(), now.as_u64());
    }

    /// Whether a key is remembered now.
    pub(super) fn has(&self, key: Key, now: Nanos) -> bool {
        self.part(&key).ends.get(&key).is_some_and(|end| *end > now.as_u64())
    }

    pub(super) fn forget(&self, key: Key) {
        self.part(&key).ends.remove(&key);
    }

    /// Lets a key run out earlier.
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

/// What [`governor`] keeps of each key: when its bucket will be full again.
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
        // A new key's bucket lacks one cell, so its end is that much from now.
        let now = end.saturating_sub(self.cell);
        part.put(*key, end.as_u64(), now.as_u64());
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_keys_takes_no_more_than_there_is_room_for() {
        let (keys, table) = (Keys::default(), Table::default());
        let loyal = keys.of("somebody whom a flood must not wash away");
        table.put(loyal, Nanos::new(u64::MAX), Nanos::new(0));
        for stranger in 0..u64::try_from(PARTS * PART_MAX * 3).unwrap() {
            table.put(keys.of(stranger), Nanos::new(stranger + 1_000_000_000), Nanos::new(0));
        }
        assert!(table.len() <= PARTS * PART_MAX);
        assert!(table.has(loyal, Nanos::new(1)));
    }

    #[test]
    fn what_has_run_out_makes_room_and_gives_memory_back() {
        let (keys, table) = (Keys::default(), Table::default());
        let room = || table.0.iter().map(|p| p.lock().unwrap().ends.capacity()).sum::<usize>();
        for stranger in 0..u64::try_from(PARTS * PART_MAX).unwrap() {
            table.put(keys.of(stranger), Nanos::new(10), Nanos::new(0));
        }
        let flooded = room();
        for later in 0..u64::try_from(PARTS * SWEEP_EVERY * 2).unwrap() {
            table.put(keys.of(("later", later)), Nanos::new(30), Nanos::new(20));
        }
        assert!(table.len() <= PARTS * SWEEP_EVERY * 2, "{} entries", table.len());
        assert!(room() < flooded / 2, "{} of {flooded}", room());
    }

    #[test]
    fn a_key_tells_what_it_stands_for_only_to_its_own_process() {
        let (here, there) = (Keys::default(), Keys::default());
        assert_eq!(here.of("una@example.com"), here.of("una@example.com"));
        assert_ne!(here.of("una@example.com"), there.of("una@example.com"));
        assert!(!format!("{:?}", here.of("una@example.com")).contains("una"));
    }
}
