//! The time of a request is over while the answer to its commit is on its way: the commit may be done, so the request waits
//! for it a little longer, and then says that the outcome is not known.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::support::callers::send;
use crate::support::control::assert_problem;
use crate::support::proxy::Proxy;
use crate::support::{Answer, TestApp, TestDatabase};

/// The time limit of a request: longer than a set-up takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(3);

/// Starts a server that reaches the database through two proxies: that of the owner, and that of the runtime login.
async fn behind_proxies() -> (TestApp, [Proxy; 2]) {
    let database = TestDatabase::create().await;
    let (owner, runtime) =
        (Proxy::to(&database.url()).await, Proxy::to(&database.runtime_url()).await);
    let app = TestApp::builder()
        .with("database.url", owner.url.clone())
        .with("database.runtime_url", runtime.url.clone())
        // Jobs commit, too, and the requests need connections beside them.
        .with("database.max_connections", "40")
        .with("http.request_timeout", format!("{}s", LIMIT.as_secs()))
        .on(database)
        .spawn()
        .await;
    (app, [owner, runtime])
}

/// Forwards the answers to commits when so many are held back and the time of their requests is over.
async fn release(proxy: &Proxy, commits: u32) {
    proxy.commits_held(commits).await;
    tokio::time::sleep(LIMIT + Duration::from_secs(1)).await;
    proxy.hold_commits(false);
}

async fn set_up(app: &TestApp, slug: &str) -> Answer {
    let request = app.root().request(Method::POST, "/api/tenant/setup");
    send(request.header("idempotency-key", slug).json(&TestApp::setup_body(slug))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_was_sent_when_the_time_is_over_is_waited_for() {
    let (app, [owner, runtime]) = behind_proxies().await;
    let tenant = app.bunker_tenant("acme").await;
    // That a token was used is written, too, now and then.
    assert_eq!(tenant.admin.get("ada@example.com").await.status, 404);
    let root = app.root();
    owner.hold_commits(true);
    let (with_key, control, ()) = tokio::join!(
        set_up(&app, "globex"),
        async {
            root.post("/control/v1/tenants", &json!({ "name": "I", "slug": "initech" })).await
        },
        release(&owner, 2),
    );
    runtime.hold_commits(true);
    let profile = json!({ "profile": { "email": "ada@example.com" } });
    let created = tenant.admin.call("UserCreate", profile);
    let (profile, ()) = tokio::join!(created, release(&runtime, 1));
    for answer in [&with_key, &control] {
        assert_eq!(answer.status, 201, "{answer:?}");
    }
    profile.ok();
    let again = set_up(&app, "globex").await;
    assert_eq!((again.status, &again.body["id"]), (201, &with_key.body["id"]), "{again:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outcome_that_is_not_known_in_time_is_503_and_a_retry_with_the_same_key_finds_it() {
    let (app, [owner, runtime]) = behind_proxies().await;
    let tenant = app.bunker_tenant("acme").await;
    // That a token was used is written, too, now and then.
    assert_eq!(tenant.admin.get("ada@example.com").await.status, 404);
    owner.hold_commits(true);
    let by_id = "/control/v1/tenants/by-external-id/initech";
    let body = json!({ "name": "Initech", "slug": "initech" });
    let put = async || send(app.root().request(Method::PUT, by_id).json(&body)).await;
    let (with_key, control) = tokio::join!(set_up(&app, "globex"), put());
    owner.hold_commits(false);
    runtime.hold_commits(true);
    let profile = json!({ "profile": { "email": "ada@example.com" } });
    let profile = tenant.admin.call("UserCreate", profile).await;
    runtime.hold_commits(false);
    assert_problem(&control, 503, "outcome_unknown");
    let sentence = "It is not known whether the change was made";
    assert!(with_key.refusal(503).contains(sentence), "{with_key:?}");
    assert!(profile.error(503).contains(sentence), "{profile:?}");
    for answer in [&with_key, &control, &profile] {
        assert!(answer.retry_after() >= 1, "{answer:?}");
    }
    // All of it was committed.
    let count = "SELECT count(*) FROM tenants WHERE slug IN ('globex', 'initech')";
    let made: i64 = app.sql().await.query_one(count, &[]).await.expect("rows can be read").get(0);
    assert_eq!(made, 2);
    tenant.admin.get("ada@example.com").await.ok();
    let again = set_up(&app, "globex").await;
    assert_eq!(again.status, 201, "{again:?}");
    assert!([200, 201].contains(&put().await.status));
}
