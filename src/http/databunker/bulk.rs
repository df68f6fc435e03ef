//! Many records at once, behind an unlock: `BulkListUnlock`, `BulkListUsers`, `BulkListAllUsers`.

use crate::domain::json::Value;
use actix_web::post;

use super::answers::Status;
use super::answers::system::Unlock;
use super::answers::users::UserPage;
use super::call::Call;
use super::params::identity_of;
use super::requests::unlocked::{BulkPageAsked, UsersAsked};
use super::responses::Locked;
use super::{Answer, ok, ok_large};
use crate::domain::Permission;
use crate::domain::error::{Error, Result};
use crate::domain::profile::Identity;
use crate::domain::rule::{FieldProblem, Rule};
use crate::http::Mount;

pub(super) fn mount(routes: &mut Mount<'_>) {
    routes.service(unlock).service(list_some).service(list_all);
}

/// Creates an unlock, which is valid for 60 seconds and can be used more than once.
#[utoipa::path(tag = "databunker", operation_id = "bulkListUnlock", security(("xtoken" = [])), responses(
    (status = 200, description = "The unlock", body = Unlock),
))]
#[post("/v2/BulkListUnlock")]
async fn unlock(call: Call) -> Answer {
    let unlock = call.services().system.unlock(&call.ctx).await?;
    ok(Unlock { status: Status::Ok, unlockuuid: unlock.expose().to_owned() })
}

/// Lists the records of the given persons; unknown persons are skipped.
#[utoipa::path(tag = "databunker", operation_id = "bulkListUsers", request_body = UsersAsked, security(("xtoken" = [])), responses(
    (status = 200, description = "The records", body = UserPage), Locked,
))]
#[post("/v2/BulkListUsers")]
async fn list_some(call: Call) -> Answer {
    let tenant = call.tenant_for(Permission::BulkProfiles).await?;
    call.unlocked().await?;
    let identities =
        call.params()?.list("users")?.iter().map(by_key).collect::<Result<Vec<_>>>()?;
    let found = call.services().profiles.list_some(&call.ctx, &tenant, &identities).await?;
    let total = i64::try_from(found.len()).unwrap_or(i64::MAX);
    ok_large(move || UserPage::new(total, found)).await
}

/// Lists all records of the tenant in pages, oldest first.
#[utoipa::path(tag = "databunker", operation_id = "bulkListAllUsers", request_body = BulkPageAsked, security(("xtoken" = [])), responses(
    (status = 200, description = "The records", body = UserPage), Locked,
))]
#[post("/v2/BulkListAllUsers")]
async fn list_all(call: Call) -> Answer {
    let tenant = call.tenant_for(Permission::BulkProfiles).await?;
    call.unlocked().await?;
    let (offset, limit) = call.params()?.page()?;
    let (total, found) =
        call.services().profiles.list_all(&call.ctx, &tenant, offset, limit).await?;
    ok_large(move || UserPage::new(total, found)).await
}

/// Reads a person by one of the keys: bulk calls do not accept ids.
pub(super) fn by_key(entry: &Value) -> Result<Identity> {
    match identity_of(entry)? {
        key @ Identity::Key(..) => Ok(key),
        Identity::Id(_) => {
            Err(Error::Invalid(vec![FieldProblem::new("mode", Rule::OneOf(KEY_MODES))]))
        }
    }
}

/// The modes that name a person by a key.
pub(super) const KEY_MODES: &[&str] = &["login", "email", "phone", "custom"];
