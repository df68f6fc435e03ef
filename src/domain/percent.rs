//! Percent-encoding (RFC 3986, section 2.1), checked before it is decoded.

/// Returns whether every `%` is followed by two hex digits. The decoder keeps any other `%` as it is, and so would
/// guess what a caller meant.
#[must_use]
pub fn is_well_formed(text: &str) -> bool {
    let is_code = |rest: &str| {
        rest.as_bytes().get(..2).is_some_and(|pair| pair.iter().all(u8::is_ascii_hexdigit))
    };
    text.split('%').skip(1).all(is_code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percent_sign_needs_two_hex_digits() {
        for text in ["", "a", "%41", "a%2Fb%2f", "%25%41"] {
            assert!(is_well_formed(text), "{text}");
        }
        for text in ["%", "a%4", "%zz", "%4g", "%%41", "%\u{e9}"] {
            assert!(!is_well_formed(text), "{text}");
        }
    }
}
