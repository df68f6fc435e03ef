//! What an application does in the tables of a new tenant, in the transaction of its set-up.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::Provisioning;
use super::prepared::PreparedSetup;
use crate::domain::Tenant;
use crate::domain::error::{Error, Result};
use crate::domain::status::TenantStatus;
use crate::pg::PublicTx;
use crate::pg::control::tenant_setup::Assigned;
use crate::service::tenants::{Caller, Entered, TenantTx};

/// The function of a hook.
pub type RunHook =
    Arc<dyn for<'a> Fn(&'a TenantTx) -> BoxFuture<'a, Result<(), Error>> + Send + Sync>;

/// A hook: its name, for errors, and its function.
#[derive(Clone)]
pub struct Hook {
    /// The name.
    pub name: &'static str,
    /// The function.
    pub run: RunHook,
}

/// What failed in a hook.
#[derive(Debug, thiserror::Error)]
#[error("the hook {name} for new tenants failed: {problem}")]
struct HookFailure {
    name: &'static str,
    problem: String,
}

impl Provisioning {
    /// Runs the hooks as the tenant that the transaction makes.
    pub(super) async fn run_hooks(
        &self,
        tx: PublicTx,
        prepared: &PreparedSetup<'_>,
        assigned: Assigned,
    ) -> Result<PublicTx> {
        if self.hooks.is_empty() {
            return Ok(tx);
        }
        let (ctx, command) = (prepared.ctx, prepared.command);
        let tenant = Tenant {
            id: assigned.id,
            number: assigned.number,
            slug: command.slug.clone(),
            name: command.name.clone(),
            org: command.org.clone(),
            status: TenantStatus::Active,
            created_at: ctx.now,
            is_closed: false,
        };
        let settings = prepared.extras.settings.as_value().clone();
        let (inside, left) = self.db.enter_new_tenant(tx, assigned.id).await?;
        let caller = Caller::new(ctx, assigned.id, Arc::from([]));
        let inside = TenantTx::new(inside, Entered::new(tenant, settings), caller, ctx.now);
        for hook in self.hooks.iter() {
            let outcome = AssertUnwindSafe((hook.run)(&inside)).catch_unwind().await;
            let problem = match outcome {
                Ok(Ok(())) => continue,
                // What passes by itself stays so, and the set-up is tried again.
                Ok(Err(error @ (Error::Unavailable { .. } | Error::TenantBusy { .. }))) => {
                    return Err(error);
                }
                Ok(Err(error)) => error.chain(),
                Err(_panic) => "it panicked".to_owned(),
            };
            let failure = HookFailure { name: hook.name, problem };
            return Err(Error::internal("set up a tenant", failure));
        }
        Ok(self.db.leave_new_tenant(inside.into_inner(), left).await?)
    }
}
