//! Builds the schema of a new tenant, and tells callers why none can be built.

use time::OffsetDateTime;

use crate::auth::CallContext;
use crate::domain::Permission;
use crate::domain::error::{Error, Result};
use crate::domain::names::{SchemaName, TenantId};
use crate::domain::operation::FleetProblem;
use crate::pg::control::vacancies;
use crate::pg::schema::error::ApplyError;
use crate::pg::{During, PublicTx, schema};
use crate::service::provisioning::Provisioning;

/// When the role of a new tenant is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RoleOrigin {
    /// It is there.
    Ahead,
    /// It is made with the schema.
    WithSchema,
}

impl Provisioning {
    /// Returns the id of a new tenant: that of a role that was made ahead, or another one.
    pub(super) async fn begin_schema(&self, tx: &PublicTx) -> Result<(TenantId, RoleOrigin)> {
        let begun = if self.vacancies.are_kept() {
            vacancies::take_begun(tx, self.vacancies.pattern()).await?
        } else {
            None
        };
        Ok(match begun {
            Some(id) => (id, RoleOrigin::Ahead),
            None => (TenantId::generate(), RoleOrigin::WithSchema),
        })
    }

    /// Makes the schema, its role unless that exists, and its tables; false if that takes several transactions. The transaction can then
    /// only be dropped.
    pub(super) async fn make_schema(
        &self,
        tx: &PublicTx,
        tenant: TenantId,
        role: RoleOrigin,
        now: OffsetDateTime,
    ) -> Result<bool> {
        let schema = SchemaName::of(tenant);
        let (rules, new_tenants) = (self.db.rules(), self.vacancies.new_tenants());
        let created = match role {
            RoleOrigin::Ahead => schema::create_without_role(tx, &schema, rules).await,
            RoleOrigin::WithSchema => schema::create(tx, &schema, rules, self.server_version).await,
        };
        created.during("create tenant schema")?;
        match schema::build(tx, &schema, &self.set, rules, now).await {
            Ok(()) => {
                new_tenants.note_built();
                Ok(true)
            }
            Err(ApplyError::Failed { needs_commit: true, .. }) => {
                new_tenants.note_steps();
                Ok(false)
            }
            Err(error) => Err(self.vacancies.unbuildable(error)),
        }
    }

    /// Builds a tenant from the set and takes it back, and remembers and logs whether that works.
    ///
    /// # Errors
    /// [`FleetProblem::NewTenantsBlocked`], with the file and the line; those of the rights check and of the database.
    pub async fn check(&self, ctx: &CallContext) -> Result<()> {
        ctx.require(Permission::CreateTenant)?;
        let new_tenants = self.vacancies.new_tenants();
        let outcome = new_tenants.check(ctx.now).await;
        new_tenants.log_change();
        outcome
    }
}

/// Tells why no tenant can be made only to a caller who may migrate: the reason quotes files and the server.
pub(super) fn told_to(ctx: &CallContext, error: Error) -> Error {
    match error {
        Error::Fleet(problem)
            if problem.is_outage() && !ctx.principal.may(Permission::MigrateFleet) =>
        {
            let reason = "`rowhouse migrate` and the log of the server tell the reason".to_owned();
            FleetProblem::NewTenantsBlocked(reason).into()
        }
        other => other,
    }
}
