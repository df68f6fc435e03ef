//! Helpers for tests of tokens, API keys and xtokens.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{Answer, Caller, TestApp};

pub const TOKENS: &str = "/control/v1/tokens";

/// A token with its id, and a caller that has it.
#[derive(Clone)]
pub struct MadeToken {
    pub id: Uuid,
    pub caller: Caller,
    /// The answer that made it.
    pub body: Value,
}

impl MadeToken {
    /// Returns the path of the token with this verb, such as `revoke`.
    pub fn path(&self, verb: &str) -> String {
        format!("{TOKENS}/{}/{verb}", self.id)
    }
}

/// Creates a token by the control API.
pub async fn make_token(
    app: &TestApp,
    by: &Caller,
    permissions: &[&str],
    tenant: Option<Uuid>,
) -> MadeToken {
    let body = json!({ "name": "ci", "permissions": permissions, "tenant_id": tenant });
    made(app, &by.post(TOKENS, &body).await)
}

/// Returns the token of the answer that created or rotated it.
#[track_caller]
pub fn made(app: &TestApp, answer: &Answer) -> MadeToken {
    assert!([200, 201].contains(&answer.status), "{answer:?}");
    let secret = answer.body["token"].as_str().unwrap_or_else(|| panic!("no token: {answer:?}"));
    MadeToken { id: id_of(answer), caller: app.bearer(secret), body: answer.body.clone() }
}

/// Returns the id of a token or an API key.
#[track_caller]
pub fn id_of(answer: &Answer) -> Uuid {
    let id = answer.body["id"].as_str().and_then(|id| id.parse().ok());
    id.unwrap_or_else(|| panic!("no id: {answer:?}"))
}

/// Returns the ids of the tokens that a caller sees, with this query.
pub async fn listed(caller: &Caller, query: &str) -> Vec<Uuid> {
    let answer = caller.get(&format!("{TOKENS}?limit=100{query}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let rows = answer.body["data"].as_array().cloned().unwrap_or_default();
    let mut ids: Vec<Uuid> =
        rows.iter().filter_map(|row| row["id"].as_str()?.parse().ok()).collect();
    ids.sort();
    ids
}
