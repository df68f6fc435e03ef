//! JSON as a caller sent it: the text of each number and the order of the names are kept.
//!
//! `serde_json::Value` keeps neither, unless features are switched on that Cargo would switch on for the whole program
//! of an application too, whose own enums and numbers then behave otherwise.

use std::fmt;

use indexmap::IndexMap;
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// The members of an object, in the order of the text. Two are equal if they have the same members in any order.
pub type Map = IndexMap<String, Value>;

/// A JSON value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Value {
    /// `null`.
    #[default]
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A string.
    String(String),
    /// An array.
    Array(Vec<Self>),
    /// An object.
    Object(Map),
}

/// A number: its text. Two are equal if their texts are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Number(Box<str>);

impl Number {
    /// Wraps a text that is a number in the grammar of JSON.
    pub(super) fn of_text(text: &str) -> Self {
        Self(text.into())
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the whole number that it is, if it is written as one.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        self.0.parse().ok()
    }

    /// Returns the nearest float; none beyond the largest one.
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        self.0.parse().ok().filter(|float: &f64| float.is_finite())
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Value {
    /// Returns an object without members.
    #[must_use]
    pub fn object() -> Self {
        Self::Object(Map::new())
    }

    /// Whether it is `null`.
    #[must_use]
    pub const fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Whether it is an array.
    #[must_use]
    pub const fn is_array(&self) -> bool {
        matches!(self, Self::Array(_))
    }

    /// Whether it is an object.
    #[must_use]
    pub const fn is_object(&self) -> bool {
        matches!(self, Self::Object(_))
    }

    /// Returns its members if it is an object.
    #[must_use]
    pub const fn as_object(&self) -> Option<&Map> {
        match self {
            Self::Object(members) => Some(members),
            _ => None,
        }
    }

    /// Returns its elements if it is an array.
    #[must_use]
    pub fn as_array(&self) -> Option<&[Self]> {
        match self {
            Self::Array(items) => Some(items),
            _ => None,
        }
    }

    /// Whether it is a number.
    #[must_use]
    pub const fn is_number(&self) -> bool {
        matches!(self, Self::Number(_))
    }

    /// Returns the whole number that it is, if it is one.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Number(number) => number.as_i64(),
            _ => None,
        }
    }

    /// Returns its text if it is a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// Returns a member of an object.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Self> {
        self.as_object()?.get(name)
    }

    /// Applies a merge patch (RFC 7396): null removes a member.
    pub fn merge(&mut self, patch: &Self) {
        let Self::Object(changes) = patch else {
            patch.clone_into(self);
            return;
        };
        if !self.is_object() {
            *self = Self::object();
        }
        let Self::Object(members) = self else { return };
        // At once: each removal by itself would move all members behind it.
        members.retain(|name, _| !changes.get(name).is_some_and(Self::is_null));
        for (name, change) in changes.iter().filter(|(_, change)| !change.is_null()) {
            members.entry(name.clone()).or_default().merge(change);
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_unwritable| fmt::Error)?)
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(number) => number.serialize(serializer),
            Self::String(text) => serializer.serialize_str(text),
            Self::Array(items) => {
                let mut seq = serializer.serialize_seq(Some(items.len()))?;
                items.iter().try_for_each(|item| seq.serialize_element(item))?;
                seq.end()
            }
            Self::Object(members) => {
                let mut map = serializer.serialize_map(Some(members.len()))?;
                members.iter().try_for_each(|(name, value)| map.serialize_entry(name, value))?;
                map.end()
            }
        }
    }
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Most numbers are written as they would be anyway, without a copy of their text.
        match self.0.parse::<i64>() {
            Ok(whole) if self.0.len() < 19 && !self.0.starts_with("-0") => {
                serializer.serialize_i64(whole)
            }
            _ => RawValue::from_string(self.0.to_string())
                .map_err(serde::ser::Error::custom)?
                .serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        Self::parse(text.get().as_bytes()).map_err(serde::de::Error::custom)
    }
}

impl From<serde_json::Value> for Value {
    fn from(value: serde_json::Value) -> Self {
        match value {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(value) => Self::Bool(value),
            serde_json::Value::Number(number) => Self::Number(Number::of_text(&number.to_string())),
            serde_json::Value::String(text) => Self::String(text),
            serde_json::Value::Array(items) => {
                Self::Array(items.into_iter().map(Self::from).collect())
            }
            serde_json::Value::Object(members) => Self::Object(
                members.into_iter().map(|(name, value)| (name, Self::from(value))).collect(),
            ),
        }
    }
}

impl From<&Value> for serde_json::Value {
    /// Loses the digits of a number that no float has, and the order of the names.
    fn from(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(number) => serde_json::from_str(number.as_str())
                .unwrap_or_else(|_too_large| Self::String(number.as_str().to_owned())),
            Value::String(text) => Self::String(text.clone()),
            Value::Array(items) => Self::Array(items.iter().map(Self::from).collect()),
            Value::Object(members) => Self::Object(
                members.iter().map(|(name, value)| (name.clone(), Self::from(value))).collect(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        Value::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn numbers_keep_their_digits_and_objects_the_order_of_their_names() {
        let text = r#"{"z":1.0,"a":12345678901234567890.1230,"e":1e400,"m":-0,"i":-7,"n":[true,null,"é\n"]}"#;
        assert_eq!(value(text).to_string(), text);
        let spaced = " {\"z\" : [ 1 , 2 ] ,\n\t\"a\":{ } } ";
        assert_eq!(value(spaced).to_string(), r#"{"z":[1,2],"a":{}}"#);
        assert_eq!(serde_json::from_str::<Value>(text).unwrap(), value(text));
    }

    #[test]
    fn a_name_that_is_given_twice_has_the_last_value() {
        assert_eq!(value(r#"{"a":1,"b":2,"a":3}"#).to_string(), r#"{"a":3,"b":2}"#);
    }

    #[test]
    fn a_text_that_is_no_json_is_refused_with_the_place() {
        for text in [
            "",
            "{",
            "[1,]",
            "{\"a\" 1}",
            "01",
            "1.",
            "\"\\ud800\"",
            "\"\n\"",
            "nul",
            "1 2",
            "\u{feff}1",
        ] {
            let refused = Value::parse(text.as_bytes()).unwrap_err();
            assert_eq!(refused.line, if text.contains('\n') { refused.line } else { 1 }, "{text}");
            assert!(serde_json::from_str::<serde_json::Value>(text).is_err(), "{text}");
        }
        let refused = Value::parse(b"{\n  \"a\": 1,\n  x}").unwrap_err();
        assert_eq!((refused.line, refused.column), (3, 3));
    }

    #[test]
    fn nesting_is_limited() {
        let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(Value::parse(deep(127).as_bytes()).is_ok());
        assert!(Value::parse(deep(128).as_bytes()).is_err());
        assert!(Value::parse("[".repeat(1 << 20).as_bytes()).is_err());
    }

    #[test]
    fn a_merge_patch_changes_and_removes_members() {
        let mut document = value(r#"{"z":1,"a":{"b":2,"c":3},"d":4}"#);
        document.merge(&value(r#"{"a":{"b":null,"e":1.50},"d":null,"n":{"x":null,"y":1}}"#));
        assert_eq!(document.to_string(), r#"{"z":1,"a":{"c":3,"e":1.50},"n":{"y":1}}"#);
        document.merge(&value("[1]"));
        assert_eq!(document.to_string(), "[1]");
    }
}
