//! The main tenant, which is made on first use.

use serde_json::json;

use super::new_schema::RoleOrigin;
use super::prepared::FIRST_REVISION;
use super::{Provisioning, TRIES};
use crate::auth::CallContext;
use crate::domain::error::{Conflict, Error, Result};
use crate::domain::names::{Slug, TenantId, TenantName};
use crate::domain::{AuditAction, Tenant, TenantStatus};
use crate::pg::During;
use crate::pg::control::tenants;
use crate::pg::control::vacancies::{self, State};
use crate::service::audit::{note, of_tenant};

/// Slug and name of the main tenant; a reserved word, so no other tenant can have it.
const MAIN: &str = "main";

impl Provisioning {
    /// The main tenant, in which Databunker's clients work if they name none. It is made on first use, so an
    /// installation that never speaks that dialect has none.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn main_tenant(&self, ctx: &CallContext) -> Result<Tenant> {
        ctx.require_authenticated()?;
        let (this, ctx) = (self.clone(), ctx.clone());
        self.runtime
            .spawn(async move { this.find_or_make_main(&ctx).await })
            .await
            .map_err(|panicked| Error::internal("make the main tenant", panicked))?
    }

    async fn find_or_make_main(&self, ctx: &CallContext) -> Result<Tenant> {
        let mut attempt = 1;
        loop {
            if let Some(tenant) = self.find_main().await? {
                return Ok(tenant);
            }
            match self.make_main(ctx).await {
                Err(error) if attempt < TRIES && is_made_meanwhile(&error) => attempt += 1,
                outcome => return outcome,
            }
        }
    }

    async fn make_main(&self, ctx: &CallContext) -> Result<Tenant> {
        let now = ctx.now;
        let in_steps = self.vacancies.new_tenants().in_steps();
        let vacancy = if in_steps { Some(self.vacancies.make_one(now).await?) } else { None };
        let tenant = Tenant {
            id: vacancy.unwrap_or_else(TenantId::generate),
            number: tenants::MAIN_NUMBER,
            slug: Slug::stored(MAIN.to_owned()),
            name: TenantName::stored(MAIN.to_owned()),
            org: None,
            status: TenantStatus::Active,
            created_at: now,
            is_closed: false,
        };
        let tx = self.db.public().await.during("make the main tenant")?;
        if vacancy.is_some() {
            if !vacancies::lock_in(&tx, tenant.id, State::Ready).await? {
                return Err(Error::Conflict(Conflict::Concurrent)); // a set-up has taken it
            }
            vacancies::delete(&tx, tenant.id).await?;
        }
        tenants::insert(&tx, &tenant, None, &self.set).await?;
        if vacancy.is_none()
            && !self.make_schema(&tx, tenant.id, RoleOrigin::WithSchema, now).await?
        {
            return Err(Error::Conflict(Conflict::Concurrent)); // in several transactions, next time
        }
        let details = of_tenant(&tenant.slug, None, FIRST_REVISION, json!({ "name": tenant.name }));
        note(&tx, ctx, AuditAction::TenantCreate, tenant.id, details).await?;
        tx.commit().await.during("make the main tenant")?;
        Ok(tenant)
    }

    async fn find_main(&self) -> Result<Option<Tenant>> {
        let tx = self.db.public().await.during("read the main tenant")?;
        tenants::find_by_number(&tx, tenants::MAIN_NUMBER).await
    }
}

/// Whether another request has made the tenant, or is making it.
fn is_made_meanwhile(error: &Error) -> bool {
    matches!(error, Error::Conflict(Conflict::SlugTaken)) || error.is_lost_race()
}
