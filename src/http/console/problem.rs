//! Errors as pages: the status, the sentences, and what a person can do next.
//!
//! To add an error: a line in the `match` that no longer compiles.

use actix_web::http::StatusCode;
use actix_web::http::header::RETRY_AFTER;
use actix_web::{HttpRequest, HttpResponse, ResponseError};
use askama::Template;

use super::call::Call;
use super::form::Form;
use super::frame::{Area, Frame};
use super::page::{render, respond};
use crate::domain::error::{
    AuthProblem, Conflict, Error, InvitationProblem, Malformed, Noun, Precondition,
};
use crate::http::retry_after_also_conflicts;
use crate::http::sentence::{TENANT_BUSY, of_outage, sentence};
use crate::telemetry::current_request_id;

/// An error, and the page that tells it.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Problem {
    /// The error.
    pub error: Error,
    /// The page, if it is another than the bare one.
    html: Option<String>,
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self { error, html: None }
    }
}

impl Problem {
    /// Pairs an error with the page that tells it: a form with its problems.
    pub(super) const fn shown(error: Error, html: String) -> Self {
        Self { error, html: Some(html) }
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        status(&self.error)
    }

    fn error_response(&self) -> HttpResponse {
        let html = self.html.clone().unwrap_or_else(|| bare(&self.error, None));
        let mut answer = respond(status(&self.error), html, &[]);
        if let Some(seconds) = retry_after_also_conflicts(&self.error) {
            answer.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        answer
    }
}

/// A field and its value, which is left out if it is secret.
type Again<'a> = (&'a str, Option<&'a str>);

/// The content of the page.
#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage<'a> {
    title: String,
    detail: String,
    code: &'static str,
    request_id: String,
    /// The fields to send the same form again, and where to; those with a secret have no value.
    again: Option<(&'a str, Vec<Again<'a>>)>,
    /// Whether the same address may answer later.
    passes: bool,
}

/// Tells an error inside the frame of its caller.
pub(super) fn in_frame(error: Error, call: &Call) -> Problem {
    let content = content(&error, Some((call.request().path(), &call.form)));
    let html = call.page(Area::Other, content.title.clone()).html(&content).ok();
    Problem { error, html }
}

/// Tells an error of a request whose caller is not known. What was typed can be sent again.
pub(super) fn of_form(error: Error, request: &HttpRequest, form: &Form) -> Problem {
    let html = bare(&error, Some((request.path(), form)));
    Problem { error, html: Some(html) }
}

fn bare(error: &Error, sent: Option<(&str, &Form)>) -> String {
    let content = content(error, sent);
    let main = render(&content).unwrap_or_default();
    let reload = retry_after_also_conflicts(error).filter(|_| content.again.is_none());
    let frame = Frame {
        reload: reload.map(|seconds| seconds.max(2)),
        reloads_always: true,
        ..Frame::bare(&content.title, &main)
    };
    render(&frame).unwrap_or_default()
}

fn content<'a>(error: &Error, sent: Option<(&'a str, &'a Form)>) -> ProblemPage<'a> {
    let passes = retry_after_also_conflicts(error).is_some();
    let fields = |form: &'a Form| form.again().collect::<Vec<_>>();
    let again = sent.filter(|_| passes).map(|(path, form)| (path, fields(form)));
    let (title, detail) = words(error);
    ProblemPage {
        title,
        detail,
        code: error.detailed_code(),
        request_id: current_request_id().unwrap_or_default(),
        again: again.filter(|(_, fields)| !fields.is_empty()),
        passes,
    }
}

