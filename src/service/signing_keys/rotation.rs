//! When a key signs and verifies, and what that makes of a set of keys. Reads nothing and changes no row.

use std::time::Duration;

use time::OffsetDateTime;

use crate::auth::jwt::{JWKS_MAX_AGE, Term, signer};
use crate::pg::control::signing_keys::StoredKey;

/// How long a new key is published before it signs, so that every service that checks tokens knows it by then: the time
/// for which it may keep the published keys, twice.
pub(super) const PUBLISHED_BEFORE: Duration = Duration::from_secs(2 * JWKS_MAX_AGE.as_secs());

/// How many seconds a key verifies after the last token that it should have signed has expired: the difference between
/// two servers' clocks, the tolerance at the end of a token, and the longest request between the choice of the key and
/// the answer, each of which is 30 seconds.
const MARGIN: i64 = 120;

/// What a key does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum State {
    /// Is published and does not sign yet.
    Waiting,
    /// Signs.
    Signing,
    /// Does not sign any more, and its tokens are accepted.
    Verifying,
    /// Its tokens are refused.
    Ended,
}

impl State {
    /// Returns the word for answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// What may be known of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInfo {
    /// The key's id, which the header of a token names.
    pub kid: String,
    /// What it does now.
    pub state: State,
    /// When it was created.
    pub created_at: OffsetDateTime,
    /// When it begins to sign.
    pub signs_from: OffsetDateTime,
    /// When it stops to verify; `None` if no other key succeeds it yet.
    pub verifies_until: Option<OffsetDateTime>,
}

/// Describes keys.
pub(super) fn describe(keys: &[StoredKey], own_lifetime: i64, now: OffsetDateTime) -> Vec<KeyInfo> {
    let signer = signer_of(keys, own_lifetime, now);
    let state = |index, key: &StoredKey| {
        if !verifies(key, now) {
            State::Ended
        } else if signer == Some(index) {
            State::Signing
        } else if key.signs_from > now {
            State::Waiting
        } else {
            State::Verifying
        }
    };
    let describe = |(index, key): (usize, &StoredKey)| KeyInfo {
        kid: key.kid.clone(),
        state: state(index, key),
        created_at: key.created_at,
        signs_from: key.signs_from,
        verifies_until: key.verifies_until,
    };
    keys.iter().enumerate().map(describe).collect()
}

/// Returns the times of a key.
pub(super) fn term(key: &StoredKey) -> Term {
    Term { signs_from: key.signs_from, verifies_until: key.verifies_until }
}

/// Returns whether a key has not ended.
pub(super) fn verifies(key: &StoredKey, now: OffsetDateTime) -> bool {
    term(key).verifies(now)
}

/// Returns the index of the key that signs tokens of this lifetime, in seconds.
pub(super) fn signer_of(keys: &[StoredKey], lifetime: i64, now: OffsetDateTime) -> Option<usize> {
    let terms = keys.iter().map(|key| (key.kid.as_str(), term(key)));
    signer(terms, time::Duration::seconds(lifetime), now)
}

/// Returns the longest lifetime of a token, in seconds, that a key signs or this process would.
pub(super) fn lifetime_of(keys: &[StoredKey], own: i64, now: OffsetDateTime) -> i64 {
    let alive = keys.iter().filter(|key| verifies(key, now));
    alive.map(|key| key.token_lifetime_seconds).fold(own, i64::max)
}

/// Returns the end of a key whose successor begins to sign at this time.
pub(super) fn end_of_predecessor(
    successor_signs_from: OffsetDateTime,
    lifetime: i64,
) -> OffsetDateTime {
    successor_signs_from.saturating_add(time::Duration::seconds(lifetime.saturating_add(MARGIN)))
}

/// Changes the times of the key that signs now that another was retired, and returns it: it has begun, and it does not
/// end unless another one waits to succeed it. `None` if no key is left, or it needs no change.
pub(super) fn ready_to_sign(
    keys: &mut [StoredKey],
    own_lifetime: i64,
    now: OffsetDateTime,
) -> Option<&StoredKey> {
    let index = signer_of(keys, own_lifetime, now)?;
    let is_succeeded = keys
        .iter()
        .enumerate()
        .any(|(other, key)| other != index && verifies(key, now) && key.signs_from > now);
    let key = keys.get_mut(index)?;
    let before = term(key);
    key.signs_from = key.signs_from.min(now);
    if !is_succeeded {
        key.verifies_until = None;
    }
    (term(key) != before).then_some(&*key)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2031-02-03 04:05:06 UTC);
    const LIFETIME: i64 = 900;

    fn at(minutes: i64) -> OffsetDateTime {
        NOW + time::Duration::minutes(minutes)
    }

    fn key(kid: &str, signs_from: i64, verifies_until: Option<i64>) -> StoredKey {
        StoredKey {
            kid: kid.to_owned(),
            private_key: Vec::new(),
            wrapped_by: None,
            created_at: NOW,
            signs_from: at(signs_from),
            verifies_until: verifies_until.map(at),
            token_lifetime_seconds: LIFETIME,
        }
    }

    #[test]
    fn a_key_waits_signs_verifies_and_ends() {
        let end = end_of_predecessor(at(10), LIFETIME);
        assert_eq!(end, at(27));
        let keys = [key("old", -99, Some(27)), key("new", 10, None)];
        let states = |minutes| {
            let all = describe(&keys, LIFETIME, at(minutes));
            all.iter().map(|key| key.state.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(states(0), ["signing", "waiting"]);
        assert_eq!(states(10), ["verifying", "signing"]);
        assert_eq!(states(26), ["verifying", "signing"]);
        assert_eq!(states(27), ["ended", "signing"]);
    }

    #[test]
    fn the_longest_lifetime_of_all_servers_decides_how_long_a_key_verifies() {
        let mut keys = [key("ended", -99, Some(0)), key("old", -9, None)];
        keys[0].token_lifetime_seconds = 9999;
        keys[1].token_lifetime_seconds = 3600;
        assert_eq!(lifetime_of(&keys, LIFETIME, NOW), 3600);
        assert_eq!(lifetime_of(&keys, 7200, NOW), 7200);
        assert_eq!(lifetime_of(&[], LIFETIME, NOW), LIFETIME);
    }

    #[test]
    fn a_waiting_key_begins_when_the_one_before_it_is_retired() {
        let mut keys = [key("retired", -99, Some(0)), key("waiting", 10, None)];
        let next = ready_to_sign(&mut keys, LIFETIME, NOW).unwrap();
        assert_eq!((next.kid.as_str(), term(next)), ("waiting", term(&key("", 0, None))));
        assert!(ready_to_sign(&mut keys, LIFETIME, NOW).is_none(), "nothing is left to change");
    }

    #[test]
    fn a_key_whose_waiting_successor_is_retired_signs_on_without_an_end() {
        let mut keys = [key("old", -99, Some(27)), key("retired", 10, Some(0))];
        let next = ready_to_sign(&mut keys, LIFETIME, NOW).unwrap();
        assert_eq!((next.kid.as_str(), term(next)), ("old", term(&key("", -99, None))));
    }

    #[test]
    fn retiring_an_old_key_changes_no_other() {
        let mut keys =
            [key("retired", -99, Some(0)), key("signing", -9, Some(27)), key("waiting", 10, None)];
        assert!(ready_to_sign(&mut keys, LIFETIME, NOW).is_none());
        let mut none_left = [key("retired", -99, Some(0))];
        assert!(ready_to_sign(&mut none_left, LIFETIME, NOW).is_none());
    }
}
