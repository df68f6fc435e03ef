//! API tokens: list, create, rotate, revoke; API keys and xtokens: list, rotate, revoke. Only the response that creates
//! or rotates a token contains it.

use actix_web::{HttpResponse, get, post};
use serde::Serialize;
use time::{Duration, OffsetDateTime};
use utoipa::ToSchema;

use super::PROBLEM_JSON;
use super::call::{Call, timestamp, window, write_cursor};
use super::responses::{Forbidden, InvalidBody, InvalidParameter, NoSuchTenant};
use super::{Answer, ProblemBody};
use crate::domain::error::{Error, Noun, Result};
use crate::domain::names::{TenantId, TokenId, UserId};
use crate::domain::rule::Rule;
use crate::domain::{Permission, ProfileId, TokenKind};
use crate::http::Mount;
use crate::http::body::Fields;
use crate::http::responses::ManageApiKeys;
use crate::service::tokens::{Filter, NewToken, OVERLAP_MAX, Rotation, Token, TokenState};

pub(super) fn mount(routes: &mut Mount<'_>) {
    routes.service(list).service(create).service(rotate).service(revoke);
}

/// An API token, or another stored credential.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TokenAnswer {
    id: uuid::Uuid,
    kind: TokenKind,
    name: String,
    /// The first characters of the token.
    hint: String,
    permissions: Vec<Permission>,
    /// The only tenant that the token works in; null for all tenants.
    tenant_id: Option<uuid::Uuid>,
    /// The only profile that the token reads; null unless it is a person's own.
    profile_id: Option<uuid::Uuid>,
    /// The user that the token works for: it ends when the user leaves, and permits no more than the user may do.
    user_id: Option<uuid::Uuid>,
    /// The token that made this one, and with which it ends.
    parent_id: Option<uuid::Uuid>,
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
    /// When the secret was last replaced.
    #[serde(with = "time::serde::rfc3339::option")]
    rotated_at: Option<OffsetDateTime>,
    /// Until when the secret before that is good; null if it ended at once.
    #[serde(with = "time::serde::rfc3339::option")]
    previous_until: Option<OffsetDateTime>,
    /// The token itself; only in the response that creates or rotates it.
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
    /// When the token expires; without it the token expires as the settings say (`tokens.default_lifetime`, else
    /// `tokens.max_lifetime`, else never), and with the token that makes it.
    #[schema(format = "date-time")]
    expires_at: Option<String>,
}

/// The body that rotates a token.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body in the OpenAPI document")]
#[serde(deny_unknown_fields)]
pub(super) struct RotationBody {
    /// How long the old secret stays good, such as `90s`, `12h` or `7d`, at most 30 days; `0s` ends it at once. Default:
    /// `tokens.rotation_overlap`.
    overlap: Option<String>,
    /// When the token expires from now on; without it the token expires when it did before.
    #[schema(format = "date-time")]
    expires_at: Option<String>,
}

/// Lists the API tokens, API keys and xtokens that the caller manages, oldest first, revoked ones included. The xtokens
/// of people, which are many and expire soon, are listed with `kind=person` alone.
#[utoipa::path(tag = "control", operation_id = "listTokens", security(("bearer" = [])),
    params(
        ("limit" = Option<u16>, Query, description = "Rows in this response; default: 50", minimum = 1, maximum = 100),
        ("cursor" = Option<String>, Query, description = "The next_cursor of the previous response", pattern = "^A[A-Za-v][A-Za-z0-9_-]{30}$"),
        ("kind" = Option<TokenKind>, Query, description = "Only those of this kind"),
        ("tenant_id" = Option<uuid::Uuid>, Query, description = "Only credentials that are bound to this tenant"),
        ("status" = Option<String>, Query, description = "Only credentials in this state: active, revoked or expired", pattern = "^(active|revoked|expired)$"),
        ("q" = Option<String>, Query, description = "Only credentials whose name contains this text, ignoring case"),
    ),
    responses(
        (status = 200, description = "A page of tokens", body = TokenList),
        InvalidParameter, Forbidden<ManageApiKeys>, NoSuchTenant,
    ))]
#[get("/control/v1/tokens")]
async fn list(call: Call) -> Answer {
    call.ctx.reach(Permission::ManageApiKeys)?;
    let mut query = call.query()?;
    let window = window(&mut query);
    let kind = query
        .optional("kind", |text| text.parse().map_err(|_unknown| Rule::OneOf(TokenKind::NAMES)));
    let tenant = query.optional("tenant_id", tenant_id);
    let state = query
        .optional("status", |text| text.parse().map_err(|_unknown| Rule::OneOf(TokenState::WORDS)));
    let q = query.optional("q", |text| Ok(text.to_owned()));
    let (filter, window) = query.finish(Some((Filter { kind, tenant, state, q }, window)))?;
    let page = call.services().tokens.page(&call.ctx, &filter, &window).await?;
    Ok(HttpResponse::Ok().json(TokenList {
        next_cursor: page.next.map(write_cursor),
        data: page.rows.into_iter().map(TokenAnswer::from).collect(),
    }))
}

