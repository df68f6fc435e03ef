//! A server that was told to stop says so to its load balancer, and serves until that has noticed.

use std::time::{Duration, Instant};

use reqwest::Method;

use crate::support::TestApp;
use crate::support::callers::send;

#[tokio::test]
async fn a_stopping_server_is_not_ready_and_serves_until_the_delay_is_over() {
    let app = TestApp::builder().with("http.drain_delay", "4s").spawn().await;
    let (root, probe) = (app.root(), app.anonymous());
    let kept = send(root.request(Method::GET, "/api/tenant")).await;
    assert_eq!((kept.status, kept.header("connection")), (200, None));
    let began = Instant::now();
    let stopped = tokio::spawn(app.stop());
    let mut readiness = probe.get("/readyz").await;
    while readiness.status == 200 {
        assert!(began.elapsed() < Duration::from_secs(3), "it is still ready");
        tokio::time::sleep(Duration::from_millis(20)).await;
        readiness = probe.get("/readyz").await;
    }
    assert_eq!((readiness.status, readiness.retry_after()), (503, 1), "{readiness:?}");
    assert_eq!(readiness.body["reason"], "the server is stopping");
    // New connections are accepted, requests are served, and each answer tells the client to connect elsewhere.
    for caller in [&root, &crate::support::Caller::new(&address_of(&root), Some(root.token()))] {
        let served = caller.get("/api/tenant").await;
        assert_eq!((served.status, served.header("connection")), (200, Some("close")));
    }
    assert_eq!(probe.get("/healthz").await.status, 200, "the process is alive");
    assert!(!stopped.is_finished());
    let database = stopped.await.expect("the server stops");
    assert!(began.elapsed() >= Duration::from_secs(4), "it stopped after {:?}", began.elapsed());
    assert!(root.request(Method::GET, "/api/tenant").send().await.is_err(), "it listens no more");
    drop(database);
}

/// Returns the address that a caller calls.
fn address_of(caller: &crate::support::Caller) -> String {
    let (_, request) = caller.request(Method::GET, "/").build_split();
    let url = request.expect("it is a request").url().to_string();
    url.trim_end_matches('/').to_owned()
}
