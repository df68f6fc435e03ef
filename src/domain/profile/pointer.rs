//! JSON pointers (RFC 6901): the path of a value inside a document.

use crate::domain::json::{Map, Value};

/// A path: the name or the index at each level.
pub(super) struct Pointer(Vec<String>);

/// Where a path leads: the place of a value, which may be empty.
pub(super) enum Target<'a> {
    Root(&'a mut Value),
    Member(&'a mut Map, &'a str),
    /// An array and the index in it; none if the path has no index there.
    Element(&'a mut Vec<Value>, Option<usize>),
    /// There is no such object or array.
    Nothing,
}

impl Pointer {
    /// Parses the text of a pointer.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self(Vec::new()));
        }
        let tokens = text.strip_prefix('/')?.split('/');
        tokens.map(unescaped).collect::<Option<_>>().map(Self)
    }

    /// Returns the number of its levels.
    pub(super) fn depth(&self) -> usize {
        self.0.len()
    }

    /// Whether the other path leads into the value of this one.
    pub(super) fn is_above(&self, other: &Self) -> bool {
        other.0.len() > self.0.len() && other.0.starts_with(&self.0)
    }

    /// Returns the value in a document.
    pub(super) fn find<'a>(&self, document: &'a Value) -> Option<&'a Value> {
        self.0.iter().try_fold(document, |value, token| step(value, token))
    }

    /// As [`find`](Self::find), to be changed.
    pub(super) fn find_mut<'a>(&self, document: &'a mut Value) -> Option<&'a mut Value> {
        self.0.iter().try_fold(document, |value, token| step_mut(value, token))
    }

    /// Returns the object or array around the value, and the name or the index in it.
    pub(super) fn parent<'a>(&'a self, document: &'a Value) -> Option<(&'a Value, &'a str)> {
        let (last, above) = self.0.split_last()?;
        let parent = above.iter().try_fold(document, |value, token| step(value, token))?;
        Some((parent, last))
    }

    /// Returns the place of the value in a document.
    pub(super) fn target_mut<'a>(&'a self, document: &'a mut Value) -> Target<'a> {
        let Some((last, above)) = self.0.split_last() else { return Target::Root(document) };
        match above.iter().try_fold(document, |value, token| step_mut(value, token)) {
            Some(Value::Object(members)) => Target::Member(members, last),
            Some(Value::Array(items)) => {
                let index = if last == "-" { Some(items.len()) } else { index(last) };
                Target::Element(items, index)
            }
            _ => Target::Nothing,
        }
    }
}

fn step<'a>(value: &'a Value, token: &str) -> Option<&'a Value> {
    match value {
        Value::Object(members) => members.get(token),
        Value::Array(items) => items.get(index(token)?),
        _ => None,
    }
}

fn step_mut<'a>(value: &'a mut Value, token: &str) -> Option<&'a mut Value> {
    match value {
        Value::Object(members) => members.get_mut(token),
        Value::Array(items) => items.get_mut(index(token)?),
        _ => None,
    }
}

/// Reads an index: digits without a leading zero.
fn index(token: &str) -> Option<usize> {
    let is_index = token == "0"
        || (!token.starts_with('0') && token.bytes().all(|byte| byte.is_ascii_digit()));
    token.parse().ok().filter(|_| is_index)
}

/// Returns a token with `~1` and `~0` replaced; none if another sign follows a `~`.
fn unescaped(token: &str) -> Option<String> {
    let mut parts = token.split('~');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (sign, rest) = match part.split_at_checked(1)? {
            ("0", rest) => ('~', rest),
            ("1", rest) => ('/', rest),
            _ => return None,
        };
        text.push(sign);
        text.push_str(rest);
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pointers_of_the_standard_find_their_values() {
        let text = br#"{"foo":["bar","baz"],"":0,"a/b":1,"c%d":2,"m~n":8}"#;
        let document = Value::parse(text).unwrap();
        let found =
            |pointer: &str| Pointer::parse(pointer).unwrap().find(&document).map(Value::to_string);
        for (pointer, value) in
            [("/foo/0", "\"bar\""), ("/", "0"), ("/a~1b", "1"), ("/c%d", "2"), ("/m~0n", "8")]
        {
            assert_eq!(found(pointer).as_deref(), Some(value), "{pointer}");
        }
        for pointer in ["/foo/2", "/foo/00", "/foo/-", "/foo/x", "/nothing", "/foo/0/x"] {
            assert_eq!(found(pointer), None, "{pointer}");
        }
        for text in ["foo", "/a~", "/a~2"] {
            assert!(Pointer::parse(text).is_none(), "{text}");
        }
    }
}
