//! Lists, adds, changes and removes the members of tenants.
//!
//! Only a caller that vouches for an address ([`Principal::vouches`](crate::auth::Principal::vouches)) adds its
//! account directly, or creates one; every other caller invites ([`super::invitations`]).
//!
//! A caller cannot grant or take away more than they hold: to add, change or remove a member, the caller must
//! hold, in that tenant, every permission of the roles that are given and taken. A tenant that has an admin
//! keeps one: each change locks the tenant's row, so that when two admins remove each other concurrently, one
//! of them is refused.

use serde_json::json;

use super::accounts::Unproven;
use super::audit::note;
use super::tenants::{TenantRef, locate_id, lock, require_active, require_kept};
use super::tokens::{end_of_user, require_held};
use crate::auth::CallContext;
use crate::auth::password::{Hasher, PasswordHash};
use crate::domain::error::{Conflict, Error, InvitationProblem, Noun, Result};
use crate::domain::names::{Email, NewPassword, PersonName, TenantId, UserId};
use crate::domain::page::{Cursor, Page, Window};
use crate::domain::rule::Rule;
use crate::domain::{AccountOrigin, AuditAction, Permission, Role, User};
use crate::pg::control::members;
use crate::pg::control::users::{self, Account};
use crate::pg::{Db, During, PublicTx};

pub use crate::pg::control::members::Member;

/// The members of tenants.
#[derive(Clone)]
pub struct Members {
    db: Db,
    hasher: Hasher,
}

/// A member to add.
#[derive(Debug, Clone)]
pub struct NewMember {
    /// Address of the user.
    pub email: Email,
    /// Role in the tenant.
    pub role: Role,
    /// Creates the user where none has the address; an existing user whose address is proven does not change, and
    /// one whose address is not gets the password.
    pub person: Option<NewPerson>,
}

/// A user to create.
#[derive(Debug, Clone)]
pub struct NewPerson {
    /// Password.
    pub password: NewPassword,
    /// Given name.
    pub first_name: PersonName,
    /// Family name.
    pub last_name: PersonName,
}

impl Members {
    /// Creates the service on `db`.
    #[must_use]
    pub fn new(db: Db, hasher: Hasher) -> Self {
        Self { db, hasher }
    }

    /// Returns a page of a tenant's members, in the order in which they joined.
    ///
    /// # Errors
    /// [`Noun::Tenant`] not found, also where it exists and the caller may not view its members.
    pub async fn list(
        &self,
        ctx: &CallContext,
        tenant: &str,
        window: &Window,
    ) -> Result<Page<Member>> {
        let reach = ctx.reach(Permission::ViewUsers)?;
        let tx = self.db.public().await.during("list members")?;
        let tenant = locate_id(&tx, &reach, &named(tenant)).await?;
        let rows = members::list(&tx, tenant, window).await?;
        Ok(Page::cut(rows, window, |member| Cursor { at: member.since, id: member.user.uuid() }))
    }

    /// Returns a page of a tenant's members by page number, from 1, each with their platform role, and the
    /// number of all members.
    ///
    /// # Errors
    /// [`Noun::Tenant`] not found, also where it is not active.
    pub async fn page(
        &self,
        ctx: &CallContext,
        tenant: TenantId,
        page: u32,
        limit: u32,
    ) -> Result<(i64, Vec<(Member, Option<Role>)>)> {
        ctx.require_in(Permission::ViewUsers, tenant)?;
        let tx = self.db.public().await.during("list members")?;
        require_active(&tx, tenant).await?;
        let offset = i64::from(page.saturating_sub(1)) * i64::from(limit);
        members::page(&tx, tenant, offset, i64::from(limit)).await
    }

    /// Returns the member with this address.
    ///
    /// # Errors
    /// [`Noun::Tenant`] or [`Noun::Member`] not found.
    pub async fn find(&self, ctx: &CallContext, tenant: &str, email: &Email) -> Result<Member> {
        let reach = ctx.reach(Permission::ViewUsers)?;
        let tx = self.db.public().await.during("read member")?;
        let tenant = locate_id(&tx, &reach, &named(tenant)).await?;
        let missing = Error::NotFound(Noun::Member);
        let Some(user) = users::find_id_by_email(&tx, email).await? else { return Err(missing) };
        members::lookup(&tx, tenant, user).await?.ok_or(missing)
    }

