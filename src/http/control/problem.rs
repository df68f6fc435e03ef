//! Errors in this dialect's form: the status, the code, the sentences and the bad fields of each.
//!
//! To add an error: a line in the `match` that no longer compiles. A published code never changes.

mod request;
mod state;

use std::fmt::Write as _;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use utoipa::ToSchema;

use self::request::{malformed, unauthenticated};
use self::state::{archive, fleet, invitation, purge};
use crate::domain::error::{Conflict, Error, Noun, Precondition};
use crate::domain::outage::Outage;
use crate::domain::rule::FieldProblem;
use crate::http::retry_after_also_conflicts;
use crate::http::sentence::{TENANT_BUSY, of_outage, sentence};
use crate::telemetry::current_request_id;

/// The media type of an error (RFC 9457).
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// An error in this dialect's form.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Problem(pub Error);

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

/// The body of an error (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemBody {
    /// The URI of the kind of problem: `urn:rowhouse:problem:` and the code.
    #[serde(rename = "type")]
    kind: String,
    /// The kind of problem, for people.
    title: &'static str,
    /// The HTTP status code.
    status: u16,
    /// What happened this time, for people.
    detail: String,
    /// The kind of problem, for machines.
    code: &'static str,
    /// The id of the request, which the log has too.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    /// Every invalid field, and for `external_id_differs` every field that differs; absent if there is none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
    /// The permissions that the caller lacks; absent if none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<&'static str>,
}

/// An invalid field.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ProblemField)]
pub struct FieldError {
    /// The position of the field: a JSON pointer into the body, or `?` and the name of a query parameter.
    pointer: String,
    /// The rule that it breaks, for machines.
    code: &'static str,
    /// The rule that it breaks, for people.
    message: String,
}

/// The representation of an error.
struct Representation {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: String,
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        representation(&self.0).status
    }

    fn error_response(&self) -> HttpResponse {
        let representation = representation(&self.0);
        let mut answer = HttpResponse::build(representation.status);
        answer.insert_header((CONTENT_TYPE, PROBLEM_JSON));
        if let Some(seconds) = retry_after_also_conflicts(&self.0) {
            answer.insert_header((RETRY_AFTER, seconds));
        }
        if representation.status == StatusCode::UNAUTHORIZED {
            answer.insert_header((WWW_AUTHENTICATE, "Bearer"));
        }
        let (errors, missing) = match &self.0 {
            Error::Invalid(problems) => (problems.iter().map(field_error).collect(), Vec::new()),
            Error::Conflict(Conflict::ExternalIdDiffers(differing)) => {
                (differing.fields().into_iter().map(differing_field).collect(), Vec::new())
            }
            Error::Forbidden { missing } => {
                (Vec::new(), missing.iter().map(|permission| permission.as_str()).collect())
            }
            Error::Lacks(permission) => (Vec::new(), vec![*permission]),
            _ => (Vec::new(), Vec::new()),
        };
        answer.json(ProblemBody {
            kind: format!("urn:rowhouse:problem:{}", representation.code),
            title: representation.title,
            status: representation.status.as_u16(),
            detail: representation.detail,
            code: representation.code,
            request_id: current_request_id(),
            errors,
            missing,
        })
    }
}

#[expect(clippy::too_many_lines, reason = "a flat list: one representation for each error")]
fn representation(error: &Error) -> Representation {
    let new = |status, code, title, detail: &str| Representation {
        status,
        code,
        title,
        detail: detail.to_owned(),
    };
    match error {
        Error::Malformed(problem) => malformed(*problem),
        Error::Invalid(problems) => new(
            StatusCode::BAD_REQUEST,
            "invalid",
            "Some fields are not valid",
            &problems.iter().map(field_error).fold(String::new(), |mut all, field| {
                let separator = if all.is_empty() { "" } else { "; " };
                let _ = write!(all, "{separator}{} {}", field.pointer, field.message);
                all
            }),
        ),
        Error::Unauthenticated(problem) => unauthenticated(*problem),
        Error::Forbidden { missing } => forbidden(missing.iter().map(|p| p.as_str())),
        Error::Lacks(permission) => forbidden(std::iter::once(*permission)),
        Error::CrossSite => new(
            StatusCode::FORBIDDEN,
            "cross_site",
            "A page of another site may not do this",
            "Call from an origin that http.cors_origins allows",
        ),
        Error::SessionRequired => new(
            StatusCode::FORBIDDEN,
            "session_required",
            "Only a user who has logged in can do this",
            "Send the access token of a log-in; tokens and keys have no session",
        ),
        Error::NotFound(noun) => not_found(*noun),
        Error::Conflict(conflict) => state::conflict(*conflict),
        Error::Invitation(problem) => invitation(*problem),
        Error::Fleet(problem) => fleet(problem),
        Error::Purge(problem) => purge(problem),
        Error::Archive(problem) => archive(problem),
        Error::Precondition(Precondition::Required) => new(
            StatusCode::PRECONDITION_REQUIRED,
            "precondition_required",
            "If-Match is missing",
            "Send the ETag that you have read as If-Match, or * to change whatever is there",
        ),
        Error::Precondition(Precondition::Failed) => new(
            StatusCode::PRECONDITION_FAILED,
            "precondition_failed",
            "It has changed since",
            "The ETag in If-Match is not the current one; read it again and decide anew",
        ),
        Error::TooMany { .. } => new(
            StatusCode::TOO_MANY_REQUESTS,
            "too_many",
            "Too many requests",
            "Come back after the time in Retry-After",
        ),
        Error::TenantBusy { .. } => {
            new(StatusCode::TOO_MANY_REQUESTS, "tenant_busy", "The tenant is busy", TENANT_BUSY)
        }
        Error::Unavailable { why, .. } => outage(*why),
        Error::TenantDamaged { .. } => new(
            StatusCode::SERVICE_UNAVAILABLE,
            "tenant_damaged",
            "The tenant is damaged",
            "Its schema, its role or a table is not as it was made; an operator must repair it",
        ),
        Error::Internal { .. } => new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "Internal server error",
            "Our fault; the request id leads to the cause in the log",
        ),
    }
}

