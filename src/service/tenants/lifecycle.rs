//! Moves tenants through their lives: suspended and resumed, deleted and restored, purged in the end.
//!
//! A move holds the tenant's row, so that of two at once the second sees what the first did, and its audit
//! event is in the same transaction. Nothing remembers a tenant's status outside of its row: from the moment
//! of the commit every process refuses to enter a tenant that is not active.
//!
//! A deleted tenant is kept for a grace period. A purge takes several transactions, because one alone might
//! need more locks than the server has: a first one notes that it began, each further one drops a few
//! tables, the last one drops the schema and the role together with the row, and leaves the audit record.
//! Until then the tenant is `deleting`, so a purge that broke off is taken up by whoever comes next:
//! the background task of any process, or another call. Two at once take turns and do no harm.

use serde_json::json;
use time::{Duration, OffsetDateTime};

use crate::auth::CallContext;
use crate::auth::context::Reach;
use crate::domain::Permission;
use crate::domain::error::{Conflict, Error, Noun, Result};
use crate::domain::names::{SchemaName, TenantId};
use crate::domain::tenant::{Move, Tenant, TenantRecord, TenantStatus};
use crate::pg::control::tenants::{self, MAIN_NUMBER};
use crate::pg::control::{footprint, tenant_records};
use crate::pg::{Db, During, schema};
use crate::service::audit::note;
use crate::service::tenants::registry::{self, Expected};

pub use crate::pg::control::footprint::Belongings;

/// How many purges are taken up in one go; the next go comes soon.
const PURGES_AT_ONCE: i64 = 100;

/// Moves tenants through their lives.
#[derive(Clone)]
pub struct Lifecycle {
    db: Db,
    grace: Duration,
}

impl Lifecycle {
    /// Works through `db`; a deleted tenant is kept for `grace`.
    #[must_use]
    pub fn new(db: Db, grace: Duration) -> Self {
        Self { db, grace }
    }

    /// Makes an active tenant answer nothing until it is resumed.
    ///
    /// # Errors
    /// [`Noun::Tenant`] not found, [`Conflict::IllegalMove`], or a revision that is not current.
    pub async fn suspend(
        &self,
        ctx: &CallContext,
        named: &str,
        expected: &Expected,
    ) -> Result<TenantRecord> {
        let reach = ctx.reach(Permission::UpdateTenant)?;
        self.shift(ctx, &reach, named, expected, Move::Suspend).await
    }

    /// Makes a suspended tenant answer again.
    ///
    /// # Errors
    /// As [`Lifecycle::suspend`].
    pub async fn resume(
        &self,
        ctx: &CallContext,
        named: &str,
        expected: &Expected,
    ) -> Result<TenantRecord> {
        let reach = ctx.reach(Permission::UpdateTenant)?;
        self.shift(ctx, &reach, named, expected, Move::Resume).await
    }

    /// A tenant and what it holds, for whoever is about to delete or to purge it.
    ///
    /// # Errors
    /// [`Noun::Tenant`] not found.
    pub async fn read_belongings(
        &self,
        ctx: &CallContext,
        named: &str,
    ) -> Result<(TenantRecord, Belongings)> {
        let reach = ctx.reach(Permission::DeleteTenant)?;
        let tx = self.db.public().await.during("count what a tenant holds")?;
        let record = registry::locate(&tx, &reach, named).await?;
        let belongings = footprint::count(&tx, record.tenant.id).await?;
        Ok((record, belongings))
    }

    /// Makes a tenant answer nothing, and be purged when the grace period ends.
    ///
    /// # Errors
    /// As [`Lifecycle::suspend`], and [`Conflict::MainTenant`].
    pub async fn delete(
        &self,
        ctx: &CallContext,
        named: &str,
        expected: &Expected,
    ) -> Result<TenantRecord> {
        let reach = ctx.reach(Permission::DeleteTenant)?;
        self.shift(ctx, &reach, named, expected, Move::Delete).await
    }

    /// Brings a deleted tenant back as what it was, active or suspended.
    ///
    /// # Errors
    /// As [`Lifecycle::suspend`], and [`Conflict::GraceOver`] or [`Conflict::PurgeStarted`] where it comes
    /// too late.
    pub async fn restore(
        &self,
        ctx: &CallContext,
        named: &str,
        expected: &Expected,
    ) -> Result<TenantRecord> {
        let reach = ctx.reach(Permission::DeleteTenant)?;
        self.shift(ctx, &reach, named, expected, Move::Restore).await
    }

    /// Destroys a deleted tenant now, whatever is left of its grace period. Broken off, it can be asked
    /// for again in the same words.
    ///
    /// # Errors
    /// As [`Lifecycle::suspend`]; [`Conflict::Concurrent`] where somebody inside the tenant does not let go.
    pub async fn purge(&self, ctx: &CallContext, named: &str, expected: &Expected) -> Result<()> {
        let reach = ctx.reach(Permission::DeleteTenant)?;
        let tx = self.db.public().await.during("begin the purge of a tenant")?;
        let record = registry::lock(&tx, &reach, named).await?;
        expected.check(&record)?;
        if record.tenant.status != TenantStatus::Deleting {
            return Err(Error::Conflict(Conflict::IllegalMove(record.tenant.status)));
        }
        tenant_records::start_purge(&tx, record.tenant.id, ctx.now).await?;
        tx.commit().await.during("begin the purge of a tenant")?;
        self.finish_purge(ctx, record.tenant.id).await
    }

