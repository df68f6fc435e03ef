//! API tokens and the other stored credentials.

use serde::{Deserialize, Serialize};
use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::Control;
use crate::cli::{Failure, output};
use crate::domain::names::{TenantId, TokenId};
use crate::domain::{Permission, TokenKind};
use crate::service::tokens::{Filter, NewToken, Rotation, Token};

/// A token; the secret itself only when it is created or rotated.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::cli) struct TokenView {
    pub(in crate::cli) id: Uuid,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) token: Option<String>,
    pub(in crate::cli) kind: String,
    pub(in crate::cli) hint: String,
    pub(in crate::cli) name: String,
    pub(in crate::cli) permissions: Vec<String>,
    pub(in crate::cli) tenant_id: Option<Uuid>,
    pub(in crate::cli) user_id: Option<Uuid>,
    pub(in crate::cli) parent_id: Option<Uuid>,
    pub(in crate::cli) created_by: String,
    #[serde(with = "time::serde::rfc3339")]
    pub(in crate::cli) created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option", default)]
    pub(in crate::cli) expires_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option", default)]
    pub(in crate::cli) last_used_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option", default)]
    pub(in crate::cli) revoked_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option", default)]
    pub(in crate::cli) rotated_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option", default)]
    pub(in crate::cli) previous_until: Option<OffsetDateTime>,
}

/// A token to create.
pub(in crate::cli) struct NewTokenView {
    pub(in crate::cli) name: String,
    pub(in crate::cli) permissions: Vec<Permission>,
    pub(in crate::cli) expires_at: Option<OffsetDateTime>,
    pub(in crate::cli) tenant: Option<TenantId>,
}

impl Control {
    /// Returns the time of the database, or of the server.
    pub(in crate::cli) async fn now(&self) -> Result<OffsetDateTime, Failure> {
        match self {
            Self::Database(backend) => Ok(backend.operator().now),
            Self::Server(client) => client.now().await,
        }
    }

    /// Creates a token; the view has its secret.
    pub(in crate::cli) async fn create_token(
        &self,
        new: NewTokenView,
    ) -> Result<TokenView, Failure> {
        let NewTokenView { name, permissions, expires_at, tenant } = new;
        match self {
            Self::Database(backend) => {
                let new = NewToken { name, permissions, expires_at, tenant };
                let (tokens, ctx) = (&backend.services.tokens, backend.operator());
                let (token, secret) = tokens.create(&ctx, new).await?;
                let token = TokenView::from(token);
                Ok(TokenView { token: Some(secret.expose().to_owned()), ..token })
            }
            Self::Server(client) => {
                let mut body = json!({ "name": name, "permissions": permissions });
                if let Some(end) = expires_at {
                    body["expires_at"] = json!(output::exact_time(end));
                }
                if let Some(tenant) = tenant {
                    body["tenant_id"] = json!(tenant);
                }
                client.post(&["tokens"], &body).await
            }
        }
    }

    pub(in crate::cli) async fn list_tokens(
        &self,
        kind: Option<TokenKind>,
    ) -> Result<Vec<TokenView>, Failure> {
        match self {
            Self::Database(backend) => {
                let filter = Filter { kind, ..Filter::default() };
                let (tokens, ctx) = (&backend.services.tokens, backend.operator());
                let listed = tokens.list_filtered(&ctx, &filter).await?;
                Ok(listed.into_iter().map(TokenView::from).collect())
            }
            Self::Server(client) => {
                let kind = kind.map(|kind| ("kind", kind.to_string()));
                let query: Vec<_> = kind.into_iter().collect();
                Ok(client.list(&["tokens"], &query, None).await?.0)
            }
        }
    }

    /// Gives a token a new secret, which the view has.
    pub(in crate::cli) async fn rotate_token(
        &self,
        id: Uuid,
        overlap: Option<time::Duration>,
        expires_at: Option<OffsetDateTime>,
    ) -> Result<TokenView, Failure> {
        match self {
            Self::Database(backend) => {
                let rotation = Rotation { overlap, expires_at };
                let (tokens, ctx) = (&backend.services.tokens, backend.operator());
                let (token, secret) = tokens.rotate(&ctx, TokenId::new(id), rotation).await?;
                let token = TokenView::from(token);
                Ok(TokenView { token: Some(secret.expose().to_owned()), ..token })
            }
            Self::Server(client) => {
                let mut body = json!({});
                if let Some(overlap) = overlap {
                    let length = humantime::format_duration(overlap.unsigned_abs());
                    body["overlap"] = json!(length.to_string());
                }
                if let Some(end) = expires_at {
                    body["expires_at"] = json!(output::exact_time(end));
                }
                client.post(&["tokens", &id.to_string(), "rotate"], &body).await
            }
        }
    }

    pub(in crate::cli) async fn revoke_token(&self, id: Uuid) -> Result<(), Failure> {
        match self {
            Self::Database(backend) => {
                let (tokens, ctx) = (&backend.services.tokens, backend.operator());
                Ok(tokens.revoke(&ctx, TokenId::new(id)).await.map(drop)?)
            }
            Self::Server(client) => {
                let id = id.to_string();
                let path = ["tokens", &id, "revoke"];
                client.send(client.control(reqwest::Method::POST, &path, &[])).await
            }
        }
    }
}

impl From<Token> for TokenView {
    fn from(token: Token) -> Self {
        let permissions = token.permissions.iter().map(|permission| permission.as_str().to_owned());
        Self {
            id: token.id.uuid(),
            token: None,
            kind: token.kind.to_string(),
            hint: token.hint,
            name: token.name,
            permissions: permissions.collect(),
            tenant_id: token.tenant.map(TenantId::uuid),
            user_id: token.user.map(crate::domain::UserId::uuid),
            parent_id: token.parent.map(TokenId::uuid),
            created_by: token.created_by,
            created_at: token.created_at,
            expires_at: token.expires_at,
            last_used_at: token.last_used_at,
            revoked_at: token.revoked_at,
            rotated_at: token.rotated_at,
            previous_until: token.previous_until,
        }
    }
}
