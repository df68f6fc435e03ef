//! The representation of the errors of a request that the present state does not allow.

use actix_web::http::StatusCode;

use super::Representation;
use crate::domain::archive::ArchiveProblem;
use crate::domain::error::{Conflict, InvitationProblem};
use crate::domain::operation::FleetProblem;
use crate::domain::purge::PurgeProblem;

#[expect(clippy::too_many_lines, reason = "a flat list: one representation for each conflict")]
pub(super) fn conflict(conflict: Conflict) -> Representation {
    let sentence = conflict.to_string();
    let (title, detail) = match conflict {
        Conflict::SlugTaken => ("The slug is taken", "Choose another slug"),
        Conflict::SlugResting => (
            "The slug cannot be taken yet",
            "Another tenant had it until lately; choose another slug, or wait (slugs.quarantine)",
        ),
        Conflict::ExaminationRunning => {
            ("An examination is running", "Read it, or start another one when it has ended")
        }
        Conflict::KeyTaken(_) => ("The key is taken", "Another profile has this key"),
        Conflict::NotDeleted => ("The profile is there", "Only a deleted one can be restored"),
        Conflict::MainTenant => ("The main tenant stays", "It cannot be deleted or purged"),
        Conflict::TenantNotActive => {
            ("The tenant does not take changes", "It is being deleted; restore it first")
        }
        Conflict::StillRunning => (
            "The same request is still running",
            "Ask again for its answer after the time in Retry-After",
        ),
        Conflict::KeyReused => (
            "The Idempotency-Key was used before",
            "It stands for a request with another body; choose another key",
        ),
        Conflict::Concurrent => (
            "Another request changed the same thing",
            "Nothing was changed; try again after the time in Retry-After",
        ),
        Conflict::ExternalIdTaken => ("The external id is taken", "Another tenant has it"),
        // The sentence names the fields.
        Conflict::ExternalIdDiffers(_) => {
            ("The tenant with this external id is a different one", sentence.as_str())
        }
        Conflict::TenantDeleting => (
            "The tenant is being deleted",
            "Restore it first, send ?restore=true, or purge it and try again",
        ),
        Conflict::TenantHasNoEnd => (
            "The tenant was made without an end",
            "Send \"add_expiry\": true beside the end if it is to be purged then",
        ),
        // The sentence names the status.
        Conflict::IllegalMove(_) => ("The tenant's status does not allow this", sentence.as_str()),
        Conflict::PurgeStarted => {
            ("The tenant is being purged", "What is purged does not come back")
        }
        Conflict::GraceOver => ("The grace period is over", "The tenant is about to be purged"),
        Conflict::AlreadyMember => {
            ("The user is a member already", "PATCH changes a member's role")
        }
        Conflict::LastAdmin => {
            ("The tenant keeps its last admin", "Make another member ADMIN first")
        }
        Conflict::AlreadyRevoked => {
            ("The API key is revoked already", "There is nothing left to do")
        }
        Conflict::TokenEnded => (
            "The token has ended",
            "It is revoked or has expired, or what made it has; make another",
        ),
        Conflict::TooManyGenerations => (
            "The token is too many makers away from the first",
            "Let a token that is nearer to the first one make it",
        ),
        Conflict::CursorAhead => (
            "The cursor is not a place in this log",
            "The database was restored from a backup from before the cursor was given: read the present state, and go on \
             from the end of the log or from an earlier cursor",
        ),
        Conflict::Own(_) => ("The present state does not allow this", sentence.as_str()),
        Conflict::NoCluster => (
            "The database is no cluster",
            "Tenants are distributed and moved only where the database is a Citus cluster",
        ),
        Conflict::NotDistributed => (
            "The tenant is not distributed",
            "POST /control/v1/cluster/distribute places it on a node; then it can be moved",
        ),
        Conflict::NodeTakesNone => (
            "The node takes no tenants",
            "Choose a node that is active, answers and takes schemas, as GET /control/v1/cluster lists them",
        ),
        Conflict::BeingMoved => ("The tenant is being moved", "Wait until it has arrived"),
        Conflict::AdminUnproven => (
            "The address of the admin is not proven",
            "An account has the address, and the password is not the account's; make the tenant with another admin \
             or with none, and invite the address: accepting the invitation proves it",
        ),
    };
    let status = match conflict {
        Conflict::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
        _ => StatusCode::CONFLICT,
    };
    Representation { status, code: conflict.code(), title, detail: detail.to_owned() }
}

