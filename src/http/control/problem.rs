//! Errors in this dialect's form: the status, the code, the sentences and the bad fields of each.
//!
//! To add an error: a line in the `match` that no longer compiles. A published code never changes.

use std::fmt::Write as _;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::archive::ArchiveProblem;
use crate::domain::error::{
    AuthProblem, Conflict, Error, InvitationProblem, Malformed, Noun, Precondition,
};
use crate::domain::json::Excess;
use crate::domain::operation::FleetProblem;
use crate::domain::outage::Outage;
use crate::domain::purge::PurgeProblem;
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
        Error::Conflict(conflict) => self::conflict(*conflict),
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

fn malformed(problem: Malformed) -> Representation {
    let (status, code, title, detail) = match problem {
        Malformed::Json { line, column } => (
            StatusCode::BAD_REQUEST,
            "malformed_json",
            "The body is not valid JSON",
            format!("It breaks off or goes wrong at line {line}, column {column}"),
        ),
        Malformed::NotAnObject => (
            StatusCode::BAD_REQUEST,
            "not_an_object",
            "The body is not a JSON object",
            "Send an object, {..}".to_owned(),
        ),
        Malformed::TooLarge { limit } => (
            StatusCode::PAYLOAD_TOO_LARGE,
            "body_too_large",
            "The body is too large",
            format!("At most {limit} bytes are read"),
        ),
        Malformed::Excess(excess) => {
            let code = match excess {
                Excess::LongNumber => "json_number_too_long",
                Excess::TooManyValues => "json_too_many_values",
                Excess::ReservedName => "json_reserved_name",
            };
            let detail = format!("It {excess}");
            (StatusCode::BAD_REQUEST, code, "The body exceeds a limit for JSON", detail)
        }
        Malformed::ContentEncoding => (
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_content_encoding",
            "The body is compressed",
            "Send it as it is: no Content-Encoding but identity is read".to_owned(),
        ),
        Malformed::Body => (
            StatusCode::BAD_REQUEST,
            "malformed_body",
            "The body could not be read",
            "It broke off or could not be decoded".to_owned(),
        ),
        Malformed::TooSlow => (
            StatusCode::REQUEST_TIMEOUT,
            "body_too_slow",
            "The body did not come in time",
            "Send all of it at once".to_owned(),
        ),
        Malformed::Method => (
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "This path does not answer to this method",
            "Allow lists the methods that it answers to".to_owned(),
        ),
        Malformed::Header(name) => (
            StatusCode::BAD_REQUEST,
            "malformed_header",
            "A header cannot be used as it is",
            format!("The header {name} has an incorrect format"),
        ),
    };
    Representation { status, code, title, detail }
}

