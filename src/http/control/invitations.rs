//! Invitations to a tenant: create, list, revoke, accept. Only the response that creates an invitation contains its
//! token.

use actix_web::{HttpResponse, get, post};
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::PROBLEM_JSON;
use super::call::{Call, window, write_cursor};
use super::members::{MemberRole, role};
use super::persons::{PersonNameText, person};
use super::responses::{Forbidden, InvalidBody, InvalidParameter, NoSuchTenant};
use super::{Answer, ProblemBody};
use crate::auth::Principal;
use crate::domain::error::{Error, Noun, Result};
use crate::domain::names::{Email, InvitationId};
use crate::domain::rule::Rule;
use crate::domain::{Permission, Role};
use crate::http::Mount;
use crate::http::body::Fields;
use crate::http::responses::ManageMembers;
use crate::service::invitations::{Acceptance, Invitation};
use crate::service::members::NewPerson;

pub(super) fn mount(routes: &mut Mount<'_>) {
    routes.service(list).service(create).service(revoke).service(accept);
}

/// An invitation to a tenant.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct InvitationAnswer {
    id: uuid::Uuid,
    tenant_id: uuid::Uuid,
    /// The invited address.
    email: String,
    #[schema(value_type = MemberRole)]
    role: Role,
    /// The inviter: `user:<id>`, `token:<id>`, `root` or `operator`.
    created_by: String,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    expires_at: OffsetDateTime,
    /// When the invitation was accepted; null until then.
    #[serde(with = "time::serde::rfc3339::option")]
    accepted_at: Option<OffsetDateTime>,
    /// When the invitation was revoked; null if it was not.
    #[serde(with = "time::serde::rfc3339::option")]
    revoked_at: Option<OffsetDateTime>,
    /// The token that accepts the invitation; only in the response that creates it. Hand it to the invited person.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

/// A page of invitations.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct InvitationList {
    data: Vec<InvitationAnswer>,
    /// The `cursor` of the next request; null on the last page.
    next_cursor: Option<String>,
}

/// The membership that an invitation led to.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AcceptanceAnswer {
    tenant_id: uuid::Uuid,
    tenant_slug: String,
    tenant_name: String,
    user_id: uuid::Uuid,
    email: String,
    #[schema(value_type = MemberRole)]
    role: Role,
}

/// The body that creates an invitation.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body in the OpenAPI document")]
#[serde(deny_unknown_fields)]
pub(super) struct NewInvitationBody {
    #[schema(format = "email", max_length = 254)]
    email: String,
    role: MemberRole,
}

/// The body that accepts an invitation.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body in the OpenAPI document")]
#[serde(untagged)]
pub(super) enum AcceptBody {
    /// A user who is logged in accepts the invitation.
    User(InvitedUserBody),
    /// A person without an account accepts the invitation, without a credential.
    Person(InvitedPersonBody),
    /// A user who is logged in agrees to be the admin of a tenant that another caller set up with the user's address.
    Membership(LinkedAdminBody),
}

/// A user who is logged in.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body in the OpenAPI document")]
#[serde(deny_unknown_fields)]
pub(super) struct InvitedUserBody {
    /// The token of the invitation.
    token: String,
}

/// A person without an account.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body in the OpenAPI document")]
#[serde(deny_unknown_fields)]
pub(super) struct InvitedPersonBody {
    /// The token of the invitation.
    token: String,
    #[schema(min_length = 8, max_length = 1024)]
    password: String,
    #[schema(inline)]
    first_name: PersonNameText,
    #[schema(inline)]
    last_name: PersonNameText,
}

/// A user whom another caller made the admin of a tenant.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body in the OpenAPI document")]
#[serde(deny_unknown_fields)]
pub(super) struct LinkedAdminBody {
    /// The id or the slug of the tenant.
    tenant: String,
}

