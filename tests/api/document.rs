//! The OpenAPI document describes exactly the routes that are served. [`documented`](crate::support::documented)
//! checks every answer of the suite against it.

use std::collections::BTreeSet;
use std::sync::Arc;

use actix_web::{HttpRequest, web};
use reqwest::Method;
use serde_json::json;

use crate::support::callers::send;
use crate::support::documented::{DOCUMENT, operations};
use crate::support::scoped::{make_key, plaintext};
use crate::support::{Caller, TestApp};

/// The path of a route that lists the registered routes.
const ROUTE_LIST: &str = "/routes-of-this-server";

/// Returns the route patterns that the server has registered, the route list included. actix has no function
/// that lists them, so they are read from the debug output of the resource map.
fn registered(printed: &str) -> BTreeSet<String> {
    let after = printed.split("Single(\"").skip(1);
    let patterns = after.filter_map(|rest| Some(rest.split_once("\")")?.0.to_owned()));
    assert!(!printed.contains("List(["), "a route has several patterns, which this does not read");
    // The empty pattern is the root of the map, not a route.
    patterns.filter(|pattern| !pattern.is_empty()).collect()
}

/// Returns a path that matches the template.
fn filled_in(template: &str) -> String {
    let part = |part| if str::starts_with(part, "{") { "x-7" } else { part };
    template.split('/').map(part).collect::<Vec<_>>().join("/")
}

#[tokio::test]
async fn every_route_that_is_served_is_in_the_document() {
    async fn route_list(request: HttpRequest) -> String {
        format!("{:?}", request.resource_map())
    }
    let routes = Arc::new(|config: &mut web::ServiceConfig| {
        config.route(ROUTE_LIST, web::get().to(route_list));
    });
    // The pages of the console are no operations; `console::` holds them against a table of their own.
    let app = TestApp::builder().with("console.enabled", "false").with_routes(routes).spawn().await;
    let printed = app.anonymous().get(ROUTE_LIST).await.text;
    let mut served = registered(&printed);
    assert!(served.remove(ROUTE_LIST), "a route outside the document is seen: {served:?}");
    let documented: BTreeSet<_> =
        DOCUMENT["paths"].as_object().expect("there are paths").keys().cloned().collect();
    assert_eq!(served, documented, "left: the served routes; right: the OpenAPI document");
}

/// Whether a path is one of a template.
fn matches(template: &str, path: &str) -> bool {
    let (wanted, found): (Vec<_>, Vec<_>) =
        (template.split('/').collect(), path.split('/').collect());
    wanted.len() == found.len()
        && wanted.iter().zip(&found).all(|(part, given)| part.starts_with('{') || part == given)
}

#[tokio::test]
async fn a_method_that_is_not_in_the_document_is_not_served() {
    let app = TestApp::spawn().await;
    let known: BTreeSet<_> = operations().into_iter().map(|o| (o.method, o.template)).collect();
    let paths: BTreeSet<_> = known.iter().map(|(_, template)| template.clone()).collect();
    for template in &paths {
        // Each parameter becomes one segment that is not a literal segment of another template.
        let path = filled_in(template);
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"] {
            let is_of = |of: &String| {
                matches(of, &path) && known.contains(&(method.to_owned(), of.clone()))
            };
            // `/audit-events/verify` is also an `/audit-events/{id}`.
            if paths.iter().any(is_of) {
                continue;
            }
            let method = Method::from_bytes(method.as_bytes()).expect("it is a method");
            // The credential is not checked, so every caller gets the 405. The form and `Allow` are checked
            // by the suite when the answer is received.
            for caller in [app.root(), app.bearer("not-a-token")] {
                let answer = send(caller.request(method.clone(), &path)).await;
                assert_eq!(answer.status, 405, "{method} {path}: {answer:?}");
            }
        }
    }
}

#[tokio::test]
async fn the_document_lists_exactly_the_routes_that_accept_an_api_key() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let admin = app.log_in(&acme.admin_email).await;
    let key = app.keyed(&plaintext(&make_key(&admin, acme.id, &["VIEW_TENANTS"]).await));
    let mut counts = (0, 0);
    for operation in operations() {
        let described = operation.described();
        let names = |scheme: &str| {
            let any = described["security"].as_array().into_iter().flatten();
            any.filter(|one| one.get(scheme).is_some()).count() == 1
        };
        // An empty requirement: the operation needs no credential.
        if described["security"][0] == json!({}) || !names("bearer") && !names("xtoken") {
            continue;
        }
        let method = Method::from_bytes(operation.method.as_bytes()).expect("it is a method");
        let call = async |caller: &Caller| {
            let request = caller.request(method.clone(), &filled_in(&operation.template));
            send(if method == Method::GET { request } else { request.json(&json!({})) }).await
        };
        let what = format!("{} {}", operation.method, operation.template);
        let (anonymous, keyed) = (call(&app.anonymous()).await, call(&key).await);
        if names("xtoken") {
            assert!(!names("apiKey"), "{what}");
            assert_eq!((keyed.status, &keyed.body), (anonymous.status, &anonymous.body), "{what}");
            continue;
        }
        assert_eq!(anonymous.status, 401, "{what}");
        if names("apiKey") {
            // The key is accepted, whatever its rights.
            assert_ne!(keyed.status, 401, "{what}: {keyed:?}");
            counts.0 += 1;
        } else {
            // These routes create credentials, or belong to a user who has logged in.
            assert!([400, 403].contains(&keyed.status), "{what}: {keyed:?}");
            counts.1 += 1;
        }
    }
    assert!(counts.0 > 20, "{counts:?}");
    assert_eq!(counts.1, 6, "the routes that create tokens and keys, sessions, and the password");
}

#[test]
fn every_operation_with_a_body_documents_the_body_timeout() {
    for operation in operations() {
        let described = operation.described();
        if described.get("requestBody").is_none() {
            continue;
        }
        // Databunker's clients expect 400 for every error of a body.
        let is_databunker = described["security"].to_string().contains("xtoken")
            || operation.template.starts_with("/v2/");
        let code = if is_databunker { "400" } else { "408" };
        assert!(described["responses"].get(code).is_some(), "{}", operation.template);
    }
}
