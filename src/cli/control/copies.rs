//! What is in a tenant: copied to a new one, or exchanged with what is in another one.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Control;
use super::client::if_match;
use super::tenants::RecordView;
use crate::cli::Failure;
use crate::domain::names::TenantId;
use crate::service::archives::{CloneTenant, SwapTenants};
use crate::service::tenants::TenantRef;
use crate::service::tenants::registry::Expected;

/// Two tenants whose contents were exchanged.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::cli) struct SwapView {
    pub(in crate::cli) tenant: RecordView,
    pub(in crate::cli) with: RecordView,
}

impl Control {
    /// Makes a tenant of the data of another one.
    pub(in crate::cli) async fn clone_tenant(
        &self,
        id: uuid::Uuid,
        command: &CloneTenant,
    ) -> Result<RecordView, Failure> {
        match self {
            Self::Database(backend) => {
                let which = TenantRef::Id(TenantId::new(id));
                let (archives, ctx) = (&backend.services.archives, backend.operator());
                let cloned = archives.clone_tenant(&ctx, &which, command, &|_| ()).await?;
                Ok(RecordView::from(cloned.record))
            }
            Self::Server(client) => {
                let mut body = json!({
                    "slug": command.slug,
                    "exclude_data": command.exclude_data,
                    "status": if command.suspended { "suspended" } else { "active" },
                });
                if let Some(name) = &command.name {
                    body["name"] = json!(name);
                }
                let request = client.step(&id.to_string(), "clone").json(&body);
                Ok(client.answer::<RecordView>(request).await?.body.completed())
            }
        }
    }

    /// Exchanges what is in two tenants.
    pub(in crate::cli) async fn swap_tenants(
        &self,
        tenant: &RecordView,
        with: &RecordView,
    ) -> Result<SwapView, Failure> {
        let (revision, with_revision) = (tenant.revision, with.revision);
        match self {
            Self::Database(backend) => {
                let of = |record: &RecordView| TenantRef::Id(TenantId::new(record.id));
                let command = SwapTenants {
                    tenant: of(tenant),
                    expected: Expected::OneOf(vec![revision]),
                    with: of(with),
                    with_expected: Expected::OneOf(vec![with_revision]),
                    idempotency_key: None,
                };
                let (archives, ctx) = (&backend.services.archives, backend.operator());
                let swapped = archives.swap(&ctx, &command).await?;
                Ok(SwapView { tenant: swapped.tenant.into(), with: swapped.with.into() })
            }
            Self::Server(client) => {
                let body = json!({ "with": with.id, "with_revision": with_revision });
                let request = client.step(&tenant.id.to_string(), "swap").json(&body);
                let request = if_match(request, Some(revision));
                let SwapView { tenant, with } = client.answer(request).await?.body;
                Ok(SwapView { tenant: tenant.completed(), with: with.completed() })
            }
        }
    }
}
