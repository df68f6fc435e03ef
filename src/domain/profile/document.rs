//! The document of a profile: a JSON object, its limits, and its changes.
//!
//! Promises: a parsed document can be stored and returned as it was given, and no change exceeds the limits, not even
//! on the way.

use md5::{Digest, Md5};
use serde::Serialize;

use super::key::{KeyKind, Keys, parse_key};
use super::limits::{DEPTH_MAX, SIZE_MAX, VALUES_MAX};
use super::patch::{Operation, PATCH_MAX, Patched};
use super::text::size;
use crate::domain::json::{Map, Value, check_scalar};
use crate::domain::rule::{FieldProblem, Rule};

/// A person's record: a JSON object, kept as it was given.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Document(Value);

impl Document {
    /// Parses an object that PostgreSQL can store.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn parse(value: impl Into<Value>) -> Result<Self, Rule> {
        let value = value.into();
        if !value.is_object() {
            return Err(Rule::Type("object"));
        }
        check(&value, 0, &mut { VALUES_MAX })?;
        if size(&value) > SIZE_MAX {
            return Err(Rule::TooLong(SIZE_MAX));
        }
        Ok(Self(value))
    }

    /// Wraps a document from our own tables.
    #[must_use]
    pub fn stored(value: impl Into<Value>) -> Self {
        Self(value.into())
    }

    /// Returns the JSON.
    #[must_use]
    pub const fn as_value(&self) -> &Value {
        &self.0
    }

    /// Returns the JSON by value.
    #[must_use]
    pub fn into_value(self) -> Value {
        self.0
    }

    /// Returns the document with a merge patch applied (RFC 7396): null removes a field.
    ///
    /// # Errors
    /// The rule that the result breaks.
    pub fn merged(&self, patch: &Value) -> Result<Self, Rule> {
        let mut value = self.0.clone();
        value.merge(patch);
        Self::parse(value)
    }

    /// Returns the document with a JSON patch applied (RFC 6902), completely or not at all.
    ///
    /// # Errors
    /// [`Rule::Patch`] if it is not a patch or does not apply, or the rule that the result breaks, or that the document
    /// breaks on the way.
    pub fn patched(&self, patch: &Value) -> Result<Self, Rule> {
        let operations = patch.as_array().ok_or(Rule::Patch)?;
        if operations.len() > PATCH_MAX {
            return Err(Rule::Patch);
        }
        let operations: Vec<_> =
            operations.iter().map(Operation::read).collect::<Result<_, _>>()?;
        let mut patched = Patched::new(self.0.clone());
        operations.iter().try_for_each(|operation| patched.apply(operation))?;
        Self::parse(patched.value)
    }

    /// Returns the MD5 of its text in hex, as Databunker's contract requires.
    #[must_use]
    pub fn md5(&self) -> String {
        hex::encode(Md5::digest(self.0.to_string()))
    }

    /// Returns the keys in the document.
    ///
    /// # Errors
    /// The field and the rule that it breaks.
    pub fn keys(&self) -> Result<Keys, FieldProblem> {
        let key = |kind: KeyKind| {
            let read = match self.0.get(kind.as_str()) {
                None | Some(Value::Null) => Ok(None),
                Some(Value::String(text)) => parse_key(kind, text),
                // Clients send telephone numbers as numbers.
                Some(Value::Number(number)) if kind != KeyKind::Email => {
                    parse_key(kind, &number.to_string())
                }
                Some(_) => Err(Rule::Type("string")),
            };
            read.map_err(|rule| FieldProblem::new(kind.as_str(), rule))
        };
        Ok(Keys {
            email: key(KeyKind::Email)?,
            login: key(KeyKind::Login)?,
            phone: key(KeyKind::Phone)?,
            custom: key(KeyKind::Custom)?,
        })
    }
}

/// Refuses what PostgreSQL cannot return (NUL in a text, and nesting beyond its limit or ours), what `serde_json` would read
/// as something else, and more than `left` values and names.
fn check(value: &Value, depth: usize, left: &mut usize) -> Result<(), Rule> {
    if depth > DEPTH_MAX {
        return Err(Rule::TooDeep);
    }
    let names = value.as_object().map_or(0, Map::len);
    *left = left.checked_sub(1 + names).ok_or(Rule::TooManyValues(VALUES_MAX))?;
    check_scalar(value)?;
    match value {
        Value::String(text) if text.contains('\0') => Err(Rule::ControlCharacter),
        Value::Array(items) => items.iter().try_for_each(|item| check(item, depth + 1, left)),
        Value::Object(fields) => fields.iter().try_for_each(|(name, item)| {
            if name.contains('\0') {
                Err(Rule::ControlCharacter)
            } else {
                check(item, depth + 1, left)
            }
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}
