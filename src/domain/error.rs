//! Owns the one error of the house, sorted by what the caller can do about it.
//!
//! Promises: nothing in the outer half (variants, codes, names) holds SQL, a schema name, a path, a
//! secret or another tenant's words; the inner half (`source`) is for the log alone. A problem carries
//! a rule, never a sentence: each dialect says it in its own words, in one exhaustive `match`.

use std::borrow::Cow;
use std::time::Duration;

use super::access::Permission;
use super::operation::FleetProblem;
use super::profile::KeyKind;
use super::tenant::TenantStatus;

/// What every fallible function above `domain` returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The cause of an error, for the log.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Everything that can go wrong, by remedy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request could not be read at all; send a well-formed one.
    #[error("the request could not be read")]
    Malformed(Malformed),
    /// Some fields break a rule; correct them. Every bad field is listed.
    #[error("some fields are not valid: {}", list_fields(.0))]
    Invalid(Vec<FieldProblem>),
    /// Nobody was recognised; send a valid credential.
    #[error("no valid credential: {}", .0.as_str())]
    Unauthenticated(AuthProblem),
    /// The caller is known and may not do this.
    #[error("not permitted; missing {}", list_permissions(.missing))]
    Forbidden {
        /// What the caller would need; empty where no permission would help.
        missing: Vec<Permission>,
    },
    /// There is no such thing, or none that this caller may know of.
    #[error("no such {}", .0.as_str())]
    NotFound(Noun),
    /// The request clashes with what is there; choose another value or wait.
    #[error("{}", .0.as_str())]
    Conflict(Conflict),
    /// Work on the whole fleet does not begin, or does not move as asked; the message says what would help.
    #[error("{0}")]
    Fleet(Box<FleetProblem>),
    /// The request is bound to one revision of a thing; read it again and decide anew.
    #[error("{}", .0.as_str())]
    Precondition(Precondition),
    /// Too much at once; come back after the given time.
    #[error("too many requests")]
    TooMany {
        /// When to try again.
        retry_after: Duration,
    },
    /// Something below is away or overloaded; the same request may succeed later.
    #[error("failed to {during}: not available")]
    Unavailable {
        /// What was being done, in the present tense: "read tenant row".
        during: &'static str,
        /// When to try again.
        retry_after: Duration,
        /// Why, for the log.
        source: Cause,
    },
    /// Our fault. The caller is told only that.
    #[error("failed to {during}")]
    Internal {
        /// What was being done, in the present tense: "read tenant row".
        during: &'static str,
        /// Why, for the log.
        source: Cause,
    },
}

impl Error {
    /// One field breaks one rule.
    #[must_use]
    pub fn invalid(field: &'static str, rule: Rule) -> Self {
        Self::Invalid(vec![FieldProblem::new(field, rule)])
    }

    /// An error of ours, with what was being done and why it failed.
    pub fn internal(during: &'static str, source: impl Into<Cause>) -> Self {
        Self::Internal { during, source: source.into() }
    }

    /// Something we need is away; `retry_after` a second.
    pub fn unavailable(during: &'static str, source: impl Into<Cause>) -> Self {
        Self::Unavailable { during, retry_after: Duration::from_secs(1), source: source.into() }
    }

    /// One permission is missing.
    #[must_use]
    pub fn missing(permission: Permission) -> Self {
        Self::Forbidden { missing: vec![permission] }
    }

    /// A word for logs and metrics that does not change with the sentence.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Invalid(_) => "invalid",
            Self::Unauthenticated(_) => "unauthenticated",
            Self::Forbidden { .. } => "forbidden",
            Self::NotFound(_) => "not_found",
            Self::Conflict(_) => "conflict",
            Self::Fleet(_) => "fleet",
            Self::Precondition(_) => "precondition",
            Self::TooMany { .. } => "too_many",
            Self::Unavailable { .. } => "unavailable",
            Self::Internal { .. } => "internal",
        }
    }

    /// The whole chain in one line, for the log.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut line = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(inner) = cause {
            line.push_str(": ");
            line.push_str(&inner.to_string());
            cause = inner.source();
        }
        line
    }
}

