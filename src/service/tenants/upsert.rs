//! Makes the tenant with an id of the caller's own equal to a command: creates it, or changes what differs.
//!
//! The name, the settings, the end and a missing admin are applied, in one transaction. What cannot be applied refuses the
//! whole command, and names the fields: a slug, because links lead to it; an admin, where the caller may not link one; an
//! end, where the tenant was made without one. A tenant that is being deleted is restored only if the command says so.

use super::lifecycle::shift_locked;
use super::registry::{Changes, Origin, Registered, Registry, check_settings, unknown_admin};
use crate::auth::CallContext;
use crate::domain::end::{Differing, EndChange};
use crate::domain::error::{Conflict, Error, Noun, Result};
use crate::domain::names::{ExternalId, TenantId};
use crate::domain::status::TenantStatus;
use crate::domain::tenant::{Move, TenantRecord};
use crate::domain::{AccountOrigin, Document, End, Permission, Role};
use crate::pg::control::members::{self as member_rows, Member};
use crate::pg::control::tenants;
use crate::pg::control::users::{self, Account};
use crate::pg::{During, PublicTx};
use crate::service::members::{NewMember, NewPerson, PreparedMember, move_to_role};
use crate::service::provisioning::{Admin, Extras, ProvisionTenant};

/// A tenant as it is to be.
#[derive(Debug, Clone)]
pub struct Upsert {
    /// Its id in the caller's own system.
    pub external_id: ExternalId,
    /// Its slug, its name and its admin.
    pub command: ProvisionTenant,
    /// All its settings; without them those of a tenant that exists stay.
    pub settings: Option<Document>,
    /// Its end; without it that of a tenant that exists stays.
    pub end: Option<End>,
    /// Whether a tenant that is being deleted is restored.
    pub restore: bool,
}

/// What the database holds of a tenant and its admin.
struct Found {
    record: TenantRecord,
    /// The account with the admin's address.
    account: Option<Account>,
    /// Its membership in the tenant.
    member: Option<Member>,
}

impl Registry {
    /// Creates a tenant, or makes the one with this external id equal to the command.
    ///
    /// # Errors
    /// As [`Registry::create`]; [`Conflict::ExternalIdDiffers`], [`Conflict::TenantDeleting`]; those of
    /// [`Registry::update`], of a restoration, and of an addition of a member, where they are needed.
    pub async fn ensure(&self, ctx: &CallContext, upsert: Upsert) -> Result<Registered> {
        ctx.require(Permission::CreateTenant)?;
        upsert.settings.as_ref().map_or(Ok(()), check_settings)?;
        if let Some(end) = upsert.end {
            end.resolve(ctx.now).map_err(|rule| Error::invalid(end.field(), rule))?;
        }
        if let Some(found) = self.find(&upsert).await? {
            return self.converge(ctx, found, &upsert).await;
        }
        let settings = upsert.settings.clone().unwrap_or_else(|| Extras::default().settings);
        let external_id = Some(upsert.external_id.clone());
        let extras = Extras { external_id, settings, end: upsert.end };
        match self.create(ctx, upsert.command.clone(), extras).await {
            // Another request with this id was first. Any of these constraints may have reported it.
            Err(error) if may_be_found(&error) => match self.find(&upsert).await? {
                Some(found) => self.converge(ctx, found, &upsert).await,
                None => Err(error),
            },
            outcome => outcome,
        }
    }

    async fn find(&self, upsert: &Upsert) -> Result<Option<Found>> {
        let tx = self.db.public().await.during("read tenant record")?;
        let Some(tenant) = tenants::find_by_external_id(&tx, &upsert.external_id).await? else {
            return Ok(None);
        };
        let Some(record) = tenants::lookup_record(&tx, tenant.id).await? else { return Ok(None) };
        Found::read(&tx, record, &upsert.command.admin).await.map(Some)
    }

