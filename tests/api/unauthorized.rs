//! Every route with every wrong caller. A route that stands in the OpenAPI document and not in [`ROUTES`]
//! fails the test, so that none goes out without somebody having said who may call it.

use std::collections::BTreeSet;

use reqwest::Method;
use rowhouse::domain::Permission;
use serde_json::json;

use crate::support::callers::send;
use crate::support::{Caller, Snapshot, TestApp};

/// Who may call a route.
#[derive(Debug, Clone, Copy)]
enum Access {
    /// Everybody; a credential is not looked at.
    Public,
    /// Whoever has the refresh cookie; a bearer token is not looked at.
    Cookie,
    /// Whoever is known.
    Known,
    /// Whoever holds the permission.
    Holder(Permission),
}

const ROUTES: &[(&str, &str, Access)] = &[
    ("GET", "/.well-known/jwks.json", Access::Public),
    ("GET", "/healthz", Access::Public),
    ("GET", "/metrics", Access::Public),
    ("GET", "/openapi.json", Access::Public),
    ("GET", "/readyz", Access::Public),
    ("POST", "/api/auth/login", Access::Public),
    ("POST", "/api/auth/refresh", Access::Cookie),
    ("GET", "/api/tenant", Access::Holder(Permission::ViewTenants)),
    ("GET", "/api/tenant/mine", Access::Known),
    ("POST", "/api/tenant/setup", Access::Holder(Permission::CreateTenant)),
];

/// The routes of the document, as method and path.
fn documented() -> BTreeSet<(String, String)> {
    let document = serde_json::to_value(rowhouse::http::openapi()).expect("it is JSON");
    let paths = document["paths"].as_object().expect("the document has paths");
    paths
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().expect("a path has methods").keys();
            methods.map(|method| (method.to_uppercase(), path.clone()))
        })
        .collect()
}

#[test]
fn every_route_says_here_who_may_call_it() {
    let known: BTreeSet<_> =
        ROUTES.iter().map(|(method, path, _)| ((*method).to_owned(), (*path).to_owned())).collect();
    assert_eq!(documented(), known, "left: the OpenAPI document; right: the table of this test");
}

/// Each one who is nobody to us, by what is wrong with them.
async fn nobodies(app: &TestApp) -> Vec<(&'static str, Caller)> {
    let lifetime = Some(time::Duration::hours(1));
    app.add_user("super@example.com", Some("SUPER_ADMIN")).await;
    let expired_access = app.log_in("super@example.com").await;
    let (_, expired_api) = app.add_token(Permission::ALL, None, lifetime).await;
    let (revoked, revoked_api) = app.add_token(Permission::ALL, None, None).await;
    app.services.tokens.revoke(&app.operator(), revoked).await.expect("the operator may");
    app.clock.advance(time::Duration::hours(2));
    vec![
        ("garbage", app.bearer("garbage")),
        ("a token of the right form", app.bearer(&format!("rh_{}", "A".repeat(43)))),
        ("an unknown UUID", app.bearer("6f2c1f6e-3a5b-4d0c-9b1e-0a2b3c4d5e6f")),
        ("an expired access token", expired_access),
        ("an expired API token", expired_api),
        ("a revoked API token", revoked_api),
        ("no credential", app.anonymous()),
    ]
}

async fn call(caller: &Caller, method: &str, path: &str) -> crate::support::Answer {
    let method = Method::from_bytes(method.as_bytes()).expect("it is a method");
    let request = caller.request(method.clone(), path);
    // Good in its form, so that it is the caller who is refused.
    let body = match path {
        "/api/auth/login" => json!({ "identifier": "x@example.com", "password": "SecurePass123!" }),
        _ => TestApp::setup_body("acme"),
    };
    send(if method == Method::POST { request.json(&body) } else { request }).await
}

