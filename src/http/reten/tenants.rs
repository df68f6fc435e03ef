//! Setting tenants up and listing them: `/api/tenant/setup`, `/api/tenant`, `/api/tenant/mine`.

use actix_web::{HttpRequest, HttpResponse, get, post, web};
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::BODY;
use crate::domain::error::Result;
use crate::domain::names::{Email, NewPassword, PersonName, Slug, TenantName};
use crate::domain::{Permission, Tenant};
use crate::http::body::{Body, Fields};
use crate::http::native::responses::Forbidden;
use crate::http::native::{Caller, ErrorBody, Problem};
use crate::http::responses::{CreateTenant, ViewTenants};
use crate::http::{Site, guess, idempotency};
use crate::service::provisioning::{Admin, NewAdmin, ProvisionTenant, Provisioned};

/// The body that sets a tenant up ("Setup Tenant").
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body in the OpenAPI document")]
#[serde(rename_all = "camelCase")]
pub(super) struct SetupBody {
    /// The display name, in any script.
    #[schema(required = true, value_type = String, min_length = 1, max_length = 255, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*[^\\s\\u0000-\\u001f\\u007f-\\u009f][^\\u0000-\\u001f\\u007f-\\u009f]*$", example = "Acme Corp")]
    name: String,
    /// The unique name for URLs.
    #[schema(required = true, value_type = String, min_length = 1, max_length = 63, pattern = "^[a-z0-9]+(-[a-z0-9]+)*$", example = "acme-corp")]
    slug: String,
    /// The e-mail address of the admin. An existing user with this address becomes the admin and keeps the password, if
    /// the address is proven or the password is the user's own.
    #[schema(required = true, value_type = String, format = "email", max_length = 254, example = "admin@acme.com")]
    admin_email: String,
    /// The password of a new admin: at least 8 characters, at most 1,024 bytes, none of the most common.
    #[schema(required = true, value_type = String, min_length = 8, max_length = 1024, example = "SecurePass123!")]
    admin_password: String,
    /// The given name of a new admin.
    #[schema(required = true, value_type = String, min_length = 1, max_length = 255, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*[^\\s\\u0000-\\u001f\\u007f-\\u009f][^\\u0000-\\u001f\\u007f-\\u009f]*$", example = "Acme")]
    admin_first_name: String,
    /// The family name of a new admin.
    #[schema(required = true, value_type = String, min_length = 1, max_length = 255, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*[^\\s\\u0000-\\u001f\\u007f-\\u009f][^\\u0000-\\u001f\\u007f-\\u009f]*$", example = "Admin")]
    admin_last_name: String,
}

/// A tenant, as `setup` and `mine` return it.
#[derive(Debug, Serialize, ToSchema)]
pub struct TenantAnswer {
    id: uuid::Uuid,
    name: String,
    slug: String,
}

/// A tenant in a list.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListedTenant {
    id: uuid::Uuid,
    name: String,
    slug: String,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
}

/// Creates a tenant with its admin and its schema, all migrations applied. If a step fails, nothing is created.
#[utoipa::path(tag = "tenants", operation_id = "setUpTenant", request_body = SetupBody, security(("bearer" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe for 24 hours: the same key and body return the same tenant", pattern = "^[!-~]([ -~]{0,253}[!-~])?$")),
    responses(
        (status = 201, description = "The new tenant", body = TenantAnswer),
        (status = 400, description = "A field is not valid; `errors` lists every invalid field", body = ErrorBody),
        Forbidden<CreateTenant>,
        (status = 409, description = "The slug is taken or rests; or a request with the same Idempotency-Key is still running; or an account has the admin's address, the address is not proven, and the password is not the account's own", body = ErrorBody),
        (status = 422, description = "The Idempotency-Key was used with another body", body = ErrorBody),
    )
)]
#[post("/api/tenant/setup")]
pub(super) async fn setup(
    site: web::Data<Site>,
    caller: Caller,
    request: HttpRequest,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let ctx = caller.with(Permission::CreateTenant)?;
    let idempotency_key = idempotency::key(&request)?;
    let command = command(body.fields(BODY).await?, idempotency_key)?;
    let provisioning = &site.services.provisioning;
    let run = async |command| provisioning.provision(ctx, command).await;
    let made = guess::set_up(&request, command, run).await?;
    if !made.replayed {
        site.metrics.count_provisioned();
    }
    Ok(HttpResponse::Created().json(TenantAnswer::from(made)))
}

/// Lists the tenants that the caller can view, oldest first; not paged.
#[utoipa::path(tag = "tenants", operation_id = "listVisibleTenants", security(("bearer" = [])), responses(
    (status = 200, description = "The tenants", body = Vec<ListedTenant>), Forbidden<ViewTenants>,
))]
#[get("/api/tenant")]
pub(super) async fn list(site: web::Data<Site>, caller: Caller) -> Result<HttpResponse, Problem> {
    let tenants = site.services.tenants.list(&caller.0).await?;
    Ok(HttpResponse::Ok().json(tenants.into_iter().map(ListedTenant::from).collect::<Vec<_>>()))
}

/// Lists the active tenants that the caller is a member of, oldest first.
#[utoipa::path(tag = "tenants", operation_id = "listOwnTenants", security(("bearer" = [])), responses(
    (status = 200, description = "The tenants", body = Vec<TenantAnswer>),
))]
#[get("/api/tenant/mine")]
pub(super) async fn mine(site: web::Data<Site>, caller: Caller) -> Result<HttpResponse, Problem> {
    let tenants = site.services.tenants.list_mine(&caller.0).await?;
    Ok(HttpResponse::Ok().json(tenants.into_iter().map(TenantAnswer::from).collect::<Vec<_>>()))
}

/// Reads the set-up that a body requests.
fn command(mut body: Fields, idempotency_key: Option<String>) -> Result<ProvisionTenant> {
    let name = body.required("name", TenantName::parse);
    let slug = body.required("slug", Slug::parse);
    let email = body.required("adminEmail", Email::parse);
    let password = body.required("adminPassword", NewPassword::parse);
    let first_name = body.required("adminFirstName", PersonName::parse);
    let last_name = body.required("adminLastName", PersonName::parse);
    let command = || {
        let admin = NewAdmin {
            email: email?,
            password: password?,
            first_name: first_name?,
            last_name: last_name?,
        };
        let command = ProvisionTenant::new(name?, slug?, Admin::NewOrExisting(admin));
        Some(ProvisionTenant { idempotency_key, ..command })
    };
    body.finish(command())
}

impl From<Provisioned> for TenantAnswer {
    fn from(made: Provisioned) -> Self {
        Self { id: made.id.uuid(), name: made.name.to_string(), slug: made.slug.to_string() }
    }
}

impl From<Tenant> for TenantAnswer {
    fn from(tenant: Tenant) -> Self {
        Self { id: tenant.id.uuid(), name: tenant.name.to_string(), slug: tenant.slug.to_string() }
    }
}

impl From<Tenant> for ListedTenant {
    fn from(tenant: Tenant) -> Self {
        Self {
            id: tenant.id.uuid(),
            name: tenant.name.to_string(),
            slug: tenant.slug.to_string(),
            created_at: tenant.created_at,
        }
    }
}
