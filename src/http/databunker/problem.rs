//! Errors in this dialect's form: the status and the sentence of each, the vendor's own where it is known.

use actix_web::http::StatusCode;
use actix_web::http::header::RETRY_AFTER;
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::Permission;
use crate::domain::error::{AuthProblem, Conflict, Error, Malformed, Noun};
use crate::domain::json::Excess;
use crate::domain::outage::Outage;
use crate::domain::rule::{FieldProblem, Rule, in_words};
use crate::http::retry_after;
use crate::http::sentence::{TENANT_BUSY, of_outage};

/// The body of an error.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DatabunkerError)]
pub(crate) struct ErrorBody {
    /// Always `error`.
    #[schema(pattern = "^error$")]
    status: &'static str,
    /// What happened, for people.
    message: String,
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
            Error::Malformed(Malformed::Method) => StatusCode::METHOD_NOT_ALLOWED,
            Error::Malformed(Malformed::ContentEncoding) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Error::NotFound(_) => StatusCode::NOT_FOUND,
            Error::Malformed(_) | Error::Invalid(_) => StatusCode::BAD_REQUEST,
            Error::Unauthenticated(_)
            | Error::Forbidden { .. }
            | Error::Invitation(_)
            | Error::SessionRequired
            | Error::Lacks(_)
            | Error::CrossSite => StatusCode::FORBIDDEN,
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
        answer.json(ErrorBody { status: "error", message: message(&self.0) })
    }
}

/// Returns the sentence for people: the vendor's own where it is known.
pub(super) fn message(error: &Error) -> String {
    match error {
        Error::Malformed(Malformed::TooLarge { limit }) => {
            format!("The request body is larger than {limit} bytes")
        }
        Error::Malformed(Malformed::TooSlow) => "The request body did not come in time".to_owned(),
        Error::Malformed(Malformed::Method) => not_found(Noun::Route),
        Error::Malformed(Malformed::Header(name)) => {
            format!("The header {name} has an incorrect format")
        }
        Error::Malformed(Malformed::ContentEncoding) => {
            "The request body must not be compressed".to_owned()
        }
        Error::Malformed(Malformed::Excess(
            excess @ (Excess::LongNumber | Excess::TooManyValues),
        )) => format!("The request body {excess}"),
        Error::Malformed(
            Malformed::Json { .. }
            | Malformed::NotAnObject
            | Malformed::Body
            | Malformed::Excess(Excess::ReservedName),
        ) => "Failed to decode the request body".to_owned(),
        Error::Invalid(problems) => invalid(problems),
        Error::Unauthenticated(AuthProblem::Unlock) => {
            "The unlockuuid value was not found or is not valid".to_owned()
        }
        Error::Forbidden { missing } if missing.iter().any(|p| MAIN_ONLY.contains(p)) => {
            "Only the main tenant admin can do this".to_owned()
        }
        Error::Forbidden { .. }
        | Error::Lacks(_)
        | Error::CrossSite
        | Error::SessionRequired
        | Error::Unauthenticated(
            AuthProblem::Missing
            | AuthProblem::Invalid
            | AuthProblem::Expired
            | AuthProblem::WrongPassword
            | AuthProblem::Several,
        ) => "Access denied".to_owned(),
        Error::NotFound(noun) => not_found(*noun),
        Error::Conflict(conflict) => self::conflict(*conflict),
        Error::Invitation(problem) => format!("Refused: {problem}"),
        Error::Fleet(problem) if problem.is_outage() => problem.to_string(),
        Error::Fleet(problem) => format!("Conflict: {}", problem.code()),
        Error::Purge(problem) => format!("Conflict: {}", problem.code()),
        Error::Archive(problem) => format!("Conflict: {}", problem.code()),
        Error::Precondition(_) => CHANGED.to_owned(),
        Error::TooMany { .. } => "Too many requests".to_owned(),
        Error::TenantBusy { .. } => TENANT_BUSY.to_owned(),
        Error::Unavailable { why: Outage::Away, .. } => {
            "The service is not available right now; try again".to_owned()
        }
        Error::Unavailable { why, .. } => of_outage(*why).to_owned(),
        Error::TenantDamaged { .. } => format!("The service is not available: {}", error.code()),
        Error::Internal { .. } => "Internal error".to_owned(),
    }
}

