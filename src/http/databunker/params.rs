//! Reads the parameters of a call, one by one.

use std::sync::Arc;

use actix_web::web;
use time::Duration;
use uuid::Uuid;

use crate::domain::error::{Error, Result};
use crate::domain::json::{Number, Value};
use crate::domain::profile::{Document, Identity, KEY_MAX, Lifetime, MonthOrMinute, parse_length};
use crate::domain::rule::{FieldProblem, Rule};

/// Default number of rows on a page.
const PAGE: i64 = 10;

/// Largest number of rows on a page, and the value that replaces an invalid limit.
const PAGE_MAX: i64 = 100;

/// The parameters of a call.
#[derive(Clone)]
pub(super) struct Params {
    value: Arc<Value>,
    /// Whether they are so large that documents in them are read on another thread.
    is_large: bool,
}

impl Params {
    /// Wraps a body that was parsed.
    pub(super) fn new(value: Value, is_large: bool) -> Self {
        Self { value: Arc::new(value), is_large }
    }

    /// Returns whether the body is an array, which only some handlers accept.
    pub(super) fn is_array(&self) -> bool {
        self.value.is_array()
    }

    /// Reads something out of the parameters; on another thread if they are large, so that the worker's other requests do
    /// not wait.
    pub(super) async fn map<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T> {
        if !self.is_large {
            return Ok(read(self));
        }
        let params = self.clone();
        let done = web::block(move || read(&params)).await;
        done.map_err(|stopping| Error::unavailable("read a large body", stopping))
    }

    /// Returns all of them.
    pub(super) fn into_value(self) -> Value {
        Arc::unwrap_or_clone(self.value)
    }

    /// Returns all of them as one document, which a problem calls `name`.
    pub(super) async fn into_document(self, name: &'static str) -> Result<Document> {
        self.map(move |params| parse(params.value.as_ref(), name)).await?
    }

    /// Returns a parameter, unless it is absent or null.
    pub(super) fn value(&self, name: &str) -> Option<&Value> {
        self.value.get(name).filter(|value| !value.is_null())
    }

