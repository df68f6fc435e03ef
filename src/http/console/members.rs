//! The members of a tenant and its invitations.

use actix_web::HttpResponse;
use askama::Template;
use uuid::Uuid;

use super::Answer;
use super::call::{Call, ROWS, window};
use super::form::Form;
use super::frame::Area;
use super::list::{List, Pages, link};
use super::one_tenant::Tabs;
use super::page::Page;
use super::problem::Problem;
use super::text::When;
use crate::domain::error::{Error, Noun, Result};
use crate::domain::names::{Email, InvitationId, NewPassword, PersonName, TenantId, UserId};
use crate::domain::page::Window;
use crate::domain::rule::Rule;
use crate::domain::{Permission, Role, Tenant};
use crate::service::invitations::Invitation;
use crate::service::members::{Member, NewMember, NewPerson};
use crate::service::tenants::TenantRef;

/// The roles that a member can have, from the lowest.
const ROLES: &[&str] = &["VIEWER", "FDE", "ADMIN"];

/// The most invitations that are shown.
const INVITATIONS: u16 = 50;

/// A member, and why what one would do with them is not possible.
struct Row {
    member: Member,
    is_last_admin: bool,
}

/// What the caller may do with the members.
#[derive(Clone, Copy)]
struct Rights {
    may_manage: bool,
    may_reset: bool,
    /// Whether the caller adds a member directly; every other one invites.
    may_add: bool,
}

/// What the pages know of their tenant.
struct About {
    slug: String,
    name: String,
    status: &'static str,
    tabs: Option<Tabs>,
}

#[derive(Template)]
#[template(path = "members.html")]
struct MembersPage<'a> {
    about: About,
    rows: Vec<Row>,
    pages: Pages,
    invitations: Vec<(Invitation, &'static str)>,
    rights: Rights,
    roles: Vec<&'static str>,
    form: &'a Form,
    /// The link of an invitation that was made just now.
    link: Option<String>,
}

#[derive(Template)]
#[template(path = "member.html")]
struct MemberPage<'a> {
    about: About,
    member: Uuid,
    wants_password: bool,
    form: &'a Form,
}

/// Returns the tenant of the path, as far as the caller may know of it: a member who may not view tenants knows the own
/// one.
async fn tenant(call: &Call) -> Result<(TenantId, About)> {
    let named = call.path("tenant")?;
    if call.may(Permission::ViewTenants) {
        let which = TenantRef::IdOrSlug(named);
        let record = call.services().tenants.read_record(&call.ctx, &which).await?;
        let tabs = Some(Tabs::of(call, &record, "Members"));
        return Ok((record.tenant.id, About { tabs, ..of(&record.tenant) }));
    }
    let roles = call.services().me.who(&call.ctx).await?.roles;
    let is_named = |tenant: &Tenant| {
        tenant.slug.as_str() == named || tenant.id.to_string() == named.to_lowercase()
    };
    let found = roles.into_iter().map(|held| held.tenant).find(is_named);
    let tenant = found.ok_or(Error::NotFound(Noun::Tenant))?;
    Ok((tenant.id, of(&tenant)))
}

fn of(tenant: &Tenant) -> About {
    About {
        slug: tenant.slug.to_string(),
        name: tenant.name.to_string(),
        status: tenant.status.as_str(),
        tabs: None,
    }
}

/// Lists the members, and the invitations for those who may see them.
pub(super) async fn list(call: &Call) -> Answer {
    let form = Form::showing([("role", "ADMIN".to_owned())]);
    let (page, content) = content(call, &form).await?;
    page.show(&content)
}

