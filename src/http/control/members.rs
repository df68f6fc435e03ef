//! The members of a tenant: list, add, change role, remove.

use actix_web::{HttpResponse, delete, get, patch, post};
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::PROBLEM_JSON;
use super::call::{Call, window, write_cursor};
use super::persons::{PersonNameText, describes_person, person};
use super::responses::{
    Forbidden, InvalidBody, InvalidParameter, LastAdmin, NoSuchMember, NoSuchTenant,
};
use super::{Answer, ProblemBody};
use crate::domain::error::{Error, Noun, Result};
use crate::domain::names::{Email, UserId};
use crate::domain::rule::Rule;
use crate::domain::{Permission, Role};
use crate::http::Mount;
use crate::http::body::Fields;
use crate::http::responses::ViewUsers;
use crate::service::members::{Member, NewMember};

pub(super) fn mount(routes: &mut Mount<'_>) {
    routes.service(list).service(add).service(set_role).service(remove);
}

/// The roles that a member can have; `SUPER_ADMIN` is a global role.
const ROLES: &[&str] = &["ADMIN", "FDE", "VIEWER"];

/// The role of a member.
#[derive(ToSchema)]
#[schema(rename_all = "UPPERCASE")]
#[expect(dead_code, reason = "describes a field in the OpenAPI document")]
pub(super) enum MemberRole {
    /// Administers the tenant.
    Admin,
    /// Reads and writes the tenant's data.
    Fde,
    /// Reads the tenant's data.
    Viewer,
}

/// A member of a tenant.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MemberAnswer {
    user_id: uuid::Uuid,
    email: String,
    first_name: String,
    last_name: String,
    #[schema(value_type = MemberRole)]
    role: Role,
    /// When the user became a member.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
}

/// A page of members.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MemberList {
    data: Vec<MemberAnswer>,
    /// The `cursor` of the next request; null on the last page.
    next_cursor: Option<String>,
}

/// The body that adds a member.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body in the OpenAPI document")]
#[serde(untagged)]
pub(super) enum MemberBody {
    /// An existing user.
    Existing(ExistingMemberBody),
    /// A new user. If a user with this e-mail address exists, that user is added: unchanged if the address is proven,
    /// else with this password.
    New(NewMemberBody),
}

/// An existing user.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body in the OpenAPI document")]
#[serde(deny_unknown_fields)]
pub(super) struct ExistingMemberBody {
    #[schema(format = "email", max_length = 254)]
    email: String,
    role: MemberRole,
}

/// A new user.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body in the OpenAPI document")]
#[serde(deny_unknown_fields)]
pub(super) struct NewMemberBody {
    #[schema(format = "email", max_length = 254)]
    email: String,
    role: MemberRole,
    /// At least 8 characters, at most 1,024 bytes, none of the most common.
    #[schema(min_length = 8, max_length = 1024)]
    password: String,
    #[schema(inline)]
    first_name: PersonNameText,
    #[schema(inline)]
    last_name: PersonNameText,
}

/// The body that changes a member.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body in the OpenAPI document")]
#[serde(deny_unknown_fields)]
pub(super) struct MemberPatchBody {
    role: MemberRole,
}

/// Lists the members of a tenant, the earliest member first.
#[utoipa::path(tag = "control", operation_id = "listMembers", security(("bearer" = [])),
    params(
        ("tenant" = String, Path, description = "The id or the slug of the tenant"),
        ("limit" = Option<u16>, Query, description = "Rows in this response; default: 50", minimum = 1, maximum = 100),
        ("cursor" = Option<String>, Query, description = "The next_cursor of the previous response", pattern = "^A[A-Za-v][A-Za-z0-9_-]{30}$"),
    ),
    responses(
        (status = 200, description = "A page of members", body = MemberList),
        InvalidParameter, Forbidden<ViewUsers>, NoSuchTenant,
    ))]
#[get("/control/v1/tenants/{tenant}/members")]
async fn list(call: Call) -> Answer {
    call.ctx.reach(Permission::ViewUsers)?;
    let mut query = call.query()?;
    let window = window(&mut query);
    let window = query.finish(Some(window))?;
    let tenant = call.path("tenant")?;
    let page = call.services().members.list(&call.ctx, &tenant, &window).await?;
    Ok(HttpResponse::Ok().json(MemberList {
        next_cursor: page.next.map(write_cursor),
        data: page.rows.into_iter().map(MemberAnswer::from).collect(),
    }))
}

