//! API keys: `/api/api-keys` ("Create API Key", "List API Keys", "Revoke API Key"). A key is answered once,
//! when it is made.

use actix_web::{HttpResponse, get, post, web};
use serde::Serialize;
use time::format_description::well_known::{Iso8601, Rfc3339};
use time::{Date, OffsetDateTime};
use utoipa::ToSchema;

use super::BODY;
use super::passwords::DoneAnswer;
use crate::domain::Permission;
use crate::domain::error::{Error, Noun, Result};
use crate::domain::names::{TokenId, TokenName, UserId};
use crate::domain::rule::Rule;
use crate::http::Site;
use crate::http::body::{Body, Fields};
use crate::http::native::responses::InTenant;
use crate::http::native::scoped::Scoped;
use crate::http::native::{ErrorBody, Problem};
use crate::http::responses::ManageApiKeys;
use crate::service::api_keys::{ApiKey, NewApiKey};

/// The body that creates an API key.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body in the OpenAPI document")]
#[serde(rename_all = "camelCase")]
#[schema(as = NewApiKey)]
pub(super) struct NewKeyBody {
    /// The purpose of the key, for people.
    #[schema(required = true, value_type = String, min_length = 1, max_length = 255, example = "CI/CD Pipeline Key")]
    name: String,
    /// The permissions of the key, by name in either case; the creator must hold each of them.
    #[schema(required = true, value_type = Vec<String>, min_items = 1, example = json!(["VIEW_USERS"]))]
    permissions: Vec<String>,
    /// When the key expires; without it the key does not expire, unless the settings or the token that creates it say so.
    /// A date means its first moment in UTC.
    #[schema(value_type = Option<String>, example = "2999-12-31T23:59:59Z")]
    expires_at: Option<String>,
}

/// An API key, without the key itself.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ApiKey)]
pub struct KeyAnswer {
    id: uuid::Uuid,
    name: String,
    /// The first characters of the key.
    key_prefix: String,
    /// The user who created the key; null if no user did.
    user_id: Option<uuid::Uuid>,
    /// The tenant that the key works in.
    tenant_id: uuid::Uuid,
    /// False after the key is revoked.
    is_active: bool,
    permissions: Vec<Permission>,
    #[serde(with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
    /// When the key was last used, to the minute.
    #[serde(with = "time::serde::rfc3339::option")]
    last_used_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    revoked_at: Option<OffsetDateTime>,
}

/// A newly created API key.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = MadeApiKey)]
pub struct MadeKeyAnswer {
    #[serde(flatten)]
    key: KeyAnswer,
    /// The key itself; returned only here.
    #[schema(example = "rtn_sk_…")]
    plaintext_key: String,
}

/// Creates an API key for one tenant, with no permission that its creator lacks. Only this response contains the key.
#[utoipa::path(tag = "api-keys", operation_id = "createApiKey", request_body = NewKeyBody, security(("bearer" = [])),
    params(("x-tenant-id" = Option<uuid::Uuid>, Header, description = "The tenant; default: the tenant of the token")),
    responses(
        (status = 201, description = "The new key", body = MadeKeyAnswer),
        InTenant<ManageApiKeys>,
        (status = 400, description = "x-tenant-id is missing or not valid, or a field is not valid; `errors` lists every invalid field", body = ErrorBody),
        (status = 403, description = "MANAGE_API_KEYS or a permission of the new key is missing in this tenant, or the caller is an API key", body = ErrorBody),
        (status = 409, description = "The token that would create the key was itself created by too many others, one after the other", body = ErrorBody),
    )
)]
#[post("/api/api-keys")]
pub(super) async fn create(
    site: web::Data<Site>,
    call: Scoped,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let (ctx, tenant) = call.with(Permission::ManageApiKeys)?;
    let command = command(body.fields(BODY).await?, ctx.now)?;
    let (key, secret) = site.services.api_keys.create(&ctx, tenant, command).await?;
    let plaintext_key = secret.expose().to_owned();
    Ok(HttpResponse::Created().json(MadeKeyAnswer { key: key.into(), plaintext_key }))
}

