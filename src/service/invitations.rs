//! Invites people to tenants.
//!
//! A tenant's admin does not create accounts and does not add accounts of others: that would make the admin the
//! holder of any address that has no account yet. The admin creates an invitation, gets its token once, and hands it
//! to the invited person, who accepts it: with an account, logged in as it; without one, by choosing a name and a
//! password. Who holds the token counts as the owner of the address, so an acceptance proves it. Until then nothing
//! shows whether the address has an account.
//!
//! An invitation is used once, under the lock of its row, and ends after [`LIFETIME`]. The inviter must hold the
//! rights of the role also when it is used: it ends with what made it.

use serde_json::json;
use time::Duration;

use super::audit::{note, note_as};
use super::members::{NewPerson, require_rank};
use super::tenants::{TenantRef, find, locate_id, lock, require_kept};
use crate::auth::password::{Hasher, PasswordHash};
use crate::auth::token::{Kind, OpaqueToken, TokenDigest};
use crate::auth::{CallContext, Principal};
use crate::domain::error::{AuthProblem, Conflict, Error, InvitationProblem, Noun, Result};
use crate::domain::names::{Email, InvitationId, TenantId, UserId};
use crate::domain::page::{Cursor, Page, Window};
use crate::domain::{AccountOrigin, AuditAction, Permission, Role, Tenant, TenantStatus, User};
use crate::pg::control::members::{self, Member};
use crate::pg::control::{invitations, memberships, sessions, tenants, token_lines, tokens, users};
use crate::pg::{Db, During, PublicTx};

pub use crate::pg::control::invitations::{Invitation, Inviter};

/// How long an invitation can be used.
pub const LIFETIME: Duration = Duration::days(7);

/// How long an expired invitation is listed.
const KEPT: Duration = Duration::days(30);

/// The invitations to tenants.
#[derive(Clone)]
pub struct Invitations {
    db: Db,
    hasher: Hasher,
}

/// A new member, and the tenant.
#[derive(Debug, Clone)]
pub struct Acceptance {
    /// The tenant.
    pub tenant: Tenant,
    /// The member.
    pub member: Member,
}

impl Invitations {
    /// Creates the service on `db`.
    #[must_use]
    pub fn new(db: Db, hasher: Hasher) -> Self {
        Self { db, hasher }
    }

    /// Invites the owner of an address to a tenant. Looks no account up.
    ///
    /// # Errors
    /// [`Noun::Tenant`] not found, [`Conflict::TenantNotActive`] while it is being deleted, [`Error::Forbidden`] with
    /// the permissions that the role grants and the caller lacks.
    pub async fn create(
        &self,
        ctx: &CallContext,
        tenant: &str,
        email: Email,
        role: Role,
    ) -> Result<(Invitation, OpaqueToken)> {
        let reach = ctx.reach(Permission::ManageMembers)?;
        let tx = self.db.public().await.during("create invitation")?;
        let record = lock(&tx, &reach, &named(tenant)).await?;
        require_kept(&record)?;
        let tenant = record.tenant.id;
        require_rank(ctx, tenant, role)?;
        let secret = OpaqueToken::generate(Kind::Invitation);
        let invitation = Invitation {
            id: InvitationId::generate(),
            tenant,
            email,
            role,
            created_by: ctx.principal.label(),
            inviter: inviter(&ctx.principal),
            created_at: ctx.now,
            expires_at: ctx.now + LIFETIME,
            accepted_at: None,
            accepted_by: None,
            revoked_at: None,
        };
        invitations::delete_expired(&tx, tenant, ctx.now - KEPT).await?;
        invitations::insert(&tx, &invitation, secret.digest().as_bytes()).await?;
        let details = json!({ "invitation": invitation.id, "role": role });
        note(&tx, ctx, AuditAction::InvitationCreate, tenant, details).await?;
        tx.commit().await.during("create invitation")?;
        Ok((invitation, secret))
    }

