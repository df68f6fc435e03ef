//! Unpacks a request of this dialect: who calls, the body, the query, the preconditions. Strict: what a
//! handler did not ask for is refused by name.

use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::http::header;
use actix_web::{FromRequest, HttpRequest, web};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::Problem;
use crate::auth::CallContext;
use crate::domain::error::{Error, Malformed, Noun, Precondition, Result};
use crate::domain::page::{Cursor, Window};
use crate::domain::rule::{FieldProblem, Rule};
use crate::http::extract::{self, Body};
use crate::http::{Site, idempotency};
use crate::service::Services;
use crate::service::tenants::registry::Expected;

/// Rows of a list where the caller does not say how many.
const LIMIT: u16 = 50;

/// Most rows of one answer.
const LIMIT_MAX: u16 = 100;

/// A request of this dialect.
pub(super) struct Call {
    /// Who calls, for the services.
    pub(super) ctx: CallContext,
    request: HttpRequest,
    body: web::Bytes,
}

impl FromRequest for Call {
    type Error = actix_web::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Self::Error>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let request = request.clone();
        let body = Body::of(&request, payload);
        Box::pin(async move {
            let ctx = extract::identify(&request).await.map_err(Problem)?;
            let body = body.read().await.map_err(Problem)?;
            Ok(Self { ctx, request, body })
        })
    }
}

impl Call {
    pub(super) fn site(&self) -> &Site {
        extract::site(&self.request)
    }

    pub(super) fn services(&self) -> &Services {
        &self.site().services
    }

    /// What the path says in the place of `{name}`, decoded.
    pub(super) fn path(&self, name: &str) -> Result<String> {
        let missing = || Error::NotFound(Noun::Route);
        let raw = self.request.match_info().get(name).ok_or_else(missing)?;
        let bytes = percent_decoded(raw).ok_or_else(missing)?;
        String::from_utf8(bytes).map_err(|_no_text| missing())
    }

    /// The query, parameter by parameter.
    pub(super) fn query(&self) -> Result<Fields> {
        let pairs = web::Query::<Vec<(String, String)>>::from_query(self.request.query_string())
            .map_err(|_unreadable| Error::invalid("?", Rule::Unknown))?;
        let mut fields = Fields::new(Map::new(), "?");
        for (name, value) in pairs.into_inner() {
            if fields.given.insert(name.clone(), Value::String(value)).is_some() {
                fields.refuse(&name, Rule::Unknown);
            }
        }
        Ok(fields)
    }

    /// The body, field by field, whatever the `Content-Type` says.
    pub(super) fn body(&self) -> Result<Fields> {
        let value: Value = serde_json::from_slice(&self.body).map_err(|error| {
            Error::Malformed(Malformed::Json { line: error.line(), column: error.column() })
        })?;
        match value {
            Value::Object(map) => Ok(Fields::new(map, "/")),
            _ => Err(Error::Malformed(Malformed::NotAnObject)),
        }
    }

    /// For calls that take neither a query nor a body; an empty object is as good as no body.
    pub(super) fn nothing_else(&self) -> Result<()> {
        self.query()?.finish(Some(()))?;
        if self.body.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        self.body()?.finish(Some(()))
    }

    /// The revisions in `If-Match`, which must be there. A weak tag matches nothing (RFC 9110, 13.1.1).
    pub(super) fn if_match(&self) -> Result<Expected> {
        let malformed = || Error::Malformed(Malformed::Header("If-Match"));
        let mut revisions = Vec::new();
        let mut given = false;
        for value in self.request.headers().get_all(header::IF_MATCH) {
            given = true;
            let value = value.to_str().map_err(|_no_text| malformed())?.trim();
            if value == "*" {
                return Ok(Expected::Any);
            }
            for tag in value.split(',').map(str::trim) {
                let is_weak = tag.starts_with("W/");
                let inside = tag
                    .trim_start_matches("W/")
                    .strip_prefix('"')
                    .and_then(|rest| rest.strip_suffix('"'))
                    .ok_or_else(malformed)?;
                // A tag of another kind is well-formed and matches nothing.
                if let (false, Ok(revision)) = (is_weak, inside.parse()) {
                    revisions.push(revision);
                }
            }
        }
        if given {
            Ok(Expected::OneOf(revisions))
        } else {
            Err(Error::Precondition(Precondition::Required))
        }
    }

