//! Decides which tokens and API keys a caller manages, the same for every dialect.
//!
//! A caller who manages tokens in a place (`MANAGE_API_KEYS`) manages there what it could make itself: a token without a
//! permission that the caller lacks, that works for the caller's own user or for a user below. In addition: a user in
//! person everything that works for the user; a token or an API key itself and what it made; a caller that works for no
//! user the tokens of every user. An API key manages API keys alone. A caller that holds every permission everywhere
//! manages every token. What a caller does not manage does not exist for it.

use crate::auth::context::Reach;
use crate::auth::{CallContext, Principal};
use crate::domain::Permission;
use crate::domain::names::TenantId;
use crate::pg::control::managed_tokens::{HeldIn, Managed};

/// Returns what the caller manages. `reach` is where it manages tokens.
pub(in crate::service) fn managed(ctx: &CallContext, reach: &Reach) -> Managed {
    let principal = &ctx.principal;
    let held = |tenant: Option<TenantId>| {
        let may = |permission: &Permission| match tenant {
            Some(tenant) => principal.may_in(*permission, tenant),
            None => principal.may(*permission),
        };
        HeldIn {
            tenant,
            permissions: Permission::ALL.iter().copied().filter(may).collect(),
            roles_below: principal.roles_below(tenant),
        }
    };
    let held: Vec<HeldIn> = match reach {
        Reach::Everything => vec![held(None)],
        Reach::Tenants(tenants) => tenants.iter().map(|tenant| held(Some(*tenant))).collect(),
    };
    let mut managed = Managed::new(&held);
    managed.everything = Permission::ALL.iter().all(|permission| principal.may(*permission));
    managed.credential = principal.credential();
    managed.user = principal.user();
    managed.is_user = matches!(principal, Principal::User { .. });
    managed.only_api_keys = matches!(principal, Principal::ApiKey { .. });
    managed
}
