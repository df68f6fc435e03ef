//! A person across all tenants: the System operations, for the main tenant's admin with an unlock.

use actix_web::http::header::RETRY_AFTER;
use actix_web::{HttpResponse, post};
use serde::Serialize;
use utoipa::ToSchema;

use super::answers::Status;
use super::answers::system::{
    Completeness, DeletedPage, DeletedRow, FoundPage, Outcome, Restored, Stats, StatsRead,
    UnaskedRow,
};
use super::bulk::KEY_MODES;
use super::call::Call;
use super::requests::unlocked::{ErasureAsked, PersonAsked, RestoreAsked, SearchAsked};
use super::responses::{MainAdminLocked, MainAdminOnly};
use super::{Answer, ErrorBody, ok};
use crate::domain::Tenant;
use crate::domain::error::{Error, Result};
use crate::domain::profile::{Identity, ProfileId};
use crate::domain::rule::Rule;
use crate::http::Mount;
use crate::http::RETRY_SOON;
use crate::service::system::{Action, Found, Pass, QueryOutcome, Unasked};

pub(super) fn mount_profiles(routes: &mut Mount<'_>) {
    routes.service(find).service(search).service(delete).service(restore).service(stats);
}

/// Finds all records of a person, in all tenants.
#[utoipa::path(tag = "databunker", operation_id = "systemGetUserProfiles", request_body = PersonAsked, security(("xtoken" = [])), responses(
    (status = 200, description = "The records", body = FoundPage), MainAdminLocked,
    (status = 503, description = "Some tenants could not be asked; the records of the others", body = IncompleteFound),
))]
#[post("/v2/SystemGetUserProfiles")]
async fn find(call: Call) -> Answer {
    let pass = pass(&call, Action::GetProfiles).await?;
    let identity = call.params()?.identity().and_then(by_key)?;
    let outcome = call.services().system.find(&call.ctx, pass, &identity).await?;
    told(&found(&outcome), &outcome.unasked)
}

/// Finds all records whose keys contain a text, in all tenants.
#[utoipa::path(tag = "databunker", operation_id = "systemSearchUserProfiles", request_body = SearchAsked, security(("xtoken" = [])), responses(
    (status = 200, description = "The records, at most 1,000", body = FoundPage), MainAdminLocked,
    (status = 503, description = "Some tenants could not be asked; the records of the others", body = IncompleteFound),
))]
#[post("/v2/SystemSearchUserProfiles")]
async fn search(call: Call) -> Answer {
    let pass = pass(&call, Action::SearchProfiles).await?;
    let text = call.params()?.searchable()?;
    let outcome = call.services().system.search(&call.ctx, pass, &text).await?;
    told(&found(&outcome), &outcome.unasked)
}

/// Deletes all records of a person, in all tenants or in the given one.
#[utoipa::path(tag = "databunker", operation_id = "systemDeleteUserProfiles", request_body = ErasureAsked, security(("xtoken" = [])), responses(
    (status = 200, description = "The deleted records", body = DeletedPage),
    MainAdminLocked,
    (status = 409, description = "The tenant is not active", body = ErrorBody),
    (status = 503, description = "Some tenants could not be asked; what was deleted in the others", body = IncompleteDeleted),
))]
#[post("/v2/SystemDeleteUserProfiles")]
async fn delete(call: Call) -> Answer {
    let pass = pass(&call, Action::DeleteProfiles).await?;
    let (identity, tenant) = (call.params()?.identity()?, call.tenant_param().await?);
    if matches!(identity, Identity::Id(_)) && tenant.is_none() {
        // An id is unique only within its tenant.
        return Err(Error::invalid("tenantid", Rule::Required).into());
    }
    let outcome =
        call.services().system.delete(&call.ctx, pass, &identity, tenant.as_ref()).await?;
    let row = |(tenant, id): &(Tenant, ProfileId)| DeletedRow {
        token: id.uuid(),
        tenantid: tenant.number,
        tenantname: tenant.slug.to_string(),
    };
    let rows: Vec<DeletedRow> = outcome.found.iter().map(row).collect();
    let errors = UnaskedRow::all(&outcome.unasked);
    let outcome_of = Outcome::of(&outcome.unasked);
    told(&DeletedPage { outcome: outcome_of, total: rows.len(), rows, errors }, &outcome.unasked)
}

