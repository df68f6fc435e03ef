//! WebFluss's dialect: `POST /api/tenants`, `GET /api/tenants/{uuid}`, errors as Laravel words them.
//!
//! Contract: WebFluss's pages "Create Tenant" and "Get Tenant Details". Success is 200, a broken rule 422
//! with `{"message": "<first> (and N more errors)", "errors": {field: [..]}}`, fields in the order of the
//! page; 401 is `{"message": "Unauthorized"}`.
//!
//! Quirks:
//! - An empty or blank text counts as absent, as Laravel's middleware makes it.
//! - A malformed address breaks two rules (it is not an address, and no user has it); a well-formed address of no user
//!   is 404 `User not found`.
//! - A body that is not JSON is 400; Laravel would read it as empty and create a tenant from it.
//! - An owner whose address is not proven is 409, unless the caller is the root or a `SUPER_ADMIN`.
//! - Without an owner in the request and in the settings a tenant has none.

mod problem;
mod responses;

use std::future::Future;
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest, HttpResponse, get, post, web};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::schema::{AnyOfBuilder, KnownFormat, ObjectBuilder, Type};
use utoipa::openapi::{Schema, SchemaFormat};
use uuid::Uuid;

pub(super) use self::problem::ErrorBody;
use self::responses::Forbidden;
use super::body::{Blank, Body, FieldPolicy, Fields, Policy, Top};
use super::{Settings, Site, extract};
use crate::auth::CallContext;
use crate::domain::error::{Error, Noun, Result};
use crate::domain::names::{Email, Slug, TenantId, TenantName};
use crate::domain::rule::Rule;
use crate::domain::{Permission, Tenant};
use crate::http::Mount;
use crate::http::responses::{CreateTenant, ViewTenants};
use crate::service::provisioning::{Admin, ProvisionTenant};
use crate::service::tenants::TenantRef;

pub use self::problem::Problem;

/// How this dialect reads a body.
const BODY: Policy =
    Policy { blank: Blank::EmptyObject, top: Top::Object, fields: FieldPolicy::Lenient };

/// Shortest subdomain, in characters.
const SUBDOMAIN_MIN: usize = 3;

/// Mounts the routes of this dialect.
pub fn mount(routes: &mut Mount<'_>) {
    routes.service(create).service(show);
}

/// Whether a path belongs to this dialect.
#[must_use]
pub fn owns(path: &str) -> bool {
    path == "/api/tenants" || path.starts_with("/api/tenants/")
}

/// The body that creates a tenant; every field is optional, and so is the body.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body in the OpenAPI document")]
struct CreateBody {
    /// The e-mail address of the owner, who must be an existing user.
    #[schema(schema_with = owner_schema)]
    email: Option<String>,
    /// The display name; generated if absent.
    #[schema(value_type = Option<String>, max_length = 255, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$", example = "My Organization")]
    name: Option<String>,
    /// The subdomain; generated if absent.
    #[schema(schema_with = subdomain_schema)]
    subdomain: Option<String>,
}

/// An address; a blank text is as good as none.
fn owner_schema() -> Schema {
    let email = SchemaFormat::KnownFormat(KnownFormat::Email);
    or_none(ObjectBuilder::new().format(Some(email)).max_length(Some(254)))
}

/// A subdomain; a blank text is as good as none.
fn subdomain_schema() -> Schema {
    let pattern = "^[a-z0-9]+(-[a-z0-9]+)*$";
    let slug = ObjectBuilder::new().min_length(Some(3)).max_length(Some(63));
    or_none(slug.pattern(Some(pattern)).examples(["my-organization"]))
}

fn or_none(text: ObjectBuilder) -> Schema {
    let blank = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^\\s*$"));
    let null = ObjectBuilder::new().schema_type(Type::Null);
    let any = AnyOfBuilder::new().item(text.schema_type(Type::String)).item(blank).item(null);
    any.into()
}

/// A newly created tenant.
#[derive(Serialize, ToSchema)]
#[schema(as = WebflussCreated)]
struct Created {
    tenant_id: Uuid,
}

/// A tenant.
#[derive(Serialize, ToSchema)]
#[schema(as = WebflussTenant)]
struct Details {
    tenant_id: Uuid,
    organization_name: String,
    domains: Domains,
}

/// The domains of a tenant.
#[derive(Serialize, ToSchema)]
#[schema(as = WebflussDomains)]
struct Domains {
    /// The server's base domain; null if none is set.
    #[schema(required)]
    base: Option<String>,
    /// Always null.
    #[schema(required)]
    custom: Option<String>,
    /// The tenant's subdomain, under the base domain if there is one.
    subdomain: String,
}

