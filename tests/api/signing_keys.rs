//! The keys that sign access tokens: encrypted at rest, rotated without a refused request, retired at once.

mod at_rest;
mod command;
mod rotation;

use rowhouse::auth::secret_key::SecretKey;
use secrecy::{ExposeSecret, SecretSlice};
use serde_json::{Value, json};

use crate::support::{Answer, Caller, PASSWORD, SECRET_KEY, TestApp};

const KEYS: &str = "/control/v1/signing-keys";
const ROTATE: &str = "/control/v1/signing-keys/rotate";
const JWKS: &str = "/.well-known/jwks.json";
const EMAIL: &str = "una@example.com";

/// Returns the id of the key that signed a token.
fn kid_of(token: &str) -> String {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let header = token.split('.').next().expect("a token has a header");
    let header = URL_SAFE_NO_PAD.decode(header).expect("it is base64");
    let header: Value = serde_json::from_slice(&header).expect("it is JSON");
    header["kid"].as_str().expect("the header names a key").to_owned()
}

async fn log_in(app: &TestApp) -> Caller {
    let body = json!({ "identifier": EMAIL, "password": PASSWORD });
    let answer = app.anonymous().post("/api/auth/login", &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    app.bearer(answer.body["accessToken"].as_str().expect("the answer has a token"))
}

/// Presents a token to a server.
async fn call(app: &TestApp, token: &str) -> Answer {
    app.bearer(token).get("/api/tenant/mine").await
}

async fn published(app: &TestApp) -> Vec<String> {
    let set = app.anonymous().get(JWKS).await;
    assert_eq!(set.status, 200, "{set:?}");
    let keys = set.body["keys"].as_array().expect("a set has keys").iter();
    keys.map(|key| key["kid"].as_str().expect("a key has an id").to_owned()).collect()
}

/// Returns the ids of all keys with their states.
async fn states(app: &TestApp) -> Vec<(String, String)> {
    let list = app.root().get(KEYS).await;
    assert_eq!(list.status, 200, "{list:?}");
    let text = |key: &Value, name: &str| key[name].as_str().expect("it is a text").to_owned();
    let keys = list.body["data"].as_array().expect("a list has data").iter();
    keys.map(|key| (text(key, "kid"), text(key, "state"))).collect()
}

/// Decrypts a stored key with the secret key of the tests.
fn decrypt(kid: &str, wrapped: &[u8]) -> Option<SecretSlice<u8>> {
    SecretKey::parse(SECRET_KEY).expect("it is long enough").unwrap(kid, wrapped)
}

/// Returns the one key in the database as an earlier version stored it, and stores it that way.
async fn store_in_clear(sql: &tokio_postgres::Client) -> (String, Vec<u8>) {
    let row = sql
        .query_one("SELECT kid, private_key FROM signing_keys", &[])
        .await
        .expect("there is one key");
    let kid: String = row.get("kid");
    let private = decrypt(&kid, row.get("private_key")).expect("the key can be decrypted");
    let private = private.expose_secret().to_vec();
    let downgrade = "UPDATE signing_keys SET private_key = $1, wrapped_by = NULL";
    sql.execute(downgrade, &[&private]).await.expect("the key can be written");
    (kid, private)
}