    /// Deletes and purges a tenant at once, for a dialect that knows no grace. Broken off, it leaves a
    /// tenant that answers nothing, and is taken up by the next call or by the background task.
    ///
    /// # Errors
    /// [`Noun::Tenant`] not found, [`Conflict::MainTenant`], [`Conflict::Concurrent`].
    pub async fn remove(&self, ctx: &CallContext, id: TenantId) -> Result<()> {
        let reach = ctx.reach(Permission::DeleteTenant)?;
        let tx = self.db.public().await.during("delete tenant")?;
        let record = tenant_records::lock(&tx, id)
            .await?
            .filter(|_| reach.covers(id))
            .ok_or(Error::NotFound(Noun::Tenant))?;
        require_not_main(&record.tenant)?;
        if record.tenant.status != TenantStatus::Deleting {
            let (status, details) = (TenantStatus::Deleting, json!({ "slug": record.tenant.slug }));
            let restore_to = Some(record.tenant.status);
            tenant_records::set_status(&tx, id, status, Some(ctx.now), restore_to, ctx.now).await?;
            note(&tx, ctx, "tenant.delete", id, details).await?;
        }
        tenant_records::start_purge(&tx, id, ctx.now).await?;
        tx.commit().await.during("delete tenant")?;
        self.finish_purge(ctx, id).await
    }

    /// Purges every deleted tenant whose grace period is over and every one whose purge broke off; tells
    /// how many are gone. One that cannot be purged now is logged and left for the next time.
    ///
    /// # Errors
    /// Those of the rights check, and of the database where not even the list can be read.
    pub async fn purge_due(&self, ctx: &CallContext) -> Result<usize> {
        ctx.require(Permission::DeleteTenant)?;
        let tx = self.db.public().await.during("list due purges")?;
        let due = tenant_records::list_due(&tx, ctx.now, PURGES_AT_ONCE).await?;
        drop(tx);
        let mut gone = 0;
        for id in due {
            match self.purge_if_due(ctx, id).await {
                Ok(true) => gone += 1,
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(tenant.id = %id, error = %error.chain(), "could not purge a tenant now");
                }
            }
        }
        Ok(gone)
    }

    /// Looks again with the row held: it may have been restored since it was listed, or be somebody else's.
    async fn purge_if_due(&self, ctx: &CallContext, id: TenantId) -> Result<bool> {
        let tx = self.db.public().await.during("begin the purge of a tenant")?;
        let Some(record) = tenant_records::lock(&tx, id).await? else { return Ok(false) };
        if !is_due(&record, ctx.now) {
            return Ok(false);
        }
        tenant_records::start_purge(&tx, id, ctx.now).await?;
        tx.commit().await.during("begin the purge of a tenant")?;
        self.finish_purge(ctx, id).await.map(|()| true)
    }

    async fn finish_purge(&self, ctx: &CallContext, id: TenantId) -> Result<()> {
        while self.purge_some(ctx, id).await? {}
        Ok(())
    }

    /// One transaction of a purge; tells whether there is more to do. Takes the schema's lock before the
    /// row, as a migration does, so that neither waits for the other in a circle.
    async fn purge_some(&self, ctx: &CallContext, id: TenantId) -> Result<bool> {
        let tx = self.db.public().await.during("purge tenant")?;
        let schema = SchemaName::of(id);
        if schema::drop_some(&tx, &schema).await.during("drop tables of a tenant")? {
            tx.commit().await.during("purge tenant")?;
            return Ok(true);
        }
        let Some(record) = tenant_records::lock(&tx, id).await? else {
            return Ok(false); // somebody else did the last step
        };
        schema::drop(&tx, &schema, self.db.rules()).await.during("drop tenant schema")?;
        tenants::delete(&tx, id).await?;
        let details = json!({
            "slug": record.tenant.slug,
            "name": record.tenant.name,
            "external_id": record.external_id,
        });
        note(&tx, ctx, "tenant.purge", id, details).await?;
        tx.commit().await.during("purge tenant")?;
        Ok(false)
    }

    async fn shift(
        &self,
        ctx: &CallContext,
        reach: &Reach,
        named: &str,
        expected: &Expected,
        step: Move,
    ) -> Result<TenantRecord> {
        let tx = self.db.public().await.during("move a tenant")?;
        let record = registry::lock(&tx, reach, named).await?;
        expected.check(&record)?;
        if step == Move::Delete {
            require_not_main(&record.tenant)?;
        }
        let status = record.status_after(step, ctx.now).map_err(Error::Conflict)?;
        let is_deletion = status == TenantStatus::Deleting;
        let purge_after = is_deletion.then(|| ctx.now + self.grace);
        let restore_to = is_deletion.then_some(record.tenant.status);
        let id = record.tenant.id;
        tenant_records::set_status(&tx, id, status, purge_after, restore_to, ctx.now).await?;
        let details = json!({
            "slug": record.tenant.slug, "from": record.tenant.status.as_str(), "to": status.as_str(),
        });
        note(&tx, ctx, action(step), id, details).await?;
        tx.commit().await.during("move a tenant")?;
        Ok(TenantRecord {
            tenant: Tenant { status, ..record.tenant },
            purge_after,
            restore_to,
            revision: record.revision + 1,
            updated_at: ctx.now,
            ..record
        })
    }
}

fn is_due(record: &TenantRecord, now: OffsetDateTime) -> bool {
    record.tenant.status == TenantStatus::Deleting
        && (record.purge_started_at.is_some() || record.purge_after.is_some_and(|end| end <= now))
}

fn require_not_main(tenant: &Tenant) -> Result<()> {
    if tenant.number == MAIN_NUMBER { Err(Error::Conflict(Conflict::MainTenant)) } else { Ok(()) }
}

const fn action(step: Move) -> &'static str {
    match step {
        Move::Suspend => "tenant.suspend",
        Move::Resume => "tenant.resume",
        Move::Delete => "tenant.delete",
        Move::Restore => "tenant.restore",
    }
}
