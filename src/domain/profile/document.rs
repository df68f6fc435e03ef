//! The document of a profile: a JSON object, its limits, and its changes.
//!
//! Promises: a parsed document can be stored and returned as it was given, and no change exceeds the limits, not even
//! on the way.

use json_patch::PatchOperation;
use md5::{Digest, Md5};
use serde::Serialize;
use serde_json::Value;

use super::key::{KeyKind, Keys, parse_key};
use crate::domain::rule::{FieldProblem, Rule};

/// Deepest nesting of a document. PostgreSQL and serde refuse deeper ones not far beyond, each in its own way.
pub(super) const DEPTH_MAX: usize = 64;

/// Largest document, in bytes of its text. A request body has a limit of its own; this one bounds the result of many
/// changes, since every version is kept.
pub(super) const SIZE_MAX: usize = 1 << 20;

/// Largest number of operations in a JSON patch.
const PATCH_MAX: usize = 1000;

/// Largest total that the operations of one JSON patch may copy and move, in values plus bytes of text. Without it, a
/// few dozen copies of a document into itself would exhaust the memory.
const PATCH_WEIGHT_MAX: usize = 4 * SIZE_MAX;

/// A person's record: a JSON object, kept as it was given.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Document(Value);

impl Document {
    /// Parses an object that PostgreSQL can store.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn parse(value: Value) -> Result<Self, Rule> {
        if !value.is_object() {
            return Err(Rule::Type("object"));
        }
        check(&value, 0)?;
        if size(&value) > SIZE_MAX {
            return Err(Rule::TooLong(SIZE_MAX));
        }
        Ok(Self(value))
    }

    /// Wraps a document from our own tables.
    #[must_use]
    pub const fn stored(value: Value) -> Self {
        Self(value)
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
        json_patch::merge(&mut value, patch);
        Self::parse(value)
    }

    /// Returns the document with a JSON patch applied (RFC 6902), completely or not at all.
    ///
    /// # Errors
    /// [`Rule::Patch`] if it is not a patch or does not apply, or the rule that the result breaks.
    pub fn patched(&self, patch: &Value) -> Result<Self, Rule> {
        let patch: json_patch::Patch =
            serde_json::from_value(patch.clone()).map_err(|_no_patch| Rule::Patch)?;
        if patch.len() > PATCH_MAX {
            return Err(Rule::Patch);
        }
        let (mut value, mut left) = (self.0.clone(), PATCH_WEIGHT_MAX);
        for operation in patch.iter() {
            bound(&value, operation, &mut left)?;
            // One at a time, on a copy: after a failure the copy is dropped.
            json_patch::patch_unsafe(&mut value, std::slice::from_ref(operation))
                .map_err(|_does_not_apply| Rule::Patch)?;
        }
        Self::parse(value)
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

/// Returns the length of a value's text, in bytes.
fn size(value: &Value) -> usize {
    struct Counter(usize);

    impl std::io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    let mut counter = Counter(0);
    serde_json::to_writer(&mut counter, value).map_or(usize::MAX, |()| counter.0)
}

/// Refuses an operation that would nest the document too deeply, or copy and move more than `left`.
fn bound(document: &Value, operation: &PatchOperation, left: &mut usize) -> Result<(), Rule> {
    let (placed, costs) = match operation {
        PatchOperation::Add(add) => (Some(&add.value), false),
        PatchOperation::Replace(replace) => (Some(&replace.value), false),
        PatchOperation::Copy(copy) => (document.pointer(copy.from.as_str()), true),
        PatchOperation::Move(moved) => (document.pointer(moved.from.as_str()), true),
        PatchOperation::Remove(_) | PatchOperation::Test(_) => (None, false),
    };
    // Without a source, applying the operation reports the error.
    let Some(placed) = placed else { return Ok(()) };
    let mut plenty = usize::MAX;
    weigh(placed, operation.path().tokens().count(), if costs { left } else { &mut plenty })
}

/// Subtracts the weight of a value at this depth from `left`.
fn weigh(value: &Value, depth: usize, left: &mut usize) -> Result<(), Rule> {
    if depth > DEPTH_MAX {
        return Err(Rule::TooDeep);
    }
    let text = match value {
        Value::String(text) => text.len(),
        Value::Object(fields) => fields.keys().map(String::len).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => 0,
    };
    *left = left.checked_sub(1 + text).ok_or(Rule::TooLong(SIZE_MAX))?;
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| weigh(item, depth + 1, left)),
        Value::Object(fields) => fields.values().try_for_each(|item| weigh(item, depth + 1, left)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

/// Refuses what PostgreSQL cannot return: NUL in a text, and nesting beyond its limit or ours.
fn check(value: &Value, depth: usize) -> Result<(), Rule> {
    if depth > DEPTH_MAX {
        return Err(Rule::TooDeep);
    }
    match value {
        Value::String(text) if text.contains('\0') => Err(Rule::ControlCharacter),
        Value::Array(items) => items.iter().try_for_each(|item| check(item, depth + 1)),
        Value::Object(fields) => fields.iter().try_for_each(|(name, item)| {
            if name.contains('\0') { Err(Rule::ControlCharacter) } else { check(item, depth + 1) }
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}