/// Creates an API token with no permission that its creator lacks. Only this response contains the token. A token that is
/// created with another one ends no later than that one, and with it.
#[utoipa::path(tag = "control", operation_id = "createToken", security(("bearer" = [])), request_body = NewTokenBody, responses(
    (status = 201, description = "The new token", body = TokenAnswer),
    InvalidBody,
    (status = 403, description = "MANAGE_API_KEYS or a permission of the new token is missing", body = ProblemBody, content_type = PROBLEM_JSON),
    NoSuchTenant,
    (status = 409, description = "The token that would make this one was made by too many others, one after the other", body = ProblemBody, content_type = PROBLEM_JSON),
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

/// Gives an API token, an API key or an xtoken a new secret, which only this response contains. The id stays, and the old
/// secret stays good for an overlap, so that its users can change over without a refused request; the one before the old
/// one ends at once. Only the root token, the user that it works for, the token itself and one that made it can rotate it.
#[utoipa::path(tag = "control", operation_id = "rotateToken", security(("bearer" = [])), request_body = Option<RotationBody>,
    params(("id" = uuid::Uuid, Path, description = "The id of the token")),
    responses(
        (status = 200, description = "The token with its new secret", body = TokenAnswer),
        InvalidBody,
        (status = 403, description = "MANAGE_API_KEYS is missing, or the caller manages the token and must not have its secret", body = ProblemBody, content_type = PROBLEM_JSON),
        (status = 404, description = "No such token, or one that the caller cannot see", body = ProblemBody, content_type = PROBLEM_JSON),
        (status = 409, description = "The token is revoked or has expired", body = ProblemBody, content_type = PROBLEM_JSON),
    ))]
#[post("/control/v1/tokens/{id}/rotate")]
async fn rotate(call: Call) -> Answer {
    call.ctx.reach(Permission::ManageApiKeys)?;
    call.query()?.finish(Some(()))?;
    let id = call.path("id")?.parse().map_err(|_no_id| Error::NotFound(Noun::Token))?;
    let rotation = rotation(call.optional_body()?)?;
    let rotated = call.services().tokens.rotate(&call.ctx, TokenId::new(id), rotation).await?;
    let (token, secret) = rotated;
    // Known as good from the start, so that wrong tokens from the same address do not delay the change-over.
    call.site().limits.expect(secret.expose());
    let answer = TokenAnswer { token: Some(secret.expose().to_owned()), ..token.into() };
    Ok(HttpResponse::Ok().json(answer))
}

/// Revokes an API token, an API key or an xtoken, and all that it made. They stop working at once, in every server
/// process. Revoking it again changes nothing.
#[utoipa::path(tag = "control", operation_id = "revokeToken", security(("bearer" = [])),
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
    let tenant = body.optional("tenant_id", tenant_id);
    let expires_at = body.optional("expires_at", timestamp);
    let command = || Some(NewToken { name: name?, permissions: permissions?, expires_at, tenant });
    let command = command();
    body.finish(command)
}

fn rotation(mut body: Fields) -> Result<Rotation> {
    let overlap = body.optional("overlap", overlap);
    let expires_at = body.optional("expires_at", timestamp);
    body.finish(Some(Rotation { overlap, expires_at }))
}

/// Parses the overlap of a rotation.
fn overlap(text: &str) -> Result<Duration, Rule> {
    let length = humantime::parse_duration(text).map_err(|_no_length| Rule::Lifetime)?;
    Duration::try_from(length).map_err(|_too_long| Rule::AtMost(OVERLAP_MAX))
}

fn tenant_id(text: &str) -> Result<TenantId, Rule> {
    text.parse().map(TenantId::new).map_err(|_no_id| Rule::UuidFormat)
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
            kind: token.kind,
            name: token.name,
            hint: token.hint,
            permissions: token.permissions,
            tenant_id: token.tenant.map(TenantId::uuid),
            profile_id: token.profile.map(ProfileId::uuid),
            user_id: token.user.map(UserId::uuid),
            parent_id: token.parent.map(TokenId::uuid),
            created_by: token.created_by,
            created_at: token.created_at,
            expires_at: token.expires_at,
            last_used_at: token.last_used_at,
            revoked_at: token.revoked_at,
            rotated_at: token.rotated_at,
            previous_until: token.previous_until,
            token: None,
        }
    }
}
