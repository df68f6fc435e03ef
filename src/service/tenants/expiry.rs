//! Ends the tenants that were made with an end.
//!
//! A tenant that has ended is deleted without a grace period, with an audit event of its own, and then purged as any other
//! deleted tenant: an interrupted purge continues, and what stops one is logged. One that was deleted before waits no longer
//! than to its end.

use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::lifecycle::Lifecycle;
use crate::auth::CallContext;
use crate::domain::error::Result;
use crate::domain::names::TenantId;
use crate::domain::status::TenantStatus;
use crate::domain::tenant::TenantRecord;
use crate::domain::{AuditAction, Permission};
use crate::pg::During;
use crate::pg::control::tenants;
use crate::service::audit::{note, of_tenant};

/// How many ended tenants one statement lists.
const LISTED_AT_ONCE: i64 = 100;

impl Lifecycle {
    /// Deletes every tenant that has ended; its purge is due at once.
    ///
    /// # Errors
    /// Those of the rights check, and of the database when the list cannot be read. A tenant that cannot be deleted now is
    /// logged and left for the next run.
    pub(super) async fn expire_due(&self, ctx: &CallContext) -> Result<()> {
        ctx.require(Permission::DeleteTenant)?;
        let mut tried = Vec::new();
        loop {
            let tx = self.db.public().await.during("list ended tenants")?;
            let ended = tenants::list_ended(&tx, ctx.now, &tried, LISTED_AT_ONCE).await?;
            drop(tx);
            if ended.is_empty() {
                return Ok(());
            }
            for id in ended {
                tried.push(id);
                if let Err(error) = self.expire(ctx, id).await {
                    tracing::warn!(tenant.id = %id, error = %error.chain(), "could not end a tenant now");
                }
            }
        }
    }

    /// Checks again under the row's lock: the tenant may have been given another end since it was listed.
    async fn expire(&self, ctx: &CallContext, id: TenantId) -> Result<()> {
        let tx = self.db.public().await.during("end a tenant")?;
        let Some(record) = tenants::lock_record(&tx, id).await? else { return Ok(()) };
        let Some(end) = ended_at(&record, ctx.now) else { return Ok(()) };
        let before = record.tenant.status;
        let restore_to = record.restore_to.or(Some(before));
        let (status, now) = (TenantStatus::Deleting, ctx.now);
        tenants::set_status(&tx, id, status, Some(now), restore_to, now).await?;
        let details = json!({
            "from": before.as_str(),
            "to": status.as_str(),
            "expires_at": end.format(&Rfc3339).unwrap_or_default(),
        });
        let (slug, revision) = (&record.tenant.slug, record.revision + 1);
        let details = of_tenant(slug, record.external_id.as_ref(), revision, details);
        note(&tx, ctx, AuditAction::TenantExpire, id, details).await?;
        tx.commit().await.during("end a tenant")
    }
}

/// Returns the end of a tenant that has ended and whose purge is not due yet.
fn ended_at(record: &TenantRecord, now: OffsetDateTime) -> Option<OffsetDateTime> {
    let end = record.expires_at.filter(|end| *end <= now)?;
    let is_due = record.tenant.status == TenantStatus::Deleting
        && (record.purge_started_at.is_some() || record.purge_after.is_some_and(|due| due <= now));
    (!is_due).then_some(end)
}
