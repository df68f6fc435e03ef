//! Owns JSON that a caller sends: the [`Value`], which keeps it as it was given, and the limits beside those of its grammar.
//!
//! The limits are checked on the text, before it is parsed: parsed, a value takes about a hundred bytes even where its text
//! has two, and numbers keep all their digits. An object with a name that `serde_json` reserves is refused: a program in
//! which its feature `arbitrary_precision` is on reads it as a number.

mod lexer;
mod parse;
mod value;

use self::lexer::{PARSER_DEPTH_MAX, is_of_number, run, string_length};
use super::rule::Rule;

pub use self::parse::ParseError;
pub use self::value::{Map, Number, Value};

/// Longest number, in characters of its text. The longest decimal form of a double has 767 digits.
pub const NUMBER_MAX: usize = 1000;

/// Number of values and names that a text of any size may hold. A text of more than four times this size may hold
/// one for each four bytes.
pub const VALUES_MIN: usize = 100_000;

/// What the names begin with that `serde_json` reserves for itself.
const RESERVED: &str = "$serde_json::private::";

/// A limit that a JSON text exceeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Excess {
    /// A number is longer than [`NUMBER_MAX`].
    #[error("holds a number of more than {NUMBER_MAX} characters")]
    LongNumber,
    /// It holds more values and names than a text of its size may.
    #[error("holds too many values for its size")]
    TooManyValues,
    /// An object has a name that is reserved.
    #[error("holds an object with a reserved name")]
    ReservedName,
}

/// Returns the number of values and names that a text of this size may hold.
#[must_use]
pub const fn values_max(size: usize) -> usize {
    if size / 4 > VALUES_MIN { size / 4 } else { VALUES_MIN }
}

/// Checks a text against the limits. Text that is not JSON passes or fails; the parser refuses it.
///
/// # Errors
/// The first limit that it exceeds.
pub fn check(text: &[u8]) -> Result<(), Excess> {
    check_within(text, values_max(text.len()))
}

/// As [`check`], for a text that may hold only so many values and names.
///
/// # Errors
/// The first limit that it exceeds.
pub fn check_within(text: &[u8], values_max: usize) -> Result<(), Excess> {
    let (mut left, mut depth) = (values_max, 0_usize);
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        let length = match first {
            b'"' => string(rest)?,
            b'-' | b'0'..=b'9' => match run(rest, is_of_number) {
                length if length > NUMBER_MAX => return Err(Excess::LongNumber),
                length => length,
            },
            b'a'..=b'z' => run(rest, |byte| byte.is_ascii_lowercase()),
            b'{' | b'[' => {
                depth += 1;
                // The parser stops here, before it has made anything of the rest.
                if depth > PARSER_DEPTH_MAX {
                    return Ok(());
                }
                1
            }
            _ => {
                depth = depth.saturating_sub(usize::from(matches!(first, b'}' | b']')));
                rest = after;
                continue;
            }
        };
        left = left.checked_sub(1).ok_or(Excess::TooManyValues)?;
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(())
}

/// Refuses a value that a text could not hold, for values that were made of several.
///
/// # Errors
/// [`Rule::LongNumber`], [`Rule::Reserved`].
pub(crate) fn check_scalar(value: &Value) -> Result<(), Rule> {
    match value {
        Value::Number(number) if number.as_str().len() > NUMBER_MAX => {
            Err(Rule::LongNumber(NUMBER_MAX))
        }
        Value::Object(fields) if fields.keys().any(|name| is_reserved(name)) => Err(Rule::Reserved),
        _ => Ok(()),
    }
}

/// Returns whether `serde_json` reserves a name for itself.
fn is_reserved(name: &str) -> bool {
    name.starts_with(RESERVED)
}

/// Returns the length of the string that a text begins with, its quotes included; a name that is reserved is refused.
fn string(text: &[u8]) -> Result<usize, Excess> {
    let length = string_length(text);
    let is_name = || {
        let after = text.get(length..).unwrap_or_default();
        after.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':')
    };
    let inside = text.get(1..length).unwrap_or_default();
    if begins_reserved(inside) && is_name() { Err(Excess::ReservedName) } else { Ok(length) }
}