/// Creates a tenant.
#[utoipa::path(tag = "webfluss", operation_id = "createWebflussTenant", request_body = Option<CreateBody>, security(("bearer" = [])), responses(
    (status = 200, description = "The new tenant", body = Created),
    (status = 400, description = "The body is not a JSON object", body = ErrorBody),
    Forbidden<CreateTenant>,
    (status = 404, description = "No user has the e-mail address", body = ErrorBody),
    (status = 409, description = "The e-mail address of the user is not proven, and the caller is neither the root nor a SUPER_ADMIN", body = ErrorBody),
    (status = 422, description = "A field is not valid; `errors` lists every invalid field", body = ErrorBody),
))]
#[post("/api/tenants")]
async fn create(site: web::Data<Site>, call: Call, body: Body) -> Result<HttpResponse, Problem> {
    call.0.require(Permission::CreateTenant)?;
    let command = command(body.fields(BODY).await?, &site.settings)?;
    let made = site.services.provisioning.provision(&call.0, command).await;
    let made = made.map_err(|error| error.with_field("slug", "subdomain"))?;
    site.metrics.count_provisioned();
    Ok(HttpResponse::Ok().json(Created { tenant_id: made.id.uuid() }))
}

/// Returns a tenant.
#[utoipa::path(tag = "webfluss", operation_id = "getWebflussTenant", params(("tenantUuid" = Uuid, Path)), security(("bearer" = [])), responses(
    (status = 200, description = "The tenant", body = Details),
    Forbidden<ViewTenants>,
    (status = 404, description = "No such tenant", body = ErrorBody),
))]
#[get("/api/tenants/{tenantUuid}")]
async fn show(
    site: web::Data<Site>,
    call: Call,
    path: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    call.0.reach(Permission::ViewTenants)?;
    let missing = || no_such_tenant(&path);
    let Ok(id) = Uuid::try_parse(&path) else { return Ok(missing()) };
    match site.services.tenants.read(&call.0, &TenantRef::Id(TenantId::new(id))).await {
        Ok(tenant) => Ok(HttpResponse::Ok().json(details(&tenant, public_domain(&site.settings)))),
        Err(Error::NotFound(Noun::Tenant)) => Ok(missing()),
        Err(error) => Err(error.into()),
    }
}

/// Reads the set-up that a body requests.
fn command(mut body: Fields, settings: &Settings) -> Result<ProvisionTenant> {
    let email = optional(&mut body, "email", |text| Email::parse(text).map_err(|rule| vec![rule]));
    let name =
        optional(&mut body, "name", |text| TenantName::parse(text).map_err(|rule| vec![rule]));
    let slug = optional(&mut body, "subdomain", subdomain);
    body.finish(Some(()))?;
    let slug = slug.unwrap_or_else(random_slug);
    let owner = email.or_else(|| settings.default_owner.clone());
    let name = name.unwrap_or_else(|| TenantName::stored(format!("Organization {slug}")));
    let admin = owner.map_or(Admin::None, Admin::Existing);
    Ok(ProvisionTenant::new(name, slug, admin))
}

/// Takes a text that may be absent or blank, and records every rule that it breaks.
fn optional<T>(
    body: &mut Fields,
    name: &'static str,
    parse: impl FnOnce(&str) -> Result<T, Vec<Rule>>,
) -> Option<T> {
    let text = body.optional(name, |text| Ok(text.to_owned()))?;
    if text.trim().is_empty() {
        return None;
    }
    let broken = match parse(&text) {
        Ok(value) => return Some(value),
        Err(rules) => rules,
    };
    for rule in broken {
        body.refuse(name, rule);
    }
    None
}

fn subdomain(text: &str) -> Result<Slug, Vec<Rule>> {
    let mut broken = Vec::new();
    if text.chars().count() < SUBDOMAIN_MIN {
        broken.push(Rule::TooShort(SUBDOMAIN_MIN));
    }
    match Slug::parse(text) {
        Ok(slug) if broken.is_empty() => return Ok(slug),
        Ok(_) => {}
        Err(rule) => broken.push(rule),
    }
    Err(broken)
}

/// Creates a random subdomain; 122 random bits make a collision impossible in practice.
fn random_slug() -> Slug {
    Slug::stored(format!("site-{}", Uuid::new_v4().simple()))
}

/// Returns the base domain, unless it is the default: `localhost` leads other machines to themselves.
fn public_domain(settings: &Settings) -> Option<&str> {
    settings.hosts.base_domain.as_deref().filter(|domain| *domain != "localhost")
}

fn details(tenant: &Tenant, base_domain: Option<&str>) -> Details {
    let host = base_domain
        .map_or_else(|| tenant.slug.to_string(), |base| format!("{}.{base}", tenant.slug));
    Details {
        tenant_id: tenant.id.uuid(),
        organization_name: tenant.name.to_string(),
        domains: Domains { base: base_domain.map(str::to_owned), custom: None, subdomain: host },
    }
}

/// Answers in Laravel's words with its class name, since its clients may look for them.
fn no_such_tenant(given: &str) -> HttpResponse {
    let message = format!("No query results for model [App\\Models\\Tenant] {given}");
    HttpResponse::NotFound().json(ErrorBody { message, errors: None })
}

/// The caller, refused in this dialect's form.
struct Call(CallContext);

impl FromRequest for Call {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let ctx = extract::identify(&request).await?;
            ctx.require_authenticated()?;
            Ok(Self(ctx))
        })
    }
}
