//! The kinds of things that can be missing, each with its word for people and its code for machines.

/// The kinds of things that can be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display)]
#[strum(serialize_all = "lowercase")]
pub enum Noun {
    /// A path that the server does not serve.
    Route,
    /// A tenant.
    Tenant,
    /// A user, who can log in.
    User,
    /// An API token.
    Token,
    /// A person's record inside a tenant.
    Profile,
    /// An event in the audit trail.
    #[strum(to_string = "audit event")]
    AuditEvent,
    /// A user's membership in a tenant.
    Member,
    /// A log-in of a user.
    Session,
    /// A fleet operation.
    Operation,
    /// A schema that waits for its tenant.
    Vacancy,
    /// An invitation to a tenant.
    Invitation,
    /// A key that signs access tokens.
    #[strum(to_string = "signing key")]
    SigningKey,
    /// An examination of the database.
    Examination,
    /// An archive that the server keeps.
    Archive,
    /// An import of an archive that the server keeps.
    Import,
    /// A thing of an application.
    #[strum(to_string = "{0}")]
    Own(&'static str),
    /// A node of the cluster.
    Node,
}

impl Noun {
    /// Returns the stable code of its absence for machines.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Route => "route_not_found",
            Self::Tenant => "tenant_not_found",
            Self::User => "user_not_found",
            Self::Token => "token_not_found",
            Self::Profile => "profile_not_found",
            Self::AuditEvent => "audit_event_not_found",
            Self::Member => "member_not_found",
            Self::Session => "session_not_found",
            Self::Operation => "operation_not_found",
            Self::Vacancy => "vacancy_not_found",
            Self::Invitation => "invitation_not_found",
            Self::SigningKey => "signing_key_not_found",
            Self::Examination => "examination_not_found",
            Self::Archive => "archive_not_found",
            Self::Import => "import_not_found",
            Self::Own(_) => "not_found",
            Self::Node => "node_not_found",
        }
    }
}
