//! Reads request bodies for every dialect: the bytes up to the limit, the JSON, and its fields one by one.
//!
//! A dialect states in a [`Policy`] how it reads; there is no other reader. JSON is read whatever the
//! `Content-Type` says: curl labels a body as a form by default.
//!
//! [`Fields`] reports every bad field, and not only the first one as serde does: each field is taken out by its
//! name and parsed into the newtype that the service wants, and the problems are collected on the way.
//!
//! Must not know: what a field means.

use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::{FromRequest, HttpRequest, web};
use serde_json::{Map, Value};

use super::extract::site;
use crate::domain::error::{Error, Malformed, Result};
use crate::domain::rule::{FieldProblem, Rule};

/// How a dialect reads a body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy {
    /// What a blank body stands for.
    pub(crate) blank: Blank,
    /// What the body may be.
    pub(crate) top: Top,
    /// How its fields are read.
    pub(crate) fields: FieldPolicy,
}

/// What a blank body stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blank {
    /// Nothing: it is malformed JSON.
    Malformed,
    /// An empty object.
    EmptyObject,
}

/// What a body may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Top {
    /// An object.
    Object,
    /// An object or an array.
    ObjectOrArray,
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

impl Policy {
    /// Parses a body.
    ///
    /// # Errors
    /// [`Malformed::Json`] with the position, [`Malformed::NotAnObject`].
    pub(crate) fn parse(self, body: &[u8]) -> Result<Value, Malformed> {
        if self.blank == Blank::EmptyObject && is_blank(body) {
            return Ok(Value::Object(Map::new()));
        }
        match serde_json::from_slice(body) {
            Ok(value @ Value::Object(_)) => Ok(value),
            Ok(value @ Value::Array(_)) if self.top == Top::ObjectOrArray => Ok(value),
            Ok(_) => Err(Malformed::NotAnObject),
            Err(error) => Err(Malformed::Json { line: error.line(), column: error.column() }),
        }
    }

    /// Parses a body that is an object, for reading it field by field.
    ///
    /// # Errors
    /// As [`parse`](Self::parse); [`Malformed::NotAnObject`] for an array, too.
    pub(crate) fn fields(self, body: &[u8]) -> Result<Fields> {
        match self.parse(body) {
            Ok(Value::Object(given)) => Ok(Fields::of_body(given, self.fields)),
            Ok(_) => Err(Error::Malformed(Malformed::NotAnObject)),
            Err(problem) => Err(Error::Malformed(problem)),
        }
    }
}

/// Returns whether a body is empty or white space.
pub(crate) fn is_blank(body: &[u8]) -> bool {
    body.iter().all(u8::is_ascii_whitespace)
}

/// A request body that is not read yet: nothing of it is buffered for a caller who is refused.
pub(crate) struct Body {
    bytes: <web::Bytes as FromRequest>::Future,
    limit: usize,
}

impl FromRequest for Body {
    type Error = actix_web::Error;
    type Future = std::future::Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        std::future::ready(Ok(Self::of(request, payload)))
    }
}

impl Body {
    /// Returns the body of a request.
    pub(crate) fn of(request: &HttpRequest, payload: &mut Payload) -> Self {
        let limit = site(request).settings.max_body_bytes;
        Self { bytes: web::Bytes::from_request(request, payload), limit }
    }

    /// Reads the bytes, up to the limit of the settings; a compressed body is decompressed.
    ///
    /// # Errors
    /// [`Malformed::TooLarge`]; [`Malformed::Body`] if it ends early or cannot be decompressed.
    pub(crate) async fn read(self) -> Result<web::Bytes> {
        self.bytes.await.map_err(|error| {
            Error::Malformed(match error.as_error::<PayloadError>() {
                Some(PayloadError::Overflow) => Malformed::TooLarge { limit: self.limit },
                _ => Malformed::Body,
            })
        })
    }

    /// Reads an object, for reading it field by field.
    ///
    /// # Errors
    /// As [`read`](Self::read) and [`Policy::fields`].
    pub(crate) async fn fields(self, policy: Policy) -> Result<Fields> {
        policy.fields(&self.read().await?)
    }
}