/// Returns the status of an error.
pub(super) fn status(error: &Error) -> StatusCode {
    match error {
        Error::Malformed(problem) => match problem {
            Malformed::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Malformed::ContentEncoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Malformed::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Malformed::Method => StatusCode::METHOD_NOT_ALLOWED,
            Malformed::Json { .. }
            | Malformed::NotAnObject
            | Malformed::Excess(_)
            | Malformed::Body
            | Malformed::Header(_) => StatusCode::BAD_REQUEST,
        },
        Error::Invalid(_) => StatusCode::BAD_REQUEST,
        Error::Unauthenticated(_) => StatusCode::UNAUTHORIZED,
        Error::Forbidden { .. } | Error::Lacks(_) | Error::CrossSite | Error::SessionRequired => {
            StatusCode::FORBIDDEN
        }
        Error::NotFound(_) => StatusCode::NOT_FOUND,
        Error::Conflict(Conflict::KeyReused) => StatusCode::UNPROCESSABLE_ENTITY,
        Error::Invitation(problem) => match problem {
            InvitationProblem::Unknown => StatusCode::NOT_FOUND,
            InvitationProblem::Used | InvitationProblem::Expired | InvitationProblem::Revoked => {
                StatusCode::GONE
            }
            InvitationProblem::LogInRequired => StatusCode::UNAUTHORIZED,
            InvitationProblem::Required
            | InvitationProblem::InviterLostRights
            | InvitationProblem::AnotherAddress => StatusCode::FORBIDDEN,
        },
        Error::Fleet(problem) if problem.is_outage() => StatusCode::SERVICE_UNAVAILABLE,
        Error::Fleet(_) | Error::Conflict(_) | Error::Purge(_) | Error::Archive(_) => {
            StatusCode::CONFLICT
        }
        Error::Precondition(Precondition::Required) => StatusCode::PRECONDITION_REQUIRED,
        Error::Precondition(Precondition::Failed) => StatusCode::PRECONDITION_FAILED,
        Error::TooMany { .. } | Error::TenantBusy { .. } => StatusCode::TOO_MANY_REQUESTS,
        Error::Unavailable { .. } | Error::TenantDamaged { .. } => StatusCode::SERVICE_UNAVAILABLE,
        Error::Internal { .. } => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Returns what happened and what to do, for people.
#[expect(clippy::too_many_lines, reason = "a flat list: the words of each error")]
pub(super) fn words(error: &Error) -> (String, String) {
    let (title, detail) = match error {
        Error::Malformed(problem) => malformed(*problem),
        Error::Invalid(problems) => {
            let each = problems.iter().map(|p| {
                format!("{} {}", p.field.trim_start_matches(['/', '?']), sentence(p.rule))
            });
            return ("Some fields are not valid".to_owned(), each.collect::<Vec<_>>().join("; "));
        }
        Error::Unauthenticated(problem) => unauthenticated(*problem),
        Error::Forbidden { missing } => {
            let names: Vec<_> = missing.iter().map(|permission| permission.as_str()).collect();
            return forbidden(&names);
        }
        Error::Lacks(permission) => return forbidden(&[permission]),
        Error::CrossSite => (
            "This was not sent by a page of the console",
            "Open the console at the address that its server has, and do it there",
        ),
        Error::SessionRequired => (
            "Only a user who has signed in can do this",
            "Sign in with an e-mail address and a password; a token has no account",
        ),
        Error::NotFound(noun) => return not_found(*noun),
        Error::Conflict(conflict) => {
            let advice = advice(*conflict);
            return (capitalised(&conflict.to_string()), advice.to_owned());
        }
        Error::Invitation(problem) => {
            let advice = "Ask an admin of the tenant for an invitation";
            return (capitalised(&problem.to_string()), advice.to_owned());
        }
        Error::Fleet(problem) => {
            return ("This is not possible now".to_owned(), capitalised(&problem.to_string()));
        }
        Error::Archive(problem) => {
            return ("The archive was not taken".to_owned(), capitalised(&problem.to_string()));
        }
        Error::Purge(problem) => {
            let detail = format!("Nothing was dropped; {problem}");
            return ("The tenant cannot be purged alone".to_owned(), detail);
        }
        Error::Precondition(Precondition::Required) => {
            ("The form does not say what it changes", "Load the page again")
        }
        Error::Precondition(Precondition::Failed) => (
            "It has changed meanwhile",
            "Nothing was done. Go back, look at what is there now, and decide anew",
        ),
        Error::TooMany { retry_after } => {
            let seconds = retry_after.as_secs().max(1);
            let detail = format!("Try again in {seconds} seconds");
            return ("Too many attempts".to_owned(), detail);
        }
        Error::TenantBusy { .. } => ("The tenant is busy", TENANT_BUSY),
        Error::Unavailable { why, .. } => ("Not available right now", of_outage(*why)),
        Error::TenantDamaged { .. } => (
            "The tenant is damaged",
            "Its schema, its role or a table is not as it was made; a check under Health tells what",
        ),
        Error::Internal { .. } => (
            "The server failed",
            "The fault is the server's; the request id leads to the cause in its log",
        ),
    };
    (title.to_owned(), detail.to_owned())
}

fn forbidden(names: &[&str]) -> (String, String) {
    let detail = match names {
        [] => "Your account may not do this".to_owned(),
        names => format!("Your account lacks the permission {}", names.join(", ")),
    };
    ("Not permitted".to_owned(), detail)
}

fn not_found(noun: Noun) -> (String, String) {
    let title = match noun {
        Noun::Route => "There is no such page".to_owned(),
        noun => format!("There is no such {noun}"),
    };
    (title, "It does not exist, or your account may not know of it".to_owned())
}

const fn malformed(problem: Malformed) -> (&'static str, &'static str) {
    match problem {
        Malformed::Method => ("This page cannot be asked for like this", "Go back to the console"),
        Malformed::TooLarge { .. } | Malformed::Excess(_) => {
            ("The form is too large", "Send less at once")
        }
        Malformed::TooSlow => ("The form did not arrive in time", "Send it again"),
        Malformed::Json { .. } | Malformed::NotAnObject => {
            ("The JSON is not valid", "It must be an object, {..}")
        }
        Malformed::Body | Malformed::ContentEncoding | Malformed::Header(_) => {
            ("The request could not be read", "Go back, and send the form again")
        }
    }
}

const fn unauthenticated(problem: AuthProblem) -> (&'static str, &'static str) {
    match problem {
        AuthProblem::WrongPassword => {
            ("Not signed in", "The e-mail address or the password is wrong")
        }
        AuthProblem::Expired => ("Not signed in", "The token has expired"),
        AuthProblem::Invalid
        | AuthProblem::Missing
        | AuthProblem::Unlock
        | AuthProblem::Several => ("Not signed in", "The token is not valid"),
    }
}

/// Returns what to do about a conflict.
const fn advice(conflict: Conflict) -> &'static str {
    match conflict {
        Conflict::SlugTaken | Conflict::SlugResting => "Choose another slug",
        Conflict::ExaminationRunning => "Wait until it has ended",
        Conflict::MainTenant => "It cannot be deleted, purged or given an end",
        Conflict::TenantNotActive | Conflict::TenantDeleting => "Restore it first",
        Conflict::StillRunning | Conflict::Concurrent => "Nothing was changed; try again",
        Conflict::KeyReused => "Load the form again before you send another one",
        Conflict::ExternalIdTaken | Conflict::ExternalIdDiffers(_) => "Choose another external id",
        Conflict::IllegalMove(_) | Conflict::PurgeStarted | Conflict::GraceOver => {
            "Its status does not allow this any more"
        }
        Conflict::AlreadyMember => "Change the member's role instead",
        Conflict::LastAdmin => "Make another member ADMIN first",
        Conflict::AlreadyRevoked | Conflict::TokenEnded => "There is nothing left to do",
        Conflict::AdminUnproven => {
            "Create the tenant without an admin, and invite the address: accepting the invitation proves it"
        }
        Conflict::KeyTaken(_)
        | Conflict::NotDeleted
        | Conflict::TenantHasNoEnd
        | Conflict::TooManyGenerations
        | Conflict::CursorAhead
        | Conflict::NoCluster
        | Conflict::NotDistributed
        | Conflict::NodeTakesNone
        | Conflict::BeingMoved
        | Conflict::Own(_) => "Nothing was changed",
    }
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}
