//! What is in a tenant: copied to a new one, or exchanged with what is in another one.

use actix_web::http::StatusCode;
use actix_web::http::header::{ETag, EntityTag};
use actix_web::{HttpResponse, post};
use serde::Serialize;
use utoipa::ToSchema;

use super::{TenantAnswer, answer, replayed};
use crate::domain::error::Result;
use crate::domain::names::{Slug, TenantName};
use crate::domain::rule::Rule;
use crate::domain::{Permission, TenantStatus};
use crate::http::body::Fields;
use crate::http::control::call::Call;
use crate::http::control::responses::{Conditional, Forbidden, InvalidBody, NoSuchTenant};
use crate::http::control::{Answer, PROBLEM_JSON, ProblemBody};
use crate::http::responses::{CreateTenant, UpdateTenant};
use crate::service::archives::{CloneTenant, SwapTenants};
use crate::service::tenants::TenantRef;
use crate::service::tenants::registry::Expected;

/// The statuses that a new tenant can have.
const STATUSES: &[&str] = &["active", "suspended"];

/// The body that clones a tenant.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body in the OpenAPI document")]
#[serde(deny_unknown_fields)]
pub(super) struct CloneBody {
    /// The unique name of the new tenant for URLs.
    #[schema(min_length = 1, max_length = 63, pattern = "^[a-z0-9]+(-[a-z0-9]+)*$")]
    slug: String,
    /// The display name of the new tenant; without it, that of the other one.
    #[schema(
        min_length = 1,
        max_length = 255,
        pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*[^\\s\\u0000-\\u001f\\u007f-\\u009f][^\\u0000-\\u001f\\u007f-\\u009f]*$"
    )]
    name: Option<String>,
    /// Tables that the new tenant gets without their rows.
    exclude_data: Option<Vec<String>>,
    /// `active` (the default), or `suspended` until it is resumed.
    #[schema(pattern = "^(active|suspended)$")]
    status: Option<String>,
}

impl CloneBody {
    fn read(mut body: Fields) -> Result<CloneTenant> {
        let slug = body.required("slug", Slug::parse);
        let name = body.optional("name", TenantName::parse);
        let exclude_data = if body.has("exclude_data") { tables(&mut body) } else { Vec::new() };
        let status = body.optional("status", |word| match word.parse() {
            Ok(status @ (TenantStatus::Active | TenantStatus::Suspended)) => Ok(status),
            _ => Err(Rule::OneOf(STATUSES)),
        });
        let suspended = status == Some(TenantStatus::Suspended);
        let idempotency_key = None;
        body.finish(slug.map(|slug| CloneTenant {
            slug,
            name,
            exclude_data,
            suspended,
            idempotency_key,
        }))
    }
}

/// Takes names of tables.
fn tables(body: &mut Fields) -> Vec<String> {
    let mut tables = Vec::new();
    for (index, name) in body.array("exclude_data").into_iter().flatten().enumerate() {
        match name.as_str() {
            Some(name) => tables.push(name.to_owned()),
            None => body.refuse_element("exclude_data", index, Rule::Type("string")),
        }
    }
    tables
}

/// Makes a tenant of the data of this one, as it is at one moment: whole or not at all. Its members are those of this one.
/// Needs `EXPORT_TENANT` for this tenant too. It takes as long as the copy does, at most `http.request_timeout`.
#[utoipa::path(tag = "control", operation_id = "cloneTenant", security(("bearer" = [])), request_body = CloneBody,
    params(
        ("tenant" = String, Path, description = "The id or the slug of the tenant"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe for 24 hours: the same key and body return the same tenant", pattern = "^[!-~]([ -~]{0,253}[!-~])?$"),
    ),
    responses(
        (status = 201, description = "The new tenant, made now or by an earlier request with the same Idempotency-Key", body = TenantAnswer),
        InvalidBody, Forbidden<CreateTenant>, NoSuchTenant,
        (status = 409, description = "The slug is taken or rests; the tables are not those that the migrations make (`tenant_drifted`), or are unknown (`unknown_tables`); or a request with the same Idempotency-Key is still running", body = ProblemBody, content_type = PROBLEM_JSON),
        (status = 422, description = "Rows refer to rows that are excluded, or the Idempotency-Key was used with another request", body = ProblemBody, content_type = PROBLEM_JSON),
    ))]
