//! Why a command ends early, and how it says so.

use std::io;

use serde::Serialize;
use serde_json::json;

use super::Exit;
use super::control::{FieldView, Refusal};
use crate::app::BuildError;
use crate::config::SettingsError;
use crate::domain::error::{Error, InvitationProblem, Precondition};
use crate::domain::outage::Outage;
use crate::domain::rule::{Rule, in_words};
use crate::telemetry::BadFilter;

/// Why a command ended early.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Some settings are invalid.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The log filter is invalid.
    #[error(transparent)]
    Filter(#[from] BadFilter),
    /// Some arguments are invalid; lists all of them.
    #[error("{}", .0.join("\n  "))]
    Usage(Vec<String>),
    /// The database could not be opened.
    #[error("{}", chain(.0))]
    Build(#[from] BuildError),
    /// A service method failed.
    #[error("{}", .0.chain())]
    Service(#[from] Error),
    /// A server refused the request, or could not be asked.
    #[error(transparent)]
    Refused(#[from] Box<Refusal>),
    /// A refusal in the words of its command.
    #[error("{message}")]
    Worded {
        /// The exit code.
        exit: Exit,
        /// The code for programs.
        code: String,
        /// The message.
        message: String,
    },
    /// An I/O operation failed.
    #[error("cannot {during}: {source}")]
    Io {
        /// The operation, in the present tense.
        during: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// Any other failure, with its message.
    #[error("{0}")]
    Other(String),
}

impl Failure {
    /// Creates a failure for one invalid argument.
    pub(super) fn usage(what: impl Into<String>) -> Self {
        Self::Usage(vec![what.into()])
    }

    /// Gives a failure the words of its command; exit code and code stay.
    pub(super) fn worded(self, message: impl Into<String>) -> Self {
        Self::Worded { exit: self.exit(), code: self.code(), message: message.into() }
    }

    /// Whether it is a field that breaks this rule, whichever field it is.
    pub(super) fn breaks(&self, rule: Rule) -> bool {
        match self {
            Self::Service(Error::Invalid(problems)) => problems.iter().any(|p| p.rule == rule),
            Self::Refused(refusal) => refusal.rules.iter().any(|code| code == rule.code()),
            _ => false,
        }
    }

    /// Turns a failure to open the database into that of a server, which only succeeds or fails.
    pub(super) fn of_server(self) -> Self {
        match self {
            Self::Build(_) | Self::Service(_) => Self::Other(self.to_string()),
            failure => failure,
        }
    }

    /// Adds the operation to an I/O error.
    pub(super) fn io(during: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { during, source }
    }

    /// Returns the exit code.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        match self {
            Self::Settings(_)
            | Self::Filter(_)
            | Self::Usage(_)
            | Self::Build(BuildError::Settings(_)) => Exit::Usage,
            Self::Build(error) if error.is_away() => Exit::Away,
            Self::Service(error) => exit_of(error),
            Self::Refused(refusal) => refusal.exit,
            Self::Worded { exit, .. } => *exit,
            Self::Build(_) | Self::Io { .. } | Self::Other(_) => Exit::Failed,
        }
    }

    /// Returns the code for programs: that of the control API where it has one.
    pub(super) fn code(&self) -> String {
        match self {
            Self::Settings(_) | Self::Filter(_) | Self::Build(BuildError::Settings(_)) => {
                "settings".to_owned()
            }
            Self::Usage(_) => "usage".to_owned(),
            Self::Build(error) if error.is_away() => "unavailable".to_owned(),
            Self::Service(error) => error.detailed_code().to_owned(),
            Self::Refused(refusal) => refusal.code.clone(),
            Self::Worded { code, .. } => code.clone(),
            Self::Io { .. } => "io".to_owned(),
            Self::Build(_) | Self::Other(_) => "failed".to_owned(),
        }
    }

    /// Returns the failure as `--json` prints it, on one line.
    pub(super) fn to_json(&self) -> String {
        let (mut fields, mut missing, mut request_id) = (Vec::new(), Vec::new(), None);
        match self {
            Self::Service(Error::Invalid(problems)) => {
                let word = |problem: &crate::domain::FieldProblem| FieldView {
                    field: problem.field.trim_start_matches('/').to_owned(),
                    message: sentence(problem.rule),
                };
                fields = problems.iter().map(word).collect();
            }
            Self::Service(Error::Forbidden { missing: lacking }) => {
                missing = lacking.iter().map(|permission| permission.as_str().to_owned()).collect();
            }
            Self::Service(Error::Lacks(permission)) => missing = vec![(*permission).to_owned()],
            Self::Refused(refusal) => {
                fields.clone_from(&refusal.fields);
                missing.clone_from(&refusal.missing);
                request_id.clone_from(&refusal.request_id);
            }
            _ => {}
        }
        let view =
            ErrorView { code: self.code(), message: self.to_string(), fields, missing, request_id };
        json!({ "error": view }).to_string()
    }
}

/// A failure in JSON.
#[derive(Serialize)]
struct ErrorView {
    code: String,
    message: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fields: Vec<FieldView>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
}

/// Sorts the errors of the services by what a script does next.
const fn exit_of(error: &Error) -> Exit {
    match error {
        Error::Malformed(_) | Error::Invalid(_) => Exit::Usage,
        Error::NotFound(_) | Error::Invitation(InvitationProblem::Unknown) => Exit::NotFound,
        Error::Conflict(_)
        | Error::Precondition(Precondition::Required | Precondition::Failed)
        | Error::Invitation(
            InvitationProblem::Used | InvitationProblem::Expired | InvitationProblem::Revoked,
        ) => Exit::Conflict,
        Error::Unauthenticated(_)
        | Error::Forbidden { .. }
        | Error::Lacks(_)
        | Error::CrossSite
        | Error::SessionRequired
        | Error::Invitation(_) => Exit::Denied,
        // The same call does not succeed until an operator has done something.
        Error::Fleet(_)
        | Error::Purge(_)
        | Error::Archive(_)
        | Error::Unavailable { why: Outage::ReadOnly, .. }
        | Error::TenantDamaged { .. }
        | Error::Internal { .. } => Exit::Failed,
        Error::TooMany { .. } | Error::TenantBusy { .. } | Error::Unavailable { .. } => Exit::Away,
    }
}

/// Returns the whole error chain in one line, without causes that a message already contains.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let words = inner.to_string();
        if !line.contains(&words) {
            line = format!("{line}: {words}");
        }
        cause = inner.source();
    }
    line
}

