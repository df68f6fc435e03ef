//! Moves tenants between statuses: suspends and resumes, deletes and restores, and finally purges them.
//!
//! A move locks the tenant's row, so that of two concurrent moves the second sees the result of the first, and
//! it writes its audit event in the same transaction. No process caches a tenant's status: from the commit on,
//! every process refuses to enter a tenant that is not active.
//!
//! A deleted tenant is kept for a grace period. A purge takes several transactions, because one alone might
//! need more locks than the server has: the first records that the purge began, each further one drops a few
//! tables, the last one drops the schema and the role together with the row, and writes the audit event.
//! Until then the tenant is `deleting`, so an interrupted purge is continued by the next call or by the
//! background task of any process. Two concurrent purges of one tenant take turns and do no harm.
//!
//! A purge drops what belongs to the tenant and nothing else. Each of its transactions looks for what is outside of the
//! schema and depends on it, or belongs to the tenant's role; what it finds stops the purge, unless an operator allowed
//! exactly that to go ([`OnDependents::Cascade`]). The first transaction then changes nothing, so the tenant can still be
//! restored; a later one leaves the purge begun, and the next call or the background task continues it.

use serde_json::json;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use super::registry::Expected;
use super::slugs::SlugRules;
use super::{TenantRef, locate, lock};
use crate::auth::CallContext;
use crate::auth::context::Reach;
use crate::domain::error::{Conflict, Error, Result};
use crate::domain::names::{SchemaName, TenantId};
use crate::domain::purge::PurgeProblem;
use crate::domain::status::TenantStatus;
use crate::domain::tenant::{Move, Tenant, TenantRecord};
use crate::domain::{AuditAction, Permission};
use crate::pg::control::tenants::{self, MAIN_NUMBER};
use crate::pg::control::{footprint, purges, slugs};
use crate::pg::schema::{RoleOutcome, dependents};
use crate::pg::{Db, During, PublicTx, schema};
use crate::service::audit::{note, of_tenant};

pub use crate::pg::control::footprint::Footprint;

/// How many purges one run of the background task carries out; the next run comes soon.
const PURGES_AT_ONCE: usize = 100;

/// How many due purges one statement lists.
const LISTED_AT_ONCE: i64 = 100;

/// What a purge does about objects outside of the tenant's schema that depend on it or belong to its role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDependents {
    /// Nothing is dropped, and the error lists them.
    Stop,
    /// They are dropped too. An audit event lists them; what comes to depend on the tenant later stops the purge.
    Cascade,
}

/// Moves tenants between statuses.
#[derive(Clone)]
pub struct Lifecycle {
    pub(super) db: Db,
    grace: Duration,
    slugs: SlugRules,
}

impl Lifecycle {
    /// Creates the service on `db`; a deleted tenant is kept for `grace`.
    #[must_use]
    pub fn new(db: Db, grace: Duration, slugs: SlugRules) -> Self {
        Self { db, grace, slugs }
    }

    /// Suspends an active tenant: it answers nothing until it is resumed. As each of these moves, it changes nothing
    /// where the tenant has the status already.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Conflict::IllegalMove`], or a revision that is not current.
    pub async fn suspend(
        &self,
        ctx: &CallContext,
        which: &TenantRef,
        expected: &Expected,
    ) -> Result<TenantRecord> {
        let reach = ctx.reach(Permission::UpdateTenant)?;
        self.shift(ctx, &reach, which, expected, Move::Suspend).await
    }

    /// Makes a suspended tenant active.
    ///
    /// # Errors
    /// As [`Lifecycle::suspend`].
    pub async fn resume(
        &self,
        ctx: &CallContext,
        which: &TenantRef,
        expected: &Expected,
    ) -> Result<TenantRecord> {
        let reach = ctx.reach(Permission::UpdateTenant)?;
        self.shift(ctx, &reach, which, expected, Move::Resume).await
    }

