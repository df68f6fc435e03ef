//! Owns the rules that a field can break, and the pair of a field and a broken rule.
//!
//! A problem carries a rule and no sentence: each dialect has its own sentence for a rule.

use std::borrow::Cow;

use time::{Duration, OffsetDateTime};

/// A field and the rule that it breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldProblem {
    /// The field's name as the caller wrote it.
    pub field: Cow<'static, str>,
    /// The rule that it breaks.
    pub rule: Rule,
}

impl FieldProblem {
    /// Pairs a field with a rule.
    pub fn new(field: impl Into<Cow<'static, str>>, rule: Rule) -> Self {
        Self { field: field.into(), rule }
    }
}

/// A rule that a field can break, stated as what the field must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Rule {
    /// Present, and not empty where it is a text.
    Required,
    /// Of this JSON type: "string", "object", ..
    #[strum(serialize = "wrong_type")]
    Type(&'static str),
    /// At least this many characters.
    TooShort(usize),
    /// At most this many characters; bytes for passwords.
    TooLong(usize),
    /// Lower-case letters, digits and single hyphens, with a letter or digit at both ends.
    SlugFormat,
    /// One `@`, a local part and a domain.
    EmailFormat,
    /// A UUID.
    UuidFormat,
    /// No control characters; PostgreSQL cannot store NUL at all.
    ControlCharacter,
    /// Not a word that is reserved for the system.
    Reserved,
    /// A whole number within these bounds, both included.
    #[strum(serialize = "out_of_range")]
    Range(i64, i64),
    /// One of these words.
    #[strum(serialize = "not_one_of")]
    OneOf(&'static [&'static str]),
    /// Not a time in the past.
    #[strum(serialize = "in_the_past")]
    Past,
    /// The UUID of a record, where the mode is `token`.
    TokenUuid,
    /// A length of time, such as `30d`.
    Lifetime,
    /// A JSON patch that can be applied.
    Patch,
    /// JSON within the nesting limit.
    TooDeep,
    /// JSON whose numbers have at most this many characters.
    #[strum(serialize = "number_too_long")]
    LongNumber(usize),
    /// JSON with at most this many values and names.
    TooManyValues(usize),
    /// A number of things that are together at most this many bytes.
    AnswerTooLarge(usize),
    /// Not one of the most common passwords.
    CommonPassword,
    /// The user's present password.
    WrongPassword,
    /// A known field or parameter, given once.
    #[strum(serialize = "unknown_field")]
    Unknown,
    /// The address of an existing user.
    UnknownUser,
    /// The slug or the id of an existing tenant.
    UnknownTenant,
    /// At most this length of time, from now where the field is a point in time.
    #[strum(serialize = "beyond_limit")]
    AtMost(Duration),
    /// Not later than the end of the credential that makes another.
    #[strum(serialize = "beyond_parent")]
    WithinParent(OffsetDateTime),
    /// A cursor from an earlier answer.
    Cursor,
    /// A point in time in RFC 3339.
    Timestamp,
    /// The name of a permission.
    #[strum(serialize = "unknown_permission")]
    Permission,
    /// A rule of an application; the code is its own.
    Own(&'static str),
}

impl Rule {
    /// The stable code for machines.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Own(code) => code,
            other => other.into(),
        }
    }
}

/// Returns a length of time in the largest unit that needs no fraction, such as `90 days` or `36 hours`.
#[must_use]
pub fn in_words(length: Duration) -> String {
    let seconds = length.whole_seconds();
    let units = [(86_400, "day"), (3600, "hour"), (60, "minute")];
    let fits = |(unit, _): &(i64, &str)| seconds >= *unit && seconds % unit == 0;
    let (unit, word) = units.into_iter().find(fits).unwrap_or((1, "second"));
    let count = seconds / unit;
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_is_written_in_its_largest_whole_unit() {
        for (length, words) in [
            (Duration::days(90), "90 days"),
            (Duration::days(1), "1 day"),
            (Duration::hours(36), "36 hours"),
            (Duration::minutes(90), "90 minutes"),
            (Duration::seconds(61), "61 seconds"),
            (Duration::seconds(1), "1 second"),
            (Duration::ZERO, "0 seconds"),
        ] {
            assert_eq!(in_words(length), words);
        }
    }
}
