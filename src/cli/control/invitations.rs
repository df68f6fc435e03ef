//! Invitations to a tenant.

use serde::{Deserialize, Serialize};
use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Control, ROWS_AT_ONCE};
use crate::cli::Failure;
use crate::domain::Role;
use crate::domain::names::{Email, InvitationId};
use crate::domain::page::Window;
use crate::service::invitations::Invitation;

/// An invitation; with its token only when it is created.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::cli) struct InvitationView {
    pub(in crate::cli) id: Uuid,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) token: Option<String>,
    pub(in crate::cli) tenant_id: Uuid,
    pub(in crate::cli) email: String,
    pub(in crate::cli) role: String,
    pub(in crate::cli) created_by: String,
    #[serde(with = "time::serde::rfc3339")]
    pub(in crate::cli) created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub(in crate::cli) expires_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option", default)]
    pub(in crate::cli) accepted_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option", default)]
    pub(in crate::cli) revoked_at: Option<OffsetDateTime>,
}

impl Control {
    /// Creates an invitation; the view has its token.
    pub(in crate::cli) async fn invite(
        &self,
        tenant: &str,
        email: Email,
        role: Role,
    ) -> Result<InvitationView, Failure> {
        match self {
            Self::Database(backend) => {
                let (invitations, ctx) = (&backend.services.invitations, backend.operator());
                let (made, secret) = invitations.create(&ctx, tenant, email, role).await?;
                let token = Some(secret.expose().to_owned());
                Ok(InvitationView { token, ..InvitationView::from(made) })
            }
            Self::Server(client) => {
                let body = json!({ "email": email.as_str(), "role": role });
                client.post(&["tenants", tenant, "invitations"], &body).await
            }
        }
    }

    pub(in crate::cli) async fn list_invitations(
        &self,
        tenant: &str,
    ) -> Result<Vec<InvitationView>, Failure> {
        match self {
            Self::Database(backend) => {
                let (mut all, mut after) = (Vec::new(), None);
                loop {
                    let window = Window { after, limit: ROWS_AT_ONCE };
                    let (invitations, ctx) = (&backend.services.invitations, backend.operator());
                    let page = invitations.list(&ctx, tenant, &window).await?;
                    all.extend(page.rows.into_iter().map(InvitationView::from));
                    after = page.next;
                    if after.is_none() {
                        return Ok(all);
                    }
                }
            }
            Self::Server(client) => {
                Ok(client.list(&["tenants", tenant, "invitations"], &[], None).await?.0)
            }
        }
    }

    pub(in crate::cli) async fn revoke_invitation(
        &self,
        tenant: &str,
        id: Uuid,
    ) -> Result<(), Failure> {
        match self {
            Self::Database(backend) => {
                let (invitations, ctx) = (&backend.services.invitations, backend.operator());
                Ok(invitations.revoke(&ctx, tenant, InvitationId::new(id)).await.map(drop)?)
            }
            Self::Server(client) => {
                let id = id.to_string();
                let path = ["tenants", tenant, "invitations", &id, "revoke"];
                client.send(client.control(reqwest::Method::POST, &path, &[])).await
            }
        }
    }
}

impl From<Invitation> for InvitationView {
    fn from(invitation: Invitation) -> Self {
        Self {
            id: invitation.id.uuid(),
            token: None,
            tenant_id: invitation.tenant.uuid(),
            email: invitation.email.to_string(),
            role: invitation.role.to_string(),
            created_by: invitation.created_by,
            created_at: invitation.created_at,
            expires_at: invitation.expires_at,
            accepted_at: invitation.accepted_at,
            revoked_at: invitation.revoked_at,
        }
    }
}