/// Restores a deleted record with its previous token.
#[utoipa::path(tag = "databunker", operation_id = "systemRestoreUserProfile", request_body = RestoreAsked, security(("xtoken" = [])), responses(
    (status = 200, description = "The restored record", body = Restored),
    MainAdminLocked,
    (status = 404, description = "No such tenant, or no history of the record", body = ErrorBody),
    (status = 409, description = "Another record has one of its keys, or the record is not deleted", body = ErrorBody),
))]
#[post("/v2/SystemRestoreUserProfile")]
async fn restore(call: Call) -> Answer {
    let pass = pass(&call, Action::RestoreProfile).await?;
    let id = call.params()?.uuid("token").map(ProfileId::new)?;
    let tenant = call.tenant_param().await?;
    let tenant = tenant.ok_or_else(|| Error::invalid("tenantid", Rule::Required))?;
    let profile = call.services().system.restore(&call.ctx, pass, &tenant, id).await?;
    ok(Restored {
        status: Status::Ok,
        result: "restored",
        token: profile.id.uuid(),
        profile: profile.document.into_value(),
    })
}

/// Returns the totals of all tenants.
#[utoipa::path(tag = "databunker", operation_id = "systemGetSystemStats", security(("xtoken" = [])), responses(
    (status = 200, description = "The counts", body = StatsRead), MainAdminOnly,
    (status = 503, description = "Some tenants could not be asked; the counts of the others", body = IncompleteStats),
))]
#[post("/v2/SystemGetSystemStats")]
async fn stats(call: Call) -> Answer {
    let (stats, unasked) = call.services().system.stats(&call.ctx).await?;
    let stats = Stats {
        numusers: stats.profile_count,
        numtenants: stats.tenant_count,
        numtokens: stats.token_count,
        numsessions: stats.session_count,
        totalnumrecords: stats.profile_count,
    };
    let (outcome, errors) = (Outcome::of(&unasked), UnaskedRow::all(&unasked));
    told(&StatsRead { outcome, stats, errors }, &unasked)
}

/// Declares what a call answers that could not ask all tenants: the results of some, or an error if the control plane
/// could not be asked.
macro_rules! incomplete {
    ($($name:ident($page:ty), $schema:ident;)+) => {$(
        #[derive(ToSchema)]
        #[schema(as = $schema)]
        #[expect(dead_code, reason = "describes the answer in the OpenAPI document")]
        #[serde(untagged)]
        enum $name {
            Some($page),
            None(ErrorBody),
        }
    )+};
}

incomplete! {
    IncompleteFound(FoundPage), DatabunkerIncompleteFound;
    IncompleteDeleted(DeletedPage), DatabunkerIncompleteErased;
    IncompleteStats(StatsRead), DatabunkerIncompleteStats;
}

/// Checks the three conditions of a call across tenants before the other parameters are read.
async fn pass(call: &Call, action: Action) -> Result<Pass> {
    let unlock = call.params().ok().and_then(|params| params.unlock());
    call.services().system.pass(&call.ctx, unlock, action).await
}

fn by_key(identity: Identity) -> Result<Identity> {
    match identity {
        key @ Identity::Key(..) => Ok(key),
        Identity::Id(_) => Err(Error::invalid("mode", Rule::OneOf(KEY_MODES))),
    }
}

/// Answers the results of the tenants that were asked: 200, or 503 if others could not be.
fn told(page: &impl Serialize, unasked: &[(Tenant, Unasked)]) -> Answer {
    if Outcome::of(unasked).status == Completeness::Ok {
        return ok(page);
    }
    let mut answer = HttpResponse::ServiceUnavailable();
    Ok(answer.insert_header((RETRY_AFTER, RETRY_SOON)).json(page))
}

fn found(outcome: &QueryOutcome<Found>) -> FoundPage {
    FoundPage {
        outcome: Outcome::of(&outcome.unasked),
        total: outcome.total,
        rows: outcome.found.iter().map(Into::into).collect(),
        errors: UnaskedRow::all(&outcome.unasked),
    }
}