    /// Returns a page of a tenant's invitations, oldest first, without their tokens. Expired ones are listed for 30
    /// days more.
    ///
    /// # Errors
    /// [`Noun::Tenant`] not found, also where it exists and the caller may not manage its members.
    pub async fn list(
        &self,
        ctx: &CallContext,
        tenant: &str,
        window: &Window,
    ) -> Result<Page<Invitation>> {
        let reach = ctx.reach(Permission::ManageMembers)?;
        let tx = self.db.public().await.during("list invitations")?;
        let tenant = locate_id(&tx, &reach, &named(tenant)).await?;
        let rows = invitations::list(&tx, tenant, window).await?;
        Ok(Page::cut(rows, window, |row| Cursor { at: row.created_at, id: row.id.uuid() }))
    }

    /// Revokes an invitation and returns it. A second revocation changes nothing.
    ///
    /// # Errors
    /// [`Noun::Tenant`] or [`Noun::Invitation`] not found, [`InvitationProblem::Used`], [`Error::Forbidden`] as of
    /// [`Invitations::create`].
    pub async fn revoke(
        &self,
        ctx: &CallContext,
        tenant: &str,
        id: InvitationId,
    ) -> Result<Invitation> {
        let reach = ctx.reach(Permission::ManageMembers)?;
        let tx = self.db.public().await.during("revoke invitation")?;
        let record = lock(&tx, &reach, &named(tenant)).await?;
        require_kept(&record)?;
        let tenant = record.tenant.id;
        let found = invitations::lock(&tx, id).await?;
        let found = found.filter(|invitation| invitation.tenant == tenant);
        let invitation = found.ok_or(Error::NotFound(Noun::Invitation))?;
        require_rank(ctx, tenant, invitation.role)?;
        if invitation.accepted_at.is_some() {
            return Err(Error::Invitation(InvitationProblem::Used));
        }
        if invitation.revoked_at.is_some() {
            return Ok(invitation);
        }
        invitations::revoke(&tx, id, ctx.now).await?;
        note(&tx, ctx, AuditAction::InvitationRevoke, tenant, json!({ "invitation": id })).await?;
        tx.commit().await.during("revoke invitation")?;
        Ok(Invitation { revoked_at: Some(ctx.now), ..invitation })
    }

    /// Accepts an invitation: as the user who is logged in, or, without a credential, as a new user. The token is the
    /// credential. It proves the address.
    ///
    /// # Errors
    /// [`InvitationProblem`], [`Conflict::TenantNotActive`], [`Conflict::AlreadyMember`]; [`Error::Forbidden`] for a
    /// caller that is not a user in person. Nothing changes then.
    pub async fn accept(
        &self,
        ctx: &CallContext,
        presented: &str,
        person: Option<&NewPerson>,
    ) -> Result<Acceptance> {
        let digest = TokenDigest::of(presented);
        let tx = self.db.public().await.during("read invitation")?;
        let found = invitations::find_by_digest(&tx, digest.as_bytes()).await?;
        let invitation = found.ok_or(Error::Invitation(InvitationProblem::Unknown))?;
        require_open(&invitation, ctx)?;
        drop(tx); // the hash below needs no connection
        let hash = match person {
            Some(person) => {
                Some(self.hasher.for_client(ctx.client).hash(person.password.as_password()).await?)
            }
            None => None,
        };
        let tx = self.db.public().await.during("accept invitation")?;
        let (tenant, invitation) = lock_usable(&tx, ctx, &invitation).await?;
        let (user, origin) = match (&ctx.principal, person.zip(hash.as_ref())) {
            (Principal::User { id, session, .. }, None) => {
                require_invited(&tx, *id, *session, &invitation.email).await?;
                (*id, AccountOrigin::Linked)
            }
            (Principal::Anonymous, Some((person, hash))) => {
                (create(&tx, ctx, &invitation.email, person, hash).await?, AccountOrigin::Created)
            }
            _ => return Err(Error::Forbidden { missing: Vec::new() }),
        };
        join(&tx, ctx, &invitation, user).await?;
        users::prove_address(&tx, user, ctx.now).await?;
        invitations::mark_accepted(&tx, invitation.id, user, ctx.now).await?;
        let details = json!({
            "invitation": invitation.id,
            "user": user,
            "role": invitation.role,
            "account": origin.as_str(),
        });
        let actor = format!("user:{user}");
        note_as(&tx, ctx, &actor, AuditAction::InvitationAccept, Some(tenant.id), details).await?;
        let member = members::lookup(&tx, tenant.id, user).await?;
        let member = member.ok_or(Error::NotFound(Noun::Member))?;
        tx.commit().await.during("accept invitation")?;
        Ok(Acceptance { tenant, member })
    }

