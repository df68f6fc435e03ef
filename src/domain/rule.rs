//! Owns the rules that a field can break, and the pair of a field and a broken rule.
//!
//! A problem carries a rule and no sentence: each dialect has its own sentence for a rule.

use std::borrow::Cow;

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
    /// A known field or parameter, given once.
    #[strum(serialize = "unknown_field")]
    Unknown,
    /// The address of an existing user.
    UnknownUser,
    /// The slug or the id of an existing tenant.
    UnknownTenant,
    /// A cursor from an earlier answer.
    Cursor,
    /// A point in time in RFC 3339.
    Timestamp,
    /// The name of a permission.
    #[strum(serialize = "unknown_permission")]
    Permission,
}

impl Rule {
    /// The stable code for machines.
    #[must_use]
    pub fn code(self) -> &'static str {
        self.into()
    }
}
