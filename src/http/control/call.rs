//! Reads a request of this dialect: the caller, the body, the query, the preconditions. Strict: a field or parameter
//! that the handler does not read is refused by name.

use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::http::header::{self, ETag, EntityTag};
use actix_web::{FromRequest, HttpRequest, HttpResponse};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::Problem;
use crate::auth::CallContext;
use crate::domain::error::{Error, Malformed, Precondition, Result};
use crate::domain::json::Value;
use crate::domain::names::ExternalId;
use crate::domain::page::Window;
use crate::domain::rule::{FieldProblem, Rule};
use crate::http::body::{Blank, Body, FieldPolicy, Fields, Policy, Top, WholeBody};
use crate::http::cursor::parse_cursor;
use crate::http::extract;
use crate::http::{Site, archive_content, idempotency};
use crate::service::Services;
use crate::service::tenants::registry::Expected;

pub(super) use crate::http::cursor::{timestamp, write_cursor};

/// How this dialect reads a body.
const BODY: Policy =
    Policy { blank: Blank::Malformed, top: Top::Object, fields: FieldPolicy::Strict };

/// Rows of a list by default.
const LIMIT: u16 = 50;

/// Largest number of rows in one answer.
const LIMIT_MAX: u16 = 100;

/// The routes whose callers need no credential.
const WITHOUT_CREDENTIAL: [&str; 1] = ["/control/v1/invitations/accept"];

/// A request of this dialect.
pub(super) struct Call {
    /// The caller, for the services.
    pub(super) ctx: CallContext,
    request: HttpRequest,
    body: WholeBody,
}

impl FromRequest for Call {
    type Error = actix_web::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Self::Error>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let request = request.clone();
        let body = Body::of(&request, payload);
        Box::pin(async move {
            let ctx = extract::identify(&request).await.map_err(Problem)?;
            // Nothing of the body is read for a caller who is refused, and little for one who needs no credential.
            let body = match ctx.require_authenticated() {
                Ok(()) => body,
                Err(_) if needs_no_credential(&request) => body.without_credential(),
                Err(refused) => return Err(Problem(refused).into()),
            };
            let body = body.whole(BODY).await.map_err(Problem)?;
            Ok(Self { ctx, request, body })
        })
    }
}

impl Call {
    pub(super) fn site(&self) -> &Site {
        extract::site(&self.request)
    }

    /// Looks the caller up again, for a call that has waited.
    pub(super) async fn renewed(&self) -> Result<CallContext> {
        extract::recognise_again(&self.request).await
    }

    /// Returns the request, for its address.
    pub(super) const fn request(&self) -> &HttpRequest {
        &self.request
    }

    /// Looks a secret of the body up, unless its address has sent too many wrong ones.
    pub(super) async fn presented<T>(
        &self,
        secret: &str,
        look_up: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        extract::recognise(&self.request, secret, look_up).await
    }

    pub(super) fn services(&self) -> &Services {
        &self.site().services
    }

    /// Returns the decoded part of the path that `{name}` stands for.
    pub(super) fn path(&self, name: &str) -> Result<String> {
        extract::path(&self.request, name)
    }

    /// Returns the parameters of the query.
    pub(super) fn query(&self) -> Result<Fields> {
        Self::query_of(&self.request)
    }

    /// As [`query`](Self::query), of a request whose body is read otherwise.
    pub(super) fn query_of(request: &HttpRequest) -> Result<Fields> {
        Ok(Fields::of_query(extract::parameters(request)?))
    }

    /// Returns the fields of the body.
    pub(super) fn body(&self) -> Result<Fields> {
        self.body.fields()
    }

    /// Returns the fields of a body that may be absent.
    pub(super) fn optional_body(&self) -> Result<Fields> {
        if self.body.is_blank() {
            return Policy { blank: Blank::EmptyObject, ..BODY }.fields(b"");
        }
        self.body()
    }

    /// Refuses a query and a body, for calls that take neither; an empty object counts as no body.
    pub(super) fn nothing_else(&self) -> Result<()> {
        self.query()?.finish(Some(()))?;
        if self.body.is_blank() {
            return Ok(());
        }
        self.body()?.finish(Some(()))
    }

    /// Returns the revisions in `If-Match`, which must be present. A weak tag matches nothing (RFC 9110, 13.1.1).
    ///
    /// Not actix's `IfMatch`: it drops what is no tag, so a broken header would be answered as a stale one.
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
                // A tag that is not a revision is well-formed and matches nothing.
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

    /// Returns the revisions in `If-Match`; any revision without one.
    pub(super) fn optional_if_match(&self) -> Result<Expected> {
        match self.if_match() {
            Err(Error::Precondition(Precondition::Required)) => Ok(Expected::Any),
            read => read,
        }
    }

    /// Returns the external id in the path.
    pub(super) fn external_id(&self) -> Result<ExternalId> {
        ExternalId::parse(&self.path("external_id")?)
            .map_err(|rule| Error::Invalid(vec![FieldProblem::new("external_id", rule)]))
    }

    /// Answers with a body and its `ETag`, or 304 if the client has it already (`If-None-Match`, RFC 9110, 13.1.2).
    pub(super) fn unless_known(&self, body: &impl Serialize) -> Result<HttpResponse, Problem> {
        let text = serde_json::to_string(body)
            .map_err(|error| Error::internal("write the answer", error))?;
        let digest = Sha256::digest(&text);
        let tag = EntityTag::new_strong(hex::encode(&digest[..16]));
        if self.knows(&tag) {
            return Ok(HttpResponse::NotModified().insert_header(ETag(tag)).finish());
        }
        Ok(HttpResponse::Ok().insert_header(ETag(tag)).content_type("application/json").body(text))
    }

    /// Whether the client has what the tag stands for (`If-None-Match`).
    pub(super) fn knows(&self, tag: &EntityTag) -> bool {
        archive_content::is_known(&self.request, tag)
    }

    pub(super) fn idempotency_key(&self) -> Result<Option<String>> {
        idempotency::key(&self.request)
    }
}

/// Returns whether a call needs no credential: its secret is in the body.
fn needs_no_credential(request: &HttpRequest) -> bool {
    request.match_pattern().is_some_and(|pattern| WITHOUT_CREDENTIAL.contains(&pattern.as_str()))
}

/// Takes an array of texts that may be absent.
pub(super) fn names(body: &mut Fields, name: &str) -> Vec<String> {
    let values = match body.value(name) {
        None => return Vec::new(),
        Some(Value::Array(values)) => values,
        Some(_) => {
            body.refuse(name, Rule::Type("array"));
            return Vec::new();
        }
    };
    if values.is_empty() {
        // An empty list must not mean all tenants.
        body.refuse(name, Rule::Required);
    }
    let mut names = Vec::new();
    for (index, value) in values.iter().enumerate() {
        match value.as_str() {
            Some(text) if text.contains('\0') => {
                body.refuse_element(name, index, Rule::ControlCharacter);
            }
            Some(text) => names.push(text.to_owned()),
            None => body.refuse_element(name, index, Rule::Type("string")),
        }
    }
    names
}

/// Takes `limit` and `cursor`.
pub(super) fn window(query: &mut Fields) -> Window {
    let limit = limit(query);
    let after = query.optional("cursor", parse_cursor);
    Window { after, limit }
}

/// Takes `limit`.
pub(super) fn limit(query: &mut Fields) -> u16 {
    let range = Rule::Range(1, i64::from(LIMIT_MAX));
    let limit = query.optional("limit", |text| {
        text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit)).ok_or(range)
    });
    limit.unwrap_or(LIMIT)
}
