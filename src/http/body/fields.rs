//! Reads the fields of an object, or the parameters of a query, one by one.
//!
//! [`Fields`] reports every bad field, and not only the first one as serde does: each field is taken out by its
//! name and parsed into the newtype that the service wants, and the problems are collected on the way. Their number and
//! the length of the names in them are bounded, so that an answer is not longer than its request by a multiple.
//!
//! Must not know: what a field means.

use std::borrow::Cow;

use crate::domain::error::{Error, Result};
use crate::domain::json::{Map, Value};
use crate::domain::rule::{FieldProblem, Rule};

/// Most problems that one answer lists; further ones appear once these are corrected.
const PROBLEMS_MAX: usize = 50;

/// Longest name of a field in an answer, in characters; a longer one is cut.
const NAME_MAX: usize = 128;

/// Returns what reads one of these words.
pub(crate) fn word(words: &'static [&'static str]) -> impl Fn(&str) -> Result<String, Rule> {
    move |text| words.contains(&text).then(|| text.to_owned()).ok_or(Rule::OneOf(words))
}

/// How the fields of an object are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FieldPolicy {
    /// Unknown fields are ignored; a problem names its field as the body does.
    Lenient,
    /// Unknown fields and NUL in a text are refused; a problem names its field by a JSON pointer (RFC 6901).
    Strict,
}

impl FieldPolicy {
    /// Returns what separates the names of a nested field in a problem.
    const fn separator(self) -> char {
        match self {
            Self::Lenient => '.',
            Self::Strict => '/',
        }
    }
}

/// The fields of an object, or the parameters of a query. Each is taken out as it is read, so that what is left at
/// the end is unknown.
#[derive(Debug)]
pub(crate) struct Fields {
    given: Map,
    policy: FieldPolicy,
    /// What precedes a field's name in a problem: `""`, `/`, `/admin/` or `?`.
    prefix: String,
    problems: Vec<FieldProblem>,
}

impl Fields {
    /// Prepares the fields of an object.
    pub(super) fn of_body(given: Map, policy: FieldPolicy) -> Self {
        let prefix = match policy {
            FieldPolicy::Lenient => "",
            FieldPolicy::Strict => "/",
        };
        Self { given, policy, prefix: prefix.to_owned(), problems: Vec::new() }
    }

    /// Prepares the parameters of a query; one that is given twice is refused.
    pub(crate) fn of_query(pairs: Vec<(String, String)>) -> Self {
        let (policy, prefix) = (FieldPolicy::Strict, "?".to_owned());
        let mut fields = Self { given: Map::new(), policy, prefix, problems: Vec::new() };
        for (name, value) in pairs {
            if fields.given.insert(name.clone(), Value::String(value)).is_some() {
                fields.refuse(&name, Rule::Unknown);
            }
        }
        fields
    }

    /// Records that a field breaks a rule.
    pub(crate) fn refuse(&mut self, name: &str, rule: Rule) {
        let name = &cut(name);
        let field = match self.prefix.as_str() {
            prefix if prefix.starts_with('/') => {
                format!("{prefix}{}", name.replace('~', "~0").replace('/', "~1"))
            }
            prefix => format!("{prefix}{name}"),
        };
        self.record(FieldProblem::new(field, rule));
    }

    fn record(&mut self, problem: FieldProblem) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem);
        }
    }

    /// Records that an element of an array breaks a rule.
    pub(crate) fn refuse_element(&mut self, name: &str, index: usize, rule: Rule) {
        let field = format!("{}{name}{}{index}", self.prefix, self.policy.separator());
        self.record(FieldProblem::new(field, rule));
    }

    /// Returns whether a problem was recorded.
    pub(crate) fn is_refused(&self) -> bool {
        !self.problems.is_empty()
    }

    /// Returns whether the field is present, including as null.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// Returns whether the field is present as null.
    pub(crate) fn is_null(&self, name: &str) -> bool {
        self.given.get(name).is_some_and(Value::is_null)
    }

    /// Takes a field of any type; null counts as absent.
    pub(crate) fn value(&mut self, name: &str) -> Option<Value> {
        self.given.shift_remove(name).filter(|value| !value.is_null())
    }

    /// Takes a field of any type, including null.
    pub(crate) fn value_or_null(&mut self, name: &str) -> Option<Value> {
        self.given.shift_remove(name)
    }

    /// Takes a text that may be absent.
    pub(crate) fn optional<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, Rule>,
    ) -> Option<T> {
        let parsed = match self.value(name)? {
            // PostgreSQL can neither store NUL nor compare with it.
            Value::String(text) if self.policy == FieldPolicy::Strict && text.contains('\0') => {
                Err(Rule::ControlCharacter)
            }
            Value::String(text) => parse(&text),
            _ => Err(Rule::Type("string")),
        };
        parsed.map_err(|rule| self.refuse(name, rule)).ok()
    }

    /// Takes a text that must be present.
    pub(crate) fn required<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, Rule>,
    ) -> Option<T> {
        if self.given.get(name).is_none_or(Value::is_null) {
            self.given.shift_remove(name);
            self.refuse(name, Rule::Required);
            return None;
        }
        self.optional(name, parse)
    }

    /// Takes an array that must be present.
    pub(crate) fn array(&mut self, name: &str) -> Option<Vec<Value>> {
        match self.value(name) {
            Some(Value::Array(items)) => return Some(items),
            None => self.refuse(name, Rule::Required),
            Some(_) => self.refuse(name, Rule::Type("array")),
        }
        None
    }

    /// Takes a boolean; false if it is absent.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
        match self.value(name) {
            None => false,
            Some(Value::Bool(flag)) => flag,
            Some(_) => {
                self.refuse(name, Rule::Type("boolean"));
                false
            }
        }
    }

    /// Takes an object that may be absent; give it back to [`Fields::merge`] when it is read.
    pub(crate) fn object(&mut self, name: &str) -> Option<Self> {
        let Value::Object(given) = self.value(name)? else {
            self.refuse(name, Rule::Type("object"));
            return None;
        };
        let prefix = format!("{}{name}{}", self.prefix, self.policy.separator());
        Some(Self { given, policy: self.policy, prefix, problems: Vec::new() })
    }

    /// Takes over the problems of an inner object.
    pub(crate) fn merge(&mut self, mut inner: Self) {
        inner.refuse_rest();
        inner.problems.into_iter().for_each(|problem| self.record(problem));
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every problem.
    pub(crate) fn finish<T>(mut self, value: Option<T>) -> Result<T> {
        self.refuse_rest();
        match value {
            Some(value) if self.problems.is_empty() => Ok(value),
            _ => Err(Error::Invalid(self.problems)),
        }
    }

    fn refuse_rest(&mut self) {
        if self.policy == FieldPolicy::Lenient {
            return;
        }
        for (name, _) in std::mem::take(&mut self.given).into_iter().take(PROBLEMS_MAX) {
            self.refuse(&name, Rule::Unknown);
        }
    }
}

/// Returns a field's name for an answer.
fn cut(name: &str) -> Cow<'_, str> {
    match name.char_indices().nth(NAME_MAX) {
        None => Cow::Borrowed(name),
        Some((end, _)) => Cow::Owned(format!("{}…", name.get(..end).unwrap_or_default())),
    }
}
