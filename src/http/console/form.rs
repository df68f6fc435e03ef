//! Reads the fields of a form, one by one, and keeps what was typed and what is wrong with it for the page that shows the
//! form again.
//!
//! Must not know: what a field means.

use std::cell::RefCell;

use url::form_urlencoded;

use crate::domain::error::{Conflict, Error, InvitationProblem};
use crate::domain::rule::{FieldProblem, Rule};
use crate::http::sentence::sentence;

/// Fields whose values are never shown again.
const SECRET: [&str; 4] = ["password", "current_password", "new_password", "token"];

/// A form: what was typed or what is there, and what is wrong with it.
#[derive(Debug, Default)]
pub(super) struct Form {
    given: Vec<(String, String)>,
    /// The name of the field, and what is wrong with it, in the order in which they were read. The name of none is what is
    /// wrong with the whole.
    errors: RefCell<Vec<(String, String)>>,
}

impl Form {
    /// Reads the body of a request, which is `application/x-www-form-urlencoded`.
    pub(super) fn of_body(body: &[u8]) -> Self {
        let given = form_urlencoded::parse(body).into_owned().collect();
        Self { given, errors: RefCell::default() }
    }

    /// Creates a form that shows what is there.
    pub(super) fn showing<const N: usize>(values: [(&str, String); N]) -> Self {
        let given = values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { given, errors: RefCell::default() }
    }

    /// Returns what was typed into a field, without the white space around it; empty if it is not there.
    pub(super) fn text(&self, name: &str) -> &str {
        let found = self.given.iter().find(|(field, _)| field == name);
        let text = found.map_or("", |(_, value)| value.as_str());
        if SECRET.contains(&name) { text } else { text.trim() }
    }

    /// Returns the values of a field that can be there several times.
    pub(super) fn all(&self, name: &str) -> Vec<&str> {
        let of = self.given.iter().filter(|(field, _)| field == name);
        of.map(|(_, value)| value.as_str()).collect()
    }

    /// Whether a field has this value, for the boxes and options of a template.
    pub(super) fn has(&self, name: &str, value: &str) -> bool {
        self.given.iter().any(|(field, given)| field == name && given == value)
    }

    /// Reads a field that must be there.
    pub(super) fn required<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, Rule>,
    ) -> Option<T> {
        if self.text(name).is_empty() {
            self.refuse(name, Rule::Required);
            return None;
        }
        self.optional(name, parse)
    }

    /// Reads a field that may be empty.
    pub(super) fn optional<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, Rule>,
    ) -> Option<T> {
        let parsed = match self.text(name) {
            "" => return None,
            // PostgreSQL cannot store NUL.
            text if text.contains('\0') => Err(Rule::ControlCharacter),
            text => parse(text),
        };
        parsed.map_err(|rule| self.refuse(name, rule)).ok()
    }

    /// Records that a field breaks a rule.
    pub(super) fn refuse(&self, name: &str, rule: Rule) {
        self.blame(name, sentence(rule));
    }

    /// Records what is wrong with a field.
    pub(super) fn blame(&self, name: &str, message: impl Into<String>) {
        let mut errors = self.errors.borrow_mut();
        if errors.iter().all(|(field, _)| field != name) {
            errors.push((name.to_owned(), message.into()));
        }
    }

    /// Blames a field with the names of tenants for the one that a problem tells by its place in the list.
    pub(super) fn blame_tenant(&self, field: &str, problem: &FieldProblem, named: &[String]) {
        let at = problem.field.rsplit('/').next().and_then(|at| at.parse::<usize>().ok());
        let name = at.and_then(|at| named.get(at)).map_or("one", String::as_str);
        self.blame(field, format!("{name} is no tenant"));
    }

    /// Records the part of a refusal that concerns fields. Returns the error back if no field is at fault.
    pub(super) fn take(&self, error: Error) -> Result<Error, Error> {
        let faults = faults(&error);
        if faults.is_empty() {
            return Err(error);
        }
        for (field, message) in faults {
            self.blame(&field, message);
        }
        Ok(error)
    }

    /// Whether nothing is wrong so far.
    pub(super) fn is_good(&self) -> bool {
        self.errors.borrow().is_empty()
    }

    /// Returns what is wrong with a field, for a template.
    pub(super) fn error(&self, name: &str) -> Option<String> {
        let errors = self.errors.borrow();
        errors.iter().find(|(field, _)| field == name).map(|(_, message)| message.clone())
    }

    /// Returns everything that is wrong, for the summary of a template: the field, its name in words, and what is wrong.
    pub(super) fn errors(&self) -> Vec<(String, String, String)> {
        let errors = self.errors.borrow();
        errors.iter().map(|(name, text)| (name.clone(), in_words(name), text.clone())).collect()
    }

    /// Returns the fields to send the form again: those that hold a secret without it.
    pub(super) fn again(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let shown = |name: &str| !SECRET.contains(&name);
        self.given
            .iter()
            .map(move |(name, value)| (name.as_str(), shown(name).then_some(value.as_str())))
    }
}

/// Returns the name of a field for people: `admin_email` as `Admin email`.
pub(super) fn in_words(name: &str) -> String {
    let mut chars = name.chars().map(|c| if c == '_' { ' ' } else { c });
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// Returns the fields that a refusal is about, each with a sentence.
fn faults(error: &Error) -> Vec<(String, String)> {
    let one = |field: &str, message: &str| vec![(field.to_owned(), message.to_owned())];
    match error {
        Error::Invalid(problems) => {
            let name = |field: &str| field.trim_start_matches(['/', '?']).replace('/', "_");
            problems.iter().map(|p| (name(&p.field), sentence(p.rule))).collect()
        }
        Error::Conflict(conflict) => match conflict {
            Conflict::SlugTaken => one("slug", "is taken by another tenant"),
            Conflict::SlugResting => {
                one("slug", "was another tenant's until lately and cannot be taken yet")
            }
            Conflict::ExternalIdTaken => one("external_id", "is taken by another tenant"),
            Conflict::AdminUnproven => one(
                "admin_email",
                "has an account whose address is not proven, and this is not its password; create the tenant without \
                 an admin, and invite the address",
            ),
            Conflict::AlreadyMember => one("email", "is a member already"),
            _ => Vec::new(),
        },
        Error::Invitation(InvitationProblem::AnotherAddress) => {
            one("email", "is not the invited address")
        }
        _ => Vec::new(),
    }
}
