//! Says who belongs to a tenant, and as what.
//!
//! Nobody hands out or takes away more than they hold: whoever makes, changes or removes a member must hold,
//! in that tenant, every permission of the roles that are given and taken. A tenant that has an admin keeps
//! one: each change holds the tenant's row, so that of two admins who remove each other at once, one is
//! refused.

use serde_json::json;

use super::audit::note;
use super::tenants::require_active;
use super::tokens::end_of_user;
use crate::auth::CallContext;
use crate::auth::password::{Hasher, PasswordHash};
use crate::domain::error::{Conflict, Error, Noun, Result, Rule};
use crate::domain::names::{Email, Password, PersonName, TenantId, UserId};
use crate::domain::page::{Cursor, Page, Window};
use crate::domain::{Permission, Role, User};
use crate::pg::control::{members, users};
use crate::pg::{Db, During, PublicTx};
use crate::service::tenants::registry::{locate, lock, require_kept};

pub use crate::pg::control::members::Member;

/// The members of tenants.
#[derive(Clone)]
pub struct Members {
    db: Db,
    hasher: Hasher,
}

/// The wish for a member.
#[derive(Debug, Clone)]
pub struct NewMember {
    /// Address of the user.
    pub email: Email,
    /// As what.
    pub role: Role,
    /// What makes the user where the address has none; a user who is there stays as they are.
    pub person: Option<NewPerson>,
}

/// What makes a user.
#[derive(Debug, Clone)]
pub struct NewPerson {
    /// Password.
    pub password: Password,
    /// Given name.
    pub first_name: PersonName,
    /// Family name.
    pub last_name: PersonName,
}

impl Members {
    /// Works through `db`.
    #[must_use]
    pub fn new(db: Db, hasher: Hasher) -> Self {
        Self { db, hasher }
    }

    /// A part of a tenant's members, those of longest standing first.
    ///
    /// # Errors
    /// [`Noun::Tenant`] not found, also where it exists and the caller may not know.
    pub async fn list(
        &self,
        ctx: &CallContext,
        tenant: &str,
        window: &Window,
    ) -> Result<Page<Member>> {
        let reach = ctx.reach(Permission::ViewUsers)?;
        let tx = self.db.public().await.during("list members")?;
        let tenant = locate(&tx, &reach, tenant).await?.tenant.id;
        let rows = members::list(&tx, tenant, window).await?;
        Ok(Page::cut(rows, window, |member| Cursor { at: member.since, id: member.user.uuid() }))
    }

    /// A page of a tenant's members by number, from 1, each with the role that they hold everywhere, and how
    /// many there are.
    ///
    /// # Errors
    /// [`Noun::Tenant`] not found, also where it does not answer.
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

    /// The member with this address.
    ///
    /// # Errors
    /// [`Noun::Tenant`] or [`Noun::Member`] not found.
    pub async fn find(&self, ctx: &CallContext, tenant: &str, email: &Email) -> Result<Member> {
        let reach = ctx.reach(Permission::ViewUsers)?;
        let tx = self.db.public().await.during("read member")?;
        let tenant = locate(&tx, &reach, tenant).await?.tenant.id;
        let missing = Error::NotFound(Noun::Member);
        let Some(user) = users::find_id_by_email(&tx, email).await? else { return Err(missing) };
        members::lookup(&tx, tenant, user).await?.ok_or(missing)
    }