#[tokio::test]
async fn no_route_serves_a_caller_whom_nobody_knows() {
    let app = TestApp::spawn().await;
    let nobodies = nobodies(&app).await;
    let before = Snapshot::of(&app).await;
    for (method, path, access) in ROUTES {
        for (what, nobody) in &nobodies {
            let answer = call(nobody, method, path).await;
            match access {
                Access::Public if *path == "/api/auth/login" => {
                    assert_eq!(answer.refusal(401), "Invalid email or password", "{what}");
                }
                Access::Public => assert_eq!(answer.status, 200, "{path}: {what}: {answer:?}"),
                Access::Cookie | Access::Known | Access::Holder(_) => {
                    let message = answer.refusal(401);
                    assert!(message.starts_with("Unauthorized: "), "{path}: {what}: {message}");
                    assert!(answer.header("www-authenticate").is_some(), "{path}: {what}");
                }
            }
        }
    }
    assert_eq!(Snapshot::of(&app).await, before);
}

#[tokio::test]
async fn no_route_serves_a_caller_without_its_permission() {
    let app = TestApp::spawn().await;
    app.add_user("viewer@example.com", Some("VIEWER")).await;
    let viewer = app.log_in("viewer@example.com").await;
    let (_, strong) = app.add_token(Permission::ALL, None, None).await;
    for (method, path, access) in ROUTES {
        let Access::Holder(permission) = access else { continue };
        let others: Vec<_> =
            Permission::ALL.iter().copied().filter(|other| other != permission).collect();
        let (_, weak) = app.add_token(&others, None, None).await;
        let before = Snapshot::of(&app).await;
        for caller in [&weak, &viewer] {
            let answer = call(caller, method, path).await;
            assert_eq!(answer.refusal(403), format!("Missing permission: {permission}"), "{path}");
        }
        assert_eq!(Snapshot::of(&app).await, before);
        let answer = call(&strong, method, path).await;
        assert!(answer.status < 300, "{path} with the permission: {answer:?}");
    }
}

#[tokio::test]
async fn a_wrong_method_is_told_which_ones_there_are() {
    let app = TestApp::spawn().await;
    for (method, path, _) in ROUTES {
        let allowed = if *method == "GET" { "GET, HEAD, OPTIONS" } else { "POST, OPTIONS" };
        for wrong in ["GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"] {
            if wrong == *method {
                continue;
            }
            // Whoever asks, and without a look at the credential.
            for caller in [app.anonymous(), app.root(), app.bearer("garbage")] {
                let request = caller.request(Method::from_bytes(wrong.as_bytes()).unwrap(), path);
                let answer = send(request).await;
                answer.refusal(405);
                assert_eq!(answer.header("allow"), Some(allowed), "{wrong} {path}");
            }
        }
        let options = send(app.anonymous().request(Method::OPTIONS, path)).await;
        assert_eq!((options.status, options.header("allow")), (204, Some(allowed)), "{path}");
        assert_eq!(options.text, "");
        let head = send(app.root().request(Method::HEAD, path)).await;
        if *method == "GET" {
            let get = app.root().get(path).await;
            assert_eq!((head.status, head.text.as_str()), (get.status, ""), "{path}");
            assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
        } else {
            assert_eq!((head.status, head.header("allow")), (405, Some(allowed)), "{path}");
        }
    }
}

#[tokio::test]
async fn an_unknown_path_is_not_found_in_the_form_of_the_dialect() {
    let app = TestApp::spawn().await;
    for path in [
        "/",
        "/api",
        "/api/",
        "/api/tenant/",
        "/api/tenant/setup/",
        "/api/tenant/nobody",
        "/API/TENANT",
        "/api//tenant",
        "/api/tenant%2Fsetup",
        "/api/../api/tenant%00",
        "/healthz/x",
        "/.env",
        "/%ff%fe",
        "/<script>",
    ] {
        for method in [Method::GET, Method::POST, Method::OPTIONS] {
            let answer = send(app.root().request(method, path)).await;
            assert_eq!(answer.refusal(404), "There is no such path", "{path}");
        }
    }
}