    /// Returns a tenant and how much it holds, for a caller who is about to delete or to purge it.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn read_footprint(
        &self,
        ctx: &CallContext,
        which: &TenantRef,
    ) -> Result<(TenantRecord, Footprint)> {
        let reach = ctx.reach(Permission::DeleteTenant)?;
        let tx = self.db.public().await.during("count what a tenant holds")?;
        let record = locate(&tx, &reach, which).await?;
        let footprint = footprint::count(&tx, record.tenant.id, self.db.rules().engine).await?;
        Ok((record, footprint))
    }

    /// Returns what a purge would drop outside of the tenant's schema, each with its kind. An operator's question: the
    /// objects may be those of other tenants.
    ///
    /// # Errors
    /// [`Error::Forbidden`] for a caller whose rights are limited to some tenants; [`Error::NotFound`].
    pub async fn read_dependents(
        &self,
        ctx: &CallContext,
        which: &TenantRef,
    ) -> Result<Vec<String>> {
        let reach = ctx.reach(Permission::DeleteTenant)?;
        if reach != Reach::Everything {
            return Err(Error::missing(Permission::CrossTenant));
        }
        let tx = self.db.public().await.during("list what depends on a tenant")?;
        let schema = SchemaName::of(locate(&tx, &reach, which).await?.tenant.id);
        let found = dependents::find(&tx, schema.as_str(), Some(schema.as_str())).await;
        found.during("list what depends on a tenant")
    }

    /// Deletes a tenant: it answers nothing, and is purged when the grace period ends.
    ///
    /// # Errors
    /// As [`Lifecycle::suspend`], and [`Conflict::MainTenant`].
    pub async fn delete(
        &self,
        ctx: &CallContext,
        which: &TenantRef,
        expected: &Expected,
    ) -> Result<TenantRecord> {
        let reach = ctx.reach(Permission::DeleteTenant)?;
        self.shift(ctx, &reach, which, expected, Move::Delete).await
    }

    /// Gives a deleted tenant the status that it had before, active or suspended.
    ///
    /// # Errors
    /// As [`Lifecycle::suspend`], and [`Conflict::GraceOver`] or [`Conflict::PurgeStarted`] when it is too
    /// late.
    pub async fn restore(
        &self,
        ctx: &CallContext,
        which: &TenantRef,
        expected: &Expected,
    ) -> Result<TenantRecord> {
        let reach = ctx.reach(Permission::DeleteTenant)?;
        self.shift(ctx, &reach, which, expected, Move::Restore).await
    }

    /// Purges a deleted tenant now, before its grace period ends. After an interruption the same call
    /// continues.
    ///
    /// # Errors
    /// As [`Lifecycle::suspend`]; [`Conflict::Concurrent`] where a transaction inside the tenant does not end;
    /// [`Error::Purge`] with what is outside of the tenant and stops the purge, or without it for a caller whose rights
    /// are limited to some tenants.
    pub async fn purge(
        &self,
        ctx: &CallContext,
        which: &TenantRef,
        expected: &Expected,
        on_dependents: OnDependents,
    ) -> Result<()> {
        let reach = ctx.reach(Permission::DeleteTenant)?;
        let tx = self.db.public().await.during("begin the purge of a tenant")?;
        let record = lock(&tx, &reach, which).await?;
        expected.check(&record)?;
        if record.tenant.status != TenantStatus::Deleting {
            return Err(Error::Conflict(Conflict::IllegalMove(record.tenant.status)));
        }
        if on_dependents == OnDependents::Cascade && reach != Reach::Everything {
            return Err(Error::missing(Permission::CrossTenant));
        }
        let purged = self.purge_locked(ctx, tx, &record, on_dependents).await;
        purged.map_err(|error| as_visible(error, &reach))
    }

    /// Deletes and purges a tenant at once, for a dialect without a grace period. After an interruption the
    /// tenant answers nothing, and the next call or the background task continues.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Conflict::MainTenant`], [`Conflict::Concurrent`]; [`Error::Purge`], which changes nothing.
    pub async fn remove(&self, ctx: &CallContext, id: TenantId) -> Result<()> {
        let reach = ctx.reach(Permission::DeleteTenant)?;
        let tx = self.db.public().await.during("delete tenant")?;
        let record = lock(&tx, &reach, &TenantRef::Id(id)).await?;
        let record = if record.tenant.status == TenantStatus::Deleting {
            record
        } else {
            shift_locked(&tx, ctx, record, Move::Delete, Duration::ZERO).await?
        };
        let purged = self.purge_locked(ctx, tx, &record, OnDependents::Stop).await;
        purged.map_err(|error| as_visible(error, &reach))
    }

    /// Purges every tenant that has ended, every deleted one whose grace period is over and every one whose purge was
    /// interrupted, and forgets the slugs that have rested. Returns how many tenants were purged. A tenant that cannot be purged now is logged and left for the next run.
    ///
    /// # Errors
    /// Those of the rights check, and of the database when the list cannot be read.
    pub async fn purge_due(&self, ctx: &CallContext) -> Result<usize> {
        ctx.require(Permission::DeleteTenant)?;
        let tx = self.db.public().await.during("forget rested slugs")?;
        slugs::delete_rested(&tx, self.slugs.rested(ctx.now)).await?;
        tx.commit().await.during("forget rested slugs")?;
        self.expire_due(ctx).await?;
        let (mut purged, mut tried) = (0, Vec::new());
        // Those that cannot be purged must not keep the others from their turn, however many they are.
        while purged < PURGES_AT_ONCE {
            let due = self.list_due(ctx, &tried).await?;
            if due.is_empty() {
                break;
            }
            for id in due {
                tried.push(id);
                match self.purge_if_due(ctx, id).await {
                    Ok(done) => purged += usize::from(done),
                    Err(error) => {
                        tracing::warn!(tenant.id = %id, error = %error.chain(), "could not purge a tenant now");
                    }
                }
            }
        }
        Ok(purged)
    }

    /// Lists some of the due purges that were not tried yet.
    async fn list_due(&self, ctx: &CallContext, tried: &[TenantId]) -> Result<Vec<TenantId>> {
        let tx = self.db.public().await.during("list due purges")?;
        tenants::list_due(&tx, ctx.now, tried, LISTED_AT_ONCE).await
    }

    /// Checks again under the row's lock: the tenant may have been restored or purged since it was listed.
    async fn purge_if_due(&self, ctx: &CallContext, id: TenantId) -> Result<bool> {
        let tx = self.db.public().await.during("begin the purge of a tenant")?;
        let Some(record) = tenants::lock_record(&tx, id).await? else { return Ok(false) };
        if !is_due(&record, ctx.now) {
            return Ok(false);
        }
        self.purge_locked(ctx, tx, &record, OnDependents::Stop).await.map(|()| true)
    }

    /// Purges a tenant whose row `tx` has locked. The lock keeps another call from continuing an earlier purge of it, so
    /// that of the objects that are found here none is being dropped.
    async fn purge_locked(
        &self,
        ctx: &CallContext,
        tx: PublicTx,
        record: &TenantRecord,
        on_dependents: OnDependents,
    ) -> Result<()> {
        const DURING: &str = "look for what depends on a tenant";
        let id = record.tenant.id;
        let schema = SchemaName::of(id);
        let mut allowed = purges::list_allowed(&tx, id).await?;
        if on_dependents == OnDependents::Cascade {
            let found = dependents::find(&tx, schema.as_str(), Some(schema.as_str())).await;
            let objects = found.during(DURING)?;
            if !objects.is_empty() {
                let details = json!({ "objects": &objects });
                let (slug, external_id) = (&record.tenant.slug, record.external_id.as_ref());
                let details = of_tenant(slug, external_id, record.revision, details);
                note(&tx, ctx, purges::CASCADE, id, details).await?;
                allowed.extend(objects);
            }
        }
        schema::check(&tx, &schema, &allowed).await.during(DURING)?;
        tenants::start_purge(&tx, id, ctx.now).await?;
        tx.commit().await.during("begin the purge of a tenant")?;
        while self.purge_some(ctx, id).await? {}
        Ok(())
    }

    /// Runs one transaction of a purge and returns whether there is more to do. Takes the schema's lock before
    /// the row's, as a migration does, so that the two cannot deadlock.
    async fn purge_some(&self, ctx: &CallContext, id: TenantId) -> Result<bool> {
        let tx = self.db.public().await.during("purge tenant")?;
        let schema = SchemaName::of(id);
        let allowed = purges::list_allowed(&tx, id).await?;
        if schema::drop_some(&tx, &schema, &allowed).await.during("drop tables of a tenant")? {
            tx.commit().await.during("purge tenant")?;
            return Ok(true);
        }
        let Some(record) = tenants::lock_record(&tx, id).await? else {
            return Ok(false); // another process did the last step
        };
        let role = schema::drop(&tx, &schema, &allowed).await.during("drop tenant schema")?;
        slugs::free(&tx, &record.tenant.slug, id, ctx.now).await?;
        tenants::delete(&tx, id).await?;
        let mut details = json!({ "name": record.tenant.name });
        if !allowed.is_empty() {
            details["cascaded"] = json!(allowed);
        }
        if let RoleOutcome::KeptFor(databases) = role {
            let databases = databases.join(", ");
            details["role_kept_for"] = json!(databases);
            tracing::warn!(
                tenant.id = %id,
                "the tenant is purged, and its role {schema} stays, because it has rights in {databases} on the same \
                 server; where that is a copy that is no longer needed, drop it, or run in it: DROP OWNED BY {schema}; \
                 then `rowhouse doctor --fix --drop-orphans {schema} --yes` drops the role"
            );
        }
        // Higher than that of any event before, so that a reader that keeps the highest revision ends with the purge.
        let (slug, revision) = (&record.tenant.slug, record.revision + 1);
        let details = of_tenant(slug, record.external_id.as_ref(), revision, details);
        note(&tx, ctx, AuditAction::TenantPurge, id, details).await?;
        tx.commit().await.during("purge tenant")?;
        Ok(false)
    }

    async fn shift(
        &self,
        ctx: &CallContext,
        reach: &Reach,
        which: &TenantRef,
        expected: &Expected,
        step: Move,
    ) -> Result<TenantRecord> {
        let tx = self.db.public().await.during("move a tenant")?;
        let record = lock(&tx, reach, which).await?;
        expected.check(&record)?;
        let moved = shift_locked(&tx, ctx, record, step, self.grace).await?;
        tx.commit().await.during("move a tenant")?;
        Ok(moved)
    }
}