impl From<FleetProblem> for Error {
    fn from(problem: FleetProblem) -> Self {
        Self::Fleet(Box::new(problem))
    }
}

/// A field and the rule it breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldProblem {
    /// The field's name as the caller wrote it.
    pub field: Cow<'static, str>,
    /// The rule it breaks.
    pub rule: Rule,
}

impl FieldProblem {
    /// Pairs a field with a rule.
    pub fn new(field: impl Into<Cow<'static, str>>, rule: Rule) -> Self {
        Self { field: field.into(), rule }
    }
}

/// The rules a field can break. A dialect turns each into its own sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// It must be there.
    Required,
    /// It must be of this JSON type: "string", "object" ..
    Type(&'static str),
    /// At least so many characters.
    TooShort(usize),
    /// At most so many characters (bytes for passwords).
    TooLong(usize),
    /// Lower-case letters, digits and single hyphens, a letter or digit at both ends.
    SlugFormat,
    /// One `@`, a local part and a domain.
    EmailFormat,
    /// A UUID.
    UuidFormat,
    /// No control characters; NUL cannot be stored at all.
    ControlCharacter,
    /// The word is kept for the system.
    Reserved,
    /// A whole number within these bounds.
    Range(i64, i64),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A time in the future.
    Past,
    /// A token UUID, which a mode of its own asks for.
    TokenUuid,
    /// A length of time, such as `30d`.
    Lifetime,
    /// A JSON patch that can be applied.
    Patch,
    /// JSON that is not nested too deeply.
    TooDeep,
    /// There is no such field or parameter, or it was given twice.
    Unknown,
    /// The address of a user who exists.
    UnknownUser,
    /// The slug or the id of a tenant that exists.
    UnknownTenant,
    /// A cursor that was answered before.
    Cursor,
    /// A point in time, as RFC 3339 writes it.
    Timestamp,
    /// The name of a permission.
    Permission,
}

impl Rule {
    /// A stable code for machines.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::Type(_) => "wrong_type",
            Self::TooShort(_) => "too_short",
            Self::TooLong(_) => "too_long",
            Self::SlugFormat => "slug_format",
            Self::EmailFormat => "email_format",
            Self::UuidFormat => "uuid_format",
            Self::ControlCharacter => "control_character",
            Self::Reserved => "reserved",
            Self::Range(..) => "out_of_range",
            Self::OneOf(_) => "not_one_of",
            Self::Past => "in_the_past",
            Self::TokenUuid => "token_uuid",
            Self::Lifetime => "lifetime",
            Self::Patch => "patch",
            Self::TooDeep => "too_deep",
            Self::Unknown => "unknown_field",
            Self::UnknownUser => "unknown_user",
            Self::UnknownTenant => "unknown_tenant",
            Self::Cursor => "cursor",
            Self::Timestamp => "timestamp",
            Self::Permission => "unknown_permission",
        }
    }
}

/// Why a request could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// The body is no JSON.
    Json {
        /// Line of the first wrong character, from 1.
        line: usize,
        /// Column of the first wrong character, from 1.
        column: usize,
    },
    /// The body is JSON, but no object.
    NotAnObject,
    /// The body is larger than the server reads.
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The body broke off or could not be decoded.
    Body,
    /// The body did not come in the time that a request has.
    TooSlow,
    /// The method is not one that this path answers to.
    Method,
    /// A header cannot be used as it stands; names the header.
    Header(&'static str),
}

/// Why a credential was refused. Kept coarse: a caller without one learns nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthProblem {
    /// None was sent.
    Missing,
    /// It is unknown, broken, revoked or its owner is gone.
    Invalid,
    /// It was good once.
    Expired,
    /// Identifier or password do not match a user.
    WrongPassword,
    /// The unlock is unknown, expired or somebody else's.
    Unlock,
    /// More than one was sent, and nobody could tell which one counts.
    Several,
}

