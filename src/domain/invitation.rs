//! Why an invitation is needed, or cannot be used.

/// The reason why an invitation is needed, or cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, strum::IntoStaticStr)]
pub enum InvitationProblem {
    /// The caller may not add members directly, and invites them.
    #[error("the caller may not add a member directly; send an invitation")]
    #[strum(serialize = "invitation_required")]
    Required,
    /// No invitation has this token; one of a purged tenant is among these.
    #[error("no invitation has this token")]
    #[strum(serialize = "invitation_not_found")]
    Unknown,
    /// It was accepted before.
    #[error("the invitation is used")]
    #[strum(serialize = "invitation_used")]
    Used,
    /// Its time is over.
    #[error("the invitation has expired")]
    #[strum(serialize = "invitation_expired")]
    Expired,
    /// It was revoked.
    #[error("the invitation is revoked")]
    #[strum(serialize = "invitation_revoked")]
    Revoked,
    /// The inviter no longer holds what the role grants.
    #[error("the inviter no longer holds the rights of the role")]
    #[strum(serialize = "inviter_lost_rights")]
    InviterLostRights,
    /// An account has the invited address, and the caller is not logged in as it.
    #[error("an account has the invited address; log in as it")]
    #[strum(serialize = "log_in_required")]
    LogInRequired,
    /// The caller is logged in with another address than the invited one.
    #[error("the invitation is for another address")]
    #[strum(serialize = "invitation_for_another_address")]
    AnotherAddress,
}

impl InvitationProblem {
    /// Returns the stable code for machines.
    #[must_use]
    pub fn code(self) -> &'static str {
        self.into()
    }
}
