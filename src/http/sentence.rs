//! Words each rule that a field can break and each outage, once for all dialects.
//!
//! A dialect has its own sentence for a rule only where the contract that it follows fixes one.

use time::format_description::well_known::Rfc3339;

use crate::domain::outage::Outage;
use crate::domain::rule::{Rule, in_words};

/// The sentence of a request that waited for a connection while its tenant held some, without a full stop.
pub(super) const TENANT_BUSY: &str =
    "Other requests of this tenant hold the database connections that it may have; try again later";

/// Returns the sentence of a rule, to follow the name of the field: "must be a UUID".
pub(super) fn sentence(rule: Rule) -> String {
    match rule {
        Rule::Required => "must be there".to_owned(),
        Rule::Type(expected) => format!("must be of the type {expected}"),
        Rule::TooShort(min) => format!("must have at least {min} characters"),
        Rule::TooLong(max) => format!("must not be longer than {max}"),
        Rule::SlugFormat => {
            "must hold only lower-case letters, digits and single hyphens, and begin and end with a letter or digit"
                .to_owned()
        }
        Rule::EmailFormat => "must be an email address".to_owned(),
        Rule::UuidFormat | Rule::TokenUuid => "must be a UUID".to_owned(),
        Rule::ControlCharacter => "must not hold control characters".to_owned(),
        Rule::Reserved => "is a reserved word".to_owned(),
        Rule::Range(min, max) => format!("must be a whole number from {min} to {max}"),
        Rule::OneOf(words) => format!("must be one of {}", words.join(", ")),
        Rule::Past => "must lie in the future".to_owned(),
        Rule::Lifetime => "must be a length of time, such as 30d".to_owned(),
        Rule::Patch => "must be a JSON patch that can be applied".to_owned(),
        Rule::TooDeep => "must not be nested so deeply".to_owned(),
        Rule::LongNumber(max) => {
            format!("must not hold a number of more than {max} characters")
        }
        Rule::AnswerTooLarge(max) => {
            format!("must ask for less: what it asks for has more than {max} bytes")
        }
        Rule::TooManyValues(max) => format!("must not hold more than {max} values and names"),
        Rule::CommonPassword => "must not be one of the most common passwords".to_owned(),
        Rule::WrongPassword => "must be the present password".to_owned(),
        Rule::Unknown => "is not known here, or was given twice".to_owned(),
        Rule::UnknownUser => {
            "must be the address of a user; send password, first_name and last_name to make one"
                .to_owned()
        }
        Rule::UnknownTenant => "must be the slug or the id of a tenant".to_owned(),
        Rule::AtMost(limit) => format!("must be at most {} from now", in_words(limit)),
        Rule::WithinParent(end) => format!(
            "must not be later than {}, when the credential ends that makes it",
            end.format(&Rfc3339).unwrap_or_else(|_| end.to_string())
        ),
        Rule::Cursor => "must be the next_cursor of an earlier answer".to_owned(),
        Rule::Timestamp => "must be a time, such as 2025-01-31T12:00:00Z".to_owned(),
        Rule::Permission => "must be the name of a permission".to_owned(),
        Rule::Own(code) => format!("is not valid: {}", code.replace('_', " ")),
    }
}

/// Returns the sentence of an outage, without a full stop. `Retry-After` says when to try again.
pub(super) const fn of_outage(why: Outage) -> &'static str {
    match why {
        Outage::Away => "Not available right now; try again",
        Outage::OutcomeUnknown => {
            "It is not known whether the change was made; look for it, or send the request again with the same \
             Idempotency-Key"
        }
        Outage::NoConnection => "No database connection was free in time; try again",
        Outage::LockTimeout => {
            "Another transaction has the record locked, and nothing was changed; try again"
        }
        Outage::LostRace => {
            "The request conflicted with others each time, and nothing was changed; try again"
        }
        Outage::TenantClosed => {
            "What is in the tenant is being exchanged, and nothing was changed; try again"
        }
        Outage::ReadOnly => {
            "The database is read-only at the moment, and nothing was changed; try again"
        }
    }
}