impl AuthProblem {
    /// A word for logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Invalid => "invalid",
            Self::Expired => "expired",
            Self::WrongPassword => "wrong password",
            Self::Unlock => "bad unlock",
            Self::Several => "several",
        }
    }
}

/// The things that can be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noun {
    /// A path that the server does not serve.
    Route,
    /// A tenant.
    Tenant,
    /// Someone who can log in.
    User,
    /// An API token.
    Token,
    /// A person's record inside a tenant.
    Profile,
    /// An event in the audit trail.
    AuditEvent,
    /// A user's place in a tenant.
    Member,
    /// A piece of work on the whole fleet.
    Operation,
    /// A schema that waits for its tenant.
    Vacancy,
}

impl Noun {
    /// The word itself.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Route => "route",
            Self::Tenant => "tenant",
            Self::User => "user",
            Self::Token => "token",
            Self::Profile => "profile",
            Self::AuditEvent => "audit event",
            Self::Member => "member",
            Self::Operation => "operation",
            Self::Vacancy => "vacancy",
        }
    }
}

/// What a request can clash with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conflict {
    /// Another tenant has the slug.
    SlugTaken,
    /// Another profile of the tenant has this key.
    KeyTaken(KeyKind),
    /// The profile is there, and what was asked is for one that was deleted.
    NotDeleted,
    /// The tenant is one that must stay.
    MainTenant,
    /// The tenant exists and does not answer in its present state.
    TenantNotActive,
    /// A request with the same idempotency key is still running.
    StillRunning,
    /// The idempotency key was used with another body.
    KeyReused,
    /// The same work was done by somebody else at the same moment; try again.
    Concurrent,
    /// Another tenant has the caller's own id for it.
    ExternalIdTaken,
    /// The tenant with the caller's own id is there under another name or slug.
    ExternalIdDiffers,
    /// The tenant's status does not allow the move.
    IllegalMove(TenantStatus),
    /// What is being purged does not come back.
    PurgeStarted,
    /// The grace period of a deleted tenant is over.
    GraceOver,
    /// The user is a member already.
    AlreadyMember,
    /// A tenant that has an admin keeps one.
    LastAdmin,
    /// The API key was revoked before.
    AlreadyRevoked,
}

impl Conflict {
    /// A sentence for logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SlugTaken => "the slug is taken",
            Self::KeyTaken(_) => "another profile has this key",
            Self::NotDeleted => "the profile is not deleted",
            Self::MainTenant => "the main tenant stays",
            Self::TenantNotActive => "the tenant is not active",
            Self::StillRunning => "a request with this idempotency key is still running",
            Self::KeyReused => "the idempotency key was used with another body",
            Self::Concurrent => "somebody else changed the same thing at the same moment",
            Self::ExternalIdTaken => "another tenant has this external id",
            Self::ExternalIdDiffers => "the tenant with this external id has another name or slug",
            Self::IllegalMove(TenantStatus::Active) => "the tenant is active",
            Self::IllegalMove(TenantStatus::Suspended) => "the tenant is suspended",
            Self::IllegalMove(TenantStatus::Deleting) => "the tenant is being deleted",
            Self::PurgeStarted => "the tenant is being purged",
            Self::GraceOver => "the grace period is over",
            Self::AlreadyMember => "the user is a member already",
            Self::LastAdmin => "a tenant keeps its last admin",
            Self::AlreadyRevoked => "the API key is revoked already",
        }
    }
}

/// Why a request that is bound to a revision was not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precondition {
    /// It must say which revision it means, and does not.
    Required,
    /// The thing has changed since.
    Failed,
}

impl Precondition {
    /// A sentence for logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Required => "the request must say which revision it means",
            Self::Failed => "the revision is not the current one",
        }
    }
}

fn list_fields(problems: &[FieldProblem]) -> String {
    problems
        .iter()
        .map(|p| format!("{} ({})", p.field, p.rule.code()))
        .collect::<Vec<_>>()
        .join(", ")
}

fn list_permissions(missing: &[Permission]) -> String {
    missing.iter().map(|p| p.as_str()).collect::<Vec<_>>().join(", ")
}
