//! What an operator allowed a purge to take along, as the audit events tell.

use crate::domain::AuditAction;
use crate::domain::error::Result;
use crate::domain::names::TenantId;
use crate::pg::error::During;
use crate::pg::scope::PublicTx;

/// The action of the audit event that allows it. Written by the transaction that begins or resumes the purge.
pub const CASCADE: AuditAction = AuditAction::TenantPurgeCascade;

/// Returns the objects outside of a tenant's schema that its purge may drop. The process that continues an interrupted
/// purge need not be the one that was told.
///
/// # Errors
/// Those of the database.
pub async fn list_allowed(tx: &PublicTx, tenant: TenantId) -> Result<Vec<String>> {
    let rows = tx
        .query(
            "SELECT DISTINCT object
               FROM audit_events
              CROSS JOIN LATERAL jsonb_array_elements_text(details -> 'objects') AS o (object)
              WHERE tenant_id = $1 AND action = $2
              ORDER BY object",
            &[&tenant, &CASCADE.as_str()],
        )
        .await
        .during("read what a purge may take along")?;
    Ok(rows.iter().map(|row| row.get("object")).collect())
}
