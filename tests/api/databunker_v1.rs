//! Version 1 of Databunker's API: `/v1/tenant` and `/v1/user`. Its clients send no tenant header, and the
//! profile is the body itself.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::bunker::{raw, redacted};
use crate::support::callers::send;
use crate::support::{Answer, Bunker, TestApp};

async fn v1(caller: &Bunker, method: Method, path: &str, body: Value) -> Answer {
    // The content type that the published client sends.
    let request = caller.request(method, &format!("/v1/{path}"));
    let request = request.header("content-type", "application/json;charset=UTF-8");
    send(if body.is_null() { request } else { request.body(body.to_string()) }).await
}

#[tokio::test]
async fn the_curls_of_the_first_edition_create_and_rename_a_tenant() {
    let app = TestApp::builder().with("base_domain", "databunker-domain.com").spawn().await;
    let root = app.bunker_root();
    let body = r#"{ "name": "tenantname", "org": "orgslug" }"#;
    let made = root.send("/v1/tenant", "application/x-www-form-urlencoded", body).await;
    assert_eq!(redacted(made.ok()), json!({ "status": "ok", "xtoken": "<uuid>" }));
    let admin = root.with_token(made.body["xtoken"].as_str().unwrap());
    let again =
        v1(&root, Method::POST, "tenant", json!({ "name": "tenantname", "org": "x" })).await;
    assert_eq!(again.error(409), "Duplicate tenant name");
    let hyphen =
        v1(&root, Method::POST, "tenant", json!({ "name": "tenant-name", "org": "x" })).await;
    assert_eq!(hyphen.error(400), "The name parameter has an incorrect format");
    let at_host = admin.at_host("tenantname.databunker-domain.com");
    let refused = v1(&admin, Method::POST, "tenant", json!({ "name": "other", "org": "x" })).await;
    assert_eq!(refused.error(403), "Only the main tenant admin can do this");
    let renamed = v1(&at_host, Method::PUT, "tenant", json!({ "name": "newname" })).await;
    assert_eq!(renamed.ok(), &json!({ "status": "ok" }));
    let row = app.sql().await.query_one("SELECT slug, org FROM tenants", &[]).await.unwrap();
    assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1)), ("newname", "orgslug"));
    // Root must name the tenant: without a name the main tenant is not renamed.
    let unnamed = v1(&root, Method::PUT, "tenant", json!({ "name": "stolen" })).await;
    assert_eq!(unnamed.error(400), "Missing API request parameters: tenantid");
    let at_new = root.at_host("newname.databunker-domain.com");
    v1(&at_new, Method::PUT, "tenant", json!({ "name": "newer" })).await.ok();
    for (body, message) in [
        (json!({}), "Missing API request parameters: name"),
        (json!({ "tenantname": "x" }), "Missing API request parameters: name"),
        (json!({ "name": "Acme" }), "The name parameter has an incorrect format"),
    ] {
        assert_eq!(v1(&admin, Method::PUT, "tenant", body).await.error(400), message);
    }
}

#[tokio::test]
async fn a_record_is_sent_as_the_body_and_returned_under_data() {
    let app = TestApp::spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    let admin = tenant.admin.at_host("acme.databunker-domain.com");
    let profile = json!({ "firstname": "John", "lastname": "Doe", "email": "user@email.com", "login": "john" });
    let made = v1(&admin, Method::POST, "user", profile.clone()).await;
    assert_eq!(redacted(made.ok()), json!({ "status": "ok", "token": "<uuid>" }));
    let token = made.body["token"].as_str().unwrap();
    assert_eq!(app.schemas_with("user@email.com").await, [tenant.schema()]);
    for (mode, identity) in [
        ("token", token),
        ("email", "USER@email.com"),
        ("email", "user%40email.com"),
        ("login", "john"),
    ] {
        let read = v1(&admin, Method::GET, &format!("user/{mode}/{identity}"), Value::Null).await;
        assert_eq!(read.ok(), &json!({ "status": "ok", "token": token, "data": profile }));
    }
    // Version 2 reads the same record.
    assert_eq!(tenant.admin.get("user@email.com").await.ok()["profile"], profile);
    // With a trailing slash, as the published client sends it.
    let other = json!({ "login": "a/b c%2F", "profile": "x" });
    v1(&admin, Method::POST, "user/", other.clone()).await.ok();
    let read = v1(&admin, Method::GET, "user/login/a%2Fb%20c%252F", Value::Null).await;
    assert_eq!(read.ok()["data"], other);
    let again = v1(&admin, Method::POST, "user/", json!({ "email": "user@email.com" })).await;
    assert_eq!(again.error(409), "Duplicate index: email");
}

