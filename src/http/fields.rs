//! Reads the fields of a body so that every bad one is reported, and not only the first.
//!
//! serde stops at the first wrong type. So a wire struct takes its fields as [`Text`], which accepts
//! anything and remembers what it was, and [`Fields`] collects the problems while each is parsed into the
//! newtype that the service wants.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;

use crate::domain::error::{Error, Malformed, Result};
use crate::domain::rule::{FieldProblem, Rule};

/// A text field as it came: a text, nothing, or something else.
#[derive(Debug, Default, Deserialize)]
#[serde(from = "Option<Value>")]
pub enum Text {
    /// Absent or null.
    #[default]
    Missing,
    /// A JSON string.
    Given(String),
    /// Another JSON type.
    WrongType,
}

impl From<Option<Value>> for Text {
    fn from(value: Option<Value>) -> Self {
        match value {
            None | Some(Value::Null) => Self::Missing,
            Some(Value::String(text)) => Self::Given(text),
            Some(_) => Self::WrongType,
        }
    }
}

/// A list field as it came: a list, nothing, or something else.
#[derive(Debug, Default, Deserialize)]
#[serde(from = "Option<Value>")]
pub enum List {
    /// Absent or null.
    #[default]
    Missing,
    /// A JSON array.
    Given(Vec<Value>),
    /// Another JSON type.
    WrongType,
}

impl From<Option<Value>> for List {
    fn from(value: Option<Value>) -> Self {
        match value {
            None | Some(Value::Null) => Self::Missing,
            Some(Value::Array(values)) => Self::Given(values),
            Some(_) => Self::WrongType,
        }
    }
}

/// Collects the problems of a body.
#[derive(Debug, Default)]
pub struct Fields {
    problems: Vec<FieldProblem>,
}

impl Fields {
    /// Parses a field that must be there.
    pub fn required<T>(
        &mut self,
        name: &'static str,
        text: &Text,
        parse: impl FnOnce(&str) -> Result<T, Rule>,
    ) -> Option<T> {
        let parsed = match text {
            Text::Missing => Err(Rule::Required),
            Text::WrongType => Err(Rule::Type("string")),
            Text::Given(text) => parse(text),
        };
        parsed.map_err(|rule| self.problems.push(FieldProblem::new(name, rule))).ok()
    }

    /// Parses a field that may be left out; the outcome is `None` then, too.
    pub fn optional<T>(
        &mut self,
        name: &'static str,
        text: &Text,
        parse: impl FnOnce(&str) -> Result<T, Rule>,
    ) -> Option<T> {
        match text {
            Text::Missing => None,
            given => self.required(name, given, parse),
        }
    }

    /// Says that a field breaks a rule; there is no value then.
    pub fn refuse<T>(&mut self, name: impl Into<Cow<'static, str>>, rule: Rule) -> Option<T> {
        self.problems.push(FieldProblem::new(name, rule));
        None
    }

    /// Ends the reading: all fields, or all problems.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every problem.
    pub fn finish<T>(self, value: Option<T>) -> Result<T> {
        match value {
            Some(value) if self.problems.is_empty() => Ok(value),
            _ => Err(Error::Invalid(self.problems)),
        }
    }
}

/// Reads a JSON object, whatever the `Content-Type` says.
///
/// # Errors
/// [`Malformed::Json`] with the place, [`Malformed::NotAnObject`].
pub fn read_object<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T> {
    let value: Value = serde_json::from_slice(body).map_err(|error| {
        Error::Malformed(Malformed::Json { line: error.line(), column: error.column() })
    })?;
    if !value.is_object() {
        return Err(Error::Malformed(Malformed::NotAnObject));
    }
    serde_json::from_value(value)
        .map_err(|error| Error::internal("read a body whose fields accept anything", error))
}
