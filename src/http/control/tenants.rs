//! Tenants: list, read, create, change, and their lifecycle.

mod bodies;
mod copies;
mod schema;

use crate::domain::json::Value;
use actix_web::http::StatusCode;
use actix_web::http::header::{ETag, EntityTag, HeaderName, HeaderValue, LOCATION};
use actix_web::{HttpResponse, delete, get, patch, post, put};
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use self::bodies::{EnsuredTenantBody, NewTenantBody, NewTenantParts, PurgeBody, TenantPatchBody};
use super::PROBLEM_JSON;
use super::call::{Call, timestamp, window, write_cursor};
use super::responses::{
    Conditional, Forbidden, InvalidBody, InvalidParameter, NoSuchTenant, Unexpected,
};
use super::{Answer, ProblemBody};
use crate::domain::names::ExternalId;
use crate::domain::rule::Rule;
use crate::domain::status::TenantStatus;
use crate::domain::tenant::TenantRecord;
use crate::domain::{AccountOrigin, Permission};
use crate::http::responses::{CreateTenant, DeleteTenant, UpdateTenant, ViewTenants};
use crate::http::{Mount, guess};
use crate::service::provisioning::Extras;
use crate::service::tenants::registry::{Origin, Registered};
use crate::service::tenants::upsert::Upsert;
use crate::service::tenants::{Filter, Order, TenantRef};

/// Says of an answer whether it is that to an earlier request with the same `Idempotency-Key`.
pub(super) fn replayed(mut answer: HttpResponse, is_replayed: bool) -> HttpResponse {
    const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
    if is_replayed {
        answer.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    answer
}

pub(super) fn mount(routes: &mut Mount<'_>) {
    routes
        .service(list)
        .service(read)
        .service(create)
        .service(ensure)
        .service(read_by_external_id)
        .service(delete_by_external_id)
        .service(update)
        .service(suspend)
        .service(resume)
        .service(delete)
        .service(restore)
        .service(purge)
        .service(copies::clone_tenant)
        .service(copies::swap)
        .service(schema::read);
}

/// A tenant.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ControlTenant)]
pub(super) struct TenantAnswer {
    /// Immutable, unique, never reused.
    id: uuid::Uuid,
    /// The unique name for URLs.
    slug: String,
    /// The display name.
    name: String,
    /// The id of the tenant in the caller's own system.
    external_id: Option<String>,
    status: TenantStatus,
    /// Settings of the application.
    #[schema(value_type = Object)]
    settings: Value,
    /// The revision, which increases with every change; in quotes it is the `ETag`.
    revision: i64,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
    /// When the grace period of a deleted tenant ends; null if the tenant is not deleted.
    #[serde(with = "time::serde::rfc3339::option")]
    purge_after: Option<OffsetDateTime>,
    /// When the tenant ends and is purged; absent if it stays.
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    expires_at: Option<OffsetDateTime>,
    /// When the purge of a deleted tenant began, which nothing takes back; absent before.
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    purge_started_at: Option<OffsetDateTime>,
    /// The highest version of the migrations that its schema has.
    migrations_version: i32,
    /// The digest of these migrations. The tenant is behind, ahead or different where it is not that of
    /// `GET /control/v1/migration-set`.
    migrations_fingerprint: String,
    /// What a PUT did: `created`, `changed` or `unchanged`; only in its response.
    #[schema(pattern = "^(created|changed|unchanged)$")]
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
    /// Whether the account of the admin was `created` or an existing one was `linked`; only in the response that creates
    /// a tenant with an admin, or gives it one.
    #[schema(pattern = "^(created|linked)$")]
    #[serde(skip_serializing_if = "Option::is_none")]
    admin: Option<&'static str>,
}

/// A page of tenants.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TenantList {
    data: Vec<TenantAnswer>,
    /// The `cursor` of the next request; null on the last page.
    next_cursor: Option<String>,
}