    /// Adds a user to a tenant, on the word of a caller that vouches for the address: it is proven from then on.
    ///
    /// # Errors
    /// [`Noun::Tenant`] not found; [`InvitationProblem::Required`] for a caller that does not vouch, before anything
    /// is looked up about the address; [`Conflict::AlreadyMember`], [`Rule::UnknownUser`], [`Error::Forbidden`] with
    /// the permissions that the role grants and the caller lacks.
    pub async fn add(&self, ctx: &CallContext, tenant: &str, new: &NewMember) -> Result<Member> {
        let reach = ctx.reach(Permission::ManageMembers)?;
        let tx = self.db.public().await.during("read tenant record")?;
        let id = locate_id(&tx, &reach, &named(tenant)).await?;
        if !ctx.principal.vouches() {
            return Err(Error::Invitation(InvitationProblem::Required));
        }
        require_rank(ctx, id, new.role)?;
        let account = users::find_account(&tx, &new.email).await?;
        drop(tx); // the hashes below need no connection
        let prepared = self.prepare(ctx, new, account).await?;
        let tx = self.db.public().await.during("add member")?;
        let record = lock(&tx, &reach, &TenantRef::Id(id)).await?;
        require_kept(&record)?;
        let (user, _) = prepared.add(&tx, ctx, id).await?;
        let member = members::lookup(&tx, id, user).await?.ok_or(Error::NotFound(Noun::Member))?;
        tx.commit().await.during("add member")?;
        Ok(member)
    }

    /// Compares and hashes passwords, which takes long and needs no connection. `account` has the address.
    ///
    /// # Errors
    /// [`Conflict::AdminUnproven`] if the caller may not link the account.
    pub(super) async fn prepare<'a>(
        &self,
        ctx: &CallContext,
        new: &'a NewMember,
        account: Option<Account>,
    ) -> Result<PreparedMember<'a>> {
        let password = new.person.as_ref().map(|person| person.password.as_password());
        let unproven = match account {
            Some(account) => Unproven::examine(ctx, &self.hasher, account, password).await?,
            None => None,
        };
        let hash = match password {
            Some(password) => Some(self.hasher.for_client(ctx.client).hash(password).await?),
            None => None,
        };
        Ok(PreparedMember { new, unproven, hash })
    }

    /// Changes a member's role.
    ///
    /// # Errors
    /// [`Noun::Tenant`] or [`Noun::Member`] not found, [`Conflict::LastAdmin`], [`Error::Forbidden`] as of
    /// [`Members::add`].
    pub async fn set_role(
        &self,
        ctx: &CallContext,
        tenant: &str,
        user: UserId,
        role: Role,
    ) -> Result<Member> {
        let reach = ctx.reach(Permission::ManageMembers)?;
        let tx = self.db.public().await.during("set a member's role")?;
        let record = lock(&tx, &reach, &named(tenant)).await?;
        require_kept(&record)?;
        let id = record.tenant.id;
        let member = members::lookup(&tx, id, user).await?.ok_or(Error::NotFound(Noun::Member))?;
        require_rank(ctx, id, role.max(member.role))?;
        if member.role == role {
            return Ok(member);
        }
        require_another_admin(&tx, id, &member).await?;
        move_to_role(&tx, ctx, id, &member, role).await?;
        tx.commit().await.during("set a member's role")?;
        Ok(Member { role, ..member })
    }

    /// Removes a user from a tenant. It takes effect at once, because every request reads the roles again. The
    /// tokens and API keys that the user created for this tenant are revoked, and stay so if the user is added
    /// again.
    ///
    /// # Errors
    /// As [`Members::set_role`].
    pub async fn remove(&self, ctx: &CallContext, tenant: &str, user: UserId) -> Result<()> {
        let reach = ctx.reach(Permission::ManageMembers)?;
        let tx = self.db.public().await.during("remove member")?;
        let record = lock(&tx, &reach, &named(tenant)).await?;
        require_kept(&record)?;
        let id = record.tenant.id;
        // Keeps a concurrent request from creating a token for the user, which would work again after a return.
        users::lock_platform_role(&tx, user).await?;
        let member = members::lookup(&tx, id, user).await?.ok_or(Error::NotFound(Noun::Member))?;
        require_rank(ctx, id, member.role)?;
        require_another_admin(&tx, id, &member).await?;
        members::delete(&tx, id, user).await?;
        let ended = end_of_user(&tx, ctx, user, Some(id), "member.remove").await?;
        let details = json!({ "user": user, "role": member.role, "tokens_ended": ended });
        note(&tx, ctx, AuditAction::MemberRemove, id, details).await?;
        tx.commit().await.during("remove member")
    }
}