#[tokio::test]
async fn a_record_is_changed_by_a_merge_or_a_patch_and_deleted() {
    let app = TestApp::spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    let admin = &tenant.admin;
    let token = tenant.add(json!({ "email": "ada@example.com", "a": 1, "b": 2 })).await;
    let path = "user/email/ada@example.com";
    let merged = v1(admin, Method::PUT, path, json!({ "a": null, "c": 3 })).await;
    assert_eq!(merged.ok(), &json!({ "status": "ok", "token": token }));
    let operations = json!([{ "op": "test", "path": "/b", "value": 2 }, { "op": "move", "from": "/c", "path": "/d" }]);
    let patched = v1(admin, Method::PUT, path, operations).await;
    assert_eq!(patched.ok(), &json!({ "status": "ok", "token": token }));
    let read = v1(admin, Method::GET, path, Value::Null).await;
    assert_eq!(read.ok()["data"], json!({ "email": "ada@example.com", "b": 2, "d": 3 }));
    for (body, message) in [
        (json!({}), "Missing API request parameters: profile"),
        (Value::Null, "Missing API request parameters: profile"),
        (json!([{ "op": "remove", "path": "/x" }]), "The patch could not be applied"),
        (json!("x"), "Failed to decode the request body"),
    ] {
        assert_eq!(v1(admin, Method::PUT, path, body).await.error(400), message);
    }
    let deleted = v1(admin, Method::DELETE, path, Value::Null).await;
    assert_eq!(deleted.ok(), &json!({ "status": "ok", "result": "done" }));
    for method in [Method::GET, Method::DELETE] {
        let answer = v1(admin, method, path, Value::Null).await;
        assert_eq!(answer.error(404), "The user record was not found");
    }
    v1(admin, Method::PUT, path, json!({ "a": 1 })).await.error(404);
}

#[tokio::test]
async fn invalid_v1_requests_are_refused_in_this_dialects_form() {
    let app = TestApp::spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    let admin = &tenant.admin;
    for (body, message) in [
        (json!({}), "Missing API request parameters: profile"),
        (Value::Null, "Missing API request parameters: profile"),
        (json!([{ "email": "a@b.co" }]), "The profile parameter has an incorrect format"),
        (json!({ "email": 5 }), "The email parameter has an incorrect format"),
        (json!("x"), "Failed to decode the request body"),
    ] {
        for path in ["user", "user/"] {
            assert_eq!(v1(admin, Method::POST, path, body.clone()).await.error(400), message);
        }
    }
    let long = format!("user/login/{}", "x".repeat(5000));
    for (path, message) in [
        ("user/name/ada", "The mode parameter has an incorrect format"),
        ("user/token/ada", "Bad UUID"),
        ("user/login/a%00b", "The identity parameter holds characters that cannot be stored"),
        ("user/login/%20", "Missing API request parameters: identity"),
        (long.as_str(), "The identity parameter is longer than 512 characters"),
    ] {
        for (method, body) in [
            (Method::GET, Value::Null),
            (Method::PUT, json!({ "a": 1 })),
            (Method::DELETE, Value::Null),
        ] {
            assert_eq!(v1(admin, method, path, body).await.error(400), message, "{path}");
        }
    }
    v1(admin, Method::GET, "user/login/%ff%fe", Value::Null).await.error(404);
    let bytes = format!(
        "GET /v1/user/login/\u{fffd} HTTP/1.1\r\nHost: x\r\nX-Bunker-Token: {}\r\nConnection: close\r\n\r\n",
        tenant.xtoken
    );
    let (status, _) = raw(&app, bytes).await;
    assert!((400..500).contains(&status), "{status}");
    let anonymous = v1(&app.bunker_anonymous(), Method::GET, "user/login/ada", Value::Null).await;
    assert_eq!(anonymous.error(403), "Access denied");
    let other = app.bunker_tenant("beta").await;
    let beside =
        v1(&other.admin.for_tenant("acme"), Method::GET, "user/name/ada", Value::Null).await;
    assert_eq!(beside.error(403), "Access denied");
}

#[tokio::test]
async fn a_persons_token_reads_its_own_record_through_v1_too() {
    let app = TestApp::spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    tenant.add(json!({ "login": "ada" })).await;
    tenant.add(json!({ "login": "bob" })).await;
    let made = tenant.admin.about("XTokenCreateForUser", "login", "ada").await;
    let person = tenant.admin.with_token(made.ok()["xtoken"].as_str().unwrap());
    v1(&person, Method::GET, "user/login/ada", Value::Null).await.ok();
    v1(&person, Method::GET, "user/login/bob", Value::Null).await.error(403);
    v1(&person, Method::PUT, "user/login/ada", json!({ "a": 1 })).await.error(403);
    v1(&person, Method::DELETE, "user/login/ada", Value::Null).await.error(403);
    v1(&person, Method::POST, "user", json!({ "a": 1 })).await.error(403);
    v1(&person, Method::PUT, "tenant", json!({ "name": "x" })).await.error(403);
}
