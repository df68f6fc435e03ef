//! Owns the cursor of the event feed: a place in the log of audit events.

use std::fmt;
use std::str::FromStr;

use super::rule::Rule;

/// The bytes of a seal that a cursor has.
const SEAL_PREFIX: usize = 8;

/// The longest position in a cursor, in digits: no log is longer.
const DIGITS_MAX: usize = 18;

/// A place in the log: behind the event with this position. As text it is the position, and behind a hyphen the
/// beginning of the event's seal, in hexadecimal: `17-9f3a01bc5d2e4f60`. The seal depends on every event up to there, so
/// it tells the log apart from one that was restored from a backup and has gone on. A position alone is a cursor too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FeedCursor {
    /// The position of the last event before the place; 0 is the beginning of the log.
    pub position: i64,
    seal: Option<[u8; SEAL_PREFIX]>,
}

impl FeedCursor {
    /// Creates the cursor behind an event, from its position and seal.
    #[must_use]
    pub fn behind(position: i64, seal: Option<&[u8]>) -> Self {
        let seal = seal.and_then(|seal| seal.first_chunk().copied());
        Self { position, seal }
    }

    /// Whether the log with this head, and with this seal at the cursor's position, has the place.
    #[must_use]
    pub fn is_in_log(&self, head: i64, seal_there: Option<&[u8]>) -> bool {
        let is_same = match (self.seal, seal_there) {
            (Some(ours), Some(theirs)) => theirs.starts_with(&ours),
            // An event that was removed is the business of `audit verify`; it must not stop the readers.
            (None, _) | (_, None) => true,
        };
        self.position <= head && is_same
    }
}

impl fmt::Display for FeedCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.position)?;
        match self.seal {
            Some(seal) => write!(f, "-{:016x}", u64::from_be_bytes(seal)),
            None => Ok(()),
        }
    }
}

impl FromStr for FeedCursor {
    type Err = Rule;

    /// # Errors
    /// [`Rule::Cursor`].
    fn from_str(text: &str) -> Result<Self, Rule> {
        let (position, seal) = match text.split_once('-') {
            Some((position, seal)) => (position, Some(seal)),
            None => (text, None),
        };
        let is_number = |text: &str, digit: fn(&u8) -> bool| text.bytes().all(|b| digit(&b));
        if position.len() > DIGITS_MAX || !is_number(position, u8::is_ascii_digit) {
            return Err(Rule::Cursor);
        }
        let position = position.parse().map_err(|_no_number| Rule::Cursor)?;
        let seal = match seal {
            None => None,
            Some(seal)
                if seal.len() == 2 * SEAL_PREFIX && is_number(seal, u8::is_ascii_hexdigit) =>
            {
                let seal = u64::from_str_radix(seal, 16).map_err(|_no_number| Rule::Cursor)?;
                Some(seal.to_be_bytes())
            }
            Some(_) => return Err(Rule::Cursor),
        };
        Ok(Self { position, seal })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_a_round_trip_and_other_texts_are_refused() {
        for text in ["0", "17", "17-009f3a01bc5d2e4f", "999999999999999999-ffffffffffffffff"] {
            let cursor: FeedCursor = text.parse().expect(text);
            assert_eq!(cursor.to_string(), text);
        }
        for bad in [
            "",
            "-",
            "x",
            "-1",
            "+1",
            "1.0",
            "1-",
            "1-9f",
            "1-9f3a01bc5d2e4f6g",
            "1-+f3a01bc5d2e4f60",
            "1-9f3a01bc5d2e4f60-",
            "1000000000000000000",
            " 1",
        ] {
            assert_eq!(bad.parse::<FeedCursor>(), Err(Rule::Cursor), "{bad:?}");
        }
    }

    #[test]
    fn a_cursor_is_in_the_log_that_it_was_made_of_and_in_no_other() {
        let (ours, theirs) = ([7_u8; 32], [8_u8; 32]);
        let cursor = FeedCursor::behind(5, Some(&ours));
        assert!(cursor.is_in_log(5, Some(&ours)) && cursor.is_in_log(9, Some(&ours)));
        assert!(!cursor.is_in_log(4, None), "the log is shorter");
        assert!(!cursor.is_in_log(9, Some(&theirs)), "the log has gone on from an earlier place");
        assert!(FeedCursor::default().is_in_log(0, None));
        let bare: FeedCursor = "5".parse().unwrap();
        assert!(bare.is_in_log(5, Some(&theirs)) && !bare.is_in_log(4, None));
    }
}
