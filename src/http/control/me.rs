//! The caller's own account: who it is, its sessions, its password.

use actix_web::{HttpResponse, delete, get, post};
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::PROBLEM_JSON;
use super::call::{Call, window, write_cursor};
use super::responses::{InvalidParameter, SessionRequired, Unexpected};
use super::{Answer, ProblemBody};
use crate::domain::error::{AuthProblem, Error, Noun};
use crate::domain::names::{NewPassword, Password, TenantId, UserId};
use crate::domain::rule::Rule;
use crate::domain::status::TenantStatus;
use crate::domain::{Permission, Role};
use crate::http::Mount;
use crate::service::me::{Credential, Identified, TenantRole, Who};
use crate::service::sessions::Session;

pub(super) fn mount(routes: &mut Mount<'_>) {
    routes
        .service(read)
        .service(list_sessions)
        .service(end_other_sessions)
        .service(end_session)
        .service(change_password);
}

/// What kind of caller it is.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// The holder of the root token.
    Root,
    /// The operator at the command line.
    Operator,
    /// A user who has logged in.
    User,
    /// The holder of an API token.
    Token,
    /// The holder of an API key.
    ApiKey,
    /// The person behind a profile.
    Profile,
}

/// The caller.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MeAnswer {
    kind: Kind,
    /// The id of the user, or of the token or API key; null for root.
    #[schema(required)]
    id: Option<uuid::Uuid>,
    /// The user's e-mail address; null unless the caller is a user, as are the names.
    #[schema(required)]
    email: Option<String>,
    #[schema(required)]
    first_name: Option<String>,
    #[schema(required)]
    last_name: Option<String>,
    /// The name of the token or API key; null for other callers.
    #[schema(required)]
    name: Option<String>,
    /// The user that the caller is, or works for; null if there is none.
    #[schema(required)]
    user_id: Option<uuid::Uuid>,
    /// The only tenant that the token or API key works in; null for other callers.
    #[schema(required)]
    tenant_id: Option<uuid::Uuid>,
    /// The session of the access token; null for other credentials.
    #[schema(required)]
    session_id: Option<uuid::Uuid>,
    /// The user's role in every tenant; null if there is none.
    #[schema(required)]
    platform_role: Option<Role>,
    /// The user's role in each of their tenants, by slug.
    roles: Vec<RoleAnswer>,
    /// The permissions that the caller holds at least somewhere: everywhere, in `tenant_id`, or in a tenant of `roles`.
    permissions: Vec<Permission>,
}

/// A role in one tenant.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OwnRole)]
struct RoleAnswer {
    tenant_id: uuid::Uuid,
    slug: String,
    name: String,
    /// Only an active tenant answers requests.
    status: TenantStatus,
    role: Role,
    /// The permissions that the role grants in this tenant.
    permissions: Vec<Permission>,
}

/// A session of the caller.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OwnSession)]
pub(super) struct SessionAnswer {
    id: uuid::Uuid,
    /// Whether this request belongs to it.
    current: bool,
    /// The user agent that last opened or refreshed the session, up to 200 characters; null if it is not known.
    #[schema(required)]
    client: Option<String>,
    /// When the user logged in.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    /// When it was last used, to the minute; null if it is not known.
    #[serde(with = "time::serde::rfc3339::option")]
    #[schema(required)]
    last_used_at: Option<OffsetDateTime>,
    /// When it ends unless it is refreshed.
    #[serde(with = "time::serde::rfc3339")]
    expires_at: OffsetDateTime,
}

/// A page of sessions.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OwnSessionList)]
pub(super) struct SessionList {
    data: Vec<SessionAnswer>,
    /// The `cursor` of the next request; null on the last page.
    next_cursor: Option<String>,
}

/// How many sessions were ended.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EndedAnswer {
    sessions_ended: u64,
}

/// The body that changes the caller's password.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body in the OpenAPI document")]
#[serde(deny_unknown_fields)]
pub(super) struct PasswordBody {
    /// The present password.
    #[schema(min_length = 8, max_length = 1024)]
    current_password: String,
    /// At least 8 characters, at most 1,024 bytes, none of the most common.
    #[schema(min_length = 8, max_length = 1024)]
    new_password: String,
}

/// Returns who the caller is and what they may do, whatever their credential.
#[utoipa::path(tag = "control", operation_id = "getMe", security(("bearer" = [])),
    responses((status = 200, description = "The caller", body = MeAnswer), Unexpected))]
#[get("/control/v1/me")]
async fn read(call: Call) -> Answer {
    call.ctx.require_authenticated()?;
    call.nothing_else()?;
    let me = call.services().me.who(&call.ctx).await?;
    Ok(HttpResponse::Ok().json(MeAnswer::from(me)))
}

/// Lists the caller's sessions that have not ended, the latest log-in first.
#[utoipa::path(tag = "control", operation_id = "listOwnSessions", security(("bearer" = [])),
    params(
        ("limit" = Option<u16>, Query, description = "Rows in this response; default: 50", minimum = 1, maximum = 100),
        ("cursor" = Option<String>, Query, description = "The next_cursor of the previous response", pattern = "^A[A-Za-v][A-Za-z0-9_-]{30}$"),
    ),
    responses(
        (status = 200, description = "A page of sessions", body = SessionList),
        InvalidParameter, SessionRequired,
    ))]
