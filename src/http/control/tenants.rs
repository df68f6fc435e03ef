//! Tenants: list, read, make, change, and the steps of their lives.

mod bodies;

use actix_web::http::StatusCode;
use actix_web::http::header::{ETAG, LOCATION};
use actix_web::{HttpResponse, delete, get, patch, post, put};
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::ToSchema;

use self::bodies::{EnsuredTenantBody, NewTenantBody, TenantPatchBody};
use super::call::{Call, timestamp, write_cursor};
use super::{Answer, ProblemBody};
use crate::domain::Permission;
use crate::domain::error::{FieldProblem, Rule};
use crate::domain::names::ExternalId;
use crate::domain::tenant::{TenantRecord, TenantStatus};
use crate::http::Mount;
use crate::service::provisioning::Extras;
use crate::service::tenants::registry::{Filter, Origin};

pub(super) fn mount(routes: &mut Mount<'_>) {
    routes
        .service(list)
        .service(read)
        .service(create)
        .service(ensure)
        .service(update)
        .service(suspend)
        .service(resume)
        .service(delete)
        .service(restore)
        .service(purge);
}

/// A tenant, as this dialect answers it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ControlTenant)]
pub(super) struct TenantAnswer {
    /// Never changes.
    id: uuid::Uuid,
    /// Url-friendly and unique.
    slug: String,
    /// The name people read.
    name: String,
    /// What its maker's own system calls it.
    external_id: Option<String>,
    /// `active`, `suspended` or `deleting`.
    status: &'static str,
    /// Whatever the application keeps here.
    #[schema(value_type = Object)]
    settings: Value,
    /// Goes up with every change; the `ETag`, in quotes.
    revision: i64,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
    /// When the grace period of a deleted tenant ends.
    #[serde(with = "time::serde::rfc3339::option")]
    purge_after: Option<OffsetDateTime>,
}

/// A part of the tenants.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TenantList {
    data: Vec<TenantAnswer>,
    /// Ask with it as `cursor` for what follows; null at the end.
    next_cursor: Option<String>,
}

/// The tenants that the caller may view, oldest first.
#[utoipa::path(tag = "control", operation_id = "ControlListTenant", security(("bearer" = [])),
    params(
        ("limit" = Option<u16>, Query, description = "Rows in this answer; 50 where it is not said", minimum = 1, maximum = 100),
        ("cursor" = Option<String>, Query, description = "The next_cursor of the answer before", pattern = "^A[A-Za-v][A-Za-z0-9_-]{30}$"),
        ("status" = Option<String>, Query, description = "active, suspended or deleting", pattern = "^(active|suspended|deleting)$"),
        ("slug" = Option<String>, Query, description = "Exactly this slug"),
        ("name" = Option<String>, Query, description = "Exactly this name"),
        ("created_after" = Option<String>, Query, description = "Made at this time or later", format = "date-time"),
        ("created_before" = Option<String>, Query, description = "Made before this time", format = "date-time"),
        ("q" = Option<String>, Query, description = "This text in the name or the slug, whatever its case"),
    ),
    responses(
        (status = 200, description = "Tenants", body = TenantList),
        (status = 400, description = "A parameter is unknown or not valid", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid token", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "VIEW_TENANTS is missing", body = ProblemBody, content_type = "application/problem+json"),
    ))]
#[get("/control/v1/tenants")]
async fn list(call: Call) -> Answer {
    call.ctx.reach(Permission::ViewTenants)?;
    let mut query = call.query()?;
    let window = query.window();
    let filter = Filter {
        status: query.optional("status", |text| {
            text.parse().map_err(|_no_status| Rule::OneOf(TenantStatus::WORDS))
        }),
        slug: query.optional("slug", |text| Ok(text.to_owned())),
        name: query.optional("name", |text| Ok(text.to_owned())),
        created_after: query.optional("created_after", timestamp),
        created_before: query.optional("created_before", timestamp),
        q: query.optional("q", |text| Ok(text.to_owned())),
    };
    let window = query.finish(Some(window))?;
    let page = call.services().registry.list(&call.ctx, &filter, &window).await?;
    Ok(HttpResponse::Ok().json(TenantList {
        next_cursor: page.next.map(write_cursor),
        data: page.rows.into_iter().map(TenantAnswer::from).collect(),
    }))
}

/// One tenant, by id or slug.
#[utoipa::path(tag = "control", operation_id = "ControlReadTenant", security(("bearer" = [])),
    params(("tenant" = String, Path, description = "Its id or its slug")),
    responses(
        (status = 200, description = "The tenant; its revision is the ETag", body = TenantAnswer),
        (status = 401, description = "No valid token", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "VIEW_TENANTS is missing", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "No such tenant, or none that the caller may know of", body = ProblemBody, content_type = "application/problem+json"),
    ))]
#[get("/control/v1/tenants/{tenant}")]
async fn read(call: Call) -> Answer {
    call.ctx.reach(Permission::ViewTenants)?;
    call.nothing_else()?;
    let record = call.services().registry.read(&call.ctx, &call.path("tenant")?).await?;
    Ok(answer(StatusCode::OK, record))
}