    /// Agrees to a membership that the calling user has: that of an admin whose account another caller linked to a
    /// new tenant. A second time changes nothing.
    ///
    /// # Errors
    /// [`Noun::Tenant`] not found, also where the user is no member or the tenant is not active; [`Error::Forbidden`]
    /// for a caller that is not a user in person.
    pub async fn accept_membership(&self, ctx: &CallContext, tenant: &str) -> Result<Acceptance> {
        ctx.require_authenticated()?;
        let Principal::User { id: user, session, .. } = &ctx.principal else {
            return Err(Error::Forbidden { missing: Vec::new() });
        };
        let tx = self.db.public().await.during("accept a membership")?;
        let missing = || Error::NotFound(Noun::Tenant);
        let found = find(&tx, &named(tenant)).await?;
        let is_active = |tenant: &Tenant| tenant.status == TenantStatus::Active;
        let tenant = found.filter(is_active).ok_or_else(missing)?;
        require_session(&tx, *user, *session).await?;
        let held = memberships::lock(&tx, tenant.id, *user).await?.ok_or_else(missing)?;
        if !held.is_accepted {
            memberships::accept(&tx, tenant.id, *user, held.role, ctx.now).await?;
            let details = json!({ "user": user, "role": held.role });
            note(&tx, ctx, AuditAction::MemberAccept, tenant.id, details).await?;
        }
        let member = members::lookup(&tx, tenant.id, *user).await?.ok_or_else(missing)?;
        tx.commit().await.during("accept a membership")?;
        Ok(Acceptance { tenant, member })
    }
}

fn named(id_or_slug: &str) -> TenantRef {
    TenantRef::IdOrSlug(id_or_slug.to_owned())
}

/// Returns whose rights are asked for when the invitation is used.
const fn inviter(principal: &Principal) -> Inviter {
    match principal {
        Principal::User { id, .. } => Inviter::User(*id),
        Principal::Token { id, .. }
        | Principal::ApiKey { id, .. }
        | Principal::Profile { id, .. } => Inviter::Token(*id),
        Principal::Root | Principal::Operator | Principal::Anonymous => Inviter::Server,
    }
}

/// Refuses an invitation that is used, revoked or expired.
fn require_open(invitation: &Invitation, ctx: &CallContext) -> Result<()> {
    let problem = if invitation.accepted_at.is_some() {
        InvitationProblem::Used
    } else if invitation.revoked_at.is_some() {
        InvitationProblem::Revoked
    } else if invitation.expires_at <= ctx.now {
        InvitationProblem::Expired
    } else {
        return Ok(());
    };
    Err(Error::Invitation(problem))
}

/// Locks an invitation and its tenant, and refuses unless it can be used now. The tenant comes first, as in every change
/// of its members, so that the inviter's rights stay until this is committed.
async fn lock_usable(
    tx: &PublicTx,
    ctx: &CallContext,
    invitation: &Invitation,
) -> Result<(Tenant, Invitation)> {
    let unknown = || Error::Invitation(InvitationProblem::Unknown);
    let tenant = tenants::lock_record(tx, invitation.tenant).await?.ok_or_else(unknown)?.tenant;
    let invitation = invitations::lock(tx, invitation.id).await?.ok_or_else(unknown)?;
    require_open(&invitation, ctx)?;
    if tenant.status != TenantStatus::Active {
        return Err(Error::Conflict(Conflict::TenantNotActive));
    }
    require_inviter(tx, ctx, &invitation).await?;
    Ok((tenant, invitation))
}

