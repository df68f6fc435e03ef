//! Works on all tenants together: brings every schema up to date, one transaction a tenant.
//!
//! A tenant that fails is named and left as it was; the others go on.

use std::sync::Arc;

use crate::auth::CallContext;
use crate::domain::error::{Error, Result};
use crate::domain::names::{SchemaName, Slug, TenantId};
use crate::domain::{Permission, Tenant};
use crate::pg::error::{During, Failure};
use crate::pg::migrations::{MigrationError, MigrationSet};
use crate::pg::{Db, schemas, tenants};

/// Migrates tenants.
#[derive(Clone)]
pub struct Fleet {
    db: Db,
    set: Arc<MigrationSet>,
}

/// What became of one tenant.
#[derive(Debug, Clone)]
pub struct Migrated {
    /// Which.
    pub id: TenantId,
    /// By the name people use.
    pub slug: Slug,
    /// The files that were applied, or why none was.
    pub outcome: Result<Vec<String>, String>,
}

impl Fleet {
    /// Migrates through `db` to `set`.
    #[must_use]
    pub fn new(db: Db, set: Arc<MigrationSet>) -> Self {
        Self { db, set }
    }

    /// The set that tenants are migrated to.
    #[must_use]
    pub fn set(&self) -> &MigrationSet {
        &self.set
    }

    /// The tenants that are not on the current set, oldest first.
    ///
    /// # Errors
    /// Those of the rights check and of the database.
    pub async fn behind(&self, ctx: &CallContext) -> Result<Vec<Tenant>> {
        ctx.require(Permission::MigrateFleet)?;
        let tx = self.db.public().await.during("list tenants that are behind")?;
        tenants::list_behind(&tx, &self.set).await
    }

    /// Migrates one tenant. Its failure is an outcome and not an error of the call.
    ///
    /// # Errors
    /// Those of the rights check.
    pub async fn migrate(&self, ctx: &CallContext, tenant: &Tenant) -> Result<Migrated> {
        ctx.require(Permission::MigrateFleet)?;
        let outcome = self.run(ctx, tenant.id).await.map_err(|error| error.to_string());
        if let Err(reason) = &outcome {
            tracing::warn!(tenant.id = %tenant.id, tenant.slug = %tenant.slug, reason, "failed to migrate a tenant");
        }
        Ok(Migrated { id: tenant.id, slug: tenant.slug.clone(), outcome })
    }

    async fn run(
        &self,
        ctx: &CallContext,
        tenant: TenantId,
    ) -> Result<Vec<String>, MigrationError> {
        let tx = self.db.public().await?;
        let schema = SchemaName::of(tenant);
        let applied = schemas::migrate(&tx, &schema, &self.set, self.db.rules()).await?;
        tenants::set_migrated(&tx, tenant, &self.set, ctx.now)
            .await
            .map_err(|error| MigrationError::Diverged(error.chain()))?;
        tx.commit().await?;
        Ok(applied)
    }
}

/// Sorts a failed migration by remedy: the database's own failures keep their kind.
pub(super) fn to_error(during: &'static str, error: MigrationError) -> Error {
    match error {
        MigrationError::Database(failure @ (Failure::Pool(_) | Failure::Postgres(_)))
        | MigrationError::Interrupted { failure, .. } => failure.during(during),
        other => Error::internal(during, other),
    }
}