    /// Returns a text.
    pub(super) fn text(&self, name: &'static str) -> Result<Option<String>> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(Error::invalid(name, Rule::Type("string"))),
        }
    }

    /// Returns a text that must be present and not empty.
    pub(super) fn required(&self, name: &'static str) -> Result<String> {
        self.text(name)?
            .filter(|text| !text.is_empty())
            .ok_or_else(|| Error::invalid(name, Rule::Required))
    }

    /// Refuses if any of these parameters is missing, and names all that are.
    pub(super) fn require_all(&self, names: &[&'static str]) -> Result<()> {
        let missing: Vec<_> = names
            .iter()
            .filter(|name| self.value(name).is_none())
            .map(|name| FieldProblem::new(*name, Rule::Required))
            .collect();
        if missing.is_empty() { Ok(()) } else { Err(Error::Invalid(missing)) }
    }

    /// Returns a whole number, which may be a text of digits.
    pub(super) fn integer(&self, name: &'static str) -> Result<Option<i64>> {
        let number = match self.value(name) {
            None => return Ok(None),
            Some(Value::Number(number)) => whole(number),
            Some(Value::String(text)) => text.trim().parse().ok(),
            Some(_) => None,
        };
        number.map(Some).ok_or_else(|| Error::invalid(name, Rule::Type("number")))
    }

    /// Returns an array that must be present and not empty.
    pub(super) fn list(&self, name: &'static str) -> Result<&Vec<Value>> {
        match self.value(name) {
            Some(Value::Array(items)) if !items.is_empty() => Ok(items),
            None | Some(Value::Array(_)) => Err(Error::invalid(name, Rule::Required)),
            Some(_) => Err(Error::invalid(name, Rule::Type("array"))),
        }
    }

    /// Returns the offset and the limit of a page: 10 rows by default, 100 if the limit is out of range.
    pub(super) fn page(&self) -> Result<(i64, i64)> {
        let offset = self.integer("offset")?.unwrap_or(0).max(0);
        let limit = self.integer("limit")?.unwrap_or(PAGE);
        Ok((offset, if (1..=PAGE_MAX).contains(&limit) { limit } else { PAGE_MAX }))
    }

    /// Returns the person that `mode` and `identity` name. A number counts as its text: some clients send telephone
    /// numbers so.
    pub(super) fn identity(&self) -> Result<Identity> {
        let mode = self.text("mode")?.ok_or_else(|| Error::invalid("mode", Rule::Required))?;
        let identity = match self.value("identity") {
            Some(Value::Number(number)) => number.to_string(),
            _ => {
                self.text("identity")?.ok_or_else(|| Error::invalid("identity", Rule::Required))?
            }
        };
        Identity::parse(&mode, &identity).map_err(|problem| Error::Invalid(vec![problem]))
    }

    /// Returns the document under a name.
    pub(super) async fn document(&self, name: &'static str) -> Result<Document> {
        self.map(move |params| {
            parse(params.value(name).ok_or_else(|| Error::invalid(name, Rule::Required))?, name)
        })
        .await?
    }

    /// Returns the requested lifetime of a record.
    pub(super) fn lifetime(&self, now: time::OffsetDateTime) -> Result<Lifetime> {
        let (final_time, sliding_time) = (self.length("finaltime")?, self.length("slidingtime")?);
        Lifetime::parse(final_time, sliding_time, now)
            .map_err(|problem| Error::Invalid(vec![problem]))
    }

    /// Returns the requested lifetime of a credential: its end or its sliding time, whichever is given.
    pub(super) fn credential_lifetime(&self) -> Result<Option<Duration>> {
        for name in ["finaltime", "slidingtime"] {
            if let Some(text) = self.length(name)? {
                let length = parse_length(&text, MonthOrMinute::Minute);
                return length.map(Some).ok_or_else(|| Error::invalid(name, Rule::Lifetime));
            }
        }
        Ok(None)
    }

    /// Returns a length of time as a text; a number counts as seconds, an empty text as absent.
    fn length(&self, name: &'static str) -> Result<Option<String>> {
        match self.value(name) {
            Some(Value::Number(number)) => Ok(Some(match whole(number) {
                Some(seconds) => seconds.to_string(),
                None => number.to_string(),
            })),
            _ => Ok(self.text(name)?.filter(|text| !text.trim().is_empty())),
        }
    }

    /// Returns a UUID that must be present.
    pub(super) fn uuid(&self, name: &'static str) -> Result<Uuid> {
        Uuid::try_parse(&self.required(name)?)
            .map_err(|_no_uuid| Error::invalid(name, Rule::TokenUuid))
    }

    /// Returns the unlock that a bulk call needs. A text that is not a UUID is answered like an invalid unlock.
    pub(super) fn unlock(&self) -> Option<&str> {
        self.value("unlockuuid").and_then(Value::as_str)
    }

    /// Returns the text of a fuzzy search.
    pub(super) fn searchable(&self) -> Result<String> {
        let text = self.required("identity")?;
        if text.chars().count() > KEY_MAX {
            return Err(Error::invalid("identity", Rule::TooLong(KEY_MAX)));
        }
        if text.contains('\0') {
            return Err(Error::invalid("identity", Rule::ControlCharacter));
        }
        match text.trim() {
            "" => Err(Error::invalid("identity", Rule::Required)),
            trimmed => Ok(trimmed.to_owned()),
        }
    }
}

fn parse(value: &Value, name: &'static str) -> Result<Document> {
    Document::parse(value.clone()).map_err(|rule| Error::invalid(name, rule))
}

/// Reads a whole number, which JavaScript may write as 53.0.
fn whole(number: &Number) -> Option<i64> {
    /// From here on, a float does not represent every whole number.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    number.as_i64().or_else(|| {
        let float = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < EXACT)?;
        format!("{float:.0}").parse().ok()
    })
}

/// Reads the person that an entry of a list names.
pub(super) fn identity_of(entry: &Value) -> Result<Identity> {
    match entry {
        Value::Object(_) => Params::new(entry.clone(), false).identity(),
        _ => Err(Error::Invalid(vec![FieldProblem::new("users", Rule::Type("object"))])),
    }
}