/// Lists the invitations to a tenant, oldest first: also those that are used or revoked, and expired ones for 30 days.
#[utoipa::path(tag = "control", operation_id = "listInvitations", security(("bearer" = [])),
    params(
        ("tenant" = String, Path, description = "The id or the slug of the tenant"),
        ("limit" = Option<u16>, Query, description = "Rows in this response; default: 50", minimum = 1, maximum = 100),
        ("cursor" = Option<String>, Query, description = "The next_cursor of the previous response", pattern = "^A[A-Za-v][A-Za-z0-9_-]{30}$"),
    ),
    responses(
        (status = 200, description = "A page of invitations", body = InvitationList),
        InvalidParameter, Forbidden<ManageMembers>, NoSuchTenant,
    ))]
#[get("/control/v1/tenants/{tenant}/invitations")]
async fn list(call: Call) -> Answer {
    call.ctx.reach(Permission::ManageMembers)?;
    let mut query = call.query()?;
    let window = window(&mut query);
    let window = query.finish(Some(window))?;
    let tenant = call.path("tenant")?;
    let page = call.services().invitations.list(&call.ctx, &tenant, &window).await?;
    Ok(HttpResponse::Ok().json(InvitationList {
        next_cursor: page.next.map(write_cursor),
        data: page.rows.into_iter().map(InvitationAnswer::from).collect(),
    }))
}

/// Invites the owner of an e-mail address to a tenant, for 7 days. Whether the address has an account does not show.
#[utoipa::path(tag = "control", operation_id = "createInvitation", security(("bearer" = [])), request_body = NewInvitationBody,
    params(("tenant" = String, Path, description = "The id or the slug of the tenant")),
    responses(
        (status = 201, description = "The new invitation with its token", body = InvitationAnswer),
        InvalidBody,
        (status = 403, description = "MANAGE_MEMBERS or a permission of the role is missing", body = ProblemBody, content_type = PROBLEM_JSON),
        NoSuchTenant,
        (status = 409, description = "The tenant is being deleted", body = ProblemBody, content_type = PROBLEM_JSON),
    ))]
#[post("/control/v1/tenants/{tenant}/invitations")]
async fn create(call: Call) -> Answer {
    call.ctx.reach(Permission::ManageMembers)?;
    call.query()?.finish(Some(()))?;
    let mut body = call.body()?;
    let email = body.required("email", Email::parse);
    let role = body.required("role", role);
    let (email, role) = body.finish(email.zip(role))?;
    let tenant = call.path("tenant")?;
    let invitations = &call.services().invitations;
    let (invitation, secret) = invitations.create(&call.ctx, &tenant, email, role).await?;
    let token = Some(secret.expose().to_owned());
    Ok(HttpResponse::Created().json(InvitationAnswer { token, ..invitation.into() }))
}

/// Revokes an invitation, with immediate effect. Revoking it again changes nothing.
#[utoipa::path(tag = "control", operation_id = "revokeInvitation", security(("bearer" = [])),
    params(
        ("tenant" = String, Path, description = "The id or the slug of the tenant"),
        ("id" = uuid::Uuid, Path, description = "The id of the invitation"),
    ),
    responses(
        (status = 200, description = "The revoked invitation", body = InvitationAnswer),
        (status = 403, description = "MANAGE_MEMBERS or a permission of the role is missing", body = ProblemBody, content_type = PROBLEM_JSON),
        (status = 404, description = "No such tenant or invitation", body = ProblemBody, content_type = PROBLEM_JSON),
        (status = 409, description = "The tenant is being deleted", body = ProblemBody, content_type = PROBLEM_JSON),
        (status = 410, description = "The invitation is used", body = ProblemBody, content_type = PROBLEM_JSON),
    ))]
#[post("/control/v1/tenants/{tenant}/invitations/{id}/revoke")]
async fn revoke(call: Call) -> Answer {
    call.ctx.reach(Permission::ManageMembers)?;
    call.nothing_else()?;
    let id = call.path("id")?.parse().map_err(|_no_id| Error::NotFound(Noun::Invitation))?;
    let tenant = call.path("tenant")?;
    let invitations = &call.services().invitations;
    let invitation = invitations.revoke(&call.ctx, &tenant, InvitationId::new(id)).await?;
    Ok(HttpResponse::Ok().json(InvitationAnswer::from(invitation)))
}