/// Lists the tenants that the caller can view, oldest first unless `order` says otherwise.
#[utoipa::path(tag = "control", operation_id = "listTenants", security(("bearer" = [])),
    params(
        ("limit" = Option<u16>, Query, description = "Rows in this response; default: 50", minimum = 1, maximum = 100),
        ("cursor" = Option<String>, Query, description = "The next_cursor of the previous response", pattern = "^A[A-Za-v][A-Za-z0-9_-]{30}$"),
        ("status" = Option<TenantStatus>, Query, description = "Only tenants with this status"),
        ("slug" = Option<String>, Query, description = "Only the tenant with this slug"),
        ("name" = Option<String>, Query, description = "Only tenants with exactly this name"),
        ("created_after" = Option<String>, Query, description = "Only tenants created at this time or later", format = "date-time"),
        ("created_before" = Option<String>, Query, description = "Only tenants created before this time", format = "date-time"),
        ("q" = Option<String>, Query, description = "Only tenants whose name or slug contains this text, ignoring case"),
        ("order" = Option<String>, Query, description = "created_at (oldest first, the default), -created_at (newest first) or name", pattern = "^(-?created_at|name)$"),
    ),
    responses(
        (status = 200, description = "A page of tenants", body = TenantList),
        InvalidParameter, Forbidden<ViewTenants>,
    ))]
#[get("/control/v1/tenants")]
async fn list(call: Call) -> Answer {
    call.ctx.reach(Permission::ViewTenants)?;
    let mut query = call.query()?;
    let window = window(&mut query);
    let filter = Filter {
        status: query.optional("status", |text| {
            text.parse().map_err(|_no_status| Rule::OneOf(TenantStatus::WORDS))
        }),
        slug: query.optional("slug", |text| Ok(text.to_owned())),
        name: query.optional("name", |text| Ok(text.to_owned())),
        created_after: query.optional("created_after", timestamp),
        created_before: query.optional("created_before", timestamp),
        q: query.optional("q", |text| Ok(text.to_owned())),
        order: query
            .optional("order", |word| Order::of(word).ok_or(Rule::OneOf(Order::WORDS)))
            .unwrap_or_default(),
    };
    let window = query.finish(Some(window))?;
    let page = call.services().tenants.list_records(&call.ctx, &filter, &window).await?;
    Ok(HttpResponse::Ok().json(TenantList {
        next_cursor: page.next.map(write_cursor),
        data: page.rows.into_iter().map(TenantAnswer::from).collect(),
    }))
}

/// Returns a tenant.
#[utoipa::path(tag = "control", operation_id = "getTenant", security(("bearer" = [])),
    params(("tenant" = String, Path, description = "The id or the slug of the tenant")),
    responses(
        (status = 200, description = "The tenant; its revision is the ETag", body = TenantAnswer),
        Forbidden<ViewTenants>, NoSuchTenant,
    ))]
#[get("/control/v1/tenants/{tenant}")]
async fn read(call: Call) -> Answer {
    call.ctx.reach(Permission::ViewTenants)?;
    call.nothing_else()?;
    let which = TenantRef::IdOrSlug(call.path("tenant")?);
    let record = call.services().tenants.read_record(&call.ctx, &which).await?;
    Ok(answer(StatusCode::OK, record))
}

/// Creates a tenant. If a step fails, nothing is created.
#[utoipa::path(tag = "control", operation_id = "createTenant", security(("bearer" = [])), request_body = NewTenantBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe for 24 hours: the same key and body return the same tenant", pattern = "^[!-~]([ -~]{0,253}[!-~])?$")),
    responses(
        (status = 201, description = "The tenant, created now or by an earlier request with the same Idempotency-Key", body = TenantAnswer),
        InvalidBody, Forbidden<CreateTenant>,
        (status = 404, description = "The tenant that was created with the same Idempotency-Key no longer exists", body = ProblemBody, content_type = PROBLEM_JSON),
        (status = 409, description = "The slug is taken or rests, or the external id is taken; or a request with the same Idempotency-Key is still running; or an account has the admin's address, the address is not proven, and the password is not the account's own (`admin_unproven`)", body = ProblemBody, content_type = PROBLEM_JSON),
        (status = 422, description = "The Idempotency-Key was used with another body", body = ProblemBody, content_type = PROBLEM_JSON),
    ))]
#[post("/control/v1/tenants")]
async fn create(call: Call) -> Answer {
    call.ctx.require(Permission::CreateTenant)?;
    call.query()?.finish(Some(()))?;
    let mut body = call.body()?;
    let external_id = body.optional("external_id", ExternalId::parse);
    let NewTenantParts { mut command, settings, end } = bodies::command(body)?;
    command.idempotency_key = call.idempotency_key()?;
    let settings = settings.unwrap_or_else(|| Extras::default().settings);
    let extras = Extras { external_id, settings, end };
    let registry = &call.services().registry;
    let run = async |command| registry.create(&call.ctx, command, extras.clone()).await;
    let registered = guess::set_up(call.request(), command, run).await?;
    count(&call, registered.origin);
    let is_replayed = registered.origin == Origin::Found;
    Ok(replayed(answer_with(StatusCode::CREATED, registered), is_replayed))
}