/// Moves a tenant whose row `tx` has locked; a deleted one is due for its purge after `grace`. Nothing is written where
/// the tenant has the status already.
pub(super) async fn shift_locked(
    tx: &PublicTx,
    ctx: &CallContext,
    record: TenantRecord,
    step: Move,
    grace: Duration,
) -> Result<TenantRecord> {
    if step == Move::Delete {
        require_not_main(&record.tenant)?;
    }
    let before = record.tenant.status;
    let status = record.status_after(step, ctx.now).map_err(Error::Conflict)?;
    if status == before {
        return Ok(record);
    }
    let is_deletion = status == TenantStatus::Deleting;
    let purge_after = is_deletion.then(|| ctx.now + grace);
    let restore_to = is_deletion.then_some(before);
    let id = record.tenant.id;
    tenants::set_status(tx, id, status, purge_after, restore_to, ctx.now).await?;
    let mut details = json!({ "from": before.as_str(), "to": status.as_str() });
    if let Some(purge_after) = purge_after {
        details["purge_after"] = json!(purge_after.format(&Rfc3339).unwrap_or_default());
    }
    let revision = record.revision + 1;
    let details = of_tenant(&record.tenant.slug, record.external_id.as_ref(), revision, details);
    note(tx, ctx, action(step), id, details).await?;
    Ok(TenantRecord {
        tenant: Tenant { status, ..record.tenant },
        purge_after,
        restore_to,
        revision,
        updated_at: ctx.now,
        ..record
    })
}