/// Accepts an invitation. A person with an account sends the access token of that account as a bearer token; a person
/// without one sends no credential, and chooses a name and a password. An invitation can be used once.
#[utoipa::path(tag = "control", operation_id = "acceptInvitation", request_body = AcceptBody,
    responses(
        (status = 200, description = "The membership", body = AcceptanceAnswer),
        InvalidBody,
        (status = 401, description = "An account has the invited address: log in as it (`log_in_required`); or the credential is not valid", body = ProblemBody, content_type = PROBLEM_JSON),
        (status = 403, description = "The caller is logged in with another address (`invitation_for_another_address`) or is no user; or the inviter no longer holds what the role grants (`inviter_lost_rights`)", body = ProblemBody, content_type = PROBLEM_JSON),
        (status = 404, description = "No such invitation, also where its tenant is purged; or no such tenant of the user", body = ProblemBody, content_type = PROBLEM_JSON),
        (status = 409, description = "The user is already a member, or the tenant is not active", body = ProblemBody, content_type = PROBLEM_JSON),
        (status = 410, description = "The invitation is used, expired or revoked", body = ProblemBody, content_type = PROBLEM_JSON),
    ))]
#[post("/control/v1/invitations/accept")]
async fn accept(call: Call) -> Answer {
    call.query()?.finish(Some(()))?;
    let invitations = &call.services().invitations;
    let accepted = match asked(call.body()?, &call.ctx.principal)? {
        Asked::Membership(tenant) => invitations.accept_membership(&call.ctx, &tenant).await?,
        Asked::Invitation { token, person } => {
            let accepted = invitations.accept(&call.ctx, &token, person.as_ref());
            call.presented(&token, accepted).await?
        }
    };
    Ok(HttpResponse::Ok().json(AcceptanceAnswer::from(accepted)))
}

/// What a body accepts.
enum Asked {
    Invitation { token: String, person: Option<NewPerson> },
    Membership(String),
}

/// Reads what a body accepts. A caller without a credential must describe a new person, whether or not the address has
/// an account, so that the answer to an incomplete body does not show it.
fn asked(mut body: Fields, principal: &Principal) -> Result<Asked> {
    let is_anonymous = *principal == Principal::Anonymous;
    if body.has("tenant") && !body.has("token") && !is_anonymous {
        let tenant = body.required("tenant", |text| Ok(text.to_owned()));
        return body.finish(tenant.map(Asked::Membership));
    }
    let token = body.required("token", |text| match text {
        "" => Err(Rule::Required),
        text => Ok(text.to_owned()),
    });
    let person = is_anonymous.then(|| person(&mut body));
    let asked = || {
        let person = match person {
            Some(person) => Some(person?),
            None => None,
        };
        Some(Asked::Invitation { token: token?, person })
    };
    let asked = asked();
    body.finish(asked)
}

impl From<Invitation> for InvitationAnswer {
    fn from(invitation: Invitation) -> Self {
        Self {
            id: invitation.id.uuid(),
            tenant_id: invitation.tenant.uuid(),
            email: invitation.email.to_string(),
            role: invitation.role,
            created_by: invitation.created_by,
            created_at: invitation.created_at,
            expires_at: invitation.expires_at,
            accepted_at: invitation.accepted_at,
            revoked_at: invitation.revoked_at,
            token: None,
        }
    }
}

impl From<Acceptance> for AcceptanceAnswer {
    fn from(accepted: Acceptance) -> Self {
        let Acceptance { tenant, member } = accepted;
        Self {
            tenant_id: tenant.id.uuid(),
            tenant_slug: tenant.slug.to_string(),
            tenant_name: tenant.name.to_string(),
            user_id: member.user.uuid(),
            email: member.email.to_string(),
            role: member.role,
        }
    }
}