async fn content<'a, 'b>(call: &'b Call, form: &'a Form) -> Result<(Page<'b>, MembersPage<'a>)> {
    call.ctx.reach(Permission::ViewUsers)?;
    let mut query = call.query()?;
    let window = window(&mut query);
    let window = query.finish(Some(window))?;
    let (id, about) = tenant(call).await?;
    let may = |permission| call.ctx.principal.may_in(permission, id);
    let may_manage = may(Permission::ManageMembers);
    let services = call.services();
    let members = services.members.list(&call.ctx, &about.slug, &window).await?;
    let invitations = if may_manage {
        let first = Window { after: None, limit: INVITATIONS };
        services.invitations.list(&call.ctx, &about.slug, &first).await?.rows
    } else {
        Vec::new()
    };
    let is_whole = window.after.is_none() && members.next.is_none();
    let base = format!("/control/v1/tenants/{}", about.slug);
    let mut page = call.page(Area::Tenants, format!("Members of {}", about.name)).api(link(
        &format!("{base}/members"),
        [("limit", Some(ROWS.to_string())), ("cursor", Some(call.parameter("cursor")))],
    ));
    if may_manage {
        page = page.api(format!("{base}/invitations?limit={INVITATIONS}"));
    }
    let now = call.ctx.now;
    let path = format!("/console/tenants/{}/members", about.slug);
    let content = MembersPage {
        pages: List::of(call, &path, &[]).pages(&window, members.next),
        rows: rows_of(members.rows, is_whole),
        invitations: invitations
            .into_iter()
            .map(|one| {
                let state = state_of(&one, now);
                (one, state)
            })
            .collect(),
        rights: Rights {
            may_manage,
            may_reset: may(Permission::ResetUserPassword),
            may_add: call.ctx.principal.vouches(),
        },
        roles: ROLES.iter().copied().filter(|word| may_grant(call, id, word)).collect(),
        form,
        link: call.new_secret().map(|token| invitation_link(call, &token)),
        about,
    };
    Ok((page, content))
}

/// Returns the rows of the members. If they are all of the tenant, its last admin is marked.
fn rows_of(members: Vec<Member>, are_all: bool) -> Vec<Row> {
    let admins = members.iter().filter(|member| member.role == Role::Admin).count();
    let row = |member: Member| {
        let is_last_admin = are_all && admins == 1 && member.role == Role::Admin;
        Row { member, is_last_admin }
    };
    members.into_iter().map(row).collect()
}

/// Whether the caller holds every permission of a role in a tenant.
fn may_grant(call: &Call, tenant: TenantId, role: &str) -> bool {
    let Ok(role) = role.parse::<Role>() else { return false };
    let granted = Permission::ALL.iter().filter(|permission| role.grants(**permission));
    granted.into_iter().all(|permission| call.ctx.principal.may_in(*permission, tenant))
}

fn state_of(invitation: &Invitation, now: time::OffsetDateTime) -> &'static str {
    if invitation.accepted_at.is_some() {
        "used"
    } else if invitation.revoked_at.is_some() {
        "revoked"
    } else if invitation.expires_at <= now {
        "expired"
    } else {
        "open"
    }
}

/// Returns the link by which an invitation is accepted. The token is in the fragment, which a browser sends nowhere; a
/// script puts it into the form, and without one it is typed.
fn invitation_link(call: &Call, token: &str) -> String {
    let scheme = if call.site().settings.cookie_secure { "https" } else { "http" };
    let host = crate::http::extract::requested_host(call.request()).unwrap_or_default();
    format!("{scheme}://{host}/console/invitation#{token}")
}

fn role(text: &str) -> Result<Role, Rule> {
    let known = ROLES.iter().find(|word| **word == text);
    known.and_then(|word| word.parse().ok()).ok_or(Rule::OneOf(ROLES))
}

/// Returns the path of the list.
fn here(about: &About) -> String {
    format!("/console/tenants/{}/members", about.slug)
}

/// Adds a member directly, for a caller whose word is enough.
pub(super) async fn add(call: &Call) -> Answer {
    call.ctx.reach(Permission::ManageMembers)?;
    let form = &call.form;
    let email = form.required("email", Email::parse);
    let role = form.required("role", role);
    let describes = ["first_name", "last_name", "password"];
    let person = if describes.iter().any(|name| !form.text(name).is_empty()) {
        let first_name = form.required("first_name", PersonName::parse);
        let last_name = form.required("last_name", PersonName::parse);
        let password = form.required("password", NewPassword::parse);
        let person = || {
            let (password, first_name) = (password?, first_name?);
            Some(NewPerson { password, first_name, last_name: last_name? })
        };
        person()
    } else {
        None
    };
    let error = match email.zip(role).filter(|_| form.is_good()) {
        None => Error::Invalid(Vec::new()),
        Some((email, role)) => {
            let (_, about) = tenant(call).await?;
            let new = NewMember { email, role, person };
            match call.services().members.add(&call.ctx, &about.slug, &new).await {
                Ok(_) => return call.done(&here(&about), "The member is added."),
                Err(error) => form.take(error)?,
            }
        }
    };
    refused(call, form, error).await
}