/// Lists the caller's API keys in the tenant, newest first, revoked keys included; not paged. The root token lists the keys
/// of all users, an operator's token those of them that it could create itself.
#[utoipa::path(tag = "api-keys", operation_id = "listApiKeys", security(("bearer" = [])),
    params(("x-tenant-id" = Option<uuid::Uuid>, Header, description = "The tenant; default: the tenant of the API key or of the token")),
    responses(
        (status = 200, description = "The keys, without the secrets", body = Vec<KeyAnswer>),
        InTenant<ManageApiKeys>,
    )
)]
#[get("/api/api-keys")]
pub(super) async fn list(site: web::Data<Site>, call: Scoped) -> Result<HttpResponse, Problem> {
    let (ctx, tenant) = call.with(Permission::ManageApiKeys)?;
    let keys = site.services.api_keys.list(&ctx, tenant).await?;
    Ok(HttpResponse::Ok().json(keys.into_iter().map(KeyAnswer::from).collect::<Vec<_>>()))
}

/// Revokes an API key. It stops working at once, in every server process.
#[utoipa::path(tag = "api-keys", operation_id = "revokeApiKey", security(("bearer" = [])),
    params(
        ("id" = uuid::Uuid, Path, description = "The id of the key"),
        ("x-tenant-id" = Option<uuid::Uuid>, Header, description = "The tenant; default: the tenant of the API key or of the token"),
    ),
    responses(
        (status = 200, description = "The key is revoked", body = DoneAnswer),
        InTenant<ManageApiKeys>,
        (status = 400, description = "The key is already revoked, or x-tenant-id is missing or not valid", body = ErrorBody),
        (status = 403, description = "MANAGE_API_KEYS is missing in this tenant, or the key belongs to another user or has a permission that the caller lacks", body = ErrorBody),
        (status = 404, description = "No such tenant, or no such key in it", body = ErrorBody),
    )
)]
#[post("/api/api-keys/{id}/revoke")]
pub(super) async fn revoke(
    site: web::Data<Site>,
    call: Scoped,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let (ctx, tenant) = call.with(Permission::ManageApiKeys)?;
    let id = id.parse().map_err(|_no_id| Error::NotFound(Noun::Token))?;
    site.services.api_keys.revoke(&ctx, tenant, TokenId::new(id)).await?;
    Ok(HttpResponse::Ok().json(DoneAnswer { message: "API key revoked successfully" }))
}

/// Reads the key that a body requests.
fn command(mut body: Fields, now: OffsetDateTime) -> Result<NewApiKey> {
    let name = body.required("name", TokenName::parse);
    let permissions = permissions(&mut body);
    let expires_at = body.optional("expiresAt", |text| {
        end(text).and_then(|end| if end > now { Ok(end) } else { Err(Rule::Past) })
    });
    let command = || Some(NewApiKey { name: name?, permissions: permissions?, expires_at });
    let command = command();
    body.finish(command)
}

/// Takes the permissions, each once; the first unknown one is refused by its index.
fn permissions(body: &mut Fields) -> Option<Vec<Permission>> {
    let names = body.array("permissions")?;
    if names.is_empty() {
        body.refuse("permissions", Rule::Required);
    }
    let mut permissions = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let rule = match name.as_str().map(str::parse) {
            Some(Ok(permission)) if permissions.contains(&permission) => continue,
            Some(Ok(permission)) => {
                permissions.push(permission);
                continue;
            }
            Some(Err(_)) => Rule::Permission,
            None => Rule::Type("string"),
        };
        body.refuse_element("permissions", index, rule);
        return None;
    }
    Some(permissions)
}

/// Parses a point in time, or a day.
fn end(text: &str) -> Result<OffsetDateTime, Rule> {
    let parsed = if text.len() == "2999-12-31".len() {
        Date::parse(text, &Iso8601::DATE).map(|day| day.midnight().assume_utc())
    } else {
        OffsetDateTime::parse(text, &Rfc3339)
    };
    parsed.map_err(|_no_time| Rule::Timestamp)
}

impl From<ApiKey> for KeyAnswer {
    fn from(key: ApiKey) -> Self {
        Self {
            id: key.id.uuid(),
            name: key.name,
            key_prefix: key.hint.trim_end_matches('…').to_owned(),
            user_id: key.user.map(UserId::uuid),
            tenant_id: key.tenant.uuid(),
            is_active: key.revoked_at.is_none(),
            permissions: key.permissions,
            expires_at: key.expires_at,
            last_used_at: key.last_used_at,
            created_at: key.created_at,
            revoked_at: key.revoked_at,
        }
    }
}
