//! The states with which a request can conflict, each with its sentence for people and its code for machines.

use super::end::Differing;
use super::profile::KeyKind;
use super::status::TenantStatus;

/// The states with which a request can conflict.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, strum::EnumString, strum::IntoStaticStr,
)]
#[strum(serialize_all = "snake_case")]
pub enum Conflict {
    /// Another tenant has the slug.
    #[error("the slug is taken")]
    SlugTaken,
    /// An examination of the database is running.
    #[error("an examination is running")]
    ExaminationRunning,
    /// Another tenant gave the slug up lately, and it cannot be taken yet.
    #[error("another tenant had the slug until lately; it cannot be taken yet")]
    SlugResting,
    /// Another profile of the tenant has this key.
    #[error("another profile has this key")]
    KeyTaken(KeyKind),
    /// The profile exists, and only a deleted one can be restored.
    #[error("the profile is not deleted")]
    NotDeleted,
    /// The main tenant cannot be deleted.
    #[error("the main tenant stays")]
    MainTenant,
    /// The tenant exists and answers no requests in its present status.
    #[error("the tenant is not active")]
    TenantNotActive,
    /// A request with the same idempotency key is still running.
    #[error("a request with this idempotency key is still running")]
    StillRunning,
    /// The idempotency key was used with another body.
    #[error("the idempotency key was used with another body")]
    #[strum(serialize = "idempotency_key_reused")]
    KeyReused,
    /// Another request did the same work at the same moment; try again.
    #[error("another request changed the same thing at the same moment")]
    Concurrent,
    /// Another tenant has this external id.
    #[error("another tenant has this external id")]
    ExternalIdTaken,
    /// The tenant with this external id differs in what an upsert does not change.
    #[error("the tenant with this external id differs in {}", .0.fields().join(", "))]
    ExternalIdDiffers(Differing),
    /// The tenant is deleted, and waits for its purge.
    #[error("the tenant is being deleted")]
    TenantDeleting,
    /// The tenant was made without an end, and stays until it is deleted.
    #[error("the tenant was made without an end")]
    TenantHasNoEnd,
    /// The tenant's status does not allow the move.
    #[error("the tenant is {}", present_status(*.0))]
    IllegalMove(TenantStatus),
    /// The purge has begun, and a purged tenant cannot be restored.
    #[error("the tenant is being purged")]
    PurgeStarted,
    /// The grace period of a deleted tenant is over.
    #[error("the grace period is over")]
    GraceOver,
    /// The user is already a member.
    #[error("the user is a member already")]
    AlreadyMember,
    /// A tenant that has an admin keeps at least one.
    #[error("a tenant keeps its last admin")]
    LastAdmin,
    /// The API key is already revoked.
    #[error("the API key is revoked already")]
    AlreadyRevoked,
    /// The token has expired or is revoked, itself or by what made it.
    #[error("the token has ended")]
    TokenEnded,
    /// The token that would make another one is too many makers away from the first.
    #[error("the token is too many makers away from the first")]
    TooManyGenerations,
    /// The cursor of a reader of the event feed is not a place in this log.
    #[error("the cursor is ahead of the log, or of another log")]
    CursorAhead,
    /// The database is one server, and no cluster.
    #[error("the database is not a Citus cluster")]
    NoCluster,
    /// The tenant's tables are on the coordinator and cannot be moved yet.
    #[error("the tenant is not distributed; `rowhouse cluster distribute` places it on a node")]
    NotDistributed,
    /// No tenant can be placed on the node.
    #[error("the node takes no tenants")]
    NodeTakesNone,
    /// The tenant is being moved.
    #[error("the tenant is being moved already")]
    BeingMoved,
    /// An account has the admin's address, and it is not certain that its holder owns the address.
    #[error("an account has this address, and the address is not proven")]
    AdminUnproven,
    /// A state of an application; the code is its own.
    #[error("{0}")]
    Own(&'static str),
}

impl Conflict {
    /// Returns the stable code for machines.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Own(code) => code,
            other => other.into(),
        }
    }
}

fn present_status(status: TenantStatus) -> &'static str {
    match status {
        TenantStatus::Deleting => "being deleted",
        TenantStatus::Active | TenantStatus::Suspended => status.as_str(),
    }
}
