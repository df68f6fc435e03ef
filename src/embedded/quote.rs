//! Quotes names and paths for a shell and for a URL.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Quotes a word for a POSIX shell, if it needs quotes.
pub(super) fn shell_word(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:@".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// The bytes to encode in any part of a URL. A slash may stay, in a path as in a query.
const URL_PART: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'_').remove(b'-').remove(b'~');

/// Percent-encodes a part of a URL. Slashes are kept: they are valid in a path and in a query.
pub(super) fn percent_encoded(text: &str) -> String {
    utf8_percent_encode(text, URL_PART).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_text_is_one_word_of_a_shell_and_one_part_of_a_url() {
        let cases = [
            ("/srv/a-b/socket", "/srv/a-b/socket", "/srv/a-b/socket"),
            ("/my data", "'/my data'", "/my%20data"),
            ("it's", r"'it'\''s'", "it%27s"),
            ("a?b&c=ü", "'a?b&c=ü'", "a%3Fb%26c%3D%C3%BC"),
            ("", "''", ""),
        ];
        for (text, word, part) in cases {
            assert_eq!(shell_word(text), word);
            assert_eq!(percent_encoded(text), part);
        }
    }
}
