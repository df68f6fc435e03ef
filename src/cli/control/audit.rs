//! Audit events.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Control, ROWS_AT_ONCE};
use crate::cli::{Failure, output};
use crate::domain::names::TenantId;
use crate::domain::page::Window;
use crate::service::audit::{Break, Entry, Filter, Link, Verdict};

/// An audit event.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::cli) struct AuditView {
    pub(in crate::cli) id: Uuid,
    #[serde(with = "time::serde::rfc3339")]
    pub(in crate::cli) created_at: OffsetDateTime,
    pub(in crate::cli) actor: String,
    pub(in crate::cli) action: String,
    pub(in crate::cli) tenant_id: Option<Uuid>,
    pub(in crate::cli) request_id: String,
    pub(in crate::cli) details: Value,
}

/// Conditions on the events to list.
#[derive(Debug, Clone, Default)]
pub(in crate::cli) struct AuditFilter {
    pub(in crate::cli) actor: Option<String>,
    pub(in crate::cli) action: Option<String>,
    pub(in crate::cli) tenant: Option<TenantId>,
    pub(in crate::cli) created_after: Option<OffsetDateTime>,
    pub(in crate::cli) created_before: Option<OffsetDateTime>,
}

/// The result of a check of the chain.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::cli) struct VerdictView {
    /// Whether every event is as it was sealed.
    pub(in crate::cli) intact: bool,
    pub(in crate::cli) event_count: i64,
    pub(in crate::cli) head: String,
    pub(in crate::cli) broken: Option<BreakView>,
}

/// Where a chain is broken.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::cli) struct BreakView {
    /// The position in the chain, from 1.
    pub(in crate::cli) position: i64,
    /// `changed` or `missing`.
    pub(in crate::cli) fault: String,
    /// The changed event as it is now; only a database tells it.
    #[serde(default)]
    pub(in crate::cli) event: Option<AuditView>,
}

impl Control {
    /// Returns up to `limit` events, newest first, and whether there are more.
    pub(in crate::cli) async fn list_audit(
        &self,
        filter: &AuditFilter,
        limit: u32,
    ) -> Result<(Vec<AuditView>, bool), Failure> {
        match self {
            Self::Database(backend) => {
                let filter = Filter {
                    actor: filter.actor.clone(),
                    action: filter.action.clone(),
                    tenant: filter.tenant,
                    created_after: filter.created_after,
                    created_before: filter.created_before,
                    ..Filter::default()
                };
                let (mut entries, mut after, mut left) = (Vec::new(), None, limit);
                loop {
                    let rows = u16::try_from(left).unwrap_or(u16::MAX).min(ROWS_AT_ONCE);
                    let window = Window { after, limit: rows };
                    let (audit, ctx) = (&backend.services.audit, backend.operator());
                    let page = audit.list(&ctx, &filter, &window).await?;
                    entries.extend(page.rows.into_iter().map(AuditView::from));
                    left -= u32::from(rows);
                    after = page.next;
                    if after.is_none() || left == 0 {
                        return Ok((entries, after.is_some()));
                    }
                }
            }
            Self::Server(client) => {
                let given = [
                    ("actor", filter.actor.clone()),
                    ("action", filter.action.clone()),
                    ("tenant", filter.tenant.map(|tenant| tenant.to_string())),
                    ("created_after", filter.created_after.map(output::exact_time)),
                    ("created_before", filter.created_before.map(output::exact_time)),
                ];
                let given = given.into_iter().filter_map(|(name, value)| Some((name, value?)));
                let query: Vec<_> = given.collect();
                let limit = usize::try_from(limit).unwrap_or(usize::MAX);
                client.list(&["audit-events"], &query, Some(limit)).await
            }
        }
    }

    /// Checks the chain of the events.
    pub(in crate::cli) async fn verify_audit(&self) -> Result<VerdictView, Failure> {
        match self {
            Self::Database(backend) => {
                let (audit, ctx) = (&backend.services.audit, backend.operator());
                let verdict = audit.verify(&ctx).await?;
                let event = match verdict.broken {
                    Some(Break::Changed(position)) => audit.sealed_from(&ctx, position).await?,
                    Some(Break::Missing(_)) | None => None,
                };
                Ok(VerdictView::new(verdict, event))
            }
            Self::Server(client) => client.post(&["audit-events", "verify"], &json!({})).await,
        }
    }
}

impl VerdictView {
    fn new(verdict: Verdict, event: Option<Link>) -> Self {
        let broken = verdict.broken.map(|broken| match broken {
            Break::Missing(position) => {
                BreakView { position, fault: "missing".to_owned(), event: None }
            }
            Break::Changed(position) => {
                let event = event.map(AuditView::from);
                BreakView { position, fault: "changed".to_owned(), event }
            }
        });
        let Verdict { events, head, .. } = verdict;
        Self { intact: broken.is_none(), event_count: events, head, broken }
    }
}

impl From<Entry> for AuditView {
    fn from(entry: Entry) -> Self {
        Self {
            id: entry.id,
            created_at: entry.at,
            actor: entry.actor,
            action: entry.action,
            tenant_id: entry.tenant.map(TenantId::uuid),
            request_id: entry.request_id,
            details: entry.details,
        }
    }
}

impl From<Link> for AuditView {
    fn from(link: Link) -> Self {
        // A changed event can have details that are not JSON.
        let details = serde_json::from_str(&link.details).unwrap_or(Value::String(link.details));
        Self {
            id: link.id,
            created_at: link.at,
            actor: link.actor,
            action: link.action,
            tenant_id: link.tenant,
            request_id: link.request_id,
            details,
        }
    }
}
