//! Makes tenants: row, admin, schema, role, tables, membership, audit event, idempotency record, all in
//! one transaction. There is no state in between to clean up: killed at any point, the database holds a
//! whole tenant or none.
//!
//! The schema is a vacancy ([`super::vacancies`]) where there is one that fits: then all of it is one
//! statement in one round trip, for all that are made at the same moment ([`group_commit`]). Where there is
//! none it is built in the same transaction.
//!
//! The password is hashed before a connection is taken, since it costs more time than all the rest.

mod command;
mod group_commit;
mod main_tenant;
mod prepared;
mod replay;

use std::sync::Arc;

use futures_util::join;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tracing::Instrument;

use self::group_commit::GroupCommit;
use super::vacancies::Vacancies;
use crate::auth::CallContext;
use crate::auth::password::Hasher;
use crate::domain::Permission;
use crate::domain::error::{Conflict, Error, Result};
use crate::domain::names::{SchemaName, TenantId};
use crate::migrations::MigrationSet;
use crate::pg::control::tenant_setup;
use crate::pg::{Db, During, PublicTx, schema};
pub use crate::service::provisioning::command::{Admin, Extras, NewAdmin, ProvisionTenant};
use crate::service::provisioning::prepared::Order;
pub use crate::service::provisioning::replay::Provisioned;

/// How often a transaction is sent again that lost a race against another.
const TRIES: u32 = 3;

/// Makes tenants. Runs on the main runtime with pools of its own, so that a burst of set-ups does not
/// hold up the workers' own queries.
#[derive(Clone)]
pub struct Provisioning {
    runtime: Handle,
    db: Db,
    hasher: Hasher,
    set: Arc<MigrationSet>,
    server_version: u32,
    vacancies: Vacancies,
    group_commit: GroupCommit,
}

impl Provisioning {
    /// Makes tenants through `db`, whose pools belong to `runtime`, in `vacancies` while there are any.
    #[must_use]
    pub fn new(
        runtime: Handle,
        db: Db,
        hasher: Hasher,
        set: Arc<MigrationSet>,
        server_version: u32,
        vacancies: Vacancies,
    ) -> Self {
        let pattern = vacancies.pattern().clone();
        let group_commit = GroupCommit::start(&runtime, db.clone(), pattern);
        Self { runtime, db, hasher, set, server_version, vacancies, group_commit }
    }

    /// Makes a tenant, whole or not at all.
    ///
    /// # Errors
    /// [`Conflict::SlugTaken`]; [`Conflict::StillRunning`] and [`Conflict::KeyReused`] where an
    /// idempotency key came along.
    pub async fn provision(&self, ctx: &CallContext, wish: ProvisionTenant) -> Result<Provisioned> {
        ctx.require(Permission::CreateTenant)?;
        self.provision_with(ctx, wish, Extras::default()).await
    }

    /// Makes a tenant with what only the control plane gives it.
    ///
    /// # Errors
    /// As [`Provisioning::provision`]; [`Conflict::ExternalIdTaken`].
    pub async fn provision_with(
        &self,
        ctx: &CallContext,
        wish: ProvisionTenant,
        extras: Extras,
    ) -> Result<Provisioned> {
        ctx.require(Permission::CreateTenant)?;
        let (this, ctx) = (self.clone(), ctx.clone());
        let work = async move { this.run(ctx, wish, extras).await };
        let task = self.runtime.spawn(work.in_current_span());
        let _end = EndWithCaller(task.abort_handle());
        task.await.map_err(|panicked| Error::internal("provision a tenant", panicked))?
    }

