//! Resets what a tenant could leave in a session for the next one: the seed of `random()` whenever another tenant gets
//! the connection; everything else while something is open in the database with which it could be left.

use std::fmt::Write as _;

use uuid::Uuid;

use crate::domain::Access;

/// Appended to `BEGIN`: resets the role, all settings, temporary tables and advisory locks.
///
/// It runs in the transaction itself, so that it also works behind a pooler; `DISCARD ALL`, which does the same, runs
/// outside a transaction only. The transaction's own modes are stated, because they were taken from the settings before
/// these are reset; `BEGIN` states whether it may write, if it may not. If the transaction is rolled back, so is the reset, and the next transaction resets again.
const RESET: &str = "; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; DISCARD TEMP; \
                     SELECT pg_advisory_unlock_all()";

/// Appends the reset to a preamble that consists of `BEGIN`, or of `BEGIN READ ONLY` for a transaction that reads.
pub(super) fn write_reset(preamble: &mut String, access: Access) {
    preamble.push_str(match access {
        // Stated a second time, the last mode would count.
        Access::Read => " ISOLATION LEVEL READ COMMITTED, NOT DEFERRABLE",
        Access::Write => " ISOLATION LEVEL READ COMMITTED, READ WRITE, NOT DEFERRABLE",
    });
    preamble.push_str(RESET);
}

/// Appends a random seed to a preamble. Neither `RESET ALL` nor `DISCARD ALL` touches the seed, and a tenant that knows
/// it, or has drawn enough numbers, would know those of the next. The generator's state stays after the transaction,
/// and the setting does not.
pub(super) fn write_seed(preamble: &mut String) {
    let _ = write!(preamble, "; SET LOCAL seed = {:.17}", random_seed());
}

/// Returns a random number from -1 to 1, the range of the seed.
fn random_seed() -> f64 {
    // All bits of these eight bytes are random.
    let bytes = *Uuid::new_v4().as_bytes();
    let word = |at: usize| f64::from(u32::from_be_bytes([0, 1, 2, 3].map(|byte| bytes[at + byte])));
    let range = f64::from(u32::MAX) + 1.0;
    (word(0) / range + word(12) / range / range) * 2.0 - 1.0
}
