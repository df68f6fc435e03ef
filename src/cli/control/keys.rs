//! The keys that sign access tokens.

use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::Control;
use crate::cli::Failure;
use crate::service::signing_keys::KeyInfo;

/// A key.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::cli) struct KeyView {
    pub(in crate::cli) kid: String,
    /// `waiting`, `signing`, `verifying` or `ended`.
    pub(in crate::cli) state: String,
    #[serde(with = "time::serde::rfc3339")]
    pub(in crate::cli) created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub(in crate::cli) signs_from: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option", default)]
    pub(in crate::cli) verifies_until: Option<OffsetDateTime>,
}

impl Control {
    pub(in crate::cli) async fn list_keys(&self) -> Result<Vec<KeyView>, Failure> {
        match self {
            Self::Database(backend) => {
                let keys = backend.services.signing_keys.list(&backend.operator()).await?;
                Ok(keys.into_iter().map(KeyView::from).collect())
            }
            Self::Server(client) => Ok(client.list_whole(&["signing-keys"]).await?),
        }
    }

    /// Makes a key that takes over. Returns it, and whether it is new.
    pub(in crate::cli) async fn rotate_keys(&self) -> Result<(KeyView, bool), Failure> {
        match self {
            Self::Database(backend) => {
                let rotation = backend.services.signing_keys.rotate(&backend.operator()).await?;
                Ok((rotation.next.into(), rotation.is_new))
            }
            Self::Server(client) => {
                let path = ["signing-keys", "rotate"];
                let made = client.answer(client.control(Method::POST, &path, &[])).await?;
                Ok((made.body, made.status == StatusCode::CREATED))
            }
        }
    }
}

impl From<KeyInfo> for KeyView {
    fn from(key: KeyInfo) -> Self {
        Self {
            kid: key.kid,
            state: key.state.as_str().to_owned(),
            created_at: key.created_at,
            signs_from: key.signs_from,
            verifies_until: key.verifies_until,
        }
    }
}