/// Creates the tenant with this external id, or makes it as the body says. Safe to repeat: `outcome` says whether it was
/// created, changed or left as it is. The name, the settings (all of them, if they are given), the end and a missing admin
/// are applied, which needs `UPDATE_TENANT`, and for an admin the root or a `SUPER_ADMIN`. What cannot be applied refuses the
/// whole request: `external_id_differs` with every such field in `errors`.
#[utoipa::path(tag = "control", operation_id = "ensureTenant", security(("bearer" = [])), request_body = EnsuredTenantBody,
    params(
        ("external_id" = String, Path, description = "The id of the tenant in your own system", min_length = 1, max_length = 255, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*[^\\s\\u0000-\\u001f\\u007f-\\u009f][^\\u0000-\\u001f\\u007f-\\u009f]*$"),
        ("restore" = Option<bool>, Query, description = "Whether a tenant that is being deleted is restored, which needs DELETE_TENANT; default: false"),
    ),
    responses(
        (status = 200, description = "The existing tenant, as the body says", body = TenantAnswer),
        (status = 201, description = "The new tenant", body = TenantAnswer),
        InvalidBody, Forbidden<CreateTenant>,
        (status = 409, description = "The slug is taken or rests; or the tenant differs in what is not applied (`external_id_differs`); or it is being deleted (`tenant_deleting`, and with `restore` `grace_over` or `purge_started`); or an account has the admin's address, the address is not proven, and the password is not the account's own (`admin_unproven`)", body = ProblemBody, content_type = PROBLEM_JSON),
    ))]
#[put("/control/v1/tenants/by-external-id/{external_id}")]
async fn ensure(call: Call) -> Answer {
    call.ctx.require(Permission::CreateTenant)?;
    let mut query = call.query()?;
    let may_restore = query.optional("restore", |text| {
        text.parse().map_err(|_no_flag| Rule::OneOf(&["true", "false"]))
    });
    query.finish(Some(()))?;
    let external_id = call.external_id()?;
    let NewTenantParts { command, settings, end } = bodies::command(call.body()?)?;
    let is_restored = may_restore.unwrap_or_default();
    let registry = &call.services().registry;
    let run = async |command| {
        let (external_id, settings) = (external_id.clone(), settings.clone());
        let upsert = Upsert { external_id, command, settings, end, restore: is_restored };
        registry.ensure(&call.ctx, upsert).await
    };
    let registered = guess::set_up(call.request(), command, run).await?;
    count(&call, registered.origin);
    let status = match registered.origin {
        Origin::Made => StatusCode::CREATED,
        Origin::Changed | Origin::Found => StatusCode::OK,
    };
    let outcome = Some(registered.origin.as_str());
    Ok(respond(status, &TenantAnswer { outcome, ..registered.into() }))
}

/// Returns the tenant with an external id.
#[utoipa::path(tag = "control", operation_id = "getTenantByExternalId", security(("bearer" = [])),
    params(("external_id" = String, Path, description = "The id of the tenant in your own system", min_length = 1, max_length = 255, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*[^\\s\\u0000-\\u001f\\u007f-\\u009f][^\\u0000-\\u001f\\u007f-\\u009f]*$")),
    responses(
        (status = 200, description = "The tenant; its revision is the ETag", body = TenantAnswer),
        Unexpected, Forbidden<ViewTenants>, NoSuchTenant,
    ))]
#[get("/control/v1/tenants/by-external-id/{external_id}")]
async fn read_by_external_id(call: Call) -> Answer {
    call.ctx.reach(Permission::ViewTenants)?;
    call.nothing_else()?;
    let which = TenantRef::ExternalId(call.external_id()?);
    let record = call.services().tenants.read_record(&call.ctx, &which).await?;
    Ok(answer(StatusCode::OK, record))
}