/// Parses arguments into domain types and collects the problems of all of them.
#[derive(Default)]
pub(super) struct Arguments(Vec<String>);

impl Arguments {
    /// Parses one argument; `flag` is its name on the command line.
    pub(super) fn read<T>(
        &mut self,
        flag: &str,
        given: &str,
        parse: impl FnOnce(&str) -> Result<T, Rule>,
    ) -> Option<T> {
        parse(given).map_err(|rule| self.0.push(format!("{flag} {}", sentence(rule)))).ok()
    }

    /// Returns the parsed value, or all problems.
    pub(super) fn finish<T>(self, read: Option<T>) -> Result<T, Failure> {
        match read {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(Failure::Usage(self.0)),
        }
    }
}

/// Returns the message for a broken rule. It does not contain the value, which can be a password.
pub(super) fn sentence(rule: Rule) -> String {
    match rule {
        Rule::Required => "must not be empty".to_owned(),
        Rule::Type(expected) => format!("must be a {expected}"),
        Rule::TooShort(min) => format!("must have at least {min} characters"),
        Rule::TooLong(max) => format!("must have at most {max} characters"),
        Rule::SlugFormat => {
            "must consist of lower-case letters, digits and single hyphens, and begin and end with a letter or digit".to_owned()
        }
        Rule::EmailFormat => "must be an e-mail address".to_owned(),
        Rule::UuidFormat | Rule::TokenUuid => "must be a UUID".to_owned(),
        Rule::ControlCharacter => "must not contain control characters".to_owned(),
        Rule::Reserved => "is a reserved word".to_owned(),
        Rule::Range(min, max) => format!("must be a whole number from {min} to {max}"),
        Rule::OneOf(words) => format!("must be one of {}", words.join(", ")),
        Rule::Past => "must be in the future".to_owned(),
        Rule::Lifetime => "must be a duration, such as 30d".to_owned(),
        Rule::Patch => "must be a JSON patch that can be applied".to_owned(),
        Rule::TooDeep => "is nested too deeply".to_owned(),
        Rule::LongNumber(max) => format!("holds a number of more than {max} characters"),
        Rule::AnswerTooLarge(max) => format!("asks for more than {max} bytes at once"),
        Rule::TooManyValues(max) => format!("holds more than {max} values and names"),
        Rule::CommonPassword => "must not be one of the most common passwords".to_owned(),
        Rule::WrongPassword => "must be the present password".to_owned(),
        Rule::Unknown => "is unknown, or given twice".to_owned(),
        Rule::UnknownUser => "must be the e-mail address of a user".to_owned(),
        Rule::UnknownTenant => "must be the slug or the id of a tenant".to_owned(),
        Rule::AtMost(limit) => format!("must be at most {}", in_words(limit)),
        Rule::WithinParent(end) => {
            format!("must not be later than {end}, when the credential ends that makes it")
        }
        Rule::Cursor => "must be a cursor of an earlier response".to_owned(),
        Rule::Timestamp => "must be a time, such as 2026-11-21T12:00:00Z".to_owned(),
        Rule::Permission => "must be the name of a permission".to_owned(),
        Rule::Own(code) => format!("is not valid: {}", code.replace('_', " ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_the_documented_ones() {
        let first = [Exit::Done, Exit::Failed, Exit::Usage, Exit::Partly].map(|exit| exit as u8);
        assert_eq!(first, [0, 1, 2, 3]);
        let more =
            [Exit::NotFound, Exit::Conflict, Exit::Denied, Exit::Away].map(|exit| exit as u8);
        assert_eq!(more, [4, 5, 6, 7]);
    }

    #[test]
    fn a_failure_in_json_has_a_code_a_message_and_the_fields() {
        let of = |failure: Failure| -> serde_json::Value {
            serde_json::from_str(&failure.to_json()).expect("it is JSON")
        };
        let taken = of(Error::Conflict(crate::domain::error::Conflict::SlugTaken).into());
        assert_eq!(
            taken,
            json!({ "error": { "code": "slug_taken", "message": "the slug is taken" } })
        );
        let missing = Error::missing(crate::domain::Permission::CreateTenant);
        assert_eq!(of(missing.into())["error"]["missing"], json!(["CREATE_TENANT"]));
        let invalid = of(Error::invalid("slug", Rule::SlugFormat).into());
        assert_eq!(invalid["error"]["fields"][0]["field"], "slug");
        let worded = Failure::from(Error::NotFound(crate::domain::error::Noun::Tenant))
            .worded("no such tenant: x");
        assert_eq!((worded.exit(), worded.code().as_str()), (Exit::NotFound, "tenant_not_found"));
    }

    #[test]
    fn every_invalid_argument_is_reported_at_once() {
        let mut arguments = Arguments::default();
        let slug = arguments.read("--slug", "Acme", |_| Err::<(), _>(Rule::SlugFormat));
        let name = arguments.read("--name", "", |_| Err::<(), _>(Rule::Required));
        let failure = arguments.finish(slug.zip(name)).unwrap_err();
        assert_eq!(failure.exit(), Exit::Usage);
        let text = failure.to_string();
        assert!(
            text.contains("--slug must consist of lower-case")
                && text.contains("--name must not be empty")
        );
    }
}