/// Makes a tenant, whole or not at all.
#[utoipa::path(tag = "control", operation_id = "ControlCreateTenant", security(("bearer" = [])), request_body = NewTenantBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe for 24 hours", pattern = "^[!-~]([ -~]{0,253}[!-~])?$")),
    responses(
        (status = 201, description = "Made, now or under the same key before", body = TenantAnswer),
        (status = 400, description = "The body is not valid; every bad field is named", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid token", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "CREATE_TENANT is missing", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "The tenant that was made under the same key is gone", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "The slug or the external id is taken, or the same key is still running", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "The Idempotency-Key was used with another body", body = ProblemBody, content_type = "application/problem+json"),
    ))]
#[post("/control/v1/tenants")]
async fn create(call: Call) -> Answer {
    call.ctx.require(Permission::CreateTenant)?;
    call.query()?.finish(Some(()))?;
    let mut body = call.body()?;
    let external_id = body.optional("external_id", ExternalId::parse);
    let (mut wish, extras) = bodies::wish(body)?;
    wish.idempotency_key = call.idempotency_key()?;
    let extras = Extras { external_id, ..extras };
    let (record, origin) = call.services().registry.create(&call.ctx, wish, extras).await?;
    count(&call, origin);
    Ok(answer(StatusCode::CREATED, record))
}