fn unauthenticated(problem: AuthProblem) -> Representation {
    let detail = match problem {
        AuthProblem::Missing => "Send an Authorization header with a bearer token",
        AuthProblem::Invalid => "The token is not valid",
        AuthProblem::Expired => "The token has expired",
        AuthProblem::WrongPassword => "Email or password are wrong",
        AuthProblem::Unlock => "The unlock is not valid",
        AuthProblem::Several => "Send a bearer token or an x-api-key, not both",
    };
    Representation {
        status: StatusCode::UNAUTHORIZED,
        code: "unauthenticated",
        title: "No valid credential",
        detail: detail.to_owned(),
    }
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

#[expect(clippy::too_many_lines, reason = "a flat list: one representation for each conflict")]
fn conflict(conflict: Conflict) -> Representation {
    let sentence = conflict.to_string();
    let (title, detail) = match conflict {
        Conflict::SlugTaken => ("The slug is taken", "Choose another slug"),
        Conflict::SlugResting => (
            "The slug cannot be taken yet",
            "Another tenant had it until lately; choose another slug, or wait (slugs.quarantine)",
        ),
        Conflict::ExaminationRunning => {
            ("An examination is running", "Read it, or start another one when it has ended")
        }
        Conflict::KeyTaken(_) => ("The key is taken", "Another profile has this key"),
        Conflict::NotDeleted => ("The profile is there", "Only a deleted one can be restored"),
        Conflict::MainTenant => ("The main tenant stays", "It cannot be deleted or purged"),
        Conflict::TenantNotActive => {
            ("The tenant does not take changes", "It is being deleted; restore it first")
        }
        Conflict::StillRunning => (
            "The same request is still running",
            "Ask again for its answer after the time in Retry-After",
        ),
        Conflict::KeyReused => (
            "The Idempotency-Key was used before",
            "It stands for a request with another body; choose another key",
        ),
        Conflict::Concurrent => (
            "Another request changed the same thing",
            "Nothing was changed; try again after the time in Retry-After",
        ),
        Conflict::ExternalIdTaken => ("The external id is taken", "Another tenant has it"),
        // The sentence names the fields.
        Conflict::ExternalIdDiffers(_) => {
            ("The tenant with this external id is a different one", sentence.as_str())
        }
        Conflict::TenantDeleting => (
            "The tenant is being deleted",
            "Restore it first, send ?restore=true, or purge it and try again",
        ),
        Conflict::TenantHasNoEnd => (
            "The tenant was made without an end",
            "Send \"add_expiry\": true beside the end if it is to be purged then",
        ),
        // The sentence names the status.
        Conflict::IllegalMove(_) => ("The tenant's status does not allow this", sentence.as_str()),
        Conflict::PurgeStarted => {
            ("The tenant is being purged", "What is purged does not come back")
        }
        Conflict::GraceOver => ("The grace period is over", "The tenant is about to be purged"),
        Conflict::AlreadyMember => {
            ("The user is a member already", "PATCH changes a member's role")
        }
        Conflict::LastAdmin => {
            ("The tenant keeps its last admin", "Make another member ADMIN first")
        }
        Conflict::AlreadyRevoked => {
            ("The API key is revoked already", "There is nothing left to do")
        }
        Conflict::TokenEnded => (
            "The token has ended",
            "It is revoked or has expired, or what made it has; make another",
        ),
        Conflict::TooManyGenerations => (
            "The token is too many makers away from the first",
            "Let a token that is nearer to the first one make it",
        ),
        Conflict::CursorAhead => (
            "The cursor is not a place in this log",
            "The database was restored from a backup from before the cursor was given: read the present state, and go on \
             from the end of the log or from an earlier cursor",
        ),
        Conflict::Own(_) => ("The present state does not allow this", sentence.as_str()),
        Conflict::NoCluster => (
            "The database is no cluster",
            "Tenants are distributed and moved only where the database is a Citus cluster",
        ),
        Conflict::NotDistributed => (
            "The tenant is not distributed",
            "POST /control/v1/cluster/distribute places it on a node; then it can be moved",
        ),
        Conflict::NodeTakesNone => (
            "The node takes no tenants",
            "Choose a node that is active, answers and takes schemas, as GET /control/v1/cluster lists them",
        ),
        Conflict::BeingMoved => ("The tenant is being moved", "Wait until it has arrived"),
        Conflict::AdminUnproven => (
            "The address of the admin is not proven",
            "An account has the address, and the password is not the account's; make the tenant with another admin \
             or with none, and invite the address: accepting the invitation proves it",
        ),
    };
    let status = match conflict {
        Conflict::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
        _ => StatusCode::CONFLICT,
    };
    Representation { status, code: conflict.code(), title, detail: detail.to_owned() }
}

fn invitation(problem: InvitationProblem) -> Representation {
    let (status, title, detail) = match problem {
        InvitationProblem::Required => (
            StatusCode::FORBIDDEN,
            "Members are invited",
            "Only the root and a SUPER_ADMIN add a member directly; POST ../invitations with the address and the role",
        ),
        InvitationProblem::Unknown => (
            StatusCode::NOT_FOUND,
            "There is no such invitation",
            "No invitation has this token; ask the inviter for another one",
        ),
        InvitationProblem::Used => {
            (StatusCode::GONE, "The invitation is used", "An invitation can be used once")
        }
        InvitationProblem::Expired => {
            (StatusCode::GONE, "The invitation has expired", "Ask the inviter for another one")
        }
        InvitationProblem::Revoked => {
            (StatusCode::GONE, "The invitation is revoked", "Ask the inviter for another one")
        }
        InvitationProblem::InviterLostRights => (
            StatusCode::FORBIDDEN,
            "The inviter may not invite any more",
            "The inviter no longer holds what the role grants; ask another admin of the tenant for an invitation",
        ),
        InvitationProblem::LogInRequired => (
            StatusCode::UNAUTHORIZED,
            "An account has the invited address",
            "Log in as it, and accept the invitation with its access token",
        ),
        InvitationProblem::AnotherAddress => (
            StatusCode::FORBIDDEN,
            "The invitation is for another address",
            "Log in with the invited address",
        ),
    };
    Representation { status, code: problem.code(), title, detail: detail.to_owned() }
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

fn fleet(problem: &FleetProblem) -> Representation {
    let title = "The fleet is not in a state for this";
    let outage = problem.is_outage();
    let status = if outage { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::CONFLICT };
    let code = problem.code();
    Representation { status, code, title, detail: problem.to_string() }
}

fn archive(problem: &ArchiveProblem) -> Representation {
    let (status, title) = match problem {
        ArchiveProblem::Invalid { .. }
        | ArchiveProblem::Digest { .. }
        | ArchiveProblem::NewerFormat { .. }
        | ArchiveProblem::Encrypted
        | ArchiveProblem::RowsRefused { .. } => {
            (StatusCode::UNPROCESSABLE_ENTITY, "The archive cannot be read")
        }
        ArchiveProblem::Signature(_) => {
            (StatusCode::UNPROCESSABLE_ENTITY, "The archive is not trusted")
        }
        ArchiveProblem::TooLarge { .. } => {
            (StatusCode::PAYLOAD_TOO_LARGE, "The archive is too large")
        }
        ArchiveProblem::NoRoom => (StatusCode::INSUFFICIENT_STORAGE, "There is no room"),
        ArchiveProblem::OutOfRange(_) => {
            (StatusCode::RANGE_NOT_SATISFIABLE, "The range is not in the archive")
        }
        ArchiveProblem::StoreUnavailable => {
            (StatusCode::SERVICE_UNAVAILABLE, "The store of archives is not available")
        }
        ArchiveProblem::ExportRunning => {
            (StatusCode::CONFLICT, "An export of the tenant is running")
        }
        ArchiveProblem::NotReady(_) => {
            (StatusCode::CONFLICT, "The state of the archive does not allow this")
        }
        ArchiveProblem::Ahead { .. }
        | ArchiveProblem::Diverged(_)
        | ArchiveProblem::Drifted(_)
        | ArchiveProblem::UnknownTables(_)
        | ArchiveProblem::ExtensionMissing(_)
        | ArchiveProblem::IdTaken
        | ArchiveProblem::Encoding(_)
        | ArchiveProblem::MigrationFailed(_)
        | ArchiveProblem::CheckFailed(_)
        | ArchiveProblem::ReaderStalled => {
            (StatusCode::CONFLICT, "The data does not fit this installation")
        }
        ArchiveProblem::SwapBusy
        | ArchiveProblem::SwapVersionDiffers { .. }
        | ArchiveProblem::SwapWithItself => {
            (StatusCode::CONFLICT, "The tenants cannot be swapped now")
        }
    };
    Representation { status, code: problem.code(), title, detail: problem.to_string() }
}

fn purge(problem: &PurgeProblem) -> Representation {
    let detail = match problem {
        PurgeProblem::Dependents { objects, .. } if objects.is_empty() => {
            "Something outside of the tenant depends on it; an operator can see what".to_owned()
        }
        PurgeProblem::Dependents { .. } => format!(
            "Nothing was dropped; {problem}. Drop or change it, or send {{\"cascade\": true}} to drop it too"
        ),
        PurgeProblem::RoleInUse { uses, .. } if uses.is_empty() => {
            "The tenant's role is in use in another database; an operator can see where".to_owned()
        }
        PurgeProblem::NotPermitted { login, .. } if login.is_empty() => {
            "The server may not drop the tenant's role or schema; an operator can see why"
                .to_owned()
        }
        PurgeProblem::RoleInUse { .. } | PurgeProblem::NotPermitted { .. } => {
            format!("Nothing was dropped; {problem}")
        }
    };
    let title = "The tenant cannot be purged alone";
    Representation { status: StatusCode::CONFLICT, code: problem.code(), title, detail }
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
