//! Cuts a JSON text into numbers, words and strings.

/// Deepest nesting that a parser reads.
pub(super) const PARSER_DEPTH_MAX: usize = 128;

/// Returns the length of the string that a text begins with, its quotes included.
pub(super) fn string_length(text: &[u8]) -> usize {
    let mut end = 1;
    loop {
        match text.get(end) {
            None => return text.len(),
            Some(b'"') => return end + 1,
            Some(b'\\') => end += 2,
            Some(_) => end += 1,
        }
    }
}

/// Returns the number of bytes at the beginning of a text that belong together.
pub(super) fn run(text: &[u8], belongs: impl Fn(u8) -> bool) -> usize {
    text.iter().take_while(|byte| belongs(**byte)).count()
}

pub(super) fn is_of_number(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E')
}