fn forbidden(missing: impl Iterator<Item = &'static str>) -> Representation {
    let names: Vec<_> = missing.collect();
    let detail = match names.as_slice() {
        [] => "You may not do this".to_owned(),
        names => format!("You would need {}", names.join(", ")),
    };
    let (code, title) = ("forbidden", "Not permitted");
    Representation { status: StatusCode::FORBIDDEN, code, title, detail }
}

fn not_found(noun: Noun) -> Representation {
    let title = match noun {
        Noun::Route => "There is no such path",
        Noun::Tenant => "There is no such tenant",
        Noun::User => "There is no such user",
        Noun::Token => "There is no such token",
        Noun::Profile => "There is no such profile",
        Noun::AuditEvent => "There is no such audit event",
        Noun::Member => "There is no such member",
        Noun::Session => "There is no such session",
        Noun::Operation => "There is no such operation",
        Noun::Vacancy => "There is no vacancy",
        Noun::Invitation => "There is no such invitation",
        Noun::Examination => "There is no such examination",
        Noun::Archive => "There is no such archive",
        Noun::Import => "There is no such import",
        Noun::SigningKey => "There is no such signing key",
        Noun::Own(_) => "There is no such thing",
        Noun::Node => "There is no such node",
    };
    let detail = "It does not exist, or you may not know of it".to_owned();
    Representation { status: StatusCode::NOT_FOUND, code: noun.code(), title, detail }
}

fn outage(why: Outage) -> Representation {
    let (title, detail) = match why {
        Outage::Away => (
            "Not available right now",
            "Something below is away or overloaded; try again after the time in Retry-After",
        ),
        Outage::OutcomeUnknown => ("The outcome is not known", of_outage(why)),
        Outage::NoConnection => ("All database connections are in use", of_outage(why)),
        Outage::LockTimeout | Outage::LostRace => ("Another request is in the way", of_outage(why)),
        Outage::TenantClosed => ("The tenant is closed for a moment", of_outage(why)),
        Outage::ReadOnly => ("No changes are possible right now", of_outage(why)),
    };
    let (status, code) = (StatusCode::SERVICE_UNAVAILABLE, why.code());
    Representation { status, code, title, detail: detail.to_owned() }
}

/// Says of a field of an upsert why it is not applied.
fn differing_field(field: &'static str) -> FieldError {
    let message = match field {
        "slug" => "differs, and links lead to the tenant; PATCH changes it",
        "admin" => {
            "is not an admin of the tenant, and only the root and a SUPER_ADMIN link one; invite the address"
        }
        _ => "differs: the tenant was made without an end; PATCH with add_expiry gives it one",
    };
    FieldError { pointer: pointer(field), code: "differs", message: message.to_owned() }
}

fn field_error(problem: &FieldProblem) -> FieldError {
    let message = sentence(problem.rule);
    FieldError { pointer: pointer(&problem.field), code: problem.rule.code(), message }
}

/// Returns the pointer to a field. A service names a field by its name alone.
fn pointer(field: &str) -> String {
    if field.starts_with(['/', '?']) {
        return field.to_owned();
    }
    let mut pointer = String::from("/");
    for c in field.chars() {
        if c.is_ascii_uppercase() {
            pointer.push('_');
        }
        pointer.push(c.to_ascii_lowercase());
    }
    pointer
}

#[cfg(test)]
mod tests;