fn is_due(record: &TenantRecord, now: OffsetDateTime) -> bool {
    record.tenant.status == TenantStatus::Deleting
        && (record.purge_started_at.is_some() || record.purge_after.is_some_and(|end| end <= now))
}

/// Removes from an error what a caller whose rights are limited to some tenants may not know: names of what is outside.
fn as_visible(error: Error, reach: &Reach) -> Error {
    match error {
        Error::Purge(problem) if *reach != Reach::Everything => {
            let problem = match *problem {
                PurgeProblem::Dependents { schema, .. } => {
                    PurgeProblem::Dependents { schema, objects: Vec::new() }
                }
                PurgeProblem::RoleInUse { role, .. } => {
                    PurgeProblem::RoleInUse { role, uses: Vec::new(), remedies: Vec::new() }
                }
                PurgeProblem::NotPermitted { .. } => {
                    let (login, what, statement) = (String::new(), String::new(), String::new());
                    PurgeProblem::NotPermitted { login, what, statement }
                }
            };
            Error::Purge(Box::new(problem))
        }
        error => error,
    }
}

fn require_not_main(tenant: &Tenant) -> Result<()> {
    if tenant.number == MAIN_NUMBER { Err(Error::Conflict(Conflict::MainTenant)) } else { Ok(()) }
}

const fn action(step: Move) -> AuditAction {
    match step {
        Move::Suspend => AuditAction::TenantSuspend,
        Move::Resume => AuditAction::TenantResume,
        Move::Delete => AuditAction::TenantDelete,
        Move::Restore => AuditAction::TenantRestore,
    }
}