/// Deletes the tenant with an external id, as `DELETE /control/v1/tenants/{tenant}` does. One that is being deleted is
/// answered in the same way.
#[utoipa::path(tag = "control", operation_id = "deleteTenantByExternalId", security(("bearer" = [])),
    params(
        ("external_id" = String, Path, description = "The id of the tenant in your own system", min_length = 1, max_length = 255, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*[^\\s\\u0000-\\u001f\\u007f-\\u009f][^\\u0000-\\u001f\\u007f-\\u009f]*$"),
        ("If-Match" = Option<String>, Header, description = "The ETag of the tenant, or *; without it, any revision", pattern = r#"^(\*|(W/)?"[!#-+\--~]*"(, ?(W/)?"[!#-+\--~]*")*)$"#),
    ),
    responses(
        (status = 200, description = "The deleted tenant", body = TenantAnswer),
        Unexpected, Forbidden<DeleteTenant>, NoSuchTenant,
        (status = 409, description = "The tenant is the main one, which stays", body = ProblemBody, content_type = PROBLEM_JSON),
        (status = 412, description = "The tenant has another revision than If-Match names", body = ProblemBody, content_type = PROBLEM_JSON),
    ))]
#[delete("/control/v1/tenants/by-external-id/{external_id}")]
async fn delete_by_external_id(call: Call) -> Answer {
    call.ctx.reach(Permission::DeleteTenant)?;
    let expected = call.optional_if_match()?;
    call.nothing_else()?;
    let which = TenantRef::ExternalId(call.external_id()?);
    let record = call.services().lifecycle.delete(&call.ctx, &which, &expected).await?;
    Ok(answer(StatusCode::OK, record))
}

/// Renames a tenant, changes its settings or its end if it still has the revision that `If-Match` names.
#[utoipa::path(tag = "control", operation_id = "updateTenant", security(("bearer" = [])),
    request_body(content = TenantPatchBody, content_type = "application/merge-patch+json"),
    params(
        ("tenant" = String, Path, description = "The id or the slug of the tenant"),
        ("If-Match" = String, Header, description = "The ETag of the tenant, or *", pattern = r#"^(\*|(W/)?"[!#-+\--~]*"(, ?(W/)?"[!#-+\--~]*")*)$"#),
    ),
    responses(
        (status = 200, description = "The changed tenant", body = TenantAnswer),
        InvalidBody, Forbidden<UpdateTenant>, NoSuchTenant,
        (status = 409, description = "The slug is taken or rests, or the tenant is being deleted; or it was made without an end, and `add_expiry` is not true (`tenant_has_no_end`)", body = ProblemBody, content_type = PROBLEM_JSON),
        Conditional,
    ))]
#[patch("/control/v1/tenants/{tenant}")]
async fn update(call: Call) -> Answer {
    call.ctx.reach(Permission::UpdateTenant)?;
    let expected = call.if_match()?;
    call.query()?.finish(Some(()))?;
    let changes = bodies::changes(call.body()?)?;
    let which = TenantRef::IdOrSlug(call.path("tenant")?);
    let record = call.services().registry.update(&call.ctx, &which, &expected, changes).await?;
    Ok(answer(StatusCode::OK, record))
}