/// Returns whether the inside of a string begins with [`RESERVED`], of which each character may be escaped.
fn begins_reserved(inside: &[u8]) -> bool {
    let mut rest = inside;
    RESERVED.bytes().all(|expected| {
        let (found, after) = match rest {
            [b'\\', b'u', a, b, c, d, after @ ..] => {
                let digits = [*a, *b, *c, *d];
                let code = std::str::from_utf8(&digits).ok();
                (code.and_then(|code| u32::from_str_radix(code, 16).ok()), after)
            }
            [byte, after @ ..] => (Some(u32::from(*byte)), after),
            [] => return false,
        };
        rest = after;
        found == Some(u32::from(expected))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_as_long_as_its_text() {
        let number = |digits: usize| format!("{{\"n\":[-1.5e+400, {}]}}", "7".repeat(digits));
        assert_eq!(check(number(NUMBER_MAX).as_bytes()), Ok(()));
        assert_eq!(check(number(NUMBER_MAX + 1).as_bytes()), Err(Excess::LongNumber));
        let fraction = format!("0.{}", "1".repeat(NUMBER_MAX));
        assert_eq!(check(fraction.as_bytes()), Err(Excess::LongNumber));
        // Digits inside a string are a text.
        assert_eq!(check(format!("\"{}\"", "7".repeat(5000)).as_bytes()), Ok(()));
        assert_eq!(check(format!("\"\\\"{}\"", "7".repeat(5000)).as_bytes()), Ok(()));
    }

    #[test]
    fn values_are_limited_by_the_size_of_the_text() {
        let zeros = |count: usize| format!("[{}0]", "0,".repeat(count - 1));
        assert_eq!(check(zeros(VALUES_MIN - 1).as_bytes()), Ok(()));
        assert_eq!(check(zeros(VALUES_MIN).as_bytes()), Err(Excess::TooManyValues));
        // In a larger text, one for each four bytes.
        assert_eq!(check(zeros(1 << 19).as_bytes()), Err(Excess::TooManyValues));
        let words = format!("[{}true]", "true,".repeat(200_000));
        assert_eq!(check(words.as_bytes()), Ok(()));
        let names = format!("{{{}\"a\":0}}", "\"a\":0,".repeat(VALUES_MIN));
        assert_eq!(check(names.as_bytes()), Err(Excess::TooManyValues));
    }

    #[test]
    fn a_name_that_stands_for_a_number_is_refused_however_it_is_written() {
        let long = format!("{{\"$serde_json::private::{}\\n\":1}}", "x".repeat(5000));
        for text in [
            r#"{"$serde_json::private::Number":"12"}"#,
            r#"{"a":[{"$serde_json::private::Number" : "12"}]}"#,
            r#"{"\u0024serde_json::private::Number":"12"}"#,
            r#"{"$serde_json:\u003aprivate::\u004eumber":"12"}"#,
            r#"{"$serde_json::private::RawValue":"[]"}"#,
            &long,
        ] {
            assert_eq!(check(text.as_bytes()), Err(Excess::ReservedName), "{text}");
        }
        for text in [
            r#"{"a":"$serde_json::private::Number"}"#,
            r#"["$serde_json::private::Number"]"#,
            r#"{"$serde_json":"12","serde_json::private::Number":1}"#,
            r#"{"\\u0024serde_json::private::Number":1}"#,
        ] {
            assert_eq!(check(text.as_bytes()), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_is_nested_more_deeply_than_the_parser_reads_is_left_to_it() {
        let deep = |inside: &str| format!("{}{inside}{}", "[".repeat(129), "]".repeat(129));
        let text = deep(&"0,".repeat(1 << 19));
        assert_eq!(check(text.as_bytes()), Ok(()));
        assert!(Value::parse(text.as_bytes()).is_err());
        let text = format!("[{}{}]", "[],".repeat(200), "0,".repeat(1 << 19));
        assert_eq!(check(text.as_bytes()), Err(Excess::TooManyValues));
    }

    #[test]
    fn text_that_is_no_json_is_left_to_the_parser() {
        for text in ["", "\"", "\"\\", "\"\\\"", "{\"a\"", "\u{7f}\u{0}[", "-", "nul"] {
            assert_eq!(check(text.as_bytes()), Ok(()), "{text:?}");
        }
    }

    #[test]
    fn a_value_that_no_text_can_hold_is_refused() {
        let value = |text: &str| Value::parse(text.as_bytes()).unwrap();
        let reserved = value(r#"{"$serde_json::private::Number":"1"}"#);
        assert_eq!(check_scalar(&reserved), Err(Rule::Reserved));
        let long = value(&"1".repeat(NUMBER_MAX + 1));
        assert_eq!(check_scalar(&long), Err(Rule::LongNumber(NUMBER_MAX)));
        assert_eq!(check_scalar(&value(r#"{"a":1.5,"$serde_json":1}"#)), Ok(()));
    }
}
