//! Helpers for tests of invitations.

use serde_json::{Value, json};

use super::{Answer, Caller, PASSWORD, TestApp};

pub const ACCEPT: &str = "/control/v1/invitations/accept";

pub fn invitations(tenant: &str) -> String {
    format!("/control/v1/tenants/{tenant}/invitations")
}

/// Creates an invitation.
pub async fn invite(caller: &Caller, tenant: &str, email: &str, role: &str) -> Answer {
    caller.post(&invitations(tenant), &json!({ "email": email, "role": role })).await
}

/// Creates an invitation and returns its token.
pub async fn token_for(caller: &Caller, tenant: &str, email: &str, role: &str) -> String {
    let made = invite(caller, tenant, email, role).await;
    assert_eq!(made.status, 201, "{made:?}");
    made.body["token"].as_str().expect("the token is in the answer").to_owned()
}

/// Returns the body with which a person without an account accepts an invitation.
pub fn person(token: &str) -> Value {
    json!({ "token": token, "password": PASSWORD, "first_name": "Bo", "last_name": "B" })
}

/// Accepts an invitation as a person without an account.
pub async fn accept_as_person(app: &TestApp, token: &str) -> Answer {
    app.anonymous().post(ACCEPT, &person(token)).await
}

/// Accepts an invitation as a user who is logged in.
pub async fn accept_as_user(user: &Caller, token: &str) -> Answer {
    user.post(ACCEPT, &json!({ "token": token })).await
}