    pub(super) fn idempotency_key(&self) -> Result<Option<String>> {
        idempotency::key(&self.request)
    }
}

/// The fields of an object or the parameters of a query. Each is taken out as it is read; what is left at
/// the end is unknown.
pub(super) struct Fields {
    given: Map<String, Value>,
    at: String,
    problems: Vec<FieldProblem>,
}

impl Fields {
    fn new(given: Map<String, Value>, at: &str) -> Self {
        Self { given, at: at.to_owned(), problems: Vec::new() }
    }

    pub(super) fn refuse(&mut self, name: &str, rule: Rule) {
        let name = if self.at == "?" {
            name.to_owned()
        } else {
            name.replace('~', "~0").replace('/', "~1")
        };
        self.problems.push(FieldProblem::new(format!("{}{name}", self.at), rule));
    }

    /// Refuses one element of an array.
    pub(super) fn refuse_inside(&mut self, name: &str, place: usize, rule: Rule) {
        self.problems.push(FieldProblem::new(format!("{}{name}/{place}", self.at), rule));
    }

    /// Whether something was refused so far.
    pub(super) fn is_refused(&self) -> bool {
        !self.problems.is_empty()
    }

    /// Whether there is such a field, be it null.
    pub(super) fn has(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// Takes a field as it is; null is as good as absent.
    pub(super) fn value(&mut self, name: &str) -> Option<Value> {
        self.given.shift_remove(name).filter(|value| !value.is_null())
    }

    /// Takes a field as it is, also where it is null.
    pub(super) fn value_or_null(&mut self, name: &str) -> Option<Value> {
        self.given.shift_remove(name)
    }

    /// Takes a text that may be absent.
    pub(super) fn optional<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, Rule>,
    ) -> Option<T> {
        let parsed = match self.value(name)? {
            // PostgreSQL cannot store it, nor be asked for it.
            Value::String(text) if text.contains('\0') => Err(Rule::ControlCharacter),
            Value::String(text) => parse(&text),
            _ => Err(Rule::Type("string")),
        };
        parsed.map_err(|rule| self.refuse(name, rule)).ok()
    }

    /// Takes a text that must be there.
    pub(super) fn required<T>(
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

    /// Takes an object that may be absent; give it back to [`Fields::merge`].
    pub(super) fn object(&mut self, name: &str) -> Option<Self> {
        if let Value::Object(map) = self.value(name)? {
            return Some(Self::new(map, &format!("{}{name}/", self.at)));
        }
        self.refuse(name, Rule::Type("object"));
        None
    }

    /// Takes over the problems of an object inside of this one.
    pub(super) fn merge(&mut self, mut inner: Self) {
        inner.refuse_rest();
        self.problems.append(&mut inner.problems);
    }

    /// Takes `limit` and `cursor`.
    pub(super) fn window(&mut self) -> Window {
        let range = Rule::Range(1, i64::from(LIMIT_MAX));
        let limit = self.optional("limit", |text| {
            text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit)).ok_or(range)
        });
        let after = self.optional("cursor", parse_cursor);
        Window { after, limit: limit.unwrap_or(LIMIT) }
    }

    /// Ends the reading: everything, or all problems.
    pub(super) fn finish<T>(mut self, value: Option<T>) -> Result<T> {
        self.refuse_rest();
        match value {
            Some(value) if self.problems.is_empty() => Ok(value),
            _ => Err(Error::Invalid(self.problems)),
        }
    }

    fn refuse_rest(&mut self) {
        let rest: Vec<String> = self.given.keys().cloned().collect();
        self.given.clear();
        for name in rest {
            self.refuse(&name, Rule::Unknown);
        }
    }
}