/// Refuses if the inviter no longer may manage members of the tenant or lacks a permission that the role grants.
async fn require_inviter(tx: &PublicTx, ctx: &CallContext, invitation: &Invitation) -> Result<()> {
    let tenant = Some(invitation.tenant);
    let (user, at, given) = match invitation.inviter {
        Inviter::Server => return Ok(()),
        Inviter::User(user) => (Some(user), tenant, Permission::ALL.to_vec()),
        Inviter::Token(id) => {
            if !token_lines::hold(tx, id).await?.is_good(ctx.now) {
                return Err(lost());
            }
            let works_here =
                |token: &tokens::Token| token.tenant.is_none_or(|bound| bound == invitation.tenant);
            let token = tokens::lookup(tx, id).await?.filter(works_here).ok_or_else(lost)?;
            (token.user, token.tenant, token.permissions)
        }
    };
    let role = match user {
        Some(user) => Some(memberships::role_in(tx, user, at).await?.ok_or_else(lost)?),
        None => None,
    };
    let holds = |permission: &Permission| {
        given.contains(permission) && role.is_none_or(|role| role.grants(*permission))
    };
    let needs = |permission: &&Permission| {
        **permission == Permission::ManageMembers || invitation.role.grants(**permission)
    };
    if Permission::ALL.iter().filter(needs).all(holds) { Ok(()) } else { Err(lost()) }
}

fn lost() -> Error {
    Error::Invitation(InvitationProblem::InviterLostRights)
}

/// Refuses a user who has another address than the invited one, and one whose session has ended since.
async fn require_invited(
    tx: &PublicTx,
    user: UserId,
    session: uuid::Uuid,
    invited: &Email,
) -> Result<()> {
    // The same for an address without an account, which would otherwise show.
    if users::find_id_by_email(tx, invited).await? != Some(user) {
        return Err(Error::Invitation(InvitationProblem::AnotherAddress));
    }
    require_session(tx, user, session).await
}

/// Locks a user's row and refuses if the session has ended since the request arrived: a reset of the password, which
/// ends it, waits for the lock or is visible.
async fn require_session(tx: &PublicTx, user: UserId, session: uuid::Uuid) -> Result<()> {
    let exists = users::lock_platform_role(tx, user).await?.is_some();
    if exists && sessions::is_open(tx, session).await? {
        Ok(())
    } else {
        Err(Error::Unauthenticated(AuthProblem::Invalid))
    }
}

/// Creates the account of an invited person.
async fn create(
    tx: &PublicTx,
    ctx: &CallContext,
    email: &Email,
    person: &NewPerson,
    hash: &PasswordHash,
) -> Result<UserId> {
    let user = User {
        id: UserId::generate(),
        email: email.clone(),
        first_name: person.first_name.clone(),
        last_name: person.last_name.clone(),
        platform_role: None,
    };
    if users::insert_if_absent(tx, &user, Some(hash.as_str()), ctx.now).await? {
        Ok(user.id)
    } else {
        Err(Error::Invitation(InvitationProblem::LogInRequired))
    }
}

/// Makes the user a member. One who is a member without having agreed to it agrees now, and keeps the higher role.
async fn join(
    tx: &PublicTx,
    ctx: &CallContext,
    invitation: &Invitation,
    user: UserId,
) -> Result<()> {
    let tenant: TenantId = invitation.tenant;
    match memberships::lock(tx, tenant, user).await? {
        None => members::insert(tx, tenant, user, invitation.role, ctx.now).await,
        Some(held) if held.is_accepted => Err(Error::Conflict(Conflict::AlreadyMember)),
        Some(held) => {
            let role = held.role.max(invitation.role);
            memberships::accept(tx, tenant, user, role, ctx.now).await
        }
    }
}
