//! Errors in the native form, which is Reten's: the status, the sentence, and every bad field of each. Extractors and
//! an application's own handlers answer in it.

use actix_web::http::StatusCode;
use actix_web::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::error::{
    AuthProblem, Cause, Conflict, Error, InvitationProblem, Malformed, Noun, Precondition,
};
use crate::domain::rule::{FieldProblem, Rule};
use crate::http::retry_after_also_conflicts;
use crate::http::sentence::{TENANT_BUSY, of_outage, sentence};

/// An error in the native form. An application's handlers return it too: `?` converts a failed query into one.
///
/// ```
/// use rowhouse::Problem;
///
/// let answers = [
///     Problem::not_found("note"),                   // 404 "Note not found"
///     Problem::conflict("title_taken"),             // 409 "Title taken", with the code
///     Problem::invalid("title", "too_long"),        // 400, with the field
///     Problem::internal("send a mail", "refused"),  // 500; the cause is logged and not told
/// ];
/// ```
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Problem(#[doc(hidden)] pub Error);

impl Problem {
    /// There is no such thing, or the caller may not know of it: 404.
    #[must_use]
    pub const fn not_found(noun: &'static str) -> Self {
        Self(Error::NotFound(Noun::Own(noun)))
    }

    /// The present state does not allow the request: 409. The code tells a program why.
    #[must_use]
    pub const fn conflict(code: &'static str) -> Self {
        Self(Error::Conflict(Conflict::Own(code)))
    }

    /// A field breaks a rule of the application, which the code names: 400.
    #[must_use]
    pub fn invalid(field: &'static str, code: &'static str) -> Self {
        Self(Error::invalid(field, Rule::Own(code)))
    }

    /// The caller lacks a permission of the application: 403.
    #[must_use]
    pub const fn forbidden(permission: &'static str) -> Self {
        Self(Error::Lacks(permission))
    }

    /// A fault of the server: 500. The cause is logged with its own causes, and the caller does not learn it. `during`
    /// names the step that failed: `"send a mail"`.
    pub fn internal(during: &'static str, cause: impl Into<Cause>) -> Self {
        Self(Error::internal(during, cause))
    }

    /// Returns the error and its causes in one line, as the log has it.
    #[must_use]
    pub fn chain(&self) -> String {
        self.0.chain()
    }
}

impl<E: Into<Error>> From<E> for Problem {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

/// The body of an error.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ErrorBody {
    /// The HTTP status code.
    pub status_code: u16,
    /// What happened, for people.
    pub message: String,
    /// The reason phrase of the status.
    pub error: &'static str,
    /// The state that the request conflicts with, for machines; absent unless an application names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    /// Every invalid field; absent if no field is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
}

/// An invalid field.
#[derive(Debug, Serialize, ToSchema)]
pub struct FieldError {
    /// The name of the field, as in the request.
    pub field: String,
    /// The rule that it breaks, for machines.
    pub code: &'static str,
    /// The rule that it breaks, for people.
    pub message: String,
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        match &self.0 {
            Error::Malformed(Malformed::TooLarge { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
            Error::Malformed(Malformed::TooSlow) => StatusCode::REQUEST_TIMEOUT,
            Error::Malformed(Malformed::ContentEncoding) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Error::Malformed(Malformed::Method) => StatusCode::METHOD_NOT_ALLOWED,
            // Reten's page "Revoke API Key" documents 400 for the conflict.
            Error::Malformed(_) | Error::Invalid(_) | Error::Conflict(Conflict::AlreadyRevoked) => {
                StatusCode::BAD_REQUEST
            }
            Error::Unauthenticated(_) => StatusCode::UNAUTHORIZED,
            Error::Forbidden { .. }
            | Error::Lacks(_)
            | Error::SessionRequired
            | Error::CrossSite => StatusCode::FORBIDDEN,
            Error::NotFound(_) => StatusCode::NOT_FOUND,
            Error::Invitation(problem) => invitation_status(*problem),
            Error::Conflict(Conflict::KeyReused) => StatusCode::UNPROCESSABLE_ENTITY,
            Error::Fleet(problem) if problem.is_outage() => StatusCode::SERVICE_UNAVAILABLE,
            Error::Conflict(_) | Error::Fleet(_) | Error::Purge(_) | Error::Archive(_) => {
                StatusCode::CONFLICT
            }
            Error::Precondition(Precondition::Required) => StatusCode::PRECONDITION_REQUIRED,
            Error::Precondition(Precondition::Failed) => StatusCode::PRECONDITION_FAILED,
            Error::TooMany { .. } | Error::TenantBusy { .. } => StatusCode::TOO_MANY_REQUESTS,
            Error::Unavailable { .. } | Error::TenantDamaged { .. } => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Error::Internal { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn error_response(&self) -> HttpResponse {
        let status = self.status_code();
        let errors = match &self.0 {
            Error::Invalid(problems) => problems.iter().map(field_error).collect(),
            _ => Vec::new(),
        };
        let mut answer = HttpResponse::build(status);
        if let Some(seconds) = retry_after_also_conflicts(&self.0) {
            answer.insert_header((RETRY_AFTER, seconds));
        }
        if let Error::Unauthenticated(problem) = &self.0 {
            answer.insert_header((WWW_AUTHENTICATE, challenge(*problem)));
        }
        answer.json(ErrorBody {
            status_code: status.as_u16(),
            message: message(&self.0),
            error: status.canonical_reason().unwrap_or("Error"),
            code: match self.0 {
                Error::Conflict(Conflict::Own(code)) => Some(code),
                _ => None,
            },
            errors,
        })
    }
}

/// Returns the challenge of a 401 answer (RFC 6750, 3).
fn challenge(problem: AuthProblem) -> &'static str {
    match problem {
        AuthProblem::Missing
        | AuthProblem::WrongPassword
        | AuthProblem::Unlock
        | AuthProblem::Several => "Bearer realm=\"rowhouse\"",
        AuthProblem::Invalid | AuthProblem::Expired => {
            "Bearer realm=\"rowhouse\", error=\"invalid_token\""
        }
    }
}

/// Returns the sentence for people, which holds nothing that the caller may not know.
#[expect(clippy::too_many_lines, reason = "a flat list: one sentence for each error")]
fn message(error: &Error) -> String {
    match error {
        Error::Malformed(problem) => malformed(*problem),
        Error::Invalid(_) => "Validation failed".to_owned(),
        Error::Unauthenticated(problem) => unauthenticated(*problem).to_owned(),
        Error::Forbidden { missing } if missing.is_empty() => "You may not do this".to_owned(),
        Error::Forbidden { missing } => {
            let names = missing.iter().map(|p| p.as_str()).collect::<Vec<_>>().join(", ");
            format!("Missing permission: {names}")
        }
        Error::Lacks(permission) => format!("Missing permission: {permission}"),
        Error::CrossSite => {
            "A page of another site may not do this; its origin must be allowed".to_owned()
        }
        Error::SessionRequired => {
            "This needs the access token of a log-in; tokens and keys have no session".to_owned()
        }
        Error::NotFound(noun) => match noun {
            Noun::Route => "There is no such path".to_owned(),
            Noun::Tenant => "Tenant not found".to_owned(),
            Noun::User => "User not found".to_owned(),
            Noun::Token => "API key not found".to_owned(),
            Noun::Profile => "Profile not found".to_owned(),
            Noun::AuditEvent => "Audit event not found".to_owned(),
            Noun::Member => "Member not found".to_owned(),
            Noun::Session => "Session not found".to_owned(),
            Noun::Operation => "Operation not found".to_owned(),
            Noun::Vacancy => "Vacancy not found".to_owned(),
            Noun::Invitation => "Invitation not found".to_owned(),
            Noun::SigningKey => "Signing key not found".to_owned(),
            Noun::Examination => "Examination not found".to_owned(),
            Noun::Archive => "Archive not found".to_owned(),
            Noun::Import => "Import not found".to_owned(),
            Noun::Own(name) => format!("{} not found", capitalized(name)),
            Noun::Node => "Node not found".to_owned(),
        },
        Error::Conflict(conflict) => match conflict {
            Conflict::SlugTaken => "Slug already exists".to_owned(),
            Conflict::SlugResting => "Slug was in use until lately".to_owned(),
            Conflict::KeyTaken(kind) => format!("Another profile has this {}", kind.as_str()),
            Conflict::NotDeleted => "The profile is not deleted".to_owned(),
            Conflict::MainTenant => "The main tenant cannot be deleted".to_owned(),
            Conflict::TenantNotActive => "The tenant is not active".to_owned(),
            Conflict::StillRunning => {
                "A request with this Idempotency-Key is still running".to_owned()
            }
            Conflict::KeyReused => "This Idempotency-Key was used with another body".to_owned(),
            Conflict::Concurrent => {
                "Another request changed the same thing at the same moment; try again".to_owned()
            }
            Conflict::AlreadyRevoked => "API key is already revoked".to_owned(),
            Conflict::TooManyGenerations => {
                "The token is too many makers away from the first".to_owned()
            }
            Conflict::AdminUnproven => "An account has this adminEmail, its address is not proven, and this is not \
                                        its password; set the tenant up with another admin and invite this address"
                .to_owned(),
            Conflict::Own(code) => capitalized(&code.replace('_', " ")),
            // Only the control API can meet these.
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
            | Conflict::CursorAhead
            | Conflict::NoCluster
            | Conflict::NotDistributed
            | Conflict::NodeTakesNone
            | Conflict::BeingMoved
            | Conflict::TokenEnded => format!("Conflict: {conflict}"),
        },
        // Only the control API can meet these.
        Error::Invitation(problem) => format!("Refused: {problem}"),
        Error::Fleet(problem) if problem.is_outage() => problem.to_string(),
        Error::Fleet(problem) => format!("Conflict: {}", problem.code()),
        Error::Purge(problem) => format!("Conflict: {}", problem.code()),
        Error::Archive(problem) => format!("Conflict: {}", problem.code()),
        Error::Precondition(problem) => format!("Not done: {problem}"),
        Error::TooMany { .. } => "Too many requests".to_owned(),
        Error::TenantBusy { .. } => TENANT_BUSY.to_owned(),
        Error::Unavailable { why, .. } => of_outage(*why).to_owned(),
        Error::TenantDamaged { .. } => format!("Not available: {}", error.code()),
        Error::Internal { .. } => "Internal server error".to_owned(),
    }
}

/// Returns a text with a capital first letter.
fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

const fn invitation_status(problem: InvitationProblem) -> StatusCode {
    match problem {
        InvitationProblem::Required
        | InvitationProblem::InviterLostRights
        | InvitationProblem::AnotherAddress => StatusCode::FORBIDDEN,
        InvitationProblem::Unknown => StatusCode::NOT_FOUND,
        InvitationProblem::Used | InvitationProblem::Expired | InvitationProblem::Revoked => {
            StatusCode::GONE
        }
        InvitationProblem::LogInRequired => StatusCode::UNAUTHORIZED,
    }
}

const fn unauthenticated(problem: AuthProblem) -> &'static str {
    match problem {
        AuthProblem::WrongPassword => "Invalid email or password",
        AuthProblem::Missing => "Unauthorized: send an Authorization header with a bearer token",
        AuthProblem::Invalid => "Unauthorized: the token is not valid",
        AuthProblem::Several => "Unauthorized: send a bearer token or an x-api-key, not both",
        AuthProblem::Unlock => "The unlock is not valid",
        AuthProblem::Expired => "Unauthorized: the token has expired",
    }
}

fn malformed(problem: Malformed) -> String {
    match problem {
        Malformed::Json { line, column } => {
            format!("The body is not valid JSON (line {line}, column {column})")
        }
        Malformed::NotAnObject => "The body must be a JSON object".to_owned(),
        Malformed::TooLarge { limit } => format!("The body is larger than {limit} bytes"),
        Malformed::ContentEncoding => "The body must not be compressed".to_owned(),
        Malformed::Excess(excess) => format!("The body {excess}"),
        Malformed::Body => "The body could not be read".to_owned(),
        Malformed::TooSlow => "The body did not come in time".to_owned(),
        Malformed::Method => "This path does not answer to this method".to_owned(),
        Malformed::Header(name) => format!("The header {name} cannot be used as it is"),
    }
}

fn field_error(problem: &FieldProblem) -> FieldError {
    let field = &problem.field;
    // The validator behind Reten's documented API words these five.
    let sentence = match problem.rule {
        Rule::Required => "should not be empty".to_owned(),
        Rule::Type(expected @ ("array" | "object")) => format!("must be an {expected}"),
        Rule::Type(expected) => format!("must be a {expected}"),
        Rule::TooShort(min) => format!("must be longer than or equal to {min} characters"),
        Rule::TooLong(max) if field.to_lowercase().contains("password") => {
            format!("must be shorter than or equal to {max} bytes")
        }
        Rule::TooLong(max) => format!("must be shorter than or equal to {max} characters"),
        Rule::EmailFormat => "must be an email".to_owned(),
        other => sentence(other),
    };
    FieldError {
        field: field.to_string(),
        code: problem.rule.code(),
        message: format!("{field} {sentence}"),
    }
}
