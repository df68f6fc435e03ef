//! Reads tenants, for those who may.

use crate::auth::context::Reach;
use crate::auth::{CallContext, Principal};
use crate::domain::error::{AuthProblem, Error, Noun, Result};
use crate::domain::names::{Slug, TenantId};
use crate::domain::tenant::TenantStatus;
use crate::domain::{Permission, Tenant};
use crate::pg::{Db, During, tenants};

pub use crate::pg::TenantTx;

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
            Principal::Token { tenant: Some(tenant), .. } => {
                let tenant = tenants::lookup(&tx, *tenant).await?;
                Ok(tenant.into_iter().filter(|t| t.status == TenantStatus::Active).collect())
            }
            Principal::Token { .. }
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

    /// A transaction inside the tenant that a request wants to work in; see [`Tenants::enter`].
    ///
    /// # Errors
    /// Those of [`Tenants::enter`] and of the database.
    pub async fn open(&self, ctx: &CallContext, which: &TenantRef) -> Result<TenantTx> {
        let tenant = self.enter(ctx, which).await?;
        self.db.tenant(tenant.id).await.during("open a tenant transaction")
    }

    async fn find(&self, which: &TenantRef) -> Result<Option<Tenant>> {
        let tx = self.db.public().await.during("read tenant row")?;
        match which {
            TenantRef::Id(id) => tenants::lookup(&tx, *id).await,
            TenantRef::Slug(slug) => tenants::find_by_slug(&tx, slug).await,
        }
    }
}
