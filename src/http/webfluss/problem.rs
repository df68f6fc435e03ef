//! Errors in this dialect's form: the status of each, and Laravel's sentences.

use actix_web::http::StatusCode;
use actix_web::http::header::RETRY_AFTER;
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::error::{Conflict, Error, Malformed, Noun};
use crate::domain::json::{Excess, Map, Value};
use crate::domain::outage::Outage;
use crate::domain::rule::{FieldProblem, Rule};
use crate::http::retry_after;
use crate::http::sentence::{TENANT_BUSY, of_outage};

/// The body of an error.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WebflussError)]
pub(crate) struct ErrorBody {
    /// What happened, for people.
    pub(super) message: String,
    /// The messages by field; absent if no field is invalid.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub(super) errors: Option<Value>,
}

/// An error in this dialect's form.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Problem(pub Error);

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        match &self.0 {
            Error::Malformed(Malformed::TooLarge { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
            Error::Malformed(Malformed::TooSlow) => StatusCode::REQUEST_TIMEOUT,
            Error::Malformed(Malformed::ContentEncoding) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Error::Malformed(Malformed::Method) => StatusCode::METHOD_NOT_ALLOWED,
            Error::Malformed(_) => StatusCode::BAD_REQUEST,
            Error::Invalid(_) | Error::Conflict(Conflict::SlugTaken | Conflict::SlugResting) => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            Error::Unauthenticated(_) => StatusCode::UNAUTHORIZED,
            Error::Forbidden { .. }
            | Error::Invitation(_)
            | Error::SessionRequired
            | Error::Lacks(_)
            | Error::CrossSite => StatusCode::FORBIDDEN,
            Error::NotFound(_) => StatusCode::NOT_FOUND,
            Error::Fleet(problem) if problem.is_outage() => StatusCode::SERVICE_UNAVAILABLE,
            Error::Conflict(_)
            | Error::Fleet(_)
            | Error::Purge(_)
            | Error::Archive(_)
            | Error::Precondition(_) => StatusCode::CONFLICT,
            Error::TooMany { .. } | Error::TenantBusy { .. } => StatusCode::TOO_MANY_REQUESTS,
            Error::Unavailable { .. } | Error::TenantDamaged { .. } => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Error::Internal { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn error_response(&self) -> HttpResponse {
        let mut answer = HttpResponse::build(self.status_code());
        if let Some(seconds) = retry_after(&self.0) {
            answer.insert_header((RETRY_AFTER, seconds));
        }
        answer.json(match &self.0 {
            Error::Invalid(problems) => validation(&sentences(problems)),
            Error::Conflict(Conflict::SlugTaken | Conflict::SlugResting) => validation(&[(
                "subdomain".to_owned(),
                "The subdomain has already been taken.".to_owned(),
            )]),
            other => ErrorBody { message: message(other).to_owned(), errors: None },
        })
    }
}

/// Builds Laravel's validation body: the first sentence, the number of further ones, and all by field.
fn validation(sentences: &[(String, String)]) -> ErrorBody {
    let first =
        sentences.first().map_or("The given data was invalid.", |(_, sentence)| sentence.as_str());
    let message = match sentences.len().saturating_sub(1) {
        0 => first.to_owned(),
        1 => format!("{first} (and 1 more error)"),
        more => format!("{first} (and {more} more errors)"),
    };
    let mut errors = Map::new();
    let array = || Value::Array(Vec::new());
    for (field, sentence) in sentences {
        let list = errors.entry(field.clone()).or_insert_with(array);
        if let Value::Array(list) = list {
            list.push(Value::String(sentence.clone()));
        }
    }
    ErrorBody { message, errors: Some(Value::Object(errors)) }
}

/// Returns the sentences of all problems, in order, as Laravel words them; a malformed address has two.
fn sentences(problems: &[FieldProblem]) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for FieldProblem { field, rule } in problems {
        let mut say = |sentence: String| all.push((field.to_string(), sentence));
        match rule {
            Rule::Required => say(format!("The {field} field is required.")),
            Rule::Type(expected) => say(format!("The {field} field must be a {expected}.")),
            Rule::TooShort(min) => {
                say(format!("The {field} field must be at least {min} characters."));
            }
            Rule::TooLong(max) => {
                say(format!("The {field} field must not be greater than {max} characters."));
            }
            Rule::EmailFormat => {
                say(format!("The {field} field must be a valid email address."));
                say(format!("The selected {field} is invalid."));
            }
            Rule::Reserved => say(format!("The selected {field} is invalid.")),
            // Laravel's general sentence, for every rule without one of its own.
            _ => say(format!("The {field} field format is invalid.")),
        }
    }
    all
}

fn message(error: &Error) -> &'static str {
    match error {
        Error::Malformed(Malformed::Json { .. }) => "The body is not valid JSON.",
        Error::Malformed(Malformed::NotAnObject) => "The body must be a JSON object.",
        Error::Malformed(Malformed::TooLarge { .. }) => "The body is too large.",
        Error::Malformed(Malformed::TooSlow) => "The body did not come in time.",
        Error::Malformed(Malformed::Method) => "The method is not supported for this route.",
        Error::Malformed(Malformed::ContentEncoding) => "The body must not be compressed.",
        Error::Malformed(Malformed::Excess(Excess::LongNumber)) => {
            "The body holds a number that is too long."
        }
        Error::Malformed(Malformed::Excess(Excess::TooManyValues)) => {
            "The body holds too many values."
        }
        Error::Malformed(Malformed::Excess(Excess::ReservedName)) => {
            "The body holds a reserved name."
        }
        Error::Malformed(Malformed::Body | Malformed::Header(_)) => {
            "The request could not be read."
        }
        Error::Invalid(_) => "The given data was invalid.",
        Error::Unauthenticated(_) => "Unauthorized",
        Error::Forbidden { .. }
        | Error::Lacks(_)
        | Error::Invitation(_)
        | Error::SessionRequired
        | Error::CrossSite => "This action is unauthorized.",
        Error::NotFound(Noun::User) => "User not found",
        Error::NotFound(
            Noun::Route
            | Noun::Tenant
            | Noun::Token
            | Noun::Profile
            | Noun::AuditEvent
            | Noun::Member
            | Noun::Session
            | Noun::Operation
            | Noun::Vacancy
            | Noun::Invitation
            | Noun::SigningKey
            | Noun::Node
            | Noun::Examination
            | Noun::Archive
            | Noun::Import
            | Noun::Own(_),
        ) => "Not found",
        Error::Conflict(Conflict::AdminUnproven) => {
            "The email address of this user is not verified; create the tenant without it and invite the address."
        }
        Error::Conflict(_)
        | Error::Fleet(_)
        | Error::Purge(_)
        | Error::Archive(_)
        | Error::Precondition(_) => "The request clashes with another; try again.",
        Error::TooMany { .. } => "Too Many Attempts.",
        Error::TenantBusy { .. } => TENANT_BUSY,
        Error::Unavailable { why: Outage::Away, .. } => "Service Unavailable",
        Error::Unavailable { why, .. } => of_outage(*why),
        Error::TenantDamaged { .. } => "Service Unavailable: tenant_damaged",
        Error::Internal { .. } => "Server Error",
    }
}
