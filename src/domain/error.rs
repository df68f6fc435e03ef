//! Owns the one error of the crate, sorted by what the caller can do about it.
//!
//! Promises: the outer half (variants, codes, names) holds no SQL, schema name, path, secret or data of another
//! tenant; the inner half (`source`) is for the log alone. A field problem carries a
//! [`Rule`] and no sentence: each dialect words its answers in one exhaustive `match`.

use std::time::Duration;

use super::access::Permission;
use super::archive::ArchiveProblem;
use super::json::Excess;
use super::names::TenantId;
use super::operation::FleetProblem;
use super::outage::Outage;
use super::purge::PurgeProblem;
use super::rule::{FieldProblem, Rule};

pub use super::conflict::Conflict;
pub use super::invitation::InvitationProblem;
pub use super::noun::Noun;

/// The result of every fallible function above `domain`.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The cause of an error, for the log.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Everything that can go wrong, by remedy.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Error {
    /// The request cannot be read; send a well-formed one.
    #[error("the request could not be read")]
    Malformed(Malformed),
    /// Some fields break a rule; correct them. Every bad field is listed.
    #[error("some fields are not valid: {}", list_fields(.0))]
    Invalid(Vec<FieldProblem>),
    /// No caller was recognised; send a valid credential.
    #[error("no valid credential: {0}")]
    Unauthenticated(AuthProblem),
    /// The caller is known and lacks a right.
    #[error("not permitted; missing {}", list_permissions(.missing))]
    Forbidden {
        /// The permissions that the caller would need; empty where none would help.
        missing: Vec<Permission>,
    },
    /// The caller is known and lacks a permission of the application.
    #[error("not permitted; missing {0}")]
    Lacks(&'static str),
    /// A page of another site sent the request, which works with a cookie; call from an allowed origin.
    #[error("a page of another site sent the request")]
    CrossSite,
    /// The caller is known and has no session; log in and send the access token.
    #[error("not permitted without a session")]
    SessionRequired,
    /// The thing does not exist, or this caller may not know of it.
    #[error("no such {0}")]
    NotFound(Noun),
    /// The request conflicts with the present state; choose another value or wait.
    #[error("{0}")]
    Conflict(Conflict),
    /// An invitation is needed, or cannot be used as requested.
    #[error("{0}")]
    Invitation(InvitationProblem),
    /// A fleet operation does not start, or does not move as requested; the message names the remedy.
    #[error("{0}")]
    Fleet(Box<FleetProblem>),
    /// A schema is not dropped because of what is outside of it; the message names it and the remedy.
    #[error("{0}")]
    Purge(Box<PurgeProblem>),
    /// An archive is not written or not imported; the message names the reason.
    #[error("{0}")]
    Archive(Box<ArchiveProblem>),
    /// The request is bound to one revision of a thing; read the thing again and decide anew.
    #[error("{0}")]
    Precondition(Precondition),
    /// Too many requests; try again after the given time.
    #[error("too many requests")]
    TooMany {
        /// Time until a retry can succeed.
        retry_after: Duration,
    },
    /// The tenant's own requests hold the database connections that it may have; let them end, and try again.
    #[error("the tenant's own requests hold its database connections")]
    TenantBusy {
        /// Time after which a retry makes sense.
        retry_after: Duration,
    },
    /// A dependency is away or overloaded, or another request is in the way; the same request may succeed later.
    #[error("failed to {during}: {why}")]
    Unavailable {
        /// The step that failed, in the present tense: "read tenant row".
        during: &'static str,
        /// The reason.
        why: Outage,
        /// Time until a retry can succeed.
        retry_after: Duration,
        /// The cause, for the log.
        source: Cause,
    },
    /// The schema, the role or a table of a tenant is not as it was made; an operator must repair it.
    #[error("failed to {during}: the schema, the role or a table of tenant {tenant} is damaged")]
    TenantDamaged {
        /// The tenant.
        tenant: TenantId,
        /// The step that failed, in the present tense: "read tenant row".
        during: &'static str,
        /// The cause, for the log.
        source: Cause,
    },
    /// A fault of the server. The caller learns only that.
    #[error("failed to {during}")]
    Internal {
        /// The step that failed, in the present tense: "read tenant row".
        during: &'static str,
        /// The cause, for the log.
        source: Cause,
    },
}

impl Error {
    /// Creates the error of one field that breaks one rule.
    #[must_use]
    pub fn invalid(field: &'static str, rule: Rule) -> Self {
        Self::Invalid(vec![FieldProblem::new(field, rule)])
    }

    /// Creates a fault of the server from the failed step and its cause.
    pub fn internal(during: &'static str, source: impl Into<Cause>) -> Self {
        Self::Internal { during, source: source.into() }
    }

    /// Creates the error of a dependency that is away; `retry_after` is one second.
    pub fn unavailable(during: &'static str, source: impl Into<Cause>) -> Self {
        Self::outage(Outage::Away, during, source)
    }

