//! Applies a JSON patch within bounds: the document stays within its limits after each operation, and all operations
//! together may do only so much work. Without bounds, a few dozen copies of a document into itself would exhaust
//! the memory, and a thousand insertions at the front of a long array would take seconds.

use json_patch::PatchOperation;
use json_patch::jsonptr::Pointer;
use serde_json::Value;

use super::limits::{DEPTH_MAX, SIZE_MAX};
use super::text::size;
use crate::domain::rule::Rule;

/// Largest number of operations in a JSON patch.
pub(super) const PATCH_MAX: usize = 1000;

/// Most work of the operations of one JSON patch: bytes of text that they copy and move, and elements of arrays that make
/// room or close a gap.
const WORK_MAX: usize = 4 * SIZE_MAX;

/// A document to which operations are applied.
pub(super) struct Patched {
    pub(super) value: Value,
    /// The length of its text. An operation may count one comma too many or too few.
    size: usize,
    /// The work that is left.
    work: usize,
}

impl Patched {
    /// Prepares a document.
    pub(super) fn new(value: Value) -> Self {
        let size = size(&value);
        Self { value, size, work: WORK_MAX }
    }

    /// Applies one operation. After an error the document is in between.
    ///
    /// # Errors
    /// [`Rule::Patch`] if it does not apply; the rule that the document would break.
    pub(super) fn apply(&mut self, operation: &PatchOperation) -> Result<(), Rule> {
        let effect = Effect::of(operation, &self.value)?;
        self.work = self.work.checked_sub(effect.work).ok_or(Rule::TooLong(SIZE_MAX))?;
        self.size = (self.size + effect.added).saturating_sub(effect.removed);
        if self.size > SIZE_MAX + PATCH_MAX {
            return Err(Rule::TooLong(SIZE_MAX));
        }
        json_patch::patch_unsafe(&mut self.value, std::slice::from_ref(operation))
            .map_err(|_does_not_apply| Rule::Patch)
    }
}

/// What an operation does to a document, if it applies.
#[derive(Default)]
struct Effect {
    /// Bytes of text that it adds.
    added: usize,
    /// Bytes of text that it removes.
    removed: usize,
    work: usize,
}

impl Effect {
    /// Foresees the effect. Without a source or a target, applying the operation reports the error.
    ///
    /// # Errors
    /// [`Rule::TooDeep`].
    fn of(operation: &PatchOperation, document: &Value) -> Result<Self, Rule> {
        let path: &Pointer = operation.path();
        let mut effect = Self::default();
        match operation {
            PatchOperation::Add(add) => effect.insert(document, path, &add.value)?,
            PatchOperation::Replace(replace) => {
                effect.place(document, path, &replace.value)?;
                effect.remove(document, path);
            }
            PatchOperation::Copy(copy) => {
                if let Some(source) = document.pointer(copy.from.as_str()) {
                    effect.insert(document, path, source)?;
                    effect.work += size(source);
                }
            }
            PatchOperation::Move(moved) => {
                if let Some(source) = document.pointer(moved.from.as_str()) {
                    effect.insert(document, path, source)?;
                    effect.work += size(source) + shifted(document, &moved.from);
                    effect.remove(document, &moved.from);
                }
            }
            PatchOperation::Remove(_) => {
                effect.work += shifted(document, path);
                effect.remove(document, path);
            }
            PatchOperation::Test(_) => {}
        }
        Ok(effect)
    }

    /// Counts a value that is inserted: into an array, or in the place of the member with its name.
    fn insert(&mut self, document: &Value, path: &Pointer, value: &Value) -> Result<(), Rule> {
        self.place(document, path, value)?;
        match parent(document, path) {
            Some((Value::Array(_), _)) => self.work += shifted(document, path),
            _ => self.remove(document, path),
        }
        Ok(())
    }

    fn place(&mut self, document: &Value, path: &Pointer, value: &Value) -> Result<(), Rule> {
        check_depth(value, path.tokens().count())?;
        self.added += size(value) + around(document, path);
        Ok(())
    }

    fn remove(&mut self, document: &Value, path: &Pointer) {
        if let Some(value) = document.pointer(path.as_str()) {
            self.removed += size(value) + around(document, path);
        }
    }
}

/// Returns the value that holds the target of a path, and the target's name or index in it.
fn parent<'a>(document: &'a Value, path: &Pointer) -> Option<(&'a Value, String)> {
    let (parent, last) = path.split_back()?;
    Some((document.pointer(parent.as_str())?, last.decoded().into_owned()))
}

/// Returns the length of the text around a value: its name and colon in an object, and a comma.
fn around(document: &Value, path: &Pointer) -> usize {
    match parent(document, path) {
        Some((Value::Object(_), name)) => size(&name) + 2,
        Some((Value::Array(_), _)) => 1,
        _ => 0,
    }
}

/// Returns the number of elements behind the target of a path in its array.
fn shifted(document: &Value, path: &Pointer) -> usize {
    match parent(document, path) {
        Some((Value::Array(items), index)) => {
            index.parse().map_or(0, |index: usize| items.len().saturating_sub(index))
        }
        _ => 0,
    }
}

/// Refuses a value that would be nested too deeply at this depth.
fn check_depth(value: &Value, depth: usize) -> Result<(), Rule> {
    if depth > DEPTH_MAX {
        return Err(Rule::TooDeep);
    }
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| check_depth(item, depth + 1)),
        Value::Object(fields) => fields.values().try_for_each(|item| check_depth(item, depth + 1)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}
