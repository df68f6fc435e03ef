//! Tenants: `TenantCreate`, `TenantGet`, `TenantUpdate`, `TenantListTenants`, `TenantDelete`.

use actix_web::post;

use super::answers::tenants::{TenantMade, TenantPage, TenantRead};
use super::answers::{Done, Status};
use super::call::Call;
use super::params::Params;
use super::requests::tenants::{PageAsked, TenantAsked, TenantChange, TenantNamed, TenantRequest};
use super::responses::{DuplicateTenant, MainAdminOnly, TenantNotChanged};
use super::{Answer, ErrorBody, done, ok};
use crate::domain::error::{Error, Noun, Result};
use crate::domain::names::{Email, NAME_MAX, SLUG_MAX, Slug, TenantName};
use crate::domain::rule::Rule;
use crate::domain::{Permission, Tenant};
use crate::http::Mount;
use crate::service::provisioning::{Admin, ProvisionTenant, Provisioned};
use crate::service::tenants::TenantRef;
use crate::service::tenants::registry::{Changes, Expected};

pub(super) fn mount(routes: &mut Mount<'_>) {
    routes.service(create).service(read).service(update).service(list).service(delete);
}

/// Creates a tenant. Only this response contains the tenant's token.
#[utoipa::path(tag = "databunker", operation_id = "tenantCreate", request_body = TenantRequest, security(("xtoken" = [])), responses(
    (status = 200, description = "The new tenant", body = TenantMade), DuplicateTenant,
))]
#[post("/v2/TenantCreate")]
async fn create(call: Call) -> Answer {
    call.ctx.require(Permission::CreateTenant)?;
    let params = call.params()?;
    params.require_all(&["tenantname", "tenantorg"])?;
    let name = tenant_name(&params.required("tenantname")?, "tenantname")?;
    let org =
        org(params, "tenantorg")?.ok_or_else(|| Error::invalid("tenantorg", Rule::Required))?;
    let made = create_with(&call, name, org).await;
    let made = made.map_err(|error| error.with_field("slug", "tenantname"))?;
    let token = made.token.as_ref().map(|token| token.expose().to_owned());
    ok(TenantMade { status: Status::Ok, xtoken: token, tenantid: made.number })
}

/// Reads a tenant.
#[utoipa::path(tag = "databunker", operation_id = "tenantGet", request_body = Option<TenantAsked>, security(("xtoken" = [])), responses(
    (status = 200, description = "The tenant", body = TenantRead),
))]
#[post("/v2/TenantGet")]
async fn read(call: Call) -> Answer {
    let tenant = named_or_own(&call, Permission::ViewTenants).await?;
    ok(TenantRead {
        status: Status::Ok,
        tenantname: tenant.slug.to_string(),
        tenantorg: tenant.org.unwrap_or_default(),
    })
}

/// Renames a tenant, or changes its organisation: the caller's own, or for root the one with `tenantid`.
#[utoipa::path(tag = "databunker", operation_id = "tenantUpdate", request_body = Option<TenantChange>, security(("xtoken" = [])), responses(
    (status = 200, description = "Done", body = Done), TenantNotChanged,
))]
#[post("/v2/TenantUpdate")]
async fn update(call: Call) -> Answer {
    let tenant = named_or_own(&call, Permission::UpdateTenant).await?;
    let params = call.params()?;
    let name = params.text("tenantname")?;
    let slug = name.map(|name| tenant_name(&name, "tenantname")).transpose()?;
    let (org, contact) = (org(params, "tenantorg")?, contact(params)?);
    let renamed = rename(&call, &tenant, slug, org, contact).await;
    renamed.map_err(|error| error.with_field("slug", "tenantname"))?;
    done()
}

/// Lists all tenants by number.
#[utoipa::path(tag = "databunker", operation_id = "tenantListTenants", request_body = Option<PageAsked>, security(("xtoken" = [])), responses(
    (status = 200, description = "A page of tenants", body = TenantPage), MainAdminOnly,
))]
#[post("/v2/TenantListTenants")]
async fn list(call: Call) -> Answer {
    call.ctx.require(Permission::CrossTenant)?;
    let (offset, limit) = call.params()?.page()?;
    let (total, tenants) = call.services().tenants.page(&call.ctx, offset, limit).await?;
    let rows = tenants.into_iter().map(Into::into).collect();
    ok(TenantPage { status: Status::Ok, total, rows })
}