/// Declares the operations of a tenant's lifecycle, which differ only in name, path and permission.
macro_rules! steps {
    ($($(#[$doc:meta])* $name:ident, $method:ident $path:literal, $permission:ident;)+) => {$(
        $(#[$doc])*
        #[utoipa::path(tag = "control", operation_id = concat!(stringify!($name), "Tenant"), security(("bearer" = [])),
            params(
                ("tenant" = String, Path, description = "The id or the slug of the tenant"),
                ("If-Match" = String, Header, description = "The ETag of the tenant, or *", pattern = r#"^(\*|(W/)?"[!#-+\--~]*"(, ?(W/)?"[!#-+\--~]*")*)$"#),
            ),
            responses(
                (status = 200, description = "The changed tenant", body = TenantAnswer),
                Unexpected, Forbidden<$permission>, NoSuchTenant,
                (status = 409, description = "The tenant's status does not allow it", body = ProblemBody, content_type = PROBLEM_JSON),
                Conditional,
            ))]
        #[$method($path)]
        async fn $name(call: Call) -> Answer {
            call.ctx.reach(Permission::$permission)?;
            let expected = call.if_match()?;
            call.nothing_else()?;
            let which = TenantRef::IdOrSlug(call.path("tenant")?);
            let record = call.services().lifecycle.$name(&call.ctx, &which, &expected).await?;
            Ok(answer(StatusCode::OK, record))
        }
    )+};
}

steps! {
    /// Suspends an active tenant: until it is resumed, every server process refuses its requests, at once.
    suspend, post "/control/v1/tenants/{tenant}/suspend", UpdateTenant;
    /// Resumes a suspended tenant.
    resume, post "/control/v1/tenants/{tenant}/resume", UpdateTenant;
    /// Deletes a tenant: its requests are refused, it can be restored until `purge_after`, and is then purged.
    delete, delete "/control/v1/tenants/{tenant}", DeleteTenant;
    /// Restores a deleted tenant to its previous status, active or suspended.
    restore, post "/control/v1/tenants/{tenant}/restore", DeleteTenant;
}

/// Purges a deleted tenant now, before the end of its grace period. Its data is destroyed. What is outside of the tenant
/// and depends on it stops the purge, unless the body says `cascade`.
#[utoipa::path(tag = "control", operation_id = "purgeTenant", security(("bearer" = [])), request_body = Option<PurgeBody>,
    params(
        ("tenant" = String, Path, description = "The id or the slug of the tenant"),
        ("If-Match" = String, Header, description = "The ETag of the tenant, or *", pattern = r#"^(\*|(W/)?"[!#-+\--~]*"(, ?(W/)?"[!#-+\--~]*")*)$"#),
    ),
    responses(
        (status = 204, description = "The tenant is purged"),
        Unexpected, Forbidden<DeleteTenant>, NoSuchTenant,
        (status = 409, description = "The tenant is not deleted; a connection still uses it, try again; or something outside of it depends on it (`tenant_has_dependents`) or uses its role (`tenant_role_in_use`), or the server may not drop it (`tenant_not_droppable`): nothing was dropped, and `detail` lists it", body = ProblemBody, content_type = PROBLEM_JSON),
        Conditional,
    ))]
#[post("/control/v1/tenants/{tenant}/purge")]
async fn purge(call: Call) -> Answer {
    call.ctx.reach(Permission::DeleteTenant)?;
    let expected = call.if_match()?;
    call.query()?.finish(Some(()))?;
    let on_dependents = PurgeBody::read(call.optional_body()?)?;
    let which = TenantRef::IdOrSlug(call.path("tenant")?);
    call.services().lifecycle.purge(&call.ctx, &which, &expected, on_dependents).await?;
    Ok(HttpResponse::NoContent().finish())
}

fn count(call: &Call, origin: Origin) {
    if origin == Origin::Made {
        call.site().metrics.count_provisioned();
    }
}

/// Answers a tenant with its revision as the `ETag`.
fn answer(status: StatusCode, record: TenantRecord) -> HttpResponse {
    answer_with(status, Registered { record, origin: Origin::Found, admin: None })
}

/// Answers a tenant that was created or found.
fn answer_with(status: StatusCode, registered: Registered) -> HttpResponse {
    respond(status, &registered.into())
}

/// Answers a tenant with its revision as the `ETag`, and its `Location` if it is new.
fn respond(status: StatusCode, body: &TenantAnswer) -> HttpResponse {
    let mut answer = HttpResponse::build(status);
    answer.insert_header(ETag(EntityTag::new_strong(body.revision.to_string())));
    if status == StatusCode::CREATED {
        answer.insert_header((LOCATION, format!("/control/v1/tenants/{}", body.id)));
    }
    answer.json(body)
}

impl From<Registered> for TenantAnswer {
    fn from(registered: Registered) -> Self {
        let admin = registered.admin.map(AccountOrigin::as_str);
        Self { admin, ..Self::from(registered.record) }
    }
}

impl From<TenantRecord> for TenantAnswer {
    fn from(record: TenantRecord) -> Self {
        Self {
            id: record.tenant.id.uuid(),
            slug: record.tenant.slug.to_string(),
            name: record.tenant.name.to_string(),
            external_id: record.external_id.map(|id| id.to_string()),
            status: record.tenant.status,
            settings: record.settings.into_value(),
            revision: record.revision,
            created_at: record.tenant.created_at,
            updated_at: record.updated_at,
            purge_after: record.purge_after,
            expires_at: record.expires_at,
            purge_started_at: record.purge_started_at,
            migrations_version: record.migrations_version,
            migrations_fingerprint: record.migrations_fingerprint,
            outcome: None,
            admin: None,
        }
    }
}
