//! Reads tenants: as a request enters one, as a list, and as records with everything that the control plane
//! keeps.
//!
//! [`registry`] creates and changes tenants, [`upsert`] makes one equal to a command, [`expiry`] ends those with an end, [`lifecycle`] suspends, deletes and purges them, [`slugs`] decides which
//! slugs can be taken. A caller who may view only some tenants sees only those: any other is not found, whether or not it
//! exists.

mod expiry;
mod inside;
pub mod lifecycle;
pub mod registry;
pub mod slugs;
pub mod upsert;

use std::sync::Arc;

use crate::auth::context::Reach;
use crate::auth::{CallContext, Principal};
use crate::domain::error::{Conflict, Error, Noun, Result};
use crate::domain::names::{ExternalId, Slug, TenantId};
use crate::domain::page::{Cursor, Page, Window};
use crate::domain::rule::Rule;
use crate::domain::status::TenantStatus;
use crate::domain::tenant::TenantRecord;
use crate::domain::{Access, Permission, Tenant};
use crate::pg::control::{active_tenants, tenants};
use crate::pg::{Db, During, PublicTx};
use crate::telemetry::note_tenant;

pub use self::inside::{Caller, Entered, Grants, TenantTx};
pub use crate::pg::SharedTx;
pub use crate::pg::control::tenants::{Filter, MAIN_NUMBER, Order};

/// Reads tenants.
#[derive(Clone)]
pub struct Tenants {
    db: Db,
    grants: Grants,
}

/// How a request names a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TenantRef {
    /// By its id.
    Id(TenantId),
    /// By its slug.
    Slug(Slug),
    /// By its number.
    Number(i64),
    /// By its id in its creator's own system.
    ExternalId(ExternalId),
    /// By its id or its slug. Where a text is the id of one tenant and the slug of another, the id counts.
    IdOrSlug(String),
}

impl Tenants {
    /// Creates the service on `db`.
    #[must_use]
    pub fn new(db: Db) -> Self {
        Self { db, grants: Arc::from([]) }
    }

    /// The same service, for callers of an application with these permissions.
    #[must_use]
    pub fn granting(self, grants: Grants) -> Self {
        Self { grants, ..self }
    }