    async fn run(
        &self,
        ctx: CallContext,
        wish: ProvisionTenant,
        extras: Extras,
    ) -> Result<Provisioned> {
        if let Some(answer) = self.answered_before(&ctx, &wish, &extras).await? {
            return Ok(answer);
        }
        let hash = match wish.admin.password() {
            Some(password) => Some(self.hasher.hash(password).await?),
            None => None,
        };
        let order = Arc::new(Order { actor: ctx.principal.label(), ctx, wish, extras, hash });
        let mut attempt = 1;
        loop {
            match self.make(&order).await {
                Err(Error::Conflict(Conflict::Concurrent)) if attempt < TRIES => attempt += 1,
                // The same request got there first, and its answer is ours.
                Ok(None) => {
                    let Order { ctx, wish, extras, .. } = &*order;
                    let answer = self.answered_before(ctx, wish, extras).await?;
                    return answer.ok_or(Error::Conflict(Conflict::StillRunning));
                }
                Ok(Some(made)) => return Ok(made),
                Err(error) => return Err(error),
            }
        }
    }

    /// Makes the tenant in a vacancy where there is one that fits, and builds where there is none. `None`
    /// where the idempotency key turns out to be answered.
    async fn make(&self, order: &Arc<Order>) -> Result<Option<Provisioned>> {
        let mut outcome = Outcome::NoVacancy;
        if self.vacancies.are_kept() {
            outcome = self.move_in(order).await?;
        }
        let was_vacancy = !matches!(outcome, Outcome::NoVacancy);
        if !was_vacancy {
            outcome = self.set_up(order, Some(TenantId::generate())).await?;
        }
        let Outcome::Made(made) = outcome else { return Ok(None) };
        self.vacancies.note_set_up(was_vacancy);
        tracing::info!(tenant.id = %made.id, tenant.slug = %made.slug, principal = %order.actor, "made a tenant");
        Ok(Some(made))
    }

    /// Takes a vacancy: in one round trip and together with whoever else does, unless a key or a token needs
    /// more than one, or it has to be found out what stands in the way.
    async fn move_in(&self, order: &Arc<Order>) -> Result<Outcome> {
        if order.is_plain()
            && let Some(given) = self.group_commit.make(order).await?
        {
            return Ok(Outcome::Made(Provisioned::of(&order.wish, given)));
        }
        self.set_up(order, None).await
    }

    /// The transaction of one set-up alone: builds a schema for this id, or takes a vacancy.
    async fn set_up(&self, order: &Order, new: Option<TenantId>) -> Result<Outcome> {
        let tx = self.db.public().await.during("begin provisioning")?;
        if !order.take_key(&tx).await? {
            return Ok(Outcome::Answered);
        }
        // Before the schema: a slug that is taken, or an owner who is not there, must cost nothing.
        let pattern = self.vacancies.pattern();
        let Some(given) = tenant_setup::insert(&tx, pattern, new, &order.rows()).await? else {
            return Ok(Outcome::NoVacancy);
        };
        if let Some(id) = new {
            self.make_schema(&tx, id).await?;
        }
        let made = Provisioned::of(&order.wish, given);
        let (token, kept, committed) = join!(
            order.make_token(&tx, given.id),
            order.keep_answer(&tx, &made),
            tx.commit_behind()
        );
        let token = token?;
        kept?;
        committed.during("commit provisioning")?;
        Ok(Outcome::Made(Provisioned { token, ..made }))
    }

    /// Makes the schema, its role and its tables.
    async fn make_schema(&self, tx: &PublicTx, tenant: TenantId) -> Result<()> {
        let schema = SchemaName::of(tenant);
        let rules = self.db.rules();
        schema::create(tx, &schema, rules, self.server_version)
            .await
            .during("create tenant schema")?;
        schema::migrate(tx, &schema, &self.set, rules)
            .await
            .map_err(|error| super::fleet::to_error("migrate new tenant schema", error))?;
        Ok(())
    }
}

/// How a transaction ended.
enum Outcome {
    Made(Provisioned),
    /// The idempotency key has an answer.
    Answered,
    /// There is no vacancy that fits, and nothing was done.
    NoVacancy,
}

/// Ends the work with the call that waits for it. A caller who was told that it took too long may try
/// again with the same slug, so that nothing may be made behind their back.
struct EndWithCaller(AbortHandle);

impl Drop for EndWithCaller {
    fn drop(&mut self) {
        self.0.abort();
    }
}