/// Adds a user to a tenant; creates the user if it does not exist and the body describes it. Only the root and a
/// `SUPER_ADMIN` can; other callers create an invitation.
#[utoipa::path(tag = "control", operation_id = "addMember", security(("bearer" = [])), request_body = MemberBody,
    params(("tenant" = String, Path, description = "The id or the slug of the tenant")),
    responses(
        (status = 201, description = "The new member", body = MemberAnswer),
        (status = 400, description = "The body is not valid, or no user has the e-mail address", body = ProblemBody, content_type = PROBLEM_JSON),
        (status = 403, description = "The caller is neither the root nor a SUPER_ADMIN, and creates an invitation instead (`invitation_required`); or MANAGE_MEMBERS is missing", body = ProblemBody, content_type = PROBLEM_JSON),
        NoSuchTenant,
        (status = 409, description = "The user is already a member, or the tenant is being deleted", body = ProblemBody, content_type = PROBLEM_JSON),
    ))]
#[post("/control/v1/tenants/{tenant}/members")]
async fn add(call: Call) -> Answer {
    call.ctx.reach(Permission::ManageMembers)?;
    call.query()?.finish(Some(()))?;
    let command = command(call.body()?)?;
    let tenant = call.path("tenant")?;
    let member = call.services().members.add(&call.ctx, &tenant, &command).await?;
    Ok(HttpResponse::Created().json(MemberAnswer::from(member)))
}

/// Changes a member's role.
#[utoipa::path(tag = "control", operation_id = "setMemberRole", security(("bearer" = [])), request_body = MemberPatchBody,
    params(
        ("tenant" = String, Path, description = "The id or the slug of the tenant"),
        ("user_id" = uuid::Uuid, Path, description = "The id of the user"),
    ),
    responses(
        (status = 200, description = "The changed member", body = MemberAnswer),
        InvalidBody,
        (status = 403, description = "MANAGE_MEMBERS or a permission of the old or the new role is missing", body = ProblemBody, content_type = PROBLEM_JSON),
        NoSuchMember, LastAdmin,
    ))]
#[patch("/control/v1/tenants/{tenant}/members/{user_id}")]
async fn set_role(call: Call) -> Answer {
    call.ctx.reach(Permission::ManageMembers)?;
    call.query()?.finish(Some(()))?;
    let mut body = call.body()?;
    let role = body.required("role", role);
    let role = body.finish(role)?;
    let (tenant, user) = (call.path("tenant")?, user(&call)?);
    let member = call.services().members.set_role(&call.ctx, &tenant, user, role).await?;
    Ok(HttpResponse::Ok().json(MemberAnswer::from(member)))
}

/// Removes a member from a tenant, with immediate effect. The user itself is kept.
#[utoipa::path(tag = "control", operation_id = "removeMember", security(("bearer" = [])),
    params(
        ("tenant" = String, Path, description = "The id or the slug of the tenant"),
        ("user_id" = uuid::Uuid, Path, description = "The id of the user"),
    ),
    responses(
        (status = 204, description = "The member is removed"),
        (status = 403, description = "MANAGE_MEMBERS or a permission of the role is missing", body = ProblemBody, content_type = PROBLEM_JSON),
        NoSuchMember, LastAdmin,
    ))]
#[delete("/control/v1/tenants/{tenant}/members/{user_id}")]
async fn remove(call: Call) -> Answer {
    call.ctx.reach(Permission::ManageMembers)?;
    call.nothing_else()?;
    let (tenant, user) = (call.path("tenant")?, user(&call)?);
    call.services().members.remove(&call.ctx, &tenant, user).await?;
    Ok(HttpResponse::NoContent().finish())
}

fn command(mut body: Fields) -> Result<NewMember> {
    let is_new = describes_person(&body);
    let email = body.required("email", Email::parse);
    let role = body.required("role", role);
    let person = if is_new { person(&mut body) } else { None };
    let command = || Some(NewMember { email: email?, role: role?, person });
    let command = command();
    body.finish(command)
}

pub(super) fn role(text: &str) -> Result<Role, Rule> {
    if ROLES.contains(&text) {
        text.parse().map_err(|_no_role| Rule::OneOf(ROLES))
    } else {
        Err(Rule::OneOf(ROLES))
    }
}

/// Reads the member in the path; a text that is not an id is answered as an unknown member.
fn user(call: &Call) -> Result<UserId> {
    let id = call.path("user_id")?.parse();
    id.map(UserId::new).map_err(|_no_id| Error::NotFound(Noun::Member))
}

impl From<Member> for MemberAnswer {
    fn from(member: Member) -> Self {
        Self {
            user_id: member.user.uuid(),
            email: member.email.to_string(),
            first_name: member.first_name.to_string(),
            last_name: member.last_name.to_string(),
            role: member.role,
            created_at: member.since,
        }
    }
}