#[get("/control/v1/me/sessions")]
async fn list_sessions(call: Call) -> Answer {
    let (_user, current) = call.ctx.require_session()?;
    let mut query = call.query()?;
    let window = window(&mut query);
    let window = query.finish(Some(window))?;
    let page = call.services().me.sessions(&call.ctx, &window).await?;
    let answer = |session: Session| SessionAnswer {
        current: session.id == current,
        id: session.id,
        client: Some(session.client).filter(|client| !client.is_empty()),
        created_at: session.opened_at,
        last_used_at: session.last_used_at,
        expires_at: session.expires_at,
    };
    Ok(HttpResponse::Ok().json(SessionList {
        next_cursor: page.next.map(write_cursor),
        data: page.rows.into_iter().map(answer).collect(),
    }))
}

/// Ends all sessions of the caller but the one of this request, at once, in every server process.
#[utoipa::path(tag = "control", operation_id = "endOtherSessions", security(("bearer" = [])),
    responses(
        (status = 200, description = "The others have ended", body = EndedAnswer),
        Unexpected, SessionRequired,
    ))]
#[delete("/control/v1/me/sessions")]
async fn end_other_sessions(call: Call) -> Answer {
    call.ctx.require_session()?;
    call.nothing_else()?;
    let sessions_ended = call.services().me.end_other_sessions(&call.ctx).await?;
    Ok(HttpResponse::Ok().json(EndedAnswer { sessions_ended }))
}

/// Ends a session of the caller, at once, in every server process. It can be the one of this request.
#[utoipa::path(tag = "control", operation_id = "endOwnSession", security(("bearer" = [])),
    params(("id" = uuid::Uuid, Path, description = "The id of the session")),
    responses(
        (status = 204, description = "The session has ended"),
        Unexpected, SessionRequired,
        (status = 404, description = "The caller has no such session, or it has ended", body = ProblemBody, content_type = PROBLEM_JSON),
    ))]
#[delete("/control/v1/me/sessions/{id}")]
async fn end_session(call: Call) -> Answer {
    call.ctx.require_session()?;
    call.nothing_else()?;
    let id = call.path("id")?.parse().map_err(|_no_id| Error::NotFound(Noun::Session))?;
    call.services().me.end_session(&call.ctx, id).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Changes the caller's password and ends all their sessions but the one of this request.
///
/// A wrong present password counts as a wrong password at a log-in does. Tokens and API keys stay.
#[utoipa::path(tag = "control", operation_id = "changeOwnPassword", security(("bearer" = [])), request_body = PasswordBody,
    responses(
        (status = 200, description = "The password is changed", body = EndedAnswer),
        (status = 400, description = "The body is not valid, or the present password is wrong; `errors` lists every invalid field", body = ProblemBody, content_type = PROBLEM_JSON),
        SessionRequired,
        (status = 409, description = "Another request changed the password at the same moment", body = ProblemBody, content_type = PROBLEM_JSON),
    ))]
#[post("/control/v1/me/password")]
async fn change_password(call: Call) -> Answer {
    call.ctx.require_session()?;
    call.query()?.finish(Some(()))?;
    let mut body = call.body()?;
    let current = body.required("current_password", Password::parse);
    let new = body.required("new_password", NewPassword::parse);
    let (current, new) = body.finish(current.zip(new))?;
    let me = &call.services().me;
    let account = me.email(&call.ctx).await?;
    let attempt = call.site().limits.password(account.as_str(), call.ctx.client).await?;
    let changed = me.change_password(&call.ctx, &current, &new).await;
    attempt.settle(&changed);
    match changed {
        // Not 401: the access token is as good as it was, and a client would only refresh it.
        Err(Error::Unauthenticated(AuthProblem::WrongPassword)) => {
            Err(Error::invalid("current_password", Rule::WrongPassword).into())
        }
        changed => Ok(HttpResponse::Ok().json(EndedAnswer { sessions_ended: changed? })),
    }
}

impl MeAnswer {
    /// Returns an answer about a caller of a kind, of whom nothing else is known.
    fn of(kind: Kind, roles: Vec<RoleAnswer>, permissions: Vec<Permission>) -> Self {
        Self {
            kind,
            id: None,
            email: None,
            first_name: None,
            last_name: None,
            name: None,
            user_id: None,
            tenant_id: None,
            session_id: None,
            platform_role: None,
            roles,
            permissions,
        }
    }

    fn with(self, credential: Credential) -> Self {
        Self {
            id: Some(credential.id.uuid()),
            name: Some(credential.name),
            user_id: credential.user.map(UserId::uuid),
            tenant_id: credential.tenant.map(TenantId::uuid),
            ..self
        }
    }
}

impl From<Identified> for MeAnswer {
    fn from(me: Identified) -> Self {
        let roles = me.roles.into_iter().map(RoleAnswer::from).collect();
        let of = |kind| Self::of(kind, roles, me.permissions);
        match me.who {
            Who::Root => of(Kind::Root),
            Who::Operator => of(Kind::Operator),
            Who::Token(credential) => of(Kind::Token).with(credential),
            Who::ApiKey(credential) => of(Kind::ApiKey).with(credential),
            Who::Profile(credential) => of(Kind::Profile).with(credential),
            Who::User { user, session } => Self {
                id: Some(user.id.uuid()),
                user_id: Some(user.id.uuid()),
                email: Some(user.email.to_string()),
                first_name: Some(user.first_name.to_string()),
                last_name: Some(user.last_name.to_string()),
                session_id: Some(session),
                platform_role: user.platform_role,
                ..of(Kind::User)
            },
        }
    }
}

impl From<TenantRole> for RoleAnswer {
    fn from(TenantRole { tenant, role }: TenantRole) -> Self {
        Self {
            tenant_id: tenant.id.uuid(),
            slug: tenant.slug.to_string(),
            name: tenant.name.to_string(),
            status: tenant.status,
            role,
            permissions: Permission::ALL.iter().copied().filter(|p| role.grants(*p)).collect(),
        }
    }
}
