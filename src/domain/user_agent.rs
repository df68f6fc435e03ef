//! The user agent of a client: what the client's own program says that it is.
//!
//! It proves nothing. It helps a user to tell sessions apart, and the server to tell a second tab of one browser from
//! another program.

/// The number of characters of a user agent that are kept.
const AGENT_MAX: usize = 200;

/// A user agent, to be shown to people: the first 200 characters, each that would move the cursor or change the
/// direction of the text replaced. Empty if the client sends none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserAgent(String);

impl UserAgent {
    /// Reads the header of a request, which can hold any bytes but line ends.
    #[must_use]
    pub fn read(header: &[u8]) -> Self {
        // No character has more than four bytes.
        let start = header.get(..AGENT_MAX * 4).unwrap_or(header);
        let text = String::from_utf8_lossy(start);
        let shown = |c: char| if is_hidden(c) { char::REPLACEMENT_CHARACTER } else { c };
        Self(text.chars().take(AGENT_MAX).map(shown).collect())
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether a stored user agent is this one. A client that sends none is like no other.
    #[must_use]
    pub fn is_same_as(&self, stored: &str) -> bool {
        !self.0.is_empty() && self.0 == stored
    }
}

/// Whether a character changes how the characters around it are shown, and is not shown itself.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_agent_is_kept_up_to_200_characters_without_what_would_change_its_display() {
        for (header, kept) in [
            ("Mozilla/5.0 (X11; Linux x86_64)", "Mozilla/5.0 (X11; Linux x86_64)"),
            ("", ""),
            ("a\tb\u{1b}[31mc", "a\u{fffd}b\u{fffd}[31mc"),
            ("safe\u{202e}exe.gpj\u{200b}", "safe\u{fffd}exe.gpj\u{fffd}"),
            (&"é".repeat(300), &"é".repeat(200)),
            (&"🏠".repeat(300), &"🏠".repeat(200)),
        ] {
            assert_eq!(UserAgent::read(header.as_bytes()).as_str(), kept, "{header:?}");
        }
        assert_eq!(UserAgent::read(b"a\xff\x00b").as_str(), "a\u{fffd}\u{fffd}b");
    }

    #[test]
    fn a_client_without_a_user_agent_is_like_no_other() {
        assert!(UserAgent::read(b"curl/8").is_same_as("curl/8"));
        assert!(!UserAgent::read(b"curl/8").is_same_as("curl/9"));
        assert!(!UserAgent::read(b"").is_same_as(""));
    }
}