pub(super) fn invitation(problem: InvitationProblem) -> Representation {
    let (status, title, detail) = match problem {
        InvitationProblem::Required => (
            StatusCode::FORBIDDEN,
            "Members are invited",
            "Only the root and a SUPER_ADMIN add a member directly; POST ../invitations with the address and the role",
        ),
        InvitationProblem::Unknown => (
            StatusCode::NOT_FOUND,
            "There is no such invitation",
            "No invitation has this token; ask the inviter for another one",
        ),
        InvitationProblem::Used => {
            (StatusCode::GONE, "The invitation is used", "An invitation can be used once")
        }
        InvitationProblem::Expired => {
            (StatusCode::GONE, "The invitation has expired", "Ask the inviter for another one")
        }
        InvitationProblem::Revoked => {
            (StatusCode::GONE, "The invitation is revoked", "Ask the inviter for another one")
        }
        InvitationProblem::InviterLostRights => (
            StatusCode::FORBIDDEN,
            "The inviter may not invite any more",
            "The inviter no longer holds what the role grants; ask another admin of the tenant for an invitation",
        ),
        InvitationProblem::LogInRequired => (
            StatusCode::UNAUTHORIZED,
            "An account has the invited address",
            "Log in as it, and accept the invitation with its access token",
        ),
        InvitationProblem::AnotherAddress => (
            StatusCode::FORBIDDEN,
            "The invitation is for another address",
            "Log in with the invited address",
        ),
    };
    Representation { status, code: problem.code(), title, detail: detail.to_owned() }
}

pub(super) fn fleet(problem: &FleetProblem) -> Representation {
    let title = "The fleet is not in a state for this";
    let outage = problem.is_outage();
    let status = if outage { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::CONFLICT };
    let code = problem.code();
    Representation { status, code, title, detail: problem.to_string() }
}

pub(super) fn archive(problem: &ArchiveProblem) -> Representation {
    let (status, title) = match problem {
        ArchiveProblem::Invalid { .. }
        | ArchiveProblem::Digest { .. }
        | ArchiveProblem::NewerFormat { .. }
        | ArchiveProblem::Encrypted
        | ArchiveProblem::RowsRefused { .. } => {
            (StatusCode::UNPROCESSABLE_ENTITY, "The archive cannot be read")
        }
        ArchiveProblem::Signature(_) => {
            (StatusCode::UNPROCESSABLE_ENTITY, "The archive is not trusted")
        }
        ArchiveProblem::TooLarge { .. } => {
            (StatusCode::PAYLOAD_TOO_LARGE, "The archive is too large")
        }
        ArchiveProblem::NoRoom => (StatusCode::INSUFFICIENT_STORAGE, "There is no room"),
        ArchiveProblem::OutOfRange(_) => {
            (StatusCode::RANGE_NOT_SATISFIABLE, "The range is not in the archive")
        }
        ArchiveProblem::StoreUnavailable => {
            (StatusCode::SERVICE_UNAVAILABLE, "The store of archives is not available")
        }
        ArchiveProblem::ExportRunning => {
            (StatusCode::CONFLICT, "An export of the tenant is running")
        }
        ArchiveProblem::NotReady(_) => {
            (StatusCode::CONFLICT, "The state of the archive does not allow this")
        }
        ArchiveProblem::Ahead { .. }
        | ArchiveProblem::Diverged(_)
        | ArchiveProblem::Drifted(_)
        | ArchiveProblem::UnknownTables(_)
        | ArchiveProblem::ExtensionMissing(_)
        | ArchiveProblem::IdTaken
        | ArchiveProblem::Encoding(_)
        | ArchiveProblem::MigrationFailed(_)
        | ArchiveProblem::CheckFailed(_)
        | ArchiveProblem::ReaderStalled => {
            (StatusCode::CONFLICT, "The data does not fit this installation")
        }
        ArchiveProblem::SwapBusy
        | ArchiveProblem::SwapVersionDiffers { .. }
        | ArchiveProblem::SwapWithItself => {
            (StatusCode::CONFLICT, "The tenants cannot be swapped now")
        }
    };
    Representation { status, code: problem.code(), title, detail: problem.to_string() }
}

pub(super) fn purge(problem: &PurgeProblem) -> Representation {
    let detail = match problem {
        PurgeProblem::Dependents { objects, .. } if objects.is_empty() => {
            "Something outside of the tenant depends on it; an operator can see what".to_owned()
        }
        PurgeProblem::Dependents { .. } => format!(
            "Nothing was dropped; {problem}. Drop or change it, or send {{\"cascade\": true}} to drop it too"
        ),
        PurgeProblem::RoleInUse { uses, .. } if uses.is_empty() => {
            "The tenant's role is in use in another database; an operator can see where".to_owned()
        }
        PurgeProblem::NotPermitted { login, .. } if login.is_empty() => {
            "The server may not drop the tenant's role or schema; an operator can see why"
                .to_owned()
        }
        PurgeProblem::RoleInUse { .. } | PurgeProblem::NotPermitted { .. } => {
            format!("Nothing was dropped; {problem}")
        }
    };
    let title = "The tenant cannot be purged alone";
    Representation { status: StatusCode::CONFLICT, code: problem.code(), title, detail }
}