#[post("/control/v1/tenants/{tenant}/clone")]
pub(super) async fn clone_tenant(call: Call) -> Answer {
    call.ctx.require(Permission::CreateTenant)?;
    call.ctx.reach(Permission::ExportTenant)?;
    call.query()?.finish(Some(()))?;
    let mut command = CloneBody::read(call.body()?)?;
    command.idempotency_key = call.idempotency_key()?;
    let which = TenantRef::IdOrSlug(call.path("tenant")?);
    let archives = &call.services().archives;
    let cloned = archives.clone_tenant(&call.ctx, &which, &command, &|_| ()).await?;
    if !cloned.is_replayed {
        call.site().metrics.count_provisioned();
    }
    Ok(replayed(answer(StatusCode::CREATED, cloned.record), cloned.is_replayed))
}

/// The body that swaps a tenant with another one.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body in the OpenAPI document")]
#[serde(deny_unknown_fields)]
pub(super) struct SwapBody {
    /// The id or the slug of the other tenant.
    with: String,
    /// The revision that the other tenant must have; without it, any.
    with_revision: Option<i64>,
}

/// Two tenants whose contents were exchanged.
#[derive(Serialize, ToSchema)]
#[schema(as = SwappedTenants)]
pub(super) struct SwapAnswer {
    /// The tenant of the path.
    tenant: TenantAnswer,
    /// The other one.
    with: TenantAnswer,
}

impl SwapBody {
    fn read(mut body: Fields) -> Result<(TenantRef, Expected)> {
        let with = body.required("with", |text| Ok(TenantRef::IdOrSlug(text.to_owned())));
        let revision = body.value("with_revision").map(|value| value.as_i64());
        if revision == Some(None) {
            body.refuse("with_revision", Rule::Type("integer"));
        }
        let revision = revision.flatten();
        let expected = revision.map_or(Expected::Any, |known| Expected::OneOf(vec![known]));
        body.finish(with.map(|with| (with, expected)))
    }
}

/// Exchanges what is in two tenants. Ids, slugs, members, tokens and settings stay where they are. Requests in both are
/// answered 503 with `Retry-After: 1` meanwhile; none is lost, and none works in both. The same call undoes it. Needs
/// `IMPORT_TENANT` too.
#[utoipa::path(tag = "control", operation_id = "swapTenants", security(("bearer" = [])), request_body = SwapBody,
    params(
        ("tenant" = String, Path, description = "The id or the slug of the tenant"),
        ("If-Match" = String, Header, description = "The ETag of the tenant, or *", pattern = r#"^(\*|(W/)?"[!#-+\--~]*"(, ?(W/)?"[!#-+\--~]*")*)$"#),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe for 24 hours: the same key and body swap once", pattern = "^[!-~]([ -~]{0,253}[!-~])?$"),
    ),
    responses(
        (status = 200, description = "Both tenants", body = SwapAnswer),
        InvalidBody, Forbidden<UpdateTenant>, NoSuchTenant,
        (status = 409, description = "Requests did not leave the tenants in time, or another swap of one of them runs (`swap_busy`); they have other migrations (`swap_version_differs`); both are the same (`swap_with_itself`); one is being deleted; or a request with the same Idempotency-Key is still running", body = ProblemBody, content_type = PROBLEM_JSON),
        Conditional,
        (status = 422, description = "The Idempotency-Key was used with another request", body = ProblemBody, content_type = PROBLEM_JSON),
    ))]
#[post("/control/v1/tenants/{tenant}/swap")]
pub(super) async fn swap(call: Call) -> Answer {
    call.ctx.reach(Permission::UpdateTenant)?;
    call.ctx.require(Permission::ImportTenant)?;
    let expected = call.if_match()?;
    call.query()?.finish(Some(()))?;
    let (with, with_expected) = SwapBody::read(call.body()?)?;
    let tenant = TenantRef::IdOrSlug(call.path("tenant")?);
    let idempotency_key = call.idempotency_key()?;
    let command = SwapTenants { tenant, expected, with, with_expected, idempotency_key };
    let swapped = call.services().archives.swap(&call.ctx, &command).await?;
    let (tenant, with) = (TenantAnswer::from(swapped.tenant), TenantAnswer::from(swapped.with));
    let tag = EntityTag::new_strong(tenant.revision.to_string());
    let answer = HttpResponse::Ok().insert_header(ETag(tag)).json(SwapAnswer { tenant, with });
    Ok(replayed(answer, swapped.is_replayed))
}
