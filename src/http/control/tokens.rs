//! API tokens: list, create, revoke. Only the response that creates a token contains it.

use actix_web::{HttpResponse, get, post};
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::PROBLEM_JSON;
use super::call::{Call, timestamp, window, write_cursor};
use super::responses::{Forbidden, InvalidBody, InvalidParameter, NoSuchTenant};
use super::{Answer, ProblemBody};
use crate::domain::Permission;
use crate::domain::error::{Error, Noun, Result};
use crate::domain::names::{TenantId, TokenId};
use crate::domain::rule::Rule;
use crate::http::Mount;
use crate::http::body::Fields;
use crate::http::responses::ManageApiKeys;
use crate::service::tokens::{NewToken, Token};

pub(super) fn mount(routes: &mut Mount<'_>) {
    routes.service(list).service(create).service(revoke);
}

/// An API token.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TokenAnswer {
    id: uuid::Uuid,
    name: String,
    /// The first characters of the token.
    hint: String,
    permissions: Vec<Permission>,
    /// The only tenant that the token works in; null for all tenants.
    tenant_id: Option<uuid::Uuid>,
    created_by: String,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
    /// When the token was last used, to the minute.
    #[serde(with = "time::serde::rfc3339::option")]
    last_used_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    revoked_at: Option<OffsetDateTime>,
    /// The token itself; only in the response that creates it.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

/// A page of API tokens.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TokenList {
    data: Vec<TokenAnswer>,
    /// The `cursor` of the next request; null on the last page.
    next_cursor: Option<String>,
}

/// The body that creates an API token.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body in the OpenAPI document")]
#[serde(deny_unknown_fields)]
pub(super) struct NewTokenBody {
    /// The purpose of the token, for people.
    #[schema(
        min_length = 1,
        max_length = 255,
        pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*[^\\s\\u0000-\\u001f\\u007f-\\u009f][^\\u0000-\\u001f\\u007f-\\u009f]*$"
    )]
    name: String,
    /// The permissions of the token; the creator must hold each of them.
    #[schema(min_items = 1)]
    permissions: Vec<Permission>,
    /// The only tenant that the token works in; without it, all tenants.
    tenant_id: Option<uuid::Uuid>,
    /// When the token expires; without it the token does not expire.
    #[schema(format = "date-time")]
    expires_at: Option<String>,
}

/// Lists the API tokens that the caller can manage, oldest first, revoked tokens included.
#[utoipa::path(tag = "control", operation_id = "ControlListToken", security(("bearer" = [])),
    params(
        ("limit" = Option<u16>, Query, description = "Rows in this response; default: 50", minimum = 1, maximum = 100),
        ("cursor" = Option<String>, Query, description = "The next_cursor of the previous response", pattern = "^A[A-Za-v][A-Za-z0-9_-]{30}$"),
    ),
    responses(
        (status = 200, description = "A page of tokens", body = TokenList),
        InvalidParameter, Forbidden<ManageApiKeys>,
    ))]
#[get("/control/v1/tokens")]
async fn list(call: Call) -> Answer {
    call.ctx.reach(Permission::ManageApiKeys)?;
    let mut query = call.query()?;
    let window = window(&mut query);
    let window = query.finish(Some(window))?;
    let page = call.services().tokens.page(&call.ctx, &window).await?;
    Ok(HttpResponse::Ok().json(TokenList {
        next_cursor: page.next.map(write_cursor),
        data: page.rows.into_iter().map(TokenAnswer::from).collect(),
    }))
}

/// Creates an API token with no permission that its creator lacks. Only this response contains the token.
#[utoipa::path(tag = "control", operation_id = "ControlCreateToken", security(("bearer" = [])), request_body = NewTokenBody, responses(
    (status = 201, description = "The new token", body = TokenAnswer),
    InvalidBody,
    (status = 403, description = "MANAGE_API_KEYS or a permission of the new token is missing", body = ProblemBody, content_type = PROBLEM_JSON),
    NoSuchTenant,
))]
#[post("/control/v1/tokens")]
async fn create(call: Call) -> Answer {
    let reach = call.ctx.reach(Permission::ManageApiKeys)?;
    call.query()?.finish(Some(()))?;
    let command = command(call.body()?)?;
    if command.tenant.is_some_and(|tenant| !reach.covers(tenant)) {
        return Err(Error::NotFound(Noun::Tenant).into());
    }
    let (token, secret) = call.services().tokens.create(&call.ctx, command).await?;
    let answer = TokenAnswer { token: Some(secret.expose().to_owned()), ..token.into() };
    Ok(HttpResponse::Created().json(answer))
}

/// Revokes an API token. It stops working at once, in every server process. Revoking it again changes nothing.
#[utoipa::path(tag = "control", operation_id = "ControlRevokeToken", security(("bearer" = [])),
    params(("id" = uuid::Uuid, Path, description = "The id of the token")),
    responses(
        (status = 200, description = "The revoked token", body = TokenAnswer),
        Forbidden<ManageApiKeys>,
        (status = 404, description = "No such token, or one that the caller cannot see", body = ProblemBody, content_type = PROBLEM_JSON),
    ))]
#[post("/control/v1/tokens/{id}/revoke")]
async fn revoke(call: Call) -> Answer {
    call.ctx.reach(Permission::ManageApiKeys)?;
    call.nothing_else()?;
    let id = call.path("id")?.parse().map_err(|_no_id| Error::NotFound(Noun::Token))?;
    let token = call.services().tokens.revoke(&call.ctx, TokenId::new(id)).await?;
    Ok(HttpResponse::Ok().json(TokenAnswer::from(token)))
}

fn command(mut body: Fields) -> Result<NewToken> {
    let name = body.required("name", |text| Ok(text.to_owned()));
    let permissions = permissions(&mut body);
    let tenant = body.optional("tenant_id", |text| {
        text.parse().map(TenantId::new).map_err(|_no_id| Rule::UuidFormat)
    });
    let expires_at = body.optional("expires_at", timestamp);
    let command = || Some(NewToken { name: name?, permissions: permissions?, expires_at, tenant });
    let command = command();
    body.finish(command)
}

/// Takes the permissions, each once; an unknown one is refused by its index.
fn permissions(body: &mut Fields) -> Option<Vec<Permission>> {
    let names = body.array("permissions")?;
    let mut permissions = Vec::new();
    for (index, name) in names.iter().enumerate() {
        match name.as_str().map(str::parse) {
            Some(Ok(permission)) if permissions.contains(&permission) => {}
            Some(Ok(permission)) => permissions.push(permission),
            Some(Err(_)) => body.refuse_element("permissions", index, Rule::Permission),
            None => body.refuse_element("permissions", index, Rule::Type("string")),
        }
    }
    Some(permissions)
}

impl From<Token> for TokenAnswer {
    fn from(token: Token) -> Self {
        Self {
            id: token.id.uuid(),
            name: token.name,
            hint: token.hint,
            permissions: token.permissions,
            tenant_id: token.tenant.map(TenantId::uuid),
            created_by: token.created_by,
            created_at: token.created_at,
            expires_at: token.expires_at,
            last_used_at: token.last_used_at,
            revoked_at: token.revoked_at,
            token: None,
        }
    }
}
