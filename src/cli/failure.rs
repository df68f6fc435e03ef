//! How a command ends: the exit codes, and the error messages.

use std::io;
use std::process::ExitCode;

use crate::app::BuildError;
use crate::config::SettingsError;
use crate::domain::error::Error;
use crate::domain::rule::{Rule, in_words};
use crate::telemetry::BadFilter;

/// The exit code of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything is done.
    Done = 0,
    /// The command failed; the same call can succeed later.
    Failed = 1,
    /// The arguments or the settings are invalid; the same call cannot succeed later.
    Usage = 2,
    /// Only a part is done; the output says which.
    Partly = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

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
            Self::Build(_) | Self::Service(_) | Self::Io { .. } | Self::Other(_) => Exit::Failed,
        }
    }
}

/// Returns the whole error chain in one line, without causes that a message already contains.
fn chain(error: &dyn std::error::Error) -> String {
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
        let codes = [Exit::Done, Exit::Failed, Exit::Usage, Exit::Partly].map(|exit| exit as u8);
        assert_eq!(codes, [0, 1, 2, 3]);
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