/// A point in time, in RFC 3339.
pub(super) fn timestamp(text: &str) -> Result<OffsetDateTime, Rule> {
    OffsetDateTime::parse(text, &Rfc3339).map_err(|_no_time| Rule::Timestamp)
}

/// A cursor as it travels: opaque to callers, the time in microseconds and the id to us.
pub(super) fn write_cursor(cursor: Cursor) -> String {
    let micros = i64::try_from(cursor.at.unix_timestamp_nanos() / 1000).unwrap_or(i64::MAX);
    let mut bytes = micros.to_be_bytes().to_vec();
    bytes.extend_from_slice(cursor.id.as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

fn parse_cursor(text: &str) -> Result<Cursor, Rule> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_no_base64| Rule::Cursor)?;
    let (micros, id) = bytes.split_first_chunk::<8>().ok_or(Rule::Cursor)?;
    let nanos = i128::from(i64::from_be_bytes(*micros)) * 1000;
    let at = OffsetDateTime::from_unix_timestamp_nanos(nanos).map_err(|_no_time| Rule::Cursor)?;
    // Nothing here is older, and PostgreSQL's calendar does not reach as far back as this one.
    if nanos < 0 {
        return Err(Rule::Cursor);
    }
    let id = Uuid::from_slice(id).map_err(|_no_id| Rule::Cursor)?;
    Ok(Cursor { at, id })
}

/// Undoes percent-encoding; none where it is broken.
fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (pair, tail) = rest.split_first_chunk::<2>()?;
        bytes.push(*hex::decode(pair).ok()?.first()?);
        rest = tail;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_its_journey_and_nothing_else_is_one() {
        let at = OffsetDateTime::from_unix_timestamp_nanos(1_700_000_000_123_456_000).unwrap();
        let cursor = Cursor { at, id: Uuid::from_u128(7) };
        assert_eq!(parse_cursor(&write_cursor(cursor)), Ok(cursor));
        for bad in ["", "x", "AAAA", "not base64!", &URL_SAFE_NO_PAD.encode([0xff_u8; 25])] {
            assert_eq!(parse_cursor(bad), Err(Rule::Cursor), "{bad:?}");
        }
        // Times that no calendar has, or none of ours.
        for micros in [i64::MAX, -1, -377_705_116_800_000_000] {
            let mut bytes = micros.to_be_bytes().to_vec();
            bytes.extend_from_slice(&[0; 16]);
            assert_eq!(parse_cursor(&URL_SAFE_NO_PAD.encode(bytes)), Err(Rule::Cursor), "{micros}");
        }
    }

    #[test]
    fn every_problem_of_an_object_is_named_by_its_pointer() {
        let Value::Object(map) = serde_json::json!({
            "name": 5, "a/b": 1, "admin": { "email": "x", "extra": true }
        }) else {
            panic!("it is an object")
        };
        let mut fields = Fields::new(map, "/");
        let _ = fields.required("name", |text| Ok(text.to_owned()));
        let _ = fields.required("slug", |text| Ok(text.to_owned()));
        let mut admin = fields.object("admin").unwrap();
        let _ = admin.required("email", |_| Err::<(), _>(Rule::EmailFormat));
        fields.merge(admin);
        let Err(Error::Invalid(problems)) = fields.finish(Some(())) else {
            panic!("it is not valid")
        };
        let named: Vec<_> = problems.iter().map(|p| (p.field.as_ref(), p.rule.code())).collect();
        assert_eq!(
            named,
            [
                ("/name", "wrong_type"),
                ("/slug", "required"),
                ("/admin/email", "email_format"),
                ("/admin/extra", "unknown_field"),
                ("/a~1b", "unknown_field"),
            ]
        );
    }
}
