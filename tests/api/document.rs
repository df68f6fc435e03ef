//! The OpenAPI document tells of every route that is served and of no other. That each answer is as it
//! says is checked on all answers of the suite, by [`documented`](crate::support::documented).

use std::collections::BTreeSet;
use std::sync::Arc;

use actix_web::{HttpRequest, web};
use reqwest::Method;
use serde_json::json;

use crate::support::callers::send;
use crate::support::documented::{DOCUMENT, operations};
use crate::support::scoped::{make_key, plaintext};
use crate::support::{Caller, TestApp};

/// The path of a route that tells which routes there are.
const SPY: &str = "/routes-of-this-server";

/// The patterns that the server has registered, ours and the spy's. The map has no list of them, but
/// prints itself whole.
fn registered(printed: &str) -> BTreeSet<String> {
    let after = printed.split("Single(\"").skip(1);
    let patterns = after.filter_map(|rest| Some(rest.split_once("\")")?.0.to_owned()));
    assert!(!printed.contains("List(["), "a route has several patterns, which this does not read");
    // The root of the map, which is no route.
    patterns.filter(|pattern| !pattern.is_empty()).collect()
}

/// A path of this template.
fn filled_in(template: &str) -> String {
    let part = |part| if str::starts_with(part, "{") { "x-7" } else { part };
    template.split('/').map(part).collect::<Vec<_>>().join("/")
}

#[tokio::test]
async fn every_route_that_is_served_is_in_the_document() {
    async fn spy(request: HttpRequest) -> String {
        format!("{:?}", request.resource_map())
    }
    let routes = Arc::new(|config: &mut web::ServiceConfig| {
        config.route(SPY, web::get().to(spy));
    });
    let app = TestApp::builder().with_routes(routes).spawn().await;
    let printed = app.anonymous().get(SPY).await.text;
    let mut served = registered(&printed);
    assert!(served.remove(SPY), "it sees what is not in the document: {served:?}");
    let documented: BTreeSet<_> =
        DOCUMENT["paths"].as_object().expect("there are paths").keys().cloned().collect();
    assert_eq!(served, documented, "left: what is served; right: the OpenAPI document");
}

#[tokio::test]
async fn a_method_that_is_not_in_the_document_is_not_served() {
    let app = TestApp::spawn().await;
    let known: BTreeSet<_> = operations().into_iter().map(|o| (o.method, o.template)).collect();
    let paths: BTreeSet<_> = known.iter().map(|(_, template)| template.clone()).collect();
    for template in paths {
        // One segment for each of its parameters, which must not happen to be a word of another template.
        let path = filled_in(&template);
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"] {
            if known.contains(&(method.to_owned(), template.clone())) {
                continue;
            }
            let method = Method::from_bytes(method.as_bytes()).expect("it is a method");
            // Whoever asks, and without a look at the credential. That the form and `Allow` are right is
            // looked at as the answer comes in.
            for caller in [app.root(), app.bearer("garbage")] {
                let answer = send(caller.request(method.clone(), &path)).await;
                assert_eq!(answer.status, 405, "{method} {path}: {answer:?}");
            }
        }
    }
}

#[tokio::test]
async fn the_document_says_where_an_api_key_is_good() {
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
        if !names("bearer") && !names("xtoken") {
            continue;
        }
        let method = Method::from_bytes(operation.method.as_bytes()).expect("it is a method");
        let ask = async |caller: &Caller| {
            let request = caller.request(method.clone(), &filled_in(&operation.template));
            send(if method == Method::GET { request } else { request.json(&json!({})) }).await
        };
        let what = format!("{} {}", operation.method, operation.template);
        let (stranger, keyed) = (ask(&app.anonymous()).await, ask(&key).await);
        if names("xtoken") {
            assert!(!names("apiKey"), "{what}");
            assert_eq!((keyed.status, &keyed.body), (stranger.status, &stranger.body), "{what}");
            continue;
        }
        assert_eq!(stranger.status, 401, "{what}");
        if names("apiKey") {
            // It is known there, whatever it may do.
            assert_ne!(keyed.status, 401, "{what}: {keyed:?}");
            counts.0 += 1;
        } else {
            // A credential is made there, and by no key.
            assert!([400, 403].contains(&keyed.status), "{what}: {keyed:?}");
            counts.1 += 1;
        }
    }
    assert!(counts.0 > 20, "{counts:?}");
    assert_eq!(counts.1, 2, "the routes that make tokens and keys");
}

#[test]
fn whatever_reads_a_body_says_that_it_may_come_too_slowly() {
    for operation in operations() {
        let described = operation.described();
        if described.get("requestBody").is_none() {
            continue;
        }
        // Databunker's clients know 400 for whatever is wrong with a body.
        let is_databunker = described["security"].to_string().contains("xtoken")
            || operation.template.starts_with("/v2/");
        let code = if is_databunker { "400" } else { "408" };
        assert!(described["responses"].get(code).is_some(), "{}", operation.template);
    }
}