    /// Returns all tenants that the caller may view, oldest first, except the main tenant.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn list(&self, ctx: &CallContext) -> Result<Vec<Tenant>> {
        let reach = ctx.reach(Permission::ViewTenants)?;
        let tx = self.db.public().await.during("list tenants")?;
        tenants::list(&tx, reach.limits()).await
    }

    /// Returns the active tenants of which the calling user is a member, oldest first. A token that is bound to a
    /// tenant gets that tenant.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] without a credential.
    pub async fn list_mine(&self, ctx: &CallContext) -> Result<Vec<Tenant>> {
        ctx.require_authenticated()?;
        let tx = self.db.public().await.during("list a caller's tenants")?;
        match &ctx.principal {
            Principal::User { id, .. } => tenants::list_of_user(&tx, *id).await,
            Principal::Token { tenant: Some(tenant), .. } | Principal::ApiKey { tenant, .. } => {
                let tenant = tenants::lookup(&tx, *tenant).await?;
                Ok(tenant.into_iter().filter(|t| t.status == TenantStatus::Active).collect())
            }
            Principal::Token { .. }
            | Principal::Profile { .. }
            | Principal::Root
            | Principal::Operator
            | Principal::Anonymous => Ok(Vec::new()),
        }
    }

    /// Returns a page of all tenants by number, the main one included, and their total number.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn page(
        &self,
        ctx: &CallContext,
        offset: i64,
        limit: i64,
    ) -> Result<(i64, Vec<Tenant>)> {
        ctx.require(Permission::CrossTenant)?;
        let tx = self.db.public().await.during("list tenants")?;
        tenants::page(&tx, offset, limit).await
    }

    /// Returns a page of the records that the caller may view.
    ///
    /// # Errors
    /// Those of the rights check and of the database; [`Rule::Cursor`] where the list is ordered by name and the tenant of
    /// the cursor is gone.
    pub async fn list_records(
        &self,
        ctx: &CallContext,
        filter: &Filter,
        window: &Window,
    ) -> Result<Page<TenantRecord>> {
        let reach = ctx.reach(Permission::ViewTenants)?;
        let tx = self.db.public().await.during("list tenant records")?;
        // The cursor has no name in it.
        if let (Order::Name, Some(after)) = (filter.order, window.after)
            && tenants::lookup(&tx, TenantId::new(after.id)).await?.is_none()
        {
            return Err(Error::invalid("?cursor", Rule::Cursor));
        }
        let rows = tenants::list_records(&tx, reach.limits(), filter, window).await?;
        Ok(Page::cut(rows, window, |record| Cursor {
            at: record.tenant.created_at,
            id: record.tenant.id.uuid(),
        }))
    }

    /// Returns a tenant that the caller may view.
    ///
    /// # Errors
    /// [`Noun::Tenant`] not found, also where it exists and the caller may not view it.
    pub async fn read(&self, ctx: &CallContext, which: &TenantRef) -> Result<Tenant> {
        let reach = ctx.reach(Permission::ViewTenants)?;
        let found = self.find_unauthorized(which).await?;
        found.filter(|tenant| reach.covers(tenant.id)).ok_or(Error::NotFound(Noun::Tenant))
    }

    /// Returns the record of a tenant that the caller may view.
    ///
    /// # Errors
    /// As [`Tenants::read`].
    pub async fn read_record(&self, ctx: &CallContext, which: &TenantRef) -> Result<TenantRecord> {
        let reach = ctx.reach(Permission::ViewTenants)?;
        let tx = self.db.public().await.during("read tenant record")?;
        locate(&tx, &reach, which).await
    }

    /// Returns the tenant in which a request works, if it is active and the caller may enter it.
    ///
    /// A caller who may not enter a tenant cannot tell whether it exists.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] without a credential, otherwise [`Noun::Tenant`] not found, or that it is closed for a
    /// moment.
    pub async fn enter(&self, ctx: &CallContext, which: &TenantRef) -> Result<Entered> {
        ctx.require_authenticated()?;
        let tx = self.db.public().await.during("read tenant row")?;
        let found = match which {
            TenantRef::Id(id) => tenants::find_with_settings(&tx, *id).await?,
            TenantRef::Slug(slug) => tenants::find_by_slug_with_settings(&tx, slug).await?,
            TenantRef::Number(_) | TenantRef::IdOrSlug(_) | TenantRef::ExternalId(_) => {
                match find(&tx, which).await? {
                    Some(tenant) => tenants::find_with_settings(&tx, tenant.id).await?,
                    None => None,
                }
            }
        };
        let found = found.filter(|(tenant, _)| ctx.principal.may_enter(tenant.id));
        let (tenant, settings) = found.ok_or(Error::NotFound(Noun::Tenant))?;
        tenant.require_answering()?;
        Ok(Entered::new(tenant, settings))
    }

    /// Begins a transaction inside a tenant that the caller has entered.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without the [permission](Access::permission), and those of the database.
    pub async fn begin(
        &self,
        ctx: &CallContext,
        entered: &Entered,
        access: Access,
    ) -> Result<TenantTx> {
        ctx.require_in(access.permission(), entered.id())?;
        let tx = self.db.tenant_with(entered.id(), access).await;
        let tx = tx.during("open a tenant transaction")?;
        let caller = Caller::new(ctx, entered.id(), Arc::clone(&self.grants));
        Ok(TenantTx::new(tx, entered.clone(), caller, ctx.now))
    }

    /// Begins a transaction that reads inside the tenant in which a request works; see [`Tenants::enter`].
    ///
    /// # Errors
    /// Those of [`Tenants::enter`] and [`Tenants::begin`].
    pub async fn open(&self, ctx: &CallContext, which: &TenantRef) -> Result<(TenantId, TenantTx)> {
        let entered = self.enter(ctx, which).await?;
        let tx = self.begin(ctx, &entered, Access::Read).await?;
        Ok((entered.id(), tx))
    }

    /// Returns the active tenants, oldest first, except the main tenant.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn list_active(&self, ctx: &CallContext) -> Result<Vec<Tenant>> {
        ctx.require(Permission::ViewTenants)?;
        let tx = self.db.public().await.during("list tenants")?;
        let all = tenants::list(&tx, None).await?;
        Ok(all.into_iter().filter(|tenant| tenant.status == TenantStatus::Active).collect())
    }

    /// Begins a transaction on the tables that all tenants of an application share. Who may is for the application to
    /// say.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn shared_unauthorized(&self, access: Access) -> Result<SharedTx> {
        self.db.shared(access).await.during("open a transaction on the shared tables")
    }

    /// Returns a tenant without a rights check. Databunker's dialect needs the tenant's id before it can check
    /// whether the caller may work there.
    pub(crate) async fn find_unauthorized(&self, which: &TenantRef) -> Result<Option<Tenant>> {
        let tx = self.db.public().await.during("read tenant row")?;
        find(&tx, which).await
    }
}

