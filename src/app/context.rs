//! What the jobs and the commands of an application work with.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use time::OffsetDateTime;

use crate::auth::CallContext;
use crate::domain::error::{Error, Result};
use crate::domain::{Access, Clock, Tenant};
use crate::http::native::Problem;
use crate::service::Services;
use crate::service::tenants::{SharedTx, TenantRef, TenantTx};

/// The settings of an application, by their types.
pub(super) type States = HashMap<TypeId, Arc<dyn Any + Send + Sync>>;

/// What a job or a command of an application works with: all tenants, the shared tables, the settings.
///
/// ```no_run
/// use rowhouse::{Context, Problem};
///
/// async fn sweep(context: Context) -> Result<(), Problem> {
///     let report = context
///         .for_each_tenant(4, async |tx| {
///             tx.execute("DELETE FROM notes WHERE deleted_at < $1", &[&tx.now()]).await?;
///             Ok(tx.commit().await?)
///         })
///         .await?;
///     report.into_result()
/// }
/// ```
#[derive(Clone)]
pub struct Context {
    services: Services,
    clock: Clock,
    states: Arc<States>,
}

/// What became of the work in each tenant.
#[derive(Debug)]
pub struct Report {
    /// The tenants in which it was done.
    pub done: Vec<Tenant>,
    /// The tenants in which it failed, with the reasons.
    pub failed: Vec<(Tenant, Problem)>,
}

impl Report {
    /// Fails if the work failed in some tenant, and names each with its reason.
    ///
    /// # Errors
    /// [`Problem::internal`].
    pub fn into_result(self) -> Result<(), Problem> {
        if self.failed.is_empty() {
            return Ok(());
        }
        let line = |(tenant, problem): &(Tenant, Problem)| {
            format!("{}: {}", tenant.slug.as_str(), problem.chain())
        };
        let lines: Vec<String> = self.failed.iter().map(line).collect();
        Err(Problem::internal("work in each tenant", lines.join("; ")))
    }
}

impl Context {
    pub(super) const fn new(services: Services, clock: Clock, states: Arc<States>) -> Self {
        Self { services, clock, states }
    }

    /// Returns the time, by the clock of the database.
    #[must_use]
    pub fn now(&self) -> OffsetDateTime {
        self.clock.now()
    }

    /// Returns the settings of the application that were read into this type.
    ///
    /// # Errors
    /// If the application has no settings of this type.
    pub fn settings<T: Send + Sync + 'static>(&self) -> Result<Arc<T>, Problem> {
        let found = self.states.get(&TypeId::of::<T>()).cloned();
        let found = found.and_then(|state| state.downcast().ok());
        found.ok_or_else(|| {
            Problem::internal(
                "read the settings",
                format!("none are a {}", std::any::type_name::<T>()),
            )
        })
    }

    /// Begins a transaction that may write in the tenant with this slug or id.
    ///
    /// # Errors
    /// 404 if there is no such tenant or it is not active.
    pub async fn tenant(&self, slug_or_id: &str) -> Result<TenantTx, Problem> {
        let which = TenantRef::IdOrSlug(slug_or_id.to_owned());
        Ok(self.enter(&which).await?)
    }

    /// Begins a transaction that may write in the tables that all tenants share.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn shared(&self) -> Result<SharedTx, Problem> {
        Ok(self.services.tenants.shared_unauthorized(Access::Write).await?)
    }

    /// Runs work in each active tenant, in so many at a time. One in which it fails does not keep it from the others.
    ///
    /// The work commits its transaction itself.
    ///
    /// # Errors
    /// If the tenants cannot be listed.
    pub async fn for_each_tenant<F>(
        &self,
        workers: usize,
        work: impl Fn(TenantTx) -> F,
    ) -> Result<Report, Problem>
    where
        F: Future<Output = Result<(), Problem>>,
    {
        let tenants =
            self.services.tenants.list_active(&CallContext::of_operator(self.now())).await?;
        let mut waiting = tenants.into_iter();
        let mut running = FuturesUnordered::new();
        let mut report = Report { done: Vec::new(), failed: Vec::new() };
        loop {
            let free = workers.max(1).saturating_sub(running.len());
            for tenant in waiting.by_ref().take(free) {
                running.push(within(self.clone(), tenant, &work));
            }
            match running.next().await {
                Some((tenant, Ok(()))) => report.done.push(tenant),
                Some((tenant, Err(problem))) => report.failed.push((tenant, problem)),
                None => break,
            }
        }
        Ok(report)
    }

    /// Returns the same with a time that is ahead.
    #[cfg(feature = "testing")]
    pub(crate) fn ahead(&self, by: std::time::Duration) -> Self {
        let clock = self.clock.clone();
        Self { clock: Clock::from_fn(move || clock.now() + by), ..self.clone() }
    }

    /// Returns the services, and what the operator calls them with.
    #[cfg(feature = "testing")]
    pub(crate) fn operate(&self) -> (Services, CallContext) {
        (self.services.clone(), CallContext::of_operator(self.now()))
    }

    async fn enter(&self, which: &TenantRef) -> Result<TenantTx, Error> {
        let ctx = CallContext::of_operator(self.clock.now());
        let entered = self.services.tenants.enter(&ctx, which).await?;
        self.services.tenants.begin(&ctx, &entered, Access::Write).await
    }
}

/// Runs work in a tenant. By value, so that the future of a job borrows nothing of its context.
async fn within<F>(
    context: Context,
    tenant: Tenant,
    work: &impl Fn(TenantTx) -> F,
) -> (Tenant, Result<(), Problem>)
where
    F: Future<Output = Result<(), Problem>>,
{
    let outcome = match context.enter(&TenantRef::Id(tenant.id)).await {
        Ok(tx) => work(tx).await,
        Err(error) => Err(Problem(error)),
    };
    (tenant, outcome)
}
