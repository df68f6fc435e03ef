//! Applies a JSON patch (RFC 6902) within bounds: the document stays within its limits after each operation, and all
//! operations together may do only so much work. Without bounds, a few dozen copies of a document into itself would exhaust
//! the memory, and a thousand insertions at the front of a long array would take seconds.

use super::limits::{DEPTH_MAX, SIZE_MAX};
use super::pointer::{Pointer, Target};
use super::text::size;
use crate::domain::json::Value;
use crate::domain::rule::Rule;

/// Largest number of operations in a JSON patch.
pub(super) const PATCH_MAX: usize = 1000;

/// Most work of the operations of one JSON patch: bytes of text that they copy and move, and elements of arrays that make
/// room or close a gap.
const WORK_MAX: usize = 4 * SIZE_MAX;

/// An operation of a patch.
pub(super) enum Operation<'a> {
    Add { path: Pointer, value: &'a Value },
    Remove { path: Pointer },
    Replace { path: Pointer, value: &'a Value },
    Move { from: Pointer, path: Pointer },
    Copy { from: Pointer, path: Pointer },
    Test { path: Pointer, value: &'a Value },
}

impl<'a> Operation<'a> {
    /// Reads an operation.
    ///
    /// # Errors
    /// [`Rule::Patch`].
    pub(super) fn read(operation: &'a Value) -> Result<Self, Rule> {
        let pointer = |name| {
            operation.get(name).and_then(Value::as_str).and_then(Pointer::parse).ok_or(Rule::Patch)
        };
        let value = || operation.get("value").ok_or(Rule::Patch);
        let path = pointer("path")?;
        Ok(match operation.get("op").and_then(Value::as_str) {
            Some("add") => Self::Add { path, value: value()? },
            Some("remove") => Self::Remove { path },
            Some("replace") => Self::Replace { path, value: value()? },
            Some("move") => Self::Move { from: pointer("from")?, path },
            Some("copy") => Self::Copy { from: pointer("from")?, path },
            Some("test") => Self::Test { path, value: value()? },
            _ => return Err(Rule::Patch),
        })
    }
}

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
    pub(super) fn apply(&mut self, operation: &Operation<'_>) -> Result<(), Rule> {
        let effect = Effect::of(operation, &self.value)?;
        self.work = self.work.checked_sub(effect.work).ok_or(Rule::TooLong(SIZE_MAX))?;
        self.size = (self.size + effect.added).saturating_sub(effect.removed);
        if self.size > SIZE_MAX + PATCH_MAX {
            return Err(Rule::TooLong(SIZE_MAX));
        }
        self.run(operation).ok_or(Rule::Patch)
    }

    /// Changes the document; none if the operation does not apply.
    fn run(&mut self, operation: &Operation<'_>) -> Option<()> {
        let document = &mut self.value;
        match operation {
            Operation::Add { path, value } => add(document, path, (*value).clone()),
            Operation::Remove { path } => remove(document, path).map(drop),
            Operation::Replace { path, value } => {
                *path.find_mut(document)? = (*value).clone();
                Some(())
            }
            Operation::Move { from, path } => {
                if from.is_above(path) {
                    return None;
                }
                let moved = remove(document, from)?;
                add(document, path, moved)
            }
            Operation::Copy { from, path } => {
                let copied = from.find(document)?.clone();
                add(document, path, copied)
            }
            Operation::Test { path, value } => (path.find(document)? == *value).then_some(()),
        }
    }
}

fn add(document: &mut Value, path: &Pointer, value: Value) -> Option<()> {
    match path.target_mut(document) {
        Target::Root(root) => *root = value,
        Target::Member(members, name) => {
            members.insert(name.to_owned(), value);
        }
        Target::Element(items, Some(index)) if index <= items.len() => items.insert(index, value),
        Target::Element(..) | Target::Nothing => return None,
    }
    Some(())
}

fn remove(document: &mut Value, path: &Pointer) -> Option<Value> {
    match path.target_mut(document) {
        Target::Member(members, name) => members.shift_remove(name),
        Target::Element(items, Some(index)) if index < items.len() => Some(items.remove(index)),
        Target::Root(_) | Target::Element(..) | Target::Nothing => None,
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
    fn of(operation: &Operation<'_>, document: &Value) -> Result<Self, Rule> {
        let mut effect = Self::default();
        match operation {
            Operation::Add { path, value } => effect.insert(document, path, value)?,
            Operation::Replace { path, value } => {
                effect.place(document, path, value)?;
                effect.remove(document, path);
            }
            Operation::Copy { from, path } => {
                if let Some(source) = from.find(document) {
                    effect.insert(document, path, source)?;
                    effect.work += size(source);
                }
            }
            Operation::Move { from, path } => {
                if let Some(source) = from.find(document) {
                    effect.insert(document, path, source)?;
                    effect.work += size(source) + shifted(document, from);
                    effect.remove(document, from);
                }
            }
            Operation::Remove { path } => {
                effect.work += shifted(document, path);
                effect.remove(document, path);
            }
            Operation::Test { .. } => {}
        }
        Ok(effect)
    }

    /// Counts a value that is inserted: into an array, or in the place of the member with its name.
    fn insert(&mut self, document: &Value, path: &Pointer, value: &Value) -> Result<(), Rule> {
        self.place(document, path, value)?;
        match path.parent(document) {
            Some((Value::Array(_), _)) => self.work += shifted(document, path),
            _ => self.remove(document, path),
        }
        Ok(())
    }

    fn place(&mut self, document: &Value, path: &Pointer, value: &Value) -> Result<(), Rule> {
        check_depth(value, path.depth())?;
        self.added += size(value) + around(document, path);
        Ok(())
    }

    fn remove(&mut self, document: &Value, path: &Pointer) {
        if let Some(value) = path.find(document) {
            self.removed += size(value) + around(document, path);
        }
    }
}

/// Returns the length of the text around a value: its name and colon in an object, and a comma.
fn around(document: &Value, path: &Pointer) -> usize {
    match path.parent(document) {
        Some((Value::Object(_), name)) => size(name) + 2,
        Some((Value::Array(_), _)) => 1,
        _ => 0,
    }
}

/// Returns the number of elements behind the target of a path in its array.
fn shifted(document: &Value, path: &Pointer) -> usize {
    match path.parent(document) {
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