/// Makes a tenant unless your own id for it has one. Safe to repeat: the same body finds the same tenant. A
/// tenant that is there is never changed by it; where its name or slug are others by now, the answer is 409.
#[utoipa::path(tag = "control", operation_id = "ControlEnsureTenant", security(("bearer" = [])), request_body = EnsuredTenantBody,
    params(("external_id" = String, Path, description = "What your own system calls it", min_length = 1, max_length = 255, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*[^\\s\\u0000-\\u001f\\u007f-\\u009f][^\\u0000-\\u001f\\u007f-\\u009f]*$")),
    responses(
        (status = 200, description = "It was there", body = TenantAnswer),
        (status = 201, description = "Made", body = TenantAnswer),
        (status = 400, description = "The body is not valid; every bad field is named", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid token", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "CREATE_TENANT is missing", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "The slug is taken, or the tenant has another name or slug", body = ProblemBody, content_type = "application/problem+json"),
    ))]
#[put("/control/v1/tenants/by-external-id/{external_id}")]
async fn ensure(call: Call) -> Answer {
    call.ctx.require(Permission::CreateTenant)?;
    call.query()?.finish(Some(()))?;
    let external_id = ExternalId::parse(&call.path("external_id")?).map_err(|rule| {
        crate::domain::Error::Invalid(vec![FieldProblem::new("external_id", rule)])
    })?;
    let (wish, extras) = bodies::wish(call.body()?)?;
    let registry = &call.services().registry;
    let (record, origin) = registry.ensure(&call.ctx, external_id, wish, extras).await?;
    count(&call, origin);
    let status = match origin {
        Origin::Made => StatusCode::CREATED,
        Origin::Found => StatusCode::OK,
    };
    Ok(answer(status, record))
}

/// Renames a tenant or changes its settings, if it is still in the revision that `If-Match` names.
#[utoipa::path(tag = "control", operation_id = "ControlUpdateTenant", security(("bearer" = [])),
    request_body(content = TenantPatchBody, content_type = "application/merge-patch+json"),
    params(
        ("tenant" = String, Path, description = "Its id or its slug"),
        ("If-Match" = String, Header, description = "The ETag that was read, or *", pattern = r#"^(\*|(W/)?"[!#-+\--~]*"(, ?(W/)?"[!#-+\--~]*")*)$"#),
    ),
    responses(
        (status = 200, description = "The tenant as it is now", body = TenantAnswer),
        (status = 400, description = "The body is not valid; every bad field is named", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid token", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "UPDATE_TENANT is missing", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "No such tenant", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "The slug is taken, or the tenant is being deleted", body = ProblemBody, content_type = "application/problem+json"),
        (status = 412, description = "It has changed since", body = ProblemBody, content_type = "application/problem+json"),
        (status = 428, description = "If-Match is missing", body = ProblemBody, content_type = "application/problem+json"),
    ))]
#[patch("/control/v1/tenants/{tenant}")]
async fn update(call: Call) -> Answer {
    call.ctx.reach(Permission::UpdateTenant)?;
    let expected = call.if_match()?;
    call.query()?.finish(Some(()))?;
    let changes = bodies::changes(call.body()?)?;
    let named = call.path("tenant")?;
    let record = call.services().registry.update(&call.ctx, &named, &expected, changes).await?;
    Ok(answer(StatusCode::OK, record))
}

/// Declares the routes of the steps in a tenant's life, which differ in a word each.
macro_rules! steps {
    ($($(#[$doc:meta])* $name:ident, $method:ident $path:literal, $permission:ident $wire:literal;)+) => {$(
        $(#[$doc])*
        #[utoipa::path(tag = "control", operation_id = concat!("Control", stringify!($name), "Tenant"), security(("bearer" = [])),
            params(
                ("tenant" = String, Path, description = "Its id or its slug"),
                ("If-Match" = String, Header, description = "The ETag that was read, or *", pattern = r#"^(\*|(W/)?"[!#-+\--~]*"(, ?(W/)?"[!#-+\--~]*")*)$"#),
            ),
            responses(
                (status = 200, description = "The tenant as it is now", body = TenantAnswer),
                (status = 400, description = "The request holds what is not known here", body = ProblemBody, content_type = "application/problem+json"),
                (status = 401, description = "No valid token", body = ProblemBody, content_type = "application/problem+json"),
                (status = 403, description = $wire, body = ProblemBody, content_type = "application/problem+json"),
                (status = 404, description = "No such tenant", body = ProblemBody, content_type = "application/problem+json"),
                (status = 409, description = "The tenant's status does not allow it", body = ProblemBody, content_type = "application/problem+json"),
                (status = 412, description = "It has changed since", body = ProblemBody, content_type = "application/problem+json"),
                (status = 428, description = "If-Match is missing", body = ProblemBody, content_type = "application/problem+json"),
            ))]
        #[$method($path)]
        async fn $name(call: Call) -> Answer {
            call.ctx.reach(Permission::$permission)?;
            let expected = call.if_match()?;
            call.nothing_else()?;
            let named = call.path("tenant")?;
            let record = call.services().lifecycle.$name(&call.ctx, &named, &expected).await?;
            Ok(answer(StatusCode::OK, record))
        }
    )+};
}

steps! {
    /// Makes an active tenant answer nothing, in every process at once, until it is resumed.
    suspend, post "/control/v1/tenants/{tenant}/suspend", UpdateTenant "UPDATE_TENANT is missing";
    /// Makes a suspended tenant answer again.
    resume, post "/control/v1/tenants/{tenant}/resume", UpdateTenant "UPDATE_TENANT is missing";
    /// Deletes a tenant: it answers nothing, can be restored until `purge_after`, and is then purged.
    delete, delete "/control/v1/tenants/{tenant}", DeleteTenant "DELETE_TENANT is missing";
    /// Brings a deleted tenant back as what it was, active or suspended.
    restore, post "/control/v1/tenants/{tenant}/restore", DeleteTenant "DELETE_TENANT is missing";
}

/// Destroys a deleted tenant now, whatever is left of its grace period.
#[utoipa::path(tag = "control", operation_id = "ControlPurgeTenant", security(("bearer" = [])),
    params(
        ("tenant" = String, Path, description = "Its id or its slug"),
        ("If-Match" = String, Header, description = "The ETag that was read, or *", pattern = r#"^(\*|(W/)?"[!#-+\--~]*"(, ?(W/)?"[!#-+\--~]*")*)$"#),
    ),
    responses(
        (status = 204, description = "It is gone"),
        (status = 400, description = "The request holds what is not known here", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid token", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "DELETE_TENANT is missing", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "No such tenant", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "It is not deleted, or somebody inside does not let go; ask again", body = ProblemBody, content_type = "application/problem+json"),
        (status = 412, description = "It has changed since", body = ProblemBody, content_type = "application/problem+json"),
        (status = 428, description = "If-Match is missing", body = ProblemBody, content_type = "application/problem+json"),
    ))]
#[post("/control/v1/tenants/{tenant}/purge")]
async fn purge(call: Call) -> Answer {
    call.ctx.reach(Permission::DeleteTenant)?;
    let expected = call.if_match()?;
    call.nothing_else()?;
    let named = call.path("tenant")?;
    call.services().lifecycle.purge(&call.ctx, &named, &expected).await?;
    Ok(HttpResponse::NoContent().finish())
}

fn count(call: &Call, origin: Origin) {
    if origin == Origin::Made {
        call.site().metrics.count_provisioned();
    }
}

/// A tenant with its revision as the `ETag`, and its place where it was made.
fn answer(status: StatusCode, record: TenantRecord) -> HttpResponse {
    let mut answer = HttpResponse::build(status);
    answer.insert_header((ETAG, format!("\"{}\"", record.revision)));
    if status == StatusCode::CREATED {
        answer.insert_header((LOCATION, format!("/control/v1/tenants/{}", record.tenant.id)));
    }
    answer.json(TenantAnswer::from(record))
}

impl From<TenantRecord> for TenantAnswer {
    fn from(record: TenantRecord) -> Self {
        Self {
            id: record.tenant.id.uuid(),
            slug: record.tenant.slug.to_string(),
            name: record.tenant.name.to_string(),
            external_id: record.external_id.map(|id| id.to_string()),
            status: record.tenant.status.as_str(),
            settings: record.settings.into_value(),
            revision: record.revision,
            created_at: record.tenant.created_at,
            updated_at: record.updated_at,
            purge_after: record.purge_after,
        }
    }
}
