//! Reads tenants, for those who may.

pub mod lifecycle;
pub mod registry;

use serde_json::json;

use super::Lifecycle;
use super::audit::note;
use crate::auth::context::Reach;
use crate::auth::{CallContext, Principal};
use crate::domain::error::{AuthProblem, Error, Noun, Result};
use crate::domain::names::{Slug, TenantId};
use crate::domain::tenant::TenantStatus;
use crate::domain::{Permission, Tenant};
use crate::pg::control::tenants;
use crate::pg::{Db, During, PublicTx};

pub use crate::pg::TenantTx;
pub use crate::pg::control::tenants::{Changes, MAIN_NUMBER};

/// Reads tenants.
#[derive(Clone)]
pub struct Tenants {
    db: Db,
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
}

impl Tenants {
    /// Reads through `db`.
    #[must_use]
    pub fn new(db: Db) -> Self {
        Self { db }
    }

    /// The tenants that the caller may view, oldest first: all of them, or for the admin of some tenants
    /// those.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn list(&self, ctx: &CallContext) -> Result<Vec<Tenant>> {
        let reach = ctx.reach(Permission::ViewTenants)?;
        let tx = self.db.public().await.during("list tenants")?;
        match &reach {
            Reach::Everything => tenants::list(&tx, None).await,
            Reach::Tenants(ids) => tenants::list(&tx, Some(ids)).await,
        }
    }

    /// The active tenants that the calling user is a member of, oldest first. A token that is bound to a
    /// tenant has that one.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] for nobody.
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

    /// One tenant that the caller may view.
    ///
    /// # Errors
    /// [`Noun::Tenant`] not found, also where it exists and the caller may not know.
    pub async fn read(&self, ctx: &CallContext, which: &TenantRef) -> Result<Tenant> {
        let reach = ctx.reach(Permission::ViewTenants)?;
        let tenant = self.find(which).await?.ok_or(Error::NotFound(Noun::Tenant))?;
        match reach {
            Reach::Tenants(ids) if !ids.contains(&tenant.id) => Err(Error::NotFound(Noun::Tenant)),
            Reach::Everything | Reach::Tenants(_) => Ok(tenant),
        }
    }

    /// The tenant that a request wants to work in, if the caller may enter it and it answers.
    ///
    /// To a stranger a tenant that exists and one that does not look the same.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] for nobody, [`Noun::Tenant`] not found otherwise.
    pub async fn enter(&self, ctx: &CallContext, which: &TenantRef) -> Result<Tenant> {
        if ctx.principal == Principal::Anonymous {
            return Err(Error::Unauthenticated(AuthProblem::Missing));
        }
        let tenant = self.find(which).await?.ok_or(Error::NotFound(Noun::Tenant))?;
        if ctx.principal.may_enter(tenant.id) && tenant.status == TenantStatus::Active {
            Ok(tenant)
        } else {
            Err(Error::NotFound(Noun::Tenant))
        }
    }

    /// A transaction inside the tenant that a request wants to work in, and which that is; see
    /// [`Tenants::enter`].
    ///
    /// # Errors
    /// Those of [`Tenants::enter`] and of the database.
    pub async fn open(&self, ctx: &CallContext, which: &TenantRef) -> Result<(TenantId, TenantTx)> {
        let tenant = self.enter(ctx, which).await?;
        let tx = self.db.tenant(tenant.id).await.during("open a tenant transaction")?;
        Ok((tenant.id, tx))
    }

    /// One page of all tenants by number, the main one too, and how many there are.
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

    /// Changes a tenant's row. A new slug holds at once, in every process: nothing remembers the old one.
    ///
    /// # Errors
    /// [`Noun::Tenant`] not found, [`Conflict::SlugTaken`](crate::domain::error::Conflict::SlugTaken).
    pub async fn update(&self, ctx: &CallContext, id: TenantId, changes: &Changes) -> Result<()> {
        ctx.require_authenticated()?;
        if !ctx.principal.may_in(Permission::UpdateTenant, id) {
            return Err(Error::missing(Permission::UpdateTenant));
        }
        let tx = self.db.public().await.during("update tenant")?;
        if !tenants::update(&tx, id, changes, ctx.now).await? {
            return Err(Error::NotFound(Noun::Tenant));
        }
        let details = json!({ "slug": changes.slug, "name": changes.name });
        note(&tx, ctx, "tenant.update", id, details).await?;
        tx.commit().await.during("update tenant")
    }

    /// Removes a tenant for good and at once: its row, memberships, tokens, schema and role.
    ///
    /// # Errors
    /// [`Noun::Tenant`] not found; [`Conflict::MainTenant`](crate::domain::error::Conflict::MainTenant).
    pub async fn remove(&self, ctx: &CallContext, tenant: &Tenant) -> Result<()> {
        ctx.require(Permission::DeleteTenant)?;
        Lifecycle::new(self.db.clone(), time::Duration::ZERO).remove(ctx, tenant.id).await
    }

    /// Finds a tenant, whoever asks; what may be done with it is for the caller's next step to check.
    pub(crate) async fn find(&self, which: &TenantRef) -> Result<Option<Tenant>> {
        let tx = self.db.public().await.during("read tenant row")?;
        match which {
            TenantRef::Id(id) => tenants::lookup(&tx, *id).await,
            TenantRef::Slug(slug) => tenants::find_by_slug(&tx, slug).await,
            TenantRef::Number(number) => tenants::find_by_number(&tx, *number).await,
        }
    }
}

/// Refuses where there is no such tenant, or none that answers.
pub(in crate::service) async fn require_active(tx: &PublicTx, tenant: TenantId) -> Result<()> {
    match tenants::lookup(tx, tenant).await? {
        Some(Tenant { status: TenantStatus::Active, .. }) => Ok(()),
        Some(_) | None => Err(Error::NotFound(Noun::Tenant)),
    }
}
