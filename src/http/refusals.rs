//! Counts refused calls for the audit trail. The answer tells, in whatever dialect it is, so no handler can forget it.
//!
//! A wrong password is counted where passwords are compared, which knows the user.

use actix_web::{HttpMessage, HttpRequest};

use super::Site;
use crate::auth::Principal;
use crate::domain::error::{AuthProblem, Error, InvitationProblem};
use crate::domain::names::TenantId;
use crate::service::refusals::{Kind, Refusal};
use crate::telemetry::{note_caller, note_tenant};

/// The ends of the paths of a log-in.
const LOG_IN: [&str; 2] = ["/auth/login", "/console/login"];

/// The caller of a request, for the audit trail if the call is refused.
struct Recognised {
    /// The caller, as [`Principal::label`] names it.
    actor: String,
    /// The tenant that the caller is bound to.
    tenant: Option<TenantId>,
}

/// Attaches the caller to the request, and to its lines in the log.
pub(super) fn remember(request: &HttpRequest, principal: &Principal) {
    if *principal != Principal::Anonymous {
        let recognised = Recognised { actor: principal.label(), tenant: principal.home() };
        note_caller(&recognised.actor, principal.user());
        if let Some(home) = recognised.tenant {
            note_tenant(home);
        }
        request.extensions_mut().insert(recognised);
    }
}

/// Counts an answer that is a refusal.
pub(super) fn count(site: &Site, request: &HttpRequest, error: &Error, request_id: &str) {
    let extensions = request.extensions();
    let recognised = extensions.get::<Recognised>();
    let is_log_in = || {
        let route = request.match_pattern();
        route.is_some_and(|route| LOG_IN.iter().any(|end| route.ends_with(end)))
    };
    let Some((kind, reason)) = classify(error, recognised.is_some(), is_log_in) else { return };
    site.services.refusals.count(&Refusal {
        kind,
        address: site.settings.proxies.client_of(request.head()),
        actor: recognised.map(|caller| caller.actor.as_str()),
        tenant: recognised.and_then(|caller| caller.tenant),
        reason,
        user: None,
        request_id,
        at: site.clock.now(),
    });
}

/// Returns the kind of a refusal, and the reason in one word; `None` for an answer that is no refusal, or is none that
/// the trail should hold.
fn classify(
    error: &Error,
    is_recognised: bool,
    is_log_in: impl FnOnce() -> bool,
) -> Option<(Kind, &'static str)> {
    match error {
        Error::Unauthenticated(problem) => match problem {
            AuthProblem::Invalid => Some((Kind::Credential, "invalid")),
            AuthProblem::Several => Some((Kind::Credential, "several")),
            AuthProblem::Unlock => Some((Kind::Access, "unlock")),
            // The first is how a client finds out that it must log in, the second that it must refresh; the third is
            // counted elsewhere.
            AuthProblem::Missing | AuthProblem::Expired | AuthProblem::WrongPassword => None,
        },
        Error::Forbidden { .. } | Error::Lacks(_) | Error::SessionRequired | Error::CrossSite => {
            Some((Kind::Access, error.code()))
        }
        Error::Invitation(problem) => match problem {
            InvitationProblem::Unknown => Some((Kind::Credential, problem.code())),
            InvitationProblem::Required
            | InvitationProblem::InviterLostRights
            | InvitationProblem::LogInRequired
            | InvitationProblem::AnotherAddress => Some((Kind::Access, problem.code())),
            InvitationProblem::Used | InvitationProblem::Expired | InvitationProblem::Revoked => {
                None
            }
        },
        // A caller with a valid credential is only too fast.
        Error::TooMany { .. } if is_recognised => None,
        Error::TooMany { .. } if is_log_in() => Some((Kind::Session, error.code())),
        Error::TooMany { .. } => Some((Kind::Credential, error.code())),
        Error::Malformed(_)
        | Error::Invalid(_)
        | Error::NotFound(_)
        | Error::Conflict(_)
        | Error::Fleet(_)
        | Error::Purge(_)
        | Error::Archive(_)
        | Error::Precondition(_)
        | Error::TenantBusy { .. }
        | Error::Unavailable { .. }
        | Error::TenantDamaged { .. }
        | Error::Internal { .. } => None,
    }
}