/// The fields of an object, or the parameters of a query. Each is taken out as it is read, so that what is left at
/// the end is unknown.
#[derive(Debug)]
pub(crate) struct Fields {
    given: Map<String, Value>,
    policy: FieldPolicy,
    /// What precedes a field's name in a problem: `""`, `/`, `/admin/` or `?`.
    prefix: String,
    problems: Vec<FieldProblem>,
}

impl Fields {
    /// Prepares the fields of an object.
    fn of_body(given: Map<String, Value>, policy: FieldPolicy) -> Self {
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
        let field = match self.prefix.as_str() {
            prefix if prefix.starts_with('/') => {
                format!("{prefix}{}", name.replace('~', "~0").replace('/', "~1"))
            }
            prefix => format!("{prefix}{name}"),
        };
        self.problems.push(FieldProblem::new(field, rule));
    }

    /// Records that an element of an array breaks a rule.
    pub(crate) fn refuse_element(&mut self, name: &str, index: usize, rule: Rule) {
        let field = format!("{}{name}{}{index}", self.prefix, self.policy.separator());
        self.problems.push(FieldProblem::new(field, rule));
    }

    /// Returns whether a problem was recorded.
    pub(crate) fn is_refused(&self) -> bool {
        !self.problems.is_empty()
    }

    /// Returns whether the field is present, including as null.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.given.contains_key(name)
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
        self.problems.append(&mut inner.problems);
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
        let rest: Vec<String> = self.given.keys().cloned().collect();
        self.given.clear();
        for name in rest {
            self.refuse(&name, Rule::Unknown);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRICT: Policy =
        Policy { blank: Blank::Malformed, top: Top::Object, fields: FieldPolicy::Strict };
    const LENIENT: Policy =
        Policy { blank: Blank::EmptyObject, top: Top::ObjectOrArray, fields: FieldPolicy::Lenient };

    const BODY: &[u8] =
        br#"{"name": 5, "a/b": 1, "list": [1], "admin": {"email": "x", "extra": true}}"#;

    fn problems(policy: Policy) -> Vec<(String, &'static str)> {
        let mut fields = policy.fields(BODY).unwrap();
        let _ = fields.required("name", |text| Ok(text.to_owned()));
        let _ = fields.required("slug", |text| Ok(text.to_owned()));
        assert_eq!(fields.array("list").map(|items| items.len()), Some(1));
        fields.refuse_element("list", 0, Rule::Permission);
        let mut admin = fields.object("admin").unwrap();
        let _ = admin.required("email", |_| Err::<(), _>(Rule::EmailFormat));
        fields.merge(admin);
        let Err(Error::Invalid(problems)) = fields.finish(Some(())) else {
            panic!("it is not valid")
        };
        problems.iter().map(|p| (p.field.to_string(), p.rule.code())).collect()
    }

    #[test]
    fn every_problem_of_a_strict_body_is_named_by_its_pointer() {
        let expected = [
            ("/name", "wrong_type"),
            ("/slug", "required"),
            ("/list/0", "unknown_permission"),
            ("/admin/email", "email_format"),
            ("/admin/extra", "unknown_field"),
            ("/a~1b", "unknown_field"),
        ];
        assert_eq!(problems(STRICT), expected.map(|(field, code)| (field.to_owned(), code)));
    }

    #[test]
    fn every_problem_of_a_lenient_body_is_named_as_in_the_body() {
        let expected = [
            ("name", "wrong_type"),
            ("slug", "required"),
            ("list.0", "unknown_permission"),
            ("admin.email", "email_format"),
        ];
        assert_eq!(problems(LENIENT), expected.map(|(field, code)| (field.to_owned(), code)));
    }

    #[test]
    fn a_policy_decides_about_blank_bodies_and_arrays() {
        assert!(matches!(STRICT.parse(b" "), Err(Malformed::Json { .. })));
        assert_eq!(STRICT.parse(b"[]"), Err(Malformed::NotAnObject));
        assert_eq!(LENIENT.parse(b" \n"), Ok(Value::Object(Map::new())));
        assert_eq!(LENIENT.parse(b"[]"), Ok(Value::Array(Vec::new())));
        for policy in [STRICT, LENIENT] {
            assert_eq!(policy.parse(b"5"), Err(Malformed::NotAnObject));
            assert!(matches!(policy.fields(b"[]"), Err(Error::Malformed(Malformed::NotAnObject))));
        }
    }
}
