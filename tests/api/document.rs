//! The OpenAPI document tells of every route that is served and of no other. That each answer is as it
//! says is checked on all answers of the suite, by [`documented`](crate::support::documented).

use std::collections::BTreeSet;
use std::sync::Arc;

use actix_web::{HttpRequest, web};
use reqwest::Method;

use crate::support::TestApp;
use crate::support::callers::send;
use crate::support::documented::{DOCUMENT, operations};

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
        let path: String = template
            .split('/')
            .map(|part| if part.starts_with('{') { "x-7" } else { part })
            .collect::<Vec<_>>()
            .join("/");
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
