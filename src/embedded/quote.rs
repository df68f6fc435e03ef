//! Quotes names and paths for the paths where people and programs paste them.

use std::fmt::Write;

/// Quotes for a POSIX shell where a plain word would not do.
pub(super) fn shell_word(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:@".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// Encodes for any part of a URL; slashes may stay, in a path as in a query.
pub(super) fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut url, byte| {
        if byte.is_ascii_alphanumeric() || b"/._-~".contains(&byte) {
            url.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(url, "%{byte:02X}");
        }
        url
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_sees_one_word_and_a_url_one_part() {
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
