//! API tokens: list, make, revoke. A token is answered once, when it is made.

use actix_web::{HttpResponse, get, post};
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::call::{Call, Fields, timestamp, write_cursor};
use super::{Answer, ProblemBody};
use crate::domain::Permission;
use crate::domain::error::{Error, Noun, Result, Rule};
use crate::domain::names::{TenantId, TokenId};
use crate::http::Mount;
use crate::service::tokens::{NewToken, Token};

pub(super) fn mount(routes: &mut Mount<'_>) {
    routes.service(list).service(create).service(revoke);
}

/// A token, as this dialect answers it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TokenAnswer {
    id: uuid::Uuid,
    name: String,
    /// Its first characters.
    hint: String,
    permissions: Vec<Permission>,
    /// The one tenant that it works in; null for all.
    tenant_id: Option<uuid::Uuid>,
    created_by: String,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
    /// To the minute.
    #[serde(with = "time::serde::rfc3339::option")]
    last_used_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    revoked_at: Option<OffsetDateTime>,
    /// The token itself; only in the answer that makes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

/// A part of the tokens.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TokenList {
    data: Vec<TokenAnswer>,
    /// Ask with it as `cursor` for what follows; null at the end.
    next_cursor: Option<String>,
}

/// What makes a token.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body in the OpenAPI document")]
#[serde(deny_unknown_fields)]
pub(super) struct NewTokenBody {
    /// What it is for.
    #[schema(
        min_length = 1,
        max_length = 255,
        pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*[^\\s\\u0000-\\u001f\\u007f-\\u009f][^\\u0000-\\u001f\\u007f-\\u009f]*$"
    )]
    name: String,
    /// What it may do; no more than its maker.
    #[schema(min_items = 1)]
    permissions: Vec<Permission>,
    /// The one tenant that it works in.
    tenant_id: Option<uuid::Uuid>,
    /// When it ends, if it does.
    #[schema(format = "date-time")]
    expires_at: Option<String>,
}

/// The tokens that the caller may manage, oldest first, revoked ones too.
#[utoipa::path(tag = "control", operation_id = "ControlListToken", security(("bearer" = [])),
    params(
        ("limit" = Option<u16>, Query, description = "Rows in this answer; 50 where it is not said", minimum = 1, maximum = 100),
        ("cursor" = Option<String>, Query, description = "The next_cursor of the answer before", pattern = "^A[A-Za-v][A-Za-z0-9_-]{30}$"),
    ),
    responses(
        (status = 200, description = "Tokens", body = TokenList),
        (status = 400, description = "A parameter is unknown or not valid", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid token", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "MANAGE_API_KEYS is missing", body = ProblemBody, content_type = "application/problem+json"),
    ))]
#[get("/control/v1/tokens")]
async fn list(call: Call) -> Answer {
    call.ctx.reach(Permission::ManageApiKeys)?;
    let mut query = call.query()?;
    let window = query.window();
    let window = query.finish(Some(window))?;
    let page = call.services().tokens.page(&call.ctx, &window).await?;
    Ok(HttpResponse::Ok().json(TokenList {
        next_cursor: page.next.map(write_cursor),
        data: page.rows.into_iter().map(TokenAnswer::from).collect(),
    }))
}

/// Makes a token that can do no more than its maker, and answers it this once.
#[utoipa::path(tag = "control", operation_id = "ControlCreateToken", security(("bearer" = [])), request_body = NewTokenBody, responses(
    (status = 201, description = "The token", body = TokenAnswer),
    (status = 400, description = "The body is not valid; every bad field is named", body = ProblemBody, content_type = "application/problem+json"),
    (status = 401, description = "No valid token", body = ProblemBody, content_type = "application/problem+json"),
    (status = 403, description = "MANAGE_API_KEYS is missing, or something that the token would be allowed", body = ProblemBody, content_type = "application/problem+json"),
    (status = 404, description = "No such tenant", body = ProblemBody, content_type = "application/problem+json"),
))]
#[post("/control/v1/tokens")]
async fn create(call: Call) -> Answer {
    let reach = call.ctx.reach(Permission::ManageApiKeys)?;
    call.query()?.finish(Some(()))?;
    let wish = wish(call.body()?)?;
    if wish.tenant.is_some_and(|tenant| !reach.covers(tenant)) {
        return Err(Error::NotFound(Noun::Tenant).into());
    }
    let (token, secret) = call.services().tokens.create(&call.ctx, wish).await?;
    let answer = TokenAnswer { token: Some(secret.expose().to_owned()), ..token.into() };
    Ok(HttpResponse::Created().json(answer))
}

/// Ends a token at once, in every process. Revoking twice is as good as once.
#[utoipa::path(tag = "control", operation_id = "ControlRevokeToken", security(("bearer" = [])),
    params(("id" = uuid::Uuid, Path, description = "The token's id")),
    responses(
        (status = 200, description = "The token, revoked", body = TokenAnswer),
        (status = 401, description = "No valid token", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "MANAGE_API_KEYS is missing", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "No such token, or none that the caller may know of", body = ProblemBody, content_type = "application/problem+json"),
    ))]
#[post("/control/v1/tokens/{id}/revoke")]
async fn revoke(call: Call) -> Answer {
    call.ctx.reach(Permission::ManageApiKeys)?;
    call.nothing_else()?;
    let id = call.path("id")?.parse().map_err(|_no_id| Error::NotFound(Noun::Token))?;
    let token = call.services().tokens.end(&call.ctx, TokenId::new(id)).await?;
    Ok(HttpResponse::Ok().json(TokenAnswer::from(token)))
}

fn wish(mut body: Fields) -> Result<NewToken> {
    let name = body.required("name", |text| Ok(text.to_owned()));
    let permissions = permissions(&mut body);
    let tenant = body.optional("tenant_id", |text| {
        text.parse().map(TenantId::new).map_err(|_no_id| Rule::UuidFormat)
    });
    let expires_at = body.optional("expires_at", timestamp);
    let wish = || Some(NewToken { name: name?, permissions: permissions?, expires_at, tenant });
    let wish = wish();
    body.finish(wish)
}

/// The permissions of a body, each once; one that is none is named by its place.
fn permissions(body: &mut Fields) -> Option<Vec<Permission>> {
    let names = match body.value("permissions") {
        Some(Value::Array(names)) => names,
        None => {
            body.refuse("permissions", Rule::Required);
            return None;
        }
        Some(_) => {
            body.refuse("permissions", Rule::Type("array"));
            return None;
        }
    };
    let mut permissions = Vec::new();
    for (place, name) in names.iter().enumerate() {
        match name.as_str().map(str::parse) {
            Some(Ok(permission)) if permissions.contains(&permission) => {}
            Some(Ok(permission)) => permissions.push(permission),
            Some(Err(_)) => body.refuse_inside("permissions", place, Rule::Permission),
            None => body.refuse_inside("permissions", place, Rule::Type("string")),
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
