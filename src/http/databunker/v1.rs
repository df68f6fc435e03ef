//! The older API: `/v1/tenant` and `/v1/user`. The body of a request is the profile itself; a response has it in `data`.

use crate::domain::json::Value;
use actix_web::{delete, get, post, put, web};

use super::answers::users::Token;
use super::answers::v1::{V1Deleted, V1TenantMade, V1UserRead};
use super::answers::{Done, Status};
use super::call::Call;
use super::requests::persons::Mode;
use super::requests::v1::{V1Change, V1Profile, V1TenantChange, V1TenantRequest};
use super::responses::{DuplicateIndex, DuplicateTenant, NoSuchRecord, TenantNotChanged};
use super::tenants::{create_with, named_or_own, org, rename, tenant_name};
use super::{Answer, done, ok};
use crate::domain::Permission;
use crate::domain::error::{Error, Result};
use crate::domain::profile::{Identity, Lifetime};
use crate::domain::rule::Rule;
use crate::http::Mount;
use crate::service::profiles::{Change, NewProfile};

pub(super) fn mount(routes: &mut Mount<'_>) {
    routes.service(create_tenant).service(rename_tenant);
}

/// Mounts the routes of this file that work on the tables of profiles.
pub(super) fn mount_profiles(routes: &mut Mount<'_>) {
    routes
        .service(create_user)
        .service(create_user_slash)
        .service(read_user)
        .service(update_user)
        .service(delete_user);
}

/// Creates a tenant. Only this response contains the tenant's token.
#[utoipa::path(tag = "databunker", operation_id = "v1CreateTenant", request_body = V1TenantRequest, security(("xtoken" = [])), responses(
    (status = 200, description = "The new tenant", body = V1TenantMade), DuplicateTenant,
))]
#[post("/v1/tenant")]
async fn create_tenant(call: Call) -> Answer {
    call.ctx.require(Permission::CreateTenant)?;
    let params = call.params()?;
    let name = tenant_name(&params.required("name")?, "name")?;
    let org = org(params, "org")?.unwrap_or_default();
    let made = create_with(&call, name, org).await;
    let made = made.map_err(|error| error.with_field("slug", "name"))?;
    let token = made.token.as_ref().map(|token| token.expose().to_owned());
    ok(V1TenantMade { status: Status::Ok, xtoken: token })
}

/// Renames the caller's tenant.
#[utoipa::path(tag = "databunker", operation_id = "v1UpdateTenant", request_body = V1TenantChange, security(("xtoken" = [])), responses(
    (status = 200, description = "Done", body = Done), TenantNotChanged,
))]
#[put("/v1/tenant")]
async fn rename_tenant(call: Call) -> Answer {
    let tenant = named_or_own(&call, Permission::UpdateTenant).await?;
    let params = call.params()?;
    let slug = tenant_name(&params.required("name")?, "name")?;
    let org = org(params, "org")?;
    let renamed = rename(&call, &tenant, Some(slug), org, None).await;
    renamed.map_err(|error| error.with_field("slug", "name"))?;
    done()
}

/// Stores a person's record; the body is the record.
#[utoipa::path(tag = "databunker", operation_id = "v1CreateUser", request_body = V1Profile, security(("xtoken" = [])), responses(
    (status = 200, description = "The record's token", body = Token), DuplicateIndex,
))]
#[post("/v1/user")]
async fn create_user(call: Call) -> Answer {
    store(call).await
}

/// Stores a person's record; the path as some clients write it.
#[utoipa::path(tag = "databunker", operation_id = "v1CreateUserSlash", request_body = V1Profile, security(("xtoken" = [])), responses(
    (status = 200, description = "The record's token", body = Token), DuplicateIndex,
))]
#[post("/v1/user/")]
async fn create_user_slash(call: Call) -> Answer {
    store(call).await
}

/// Reads a person's record.
#[utoipa::path(tag = "databunker", operation_id = "v1ReadUser", security(("xtoken" = [])),
    params(("mode" = inline(Mode), Path, description = "The kind of the identity"), ("identity" = String, Path, description = "The identity of the person", min_length = 1, max_length = 512)), responses(
    (status = 200, description = "The record", body = V1UserRead), NoSuchRecord,
))]
#[get("/v1/user/{mode}/{identity}")]
async fn read_user(call: Call, path: web::Path<(String, String)>) -> Answer {
    let (tenant, identity) = (call.tenant().await?, identity(&path)?);
    let profile = call.services().profiles.read(&call.ctx, &tenant, &identity).await?;
    ok(V1UserRead {
        status: Status::Ok,
        token: profile.id.uuid(),
        data: profile.document.into_value(),
    })
}

/// Changes a person's record: the body is merged into it.
#[utoipa::path(tag = "databunker", operation_id = "v1UpdateUser", request_body = V1Change, security(("xtoken" = [])),
    params(("mode" = inline(Mode), Path, description = "The kind of the identity"), ("identity" = String, Path, description = "The identity of the person", min_length = 1, max_length = 512)), responses(
    (status = 200, description = "The record's token", body = Token), NoSuchRecord, DuplicateIndex,
))]
#[put("/v1/user/{mode}/{identity}")]
async fn update_user(call: Call, path: web::Path<(String, String)>) -> Answer {
    let tenant = call.tenant_for(Permission::WriteProfiles).await?;
    let (ctx, services, params) = call.into_parts();
    let identity = identity(&path)?;
    let change = match params?.into_value() {
        Value::Object(fields) if fields.is_empty() => {
            return Err(Error::invalid("profile", Rule::Required).into());
        }
        operations @ Value::Array(_) => Change::Patch(operations),
        fields => Change::Merge(fields),
    };
    let profile = services.profiles.change(&ctx, &tenant, &identity, change).await?;
    ok(Token { status: Status::Ok, token: profile.id.uuid() })
}

/// Deletes a person's record.
#[utoipa::path(tag = "databunker", operation_id = "v1DeleteUser", security(("xtoken" = [])),
    params(("mode" = inline(Mode), Path, description = "The kind of the identity"), ("identity" = String, Path, description = "The identity of the person", min_length = 1, max_length = 512)), responses(
    (status = 200, description = "The record is deleted", body = V1Deleted), NoSuchRecord,
))]
#[delete("/v1/user/{mode}/{identity}")]
async fn delete_user(call: Call, path: web::Path<(String, String)>) -> Answer {
    let tenant = call.tenant_for(Permission::WriteProfiles).await?;
    call.services().profiles.delete(&call.ctx, &tenant, &identity(&path)?).await?;
    ok(V1Deleted { status: Status::Ok, result: "done" })
}

async fn store(call: Call) -> Answer {
    let tenant = call.tenant_for(Permission::WriteProfiles).await?;
    let (ctx, services, params) = call.into_parts();
    let document = params?.into_document("profile").await?;
    if document.as_value().as_object().is_some_and(crate::domain::json::Map::is_empty) {
        return Err(Error::invalid("profile", Rule::Required).into());
    }
    let command = NewProfile { document, lifetime: Lifetime::default() };
    let profile = services.profiles.create(&ctx, &tenant, command).await?;
    ok(Token { status: Status::Ok, token: profile.id.uuid() })
}

fn identity(path: &(String, String)) -> Result<Identity> {
    Identity::parse(&path.0, &path.1).map_err(|problem| Error::Invalid(vec![problem]))
}
