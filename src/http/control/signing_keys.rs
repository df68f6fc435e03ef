//! The keys that sign access tokens: list, rotate. Retiring one is an operator's work, on the command line.

use actix_web::{HttpResponse, get, post};
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::Answer;
use super::call::Call;
use super::responses::{Forbidden, Unexpected};
use crate::domain::Permission;
use crate::http::Mount;
use crate::http::responses::ManageSigningKeys;
use crate::service::signing_keys::{KeyInfo, State};

pub(super) fn mount(routes: &mut Mount<'_>) {
    routes.service(list).service(rotate);
}

/// A key that signs access tokens, without its private half.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SigningKey)]
pub(super) struct KeyAnswer {
    /// The id of the key, which the header of a token names.
    kid: String,
    state: KeyState,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    /// When the key begins to sign.
    #[serde(with = "time::serde::rfc3339")]
    signs_from: OffsetDateTime,
    /// When tokens of the key are refused; null if no other key succeeds it yet.
    #[serde(with = "time::serde::rfc3339::option")]
    verifies_until: Option<OffsetDateTime>,
}

/// What a key does now.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SigningKeyState)]
#[serde(rename_all = "lowercase")]
enum KeyState {
    /// Is published and does not sign yet.
    Waiting,
    /// Signs.
    Signing,
    /// Does not sign any more, and its tokens are accepted.
    Verifying,
    /// Its tokens are refused.
    Ended,
}

/// All keys; there are few, so the list is always whole.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SigningKeyList)]
pub(super) struct KeyList {
    data: Vec<KeyAnswer>,
    /// Always null.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// Lists the keys that sign access tokens, in the order in which they sign. An ended key is listed for a week.
#[utoipa::path(tag = "control", operation_id = "listSigningKeys", security(("bearer" = [])), responses(
    (status = 200, description = "All keys", body = KeyList),
    Unexpected, Forbidden<ManageSigningKeys>,
))]
#[get("/control/v1/signing-keys")]
async fn list(call: Call) -> Answer {
    call.ctx.require(Permission::ManageSigningKeys)?;
    call.nothing_else()?;
    let keys = call.services().signing_keys.list(&call.ctx).await?;
    let data = keys.into_iter().map(KeyAnswer::from).collect();
    Ok(HttpResponse::Ok().json(KeyList { data, next_cursor: None }))
}

/// Makes a key that takes over from the one that signs. It is published at once and signs ten minutes later; the other
/// one verifies until its last token has expired, so no token is refused. If a key waits to sign already, it is
/// returned and nothing changes.
#[utoipa::path(tag = "control", operation_id = "rotateSigningKey", security(("bearer" = [])), responses(
    (status = 200, description = "The key that waits already", body = KeyAnswer),
    (status = 201, description = "The new key", body = KeyAnswer),
    Unexpected, Forbidden<ManageSigningKeys>,
))]
#[post("/control/v1/signing-keys/rotate")]
async fn rotate(call: Call) -> Answer {
    call.ctx.require(Permission::ManageSigningKeys)?;
    call.nothing_else()?;
    let rotation = call.services().signing_keys.rotate(&call.ctx).await?;
    let mut answer = if rotation.is_new { HttpResponse::Created() } else { HttpResponse::Ok() };
    Ok(answer.json(KeyAnswer::from(rotation.next)))
}

impl From<KeyInfo> for KeyAnswer {
    fn from(key: KeyInfo) -> Self {
        Self {
            kid: key.kid,
            state: key.state.into(),
            created_at: key.created_at,
            signs_from: key.signs_from,
            verifies_until: key.verifies_until,
        }
    }
}

impl From<State> for KeyState {
    fn from(state: State) -> Self {
        match state {
            State::Waiting => Self::Waiting,
            State::Signing => Self::Signing,
            State::Verifying => Self::Verifying,
            State::Ended => Self::Ended,
        }
    }
}