async fn refused(call: &Call, form: &Form, error: Error) -> Answer {
    let (page, content) = content(call, form).await?;
    Ok(HttpResponse::from_error(Problem::shown(error, page.html(&content)?)))
}

/// Invites the owner of an address, and shows the link once on the page that follows.
pub(super) async fn invite(call: &Call) -> Answer {
    call.ctx.reach(Permission::ManageMembers)?;
    let form = &call.form;
    let email = form.required("email", Email::parse);
    let role = form.required("role", role);
    let error = match email.zip(role) {
        None => Error::Invalid(Vec::new()),
        Some((email, role)) => {
            let (_, about) = tenant(call).await?;
            let invitations = &call.services().invitations;
            match invitations.create(&call.ctx, &about.slug, email, role).await {
                Ok((_, secret)) => {
                    let sentence = "The invitation is made. Send its link: it is not shown again.";
                    return call.done_with_secret(&here(&about), sentence, secret.expose());
                }
                Err(error) => form.take(error)?,
            }
        }
    };
    refused(call, form, error).await
}

/// Revokes an invitation.
pub(super) async fn revoke_invitation(call: &Call) -> Answer {
    let id = InvitationId::new(call.id(Noun::Invitation)?);
    let (_, about) = tenant(call).await?;
    call.services().invitations.revoke(&call.ctx, &about.slug, id).await?;
    call.done(&here(&about), "The invitation is revoked.")
}

/// Changes a member's role.
pub(super) async fn set_role(call: &Call) -> Answer {
    call.ctx.reach(Permission::ManageMembers)?;
    let user = UserId::new(call.id(Noun::Member)?);
    let given = role(call.form.text("role")).map_err(|rule| Error::invalid("role", rule))?;
    let (_, about) = tenant(call).await?;
    call.services().members.set_role(&call.ctx, &about.slug, user, given).await?;
    call.done(&here(&about), "The role is changed.")
}

/// Asks before a member is removed.
pub(super) async fn ask_to_remove(call: &Call) -> Answer {
    call.ctx.reach(Permission::ManageMembers)?;
    member_page(call, false, &Form::default(), None).await
}

/// Removes a member.
pub(super) async fn remove(call: &Call) -> Answer {
    let user = UserId::new(call.id(Noun::Member)?);
    let (_, about) = tenant(call).await?;
    call.services().members.remove(&call.ctx, &about.slug, user).await?;
    call.done(&here(&about), "The member is removed.")
}

/// Asks for the new password of a member.
pub(super) async fn ask_for_password(call: &Call) -> Answer {
    call.ctx.reach(Permission::ResetUserPassword)?;
    member_page(call, true, &Form::default(), None).await
}

/// Gives a member a new password, which ends their sessions and tokens.
pub(super) async fn reset_password(call: &Call) -> Answer {
    call.ctx.reach(Permission::ResetUserPassword)?;
    let form = &call.form;
    let user = UserId::new(call.id(Noun::Member)?);
    let error = match form.required("password", NewPassword::parse) {
        None => Error::Invalid(Vec::new()),
        Some(password) => {
            let (id, about) = tenant(call).await?;
            match call.services().passwords.reset(&call.ctx, id, user, &password).await {
                Ok(()) => {
                    let sentence =
                        "The password is set. The sessions and tokens of the user have ended.";
                    return call.done(&here(&about), sentence);
                }
                Err(error) => form.take(error)?,
            }
        }
    };
    member_page(call, true, form, Some(error)).await
}

async fn member_page(
    call: &Call,
    wants_password: bool,
    form: &Form,
    error: Option<Error>,
) -> Answer {
    let member = call.id(Noun::Member)?;
    let (_, about) = tenant(call).await?;
    let title = if wants_password { "Reset a password" } else { "Remove a member" };
    let alternate = format!("/control/v1/tenants/{}/members", about.slug);
    let content = MemberPage { about, member, wants_password, form };
    let page = call.page(Area::Tenants, title).api(alternate);
    match error {
        None => page.show(&content),
        Some(error) => Ok(HttpResponse::from_error(Problem::shown(error, page.html(&content)?))),
    }
}