    /// Makes a tenant that exists equal to the command.
    async fn converge(
        &self,
        ctx: &CallContext,
        found: Found,
        upsert: &Upsert,
    ) -> Result<Registered> {
        found.require_reconcilable(ctx, upsert)?;
        let id = found.record.tenant.id;
        let needs_admin = found.needs_admin(upsert);
        let is_deleting = found.record.tenant.status == TenantStatus::Deleting;
        let changes = found.changes(ctx, upsert);
        if !needs_admin && !is_deleting && changes.is_none() {
            return Ok(Registered { record: found.record, origin: Origin::Found, admin: None });
        }
        if is_deleting {
            ctx.require_in(Permission::DeleteTenant, id)?;
        }
        if changes.is_some() {
            ctx.require_in(Permission::UpdateTenant, id)?;
        }
        let new = needs_admin.then(|| new_admin(&upsert.command.admin)).flatten();
        let prepared = match &new {
            None => None,
            Some(new) => {
                ctx.require_in(Permission::ManageMembers, id)?;
                Some(self.members.prepare(ctx, new, found.account).await?)
            }
        };
        let tx = self.db.public().await.during("make a tenant as asked for")?;
        let missing = Error::NotFound(Noun::Tenant);
        let before = tenants::lock_record(&tx, id).await?.ok_or(missing)?;
        // Another request may have changed it since it was read.
        let found = Found::read(&tx, before, &upsert.command.admin).await?;
        found.require_reconcilable(ctx, upsert)?;
        let before = found.record.revision;
        let changes = found.changes(ctx, upsert);
        let found_needs_admin = found.needs_admin(upsert);
        let mut record = found.record;
        if record.tenant.status == TenantStatus::Deleting {
            ctx.require_in(Permission::DeleteTenant, id)?;
            record = shift_locked(&tx, ctx, record, Move::Restore, time::Duration::ZERO).await?;
        }
        if let Some(changes) = changes {
            ctx.require_in(Permission::UpdateTenant, id)?;
            record = self.write(&tx, ctx, record, changes).await?;
        }
        if prepared.is_none() && found_needs_admin {
            return Err(Error::Conflict(Conflict::Concurrent));
        }
        let admin = match &prepared {
            Some(prepared) => link(&tx, ctx, id, found.member.as_ref(), prepared).await?,
            None => None,
        };
        tx.commit().await.during("make a tenant as asked for")?;
        let is_changed = admin.is_some() || record.revision != before;
        let origin = if is_changed { Origin::Changed } else { Origin::Found };
        Ok(Registered { record, origin, admin })
    }
}

impl Found {
    async fn read(tx: &PublicTx, record: TenantRecord, admin: &Admin) -> Result<Self> {
        let Some(email) = admin.email() else {
            return Ok(Self { record, account: None, member: None });
        };
        let account = users::find_account(tx, email).await?;
        let member = match &account {
            Some(account) => member_rows::lookup(tx, record.tenant.id, account.id).await?,
            None => None,
        };
        Ok(Self { record, account, member })
    }

    fn needs_admin(&self, upsert: &Upsert) -> bool {
        let is_admin = self.member.as_ref().is_some_and(|member| member.role == Role::Admin);
        upsert.command.admin.email().is_some() && !is_admin
    }

    /// Refuses a command that cannot be applied as a whole.
    fn require_reconcilable(&self, ctx: &CallContext, upsert: &Upsert) -> Result<()> {
        if self.record.tenant.status == TenantStatus::Deleting && !upsert.restore {
            return Err(Error::Conflict(Conflict::TenantDeleting));
        }
        let differing = Differing {
            slug: self.record.tenant.slug != upsert.command.slug,
            // Others invite: only the holder of an address agrees to a membership in a tenant that exists.
            admin: self.needs_admin(upsert) && !ctx.principal.vouches(),
            end: upsert.end.is_some() && self.record.expires_at.is_none(),
        };
        if differing.any() {
            return Err(Error::Conflict(Conflict::ExternalIdDiffers(differing)));
        }
        Ok(())
    }

    /// Returns what differs and is applied.
    fn changes(&self, ctx: &CallContext, upsert: &Upsert) -> Option<Changes> {
        let name = Some(&upsert.command.name).filter(|name| **name != self.record.tenant.name);
        let settings = upsert.settings.as_ref().filter(|given| **given != self.record.settings);
        let end = upsert
            .end
            .filter(|end| self.record.expires_at.is_some_and(|at| !end.is_met_by(at, ctx.now)));
        let differs = name.is_some() || settings.is_some() || end.is_some();
        differs.then(|| Changes {
            name: name.cloned(),
            replacement: settings.cloned(),
            end: end.map(EndChange::Move),
            ..Changes::default()
        })
    }
}

/// Makes the admin of a command one of the tenant; `None` if the account is one already.
async fn link(
    tx: &PublicTx,
    ctx: &CallContext,
    tenant: TenantId,
    member: Option<&Member>,
    prepared: &PreparedMember<'_>,
) -> Result<Option<AccountOrigin>> {
    match member {
        Some(member) if member.role == Role::Admin => Ok(None),
        Some(member) => {
            move_to_role(tx, ctx, tenant, member, Role::Admin).await?;
            Ok(Some(AccountOrigin::Linked))
        }
        None => {
            let (_, origin) = prepared.add(tx, ctx, tenant).await.map_err(unknown_account)?;
            Ok(Some(origin))
        }
    }
}

/// Returns the admin of a command as a member to add.
fn new_admin(admin: &Admin) -> Option<NewMember> {
    let person = match admin {
        Admin::None => return None,
        Admin::Existing(_) => None,
        Admin::NewOrExisting(new) => Some(NewPerson {
            password: new.password.clone(),
            first_name: new.first_name.clone(),
            last_name: new.last_name.clone(),
        }),
    };
    Some(NewMember { email: admin.email()?.clone(), role: Role::Admin, person })
}

/// Names the field of an address that no account has.
fn unknown_account(error: Error) -> Error {
    unknown_admin(error).with_field("email", "admin/email")
}

/// Whether a tenant may be there after all, because another request made it at the same moment.
fn may_be_found(error: &Error) -> bool {
    matches!(error, Error::Conflict(Conflict::SlugTaken | Conflict::ExternalIdTaken))
        || error.is_lost_race()
}