    /// Creates the error of something that passes by itself; `retry_after` is one second.
    pub fn outage(why: Outage, during: &'static str, source: impl Into<Cause>) -> Self {
        let retry_after = Duration::from_secs(1);
        Self::Unavailable { during, why, retry_after, source: source.into() }
    }

    /// Whether the same transaction may succeed at once if it is tried again: it conflicted with another one. A lock
    /// that was not granted is not among these: the next wait may be as long.
    #[must_use]
    pub const fn is_lost_race(&self) -> bool {
        matches!(
            self,
            Self::Conflict(Conflict::Concurrent) | Self::Unavailable { why: Outage::LostRace, .. }
        )
    }

    /// Whether a lock was not granted in time.
    #[must_use]
    pub const fn is_lock_timeout(&self) -> bool {
        matches!(self, Self::Unavailable { why: Outage::LockTimeout, .. })
    }

    /// Whether the database is away or accepts no changes, so that other work would fail in the same way.
    #[must_use]
    pub const fn is_away(&self) -> bool {
        matches!(
            self,
            Self::Unavailable { why: Outage::Away | Outage::NoConnection | Outage::ReadOnly, .. }
        )
    }

    /// Creates the error of one missing permission.
    #[must_use]
    pub fn missing(permission: Permission) -> Self {
        Self::Forbidden { missing: vec![permission] }
    }

    /// Returns the same error with another name for a field: the one that the caller wrote.
    #[must_use]
    pub fn with_field(mut self, field: &str, as_written: &'static str) -> Self {
        if let Self::Invalid(problems) = &mut self {
            for problem in problems.iter_mut().filter(|problem| problem.field == field) {
                problem.field = as_written.into();
            }
        }
        self
    }

    /// Returns the word for logs and metrics, which stays when the sentence changes.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.into()
    }

    /// Returns the word for programs that tells this error from all others; the same as that of the control API.
    #[must_use]
    pub fn detailed_code(&self) -> &'static str {
        match self {
            Self::NotFound(noun) => noun.code(),
            Self::Conflict(conflict) => conflict.code(),
            Self::Invitation(problem) => problem.code(),
            Self::Fleet(problem) => problem.code(),
            Self::Purge(problem) => problem.code(),
            Self::Archive(problem) => problem.code(),
            Self::Unavailable { why, .. } => why.code(),
            Self::Lacks(_) => "forbidden",
            Self::Precondition(Precondition::Required) => "precondition_required",
            Self::Precondition(Precondition::Failed) => "precondition_failed",
            other => other.code(),
        }
    }

    /// Returns the error and its causes in one line, for the log.
    #[must_use]
    pub fn chain(&self) -> String {
        with_causes(self)
    }
}

/// Returns an error and its causes in one line.
#[must_use]
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        line.push_str(": ");
        line.push_str(&inner.to_string());
        cause = inner.source();
    }
    line
}

impl From<ArchiveProblem> for Error {
    fn from(problem: ArchiveProblem) -> Self {
        Self::Archive(Box::new(problem))
    }
}

impl From<FleetProblem> for Error {
    fn from(problem: FleetProblem) -> Self {
        Self::Fleet(Box::new(problem))
    }
}

/// The reason why a request could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// The body is not JSON.
    Json {
        /// Line of the first wrong character, from 1.
        line: usize,
        /// Column of the first wrong character, from 1.
        column: usize,
    },
    /// The body is JSON, but not an object.
    NotAnObject,
    /// The body is larger than the server reads.
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The body exceeds a limit for JSON.
    Excess(Excess),
    /// The body ended early or could not be decoded.
    Body,
    /// The body is compressed; no body is decompressed, since a small one can stand for a huge one.
    ContentEncoding,
    /// The body did not arrive within the time limit of a request.
    TooSlow,
    /// The path does not answer this method.
    Method,
    /// A header has an unusable value; names the header.
    Header(&'static str),
}

/// The reason why a credential was refused. Coarse on purpose: a caller without one learns nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display)]
#[strum(serialize_all = "lowercase")]
pub enum AuthProblem {
    /// No credential was sent.
    Missing,
    /// The credential is unknown, broken or revoked, or its owner no longer exists.
    Invalid,
    /// The credential was valid once.
    Expired,
    /// Identifier and password do not match a user.
    #[strum(to_string = "wrong password")]
    WrongPassword,
    /// The unlock is unknown, expired or another caller's.
    #[strum(to_string = "bad unlock")]
    Unlock,
    /// More than one was sent, and it is not clear which one counts.
    Several,
}

/// The reason why a request that is bound to a revision was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Precondition {
    /// The request does not name the revision it means.
    #[error("the request must say which revision it means")]
    Required,
    /// The thing has changed since.
    #[error("the revision is not the current one")]
    Failed,
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