/// A member to add, with what takes long already done.
pub(super) struct PreparedMember<'a> {
    new: &'a NewMember,
    /// The account, if its address is not proven.
    unproven: Option<Unproven>,
    hash: Option<PasswordHash>,
}

impl PreparedMember<'_> {
    /// Adds the member to a tenant whose row `tx` has locked.
    ///
    /// # Errors
    /// [`Conflict::AlreadyMember`], [`Rule::UnknownUser`].
    pub(super) async fn add(
        &self,
        tx: &PublicTx,
        ctx: &CallContext,
        tenant: TenantId,
    ) -> Result<(UserId, AccountOrigin)> {
        let Self { new, unproven, hash } = self;
        if let Some(unproven) = unproven {
            unproven.settle(tx, ctx, hash.as_ref()).await?;
        }
        let (user, origin) = find_or_create(tx, ctx, new, hash.as_ref()).await?;
        members::insert(tx, tenant, user, new.role, ctx.now).await?;
        let details = json!({ "user": user, "role": new.role, "account": origin.as_str() });
        note(tx, ctx, AuditAction::MemberAdd, tenant, details).await?;
        Ok((user, origin))
    }
}

/// Changes the role of a member of a tenant whose row `tx` has locked.
pub(super) async fn move_to_role(
    tx: &PublicTx,
    ctx: &CallContext,
    tenant: TenantId,
    member: &Member,
    role: Role,
) -> Result<()> {
    members::set_role(tx, tenant, member.user, role).await?;
    let details = json!({ "user": member.user, "from": member.role, "to": role });
    note(tx, ctx, AuditAction::MemberSetRole, tenant, details).await
}

/// Refuses unless the caller holds, in this tenant, every permission that the role grants.
pub(super) fn require_rank(ctx: &CallContext, tenant: TenantId, role: Role) -> Result<()> {
    let granted: Vec<_> = Permission::ALL.iter().copied().filter(|p| role.grants(*p)).collect();
    require_held(ctx, &granted, Some(tenant))
}

/// Refuses to remove or demote the last admin.
async fn require_another_admin(tx: &PublicTx, tenant: TenantId, member: &Member) -> Result<()> {
    if member.role == Role::Admin && members::count(tx, tenant, Some(Role::Admin)).await? < 2 {
        return Err(Error::Conflict(Conflict::LastAdmin));
    }
    Ok(())
}

fn named(id_or_slug: &str) -> TenantRef {
    TenantRef::IdOrSlug(id_or_slug.to_owned())
}

async fn find_or_create(
    tx: &PublicTx,
    ctx: &CallContext,
    new: &NewMember,
    hash: Option<&PasswordHash>,
) -> Result<(UserId, AccountOrigin)> {
    if let Some(account) = users::find_account(tx, &new.email).await? {
        return linked(&account);
    }
    let Some(person) = &new.person else {
        return Err(Error::invalid("email", Rule::UnknownUser));
    };
    let user = User {
        id: UserId::generate(),
        email: new.email.clone(),
        first_name: person.first_name.clone(),
        last_name: person.last_name.clone(),
        platform_role: None,
    };
    if users::insert_if_absent(tx, &user, hash.map(PasswordHash::as_str), ctx.now).await? {
        return Ok((user.id, AccountOrigin::Created));
    }
    // A concurrent request created the user since the first look-up.
    let account = users::find_account(tx, &new.email).await?;
    linked(&account.ok_or(Error::Conflict(Conflict::Concurrent))?)
}

/// Returns an account that is linked as it is. One whose address is not proven was created since it was decided how
/// the account is linked.
fn linked(account: &Account) -> Result<(UserId, AccountOrigin)> {
    if account.is_proven {
        Ok((account.id, AccountOrigin::Linked))
    } else {
        Err(Error::Conflict(Conflict::Concurrent))
    }
}