/// The sentence of a request that lost against another one.
const CHANGED: &str = "The record was changed at the same moment; try again";

fn not_found(noun: Noun) -> String {
    match noun {
        Noun::Route => "The API request was not found".to_owned(),
        Noun::User | Noun::Profile | Noun::Member => "The user record was not found".to_owned(),
        Noun::Tenant
        | Noun::Token
        | Noun::AuditEvent
        | Noun::Session
        | Noun::Operation
        | Noun::Vacancy
        | Noun::Invitation
        | Noun::SigningKey
        | Noun::Node
        | Noun::Examination
        | Noun::Archive
        | Noun::Import
        | Noun::Own(_) => format!("The {noun} was not found"),
    }
}

fn conflict(conflict: Conflict) -> String {
    match conflict {
        Conflict::SlugTaken | Conflict::SlugResting => "Duplicate tenant name".to_owned(),
        Conflict::KeyTaken(kind) => format!("Duplicate index: {}", kind.as_str()),
        Conflict::NotDeleted => "The user record is not deleted".to_owned(),
        Conflict::MainTenant => "The main tenant cannot be deleted".to_owned(),
        Conflict::TenantNotActive => "The tenant is not active".to_owned(),
        Conflict::StillRunning | Conflict::KeyReused | Conflict::Concurrent => CHANGED.to_owned(),
        // Only the other dialects can meet these.
        Conflict::ExternalIdTaken
        | Conflict::ExternalIdDiffers(_)
        | Conflict::TenantDeleting
        | Conflict::TenantHasNoEnd
        | Conflict::IllegalMove(_)
        | Conflict::PurgeStarted
        | Conflict::GraceOver
        | Conflict::AlreadyMember
        | Conflict::LastAdmin
        | Conflict::ExaminationRunning
        | Conflict::AlreadyRevoked
        | Conflict::AdminUnproven
        | Conflict::CursorAhead
        | Conflict::NoCluster
        | Conflict::NotDistributed
        | Conflict::NodeTakesNone
        | Conflict::BeingMoved
        | Conflict::TokenEnded
        | Conflict::Own(_)
        | Conflict::TooManyGenerations => format!("Conflict: {conflict}"),
    }
}

/// The permissions that only the main tenant's admin holds.
const MAIN_ONLY: [Permission; 3] =
    [Permission::CrossTenant, Permission::CreateTenant, Permission::DeleteTenant];

/// Returns the vendor's sentence: all missing parameters, or else the first bad one.
fn invalid(problems: &[FieldProblem]) -> String {
    let missing: Vec<&str> =
        problems.iter().filter(|p| p.rule == Rule::Required).map(|p| p.field.as_ref()).collect();
    if !missing.is_empty() {
        return format!("Missing API request parameters: {}", missing.join(", "));
    }
    let Some(FieldProblem { field, rule }) = problems.first() else {
        return "Failed to decode the request body".to_owned();
    };
    match rule {
        Rule::TokenUuid => "Bad UUID".to_owned(),
        Rule::TooLong(max) => format!("The {field} parameter is longer than {max} characters"),
        Rule::AtMost(limit) => {
            format!("The {field} parameter must be at most {}", in_words(*limit))
        }
        Rule::WithinParent(_) => {
            format!("The {field} parameter is beyond the end of the xtoken that is sent")
        }
        Rule::TooDeep => format!("The {field} parameter is nested too deeply"),
        Rule::LongNumber(max) => {
            format!("The {field} parameter holds a number of more than {max} characters")
        }
        Rule::AnswerTooLarge(max) => {
            format!(
                "The {field} parameter asks for more than {max} bytes at once; ask for fewer records"
            )
        }
        Rule::TooManyValues(max) => {
            format!("The {field} parameter holds more than {max} values and names")
        }
        Rule::ControlCharacter => {
            format!("The {field} parameter holds characters that cannot be stored")
        }
        Rule::Patch => "The patch could not be applied".to_owned(),
        Rule::Reserved => format!("The {field} parameter is a reserved word"),
        // The vendor's general sentence, for every rule without one of its own.
        _ => format!("The {field} parameter has an incorrect format"),
    }
}