    /// Makes a user a member.
    ///
    /// # Errors
    /// [`Noun::Tenant`] not found, [`Conflict::AlreadyMember`], [`Rule::UnknownUser`],
    /// [`Error::Forbidden`] naming what the role grants and the caller lacks.
    pub async fn add(&self, ctx: &CallContext, tenant: &str, wish: &NewMember) -> Result<Member> {
        let reach = ctx.reach(Permission::ManageMembers)?;
        let tx = self.db.public().await.during("read tenant record")?;
        let id = locate(&tx, &reach, tenant).await?.tenant.id;
        drop(tx); // the hash below needs no connection
        require_rank(ctx, id, wish.role)?;
        let hash = match &wish.person {
            Some(person) => Some(self.hasher.hash(&person.password).await?),
            None => None,
        };
        let tx = self.db.public().await.during("add member")?;
        let record = lock(&tx, &reach, &id.to_string()).await?;
        require_kept(&record)?;
        let user = find_or_make(&tx, ctx, wish, hash.as_ref()).await?;
        members::insert(&tx, id, user, wish.role, ctx.now).await?;
        let details = json!({ "user": user, "role": wish.role });
        note(&tx, ctx, "member.add", id, details).await?;
        let member = members::lookup(&tx, id, user).await?.ok_or(Error::NotFound(Noun::Member))?;
        tx.commit().await.during("add member")?;
        Ok(member)
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
        let record = lock(&tx, &reach, tenant).await?;
        require_kept(&record)?;
        let id = record.tenant.id;
        let member = members::lookup(&tx, id, user).await?.ok_or(Error::NotFound(Noun::Member))?;
        require_rank(ctx, id, role.max(member.role))?;
        if member.role == role {
            return Ok(member);
        }
        require_another_admin(&tx, id, &member).await?;
        members::set_role(&tx, id, user, role).await?;
        let details = json!({ "user": user, "from": member.role, "to": role });
        note(&tx, ctx, "member.set_role", id, details).await?;
        tx.commit().await.during("set a member's role")?;
        Ok(Member { role, ..member })
    }

    /// Takes a user out of a tenant; at once, since every request reads the roles anew. The tokens and API keys
    /// that they made for this tenant end, and do not come back with them.
    ///
    /// # Errors
    /// As [`Members::set_role`].
    pub async fn remove(&self, ctx: &CallContext, tenant: &str, user: UserId) -> Result<()> {
        let reach = ctx.reach(Permission::ManageMembers)?;
        let tx = self.db.public().await.during("remove member")?;
        let record = lock(&tx, &reach, tenant).await?;
        require_kept(&record)?;
        let id = record.tenant.id;
        // Nobody makes a token for them meanwhile, which would come back with them.
        users::lock_platform_role(&tx, user).await?;
        let member = members::lookup(&tx, id, user).await?.ok_or(Error::NotFound(Noun::Member))?;
        require_rank(ctx, id, member.role)?;
        require_another_admin(&tx, id, &member).await?;
        members::delete(&tx, id, user).await?;
        let ended = end_of_user(&tx, ctx, user, Some(id), "member.remove").await?;
        let details = json!({ "user": user, "role": member.role, "tokens_ended": ended });
        note(&tx, ctx, "member.remove", id, details).await?;
        tx.commit().await.during("remove member")
    }
}

/// Refuses unless the caller holds all that the role grants, in this tenant.
fn require_rank(ctx: &CallContext, tenant: TenantId, role: Role) -> Result<()> {
    let lacking: Vec<_> = Permission::ALL
        .iter()
        .copied()
        .filter(|permission| role.grants(*permission) && !ctx.principal.may_in(*permission, tenant))
        .collect();
    if lacking.is_empty() { Ok(()) } else { Err(Error::Forbidden { missing: lacking }) }
}

/// Refuses to let go of the last admin.
async fn require_another_admin(tx: &PublicTx, tenant: TenantId, member: &Member) -> Result<()> {
    if member.role == Role::Admin && members::count(tx, tenant, Role::Admin).await? < 2 {
        return Err(Error::Conflict(Conflict::LastAdmin));
    }
    Ok(())
}

async fn find_or_make(
    tx: &PublicTx,
    ctx: &CallContext,
    wish: &NewMember,
    hash: Option<&PasswordHash>,
) -> Result<UserId> {
    if let Some(id) = users::find_id_by_email(tx, &wish.email).await? {
        return Ok(id);
    }
    let Some(person) = &wish.person else {
        return Err(Error::invalid("email", Rule::UnknownUser));
    };
    let user = User {
        id: UserId::generate(),
        email: wish.email.clone(),
        first_name: person.first_name.clone(),
        last_name: person.last_name.clone(),
        platform_role: None,
    };
    if users::insert_if_absent(tx, &user, hash.map(PasswordHash::as_str), ctx.now).await? {
        return Ok(user.id);
    }
    // Made by somebody else since we looked.
    users::find_id_by_email(tx, &wish.email).await?.ok_or(Error::Conflict(Conflict::Concurrent))
}