/// Returns the tenant that a request names.
pub(in crate::service) async fn find(tx: &PublicTx, which: &TenantRef) -> Result<Option<Tenant>> {
    let found = match which {
        TenantRef::Id(id) => tenants::lookup(tx, *id).await?,
        TenantRef::Slug(slug) => tenants::find_by_slug(tx, slug).await?,
        TenantRef::Number(number) => tenants::find_by_number(tx, *number).await?,
        TenantRef::ExternalId(id) => tenants::find_by_external_id(tx, id).await?,
        TenantRef::IdOrSlug(text) => find_by_id_or_slug(tx, text).await?,
    };
    if let Some(tenant) = &found {
        note_tenant(tenant.id);
    }
    Ok(found)
}

async fn find_by_id_or_slug(tx: &PublicTx, text: &str) -> Result<Option<Tenant>> {
    if let Ok(id) = text.parse()
        && let Some(tenant) = tenants::lookup(tx, TenantId::new(id)).await?
    {
        return Ok(Some(tenant));
    }
    match Slug::parse(text) {
        Ok(slug) => tenants::find_by_slug(tx, &slug).await,
        Err(_no_slug) => Ok(None),
    }
}

/// Returns the id of the tenant that a request names, for a caller that works with what is in it.
///
/// # Errors
/// [`Noun::Tenant`] not found, also where it exists outside of `reach`, and where it is not active and the caller's
/// rights come from it: its own members, tokens and API keys then work nowhere in it.
pub(in crate::service) async fn locate_id(
    tx: &PublicTx,
    reach: &Reach,
    which: &TenantRef,
) -> Result<TenantId> {
    let works_in = |tenant: &Tenant| match reach {
        Reach::Everything => true,
        Reach::Tenants(_) => reach.covers(tenant.id) && tenant.status == TenantStatus::Active,
    };
    let found = find(tx, which).await?.filter(works_in);
    found.map(|tenant| tenant.id).ok_or(Error::NotFound(Noun::Tenant))
}

/// Returns the part of a reach in which the caller may work now: all of it, or those of its tenants that are active.
///
/// # Errors
/// [`Noun::Tenant`] not found where none of them is.
pub(in crate::service) async fn active_part(tx: &PublicTx, reach: Reach) -> Result<Reach> {
    let Reach::Tenants(ids) = reach else { return Ok(Reach::Everything) };
    let active = active_tenants::list_active(tx, &ids).await?;
    if active.is_empty() { Err(Error::NotFound(Noun::Tenant)) } else { Ok(Reach::Tenants(active)) }
}

/// Returns the record of the tenant that a request names, for a caller that only looks at it: the members of a tenant
/// that is not active see that it is not.
///
/// # Errors
/// [`Noun::Tenant`] not found, also where it exists outside of `reach`.
pub(in crate::service) async fn locate(
    tx: &PublicTx,
    reach: &Reach,
    which: &TenantRef,
) -> Result<TenantRecord> {
    let found = find(tx, which).await?.filter(|tenant| reach.covers(tenant.id));
    let id = found.ok_or(Error::NotFound(Noun::Tenant))?.id;
    tenants::lookup_record(tx, id).await?.ok_or(Error::NotFound(Noun::Tenant))
}

/// Returns the record of the tenant that a request names and locks its row until the transaction ends.
///
/// # Errors
/// As [`locate_id`].
pub(in crate::service) async fn lock(
    tx: &PublicTx,
    reach: &Reach,
    which: &TenantRef,
) -> Result<TenantRecord> {
    let id = locate_id(tx, reach, which).await?;
    tenants::lock_record(tx, id).await?.ok_or(Error::NotFound(Noun::Tenant))
}

/// Refuses a tenant that does not exist or is not active.
pub(in crate::service) async fn require_active(tx: &PublicTx, tenant: TenantId) -> Result<()> {
    match tenants::lookup(tx, tenant).await? {
        Some(Tenant { status: TenantStatus::Active, .. }) => Ok(()),
        Some(_) | None => Err(Error::NotFound(Noun::Tenant)),
    }
}

/// Refuses to change a tenant that is being deleted: it has to be restored first.
pub(in crate::service) fn require_kept(record: &TenantRecord) -> Result<()> {
    match record.tenant.status {
        TenantStatus::Active | TenantStatus::Suspended => Ok(()),
        TenantStatus::Deleting => Err(Error::Conflict(Conflict::TenantNotActive)),
    }
}