/// Deletes a tenant and all that is in it.
#[utoipa::path(tag = "databunker", operation_id = "tenantDelete", request_body = TenantNamed, security(("xtoken" = [])), responses(
    (status = 200, description = "Done", body = Done),
    (status = 409, description = "The main tenant cannot be deleted", body = ErrorBody),
))]
#[post("/v2/TenantDelete")]
async fn delete(call: Call) -> Answer {
    call.ctx.require(Permission::DeleteTenant)?;
    let tenant =
        call.tenant_param().await?.ok_or_else(|| Error::invalid("tenantid", Rule::Required))?;
    call.services().lifecycle.remove(&call.ctx, tenant.id).await?;
    done()
}

/// Creates a tenant for either version of the API.
pub(super) async fn create_with(call: &Call, slug: Slug, org: String) -> Result<Provisioned> {
    let name = TenantName::stored(slug.to_string());
    let command = ProvisionTenant {
        org: Some(org),
        contact: contact(call.params()?)?,
        with_token: true,
        ..ProvisionTenant::new(name, slug, Admin::None)
    };
    call.services().provisioning.provision(&call.ctx, command).await
}

/// Renames a tenant for either version of the API.
pub(super) async fn rename(
    call: &Call,
    tenant: &Tenant,
    slug: Option<Slug>,
    org: Option<String>,
    contact: Option<Email>,
) -> Result<()> {
    let name = slug.as_ref().map(|slug| TenantName::stored(slug.to_string()));
    let changes = Changes { slug, name, org, contact, ..Changes::default() };
    let which = TenantRef::Id(tenant.id);
    call.services().registry.update(&call.ctx, &which, &Expected::Any, changes).await?;
    Ok(())
}

/// Returns the tenant with the `tenantid` of the parameters, or without one the caller's own. A bound caller may name
/// only its own.
pub(super) async fn named_or_own(call: &Call, permission: Permission) -> Result<Tenant> {
    if call.ctx.principal.home().is_some() {
        let own = call.tenant_for(permission).await?;
        return match call.params()?.integer("tenantid")? {
            Some(number) if number != own.number => Err(Error::Forbidden { missing: Vec::new() }),
            _ => Ok(own),
        };
    }
    call.ctx.require(permission)?;
    match call.params()?.integer("tenantid")? {
        Some(number) => {
            let found =
                call.services().tenants.find_unauthorized(&TenantRef::Number(number)).await?;
            found.ok_or(Error::NotFound(Noun::Tenant))
        }
        // An absent `tenantid` never stands for the main tenant.
        None if call.names_a_tenant() => call.tenant().await,
        None => Err(Error::invalid("tenantid", Rule::Required)),
    }
}

/// Parses a tenant's name in this dialect, `[a-z0-9]+`.
pub(super) fn tenant_name(given: &str, field: &'static str) -> Result<Slug> {
    if given.len() > SLUG_MAX {
        return Err(Error::invalid(field, Rule::TooLong(SLUG_MAX)));
    }
    if given.is_empty() || !given.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
        return Err(Error::invalid(field, Rule::SlugFormat));
    }
    Slug::parse(given).map_err(|rule| Error::invalid(field, rule))
}

pub(super) fn org(params: &Params, field: &'static str) -> Result<Option<String>> {
    let Some(org) = params.text(field)? else { return Ok(None) };
    if org.chars().count() > NAME_MAX {
        return Err(Error::invalid(field, Rule::TooLong(NAME_MAX)));
    }
    if org.chars().any(char::is_control) {
        return Err(Error::invalid(field, Rule::ControlCharacter));
    }
    Ok(Some(org))
}

fn contact(params: &Params) -> Result<Option<Email>> {
    let given = params.text("email")?.filter(|email| !email.is_empty());
    given
        .map(|email| Email::parse(&email).map_err(|rule| Error::invalid("email", rule)))
        .transpose()
}
