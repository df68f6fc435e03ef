//! A read that waits is answered soon after a commit, holds no connection, and ends with the server.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{EVENTS, SOON, feed, page, rename, types};
use crate::support::control::{assert_problem, transition};
use crate::support::{Program, TestApp};

/// The end of the log.
async fn end(app: &TestApp) -> String {
    feed(app, &app.root(), "").await;
    page(&app.root(), "limit=100").await.1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_waits_is_answered_soon_after_the_commit_on_this_and_on_another_server() {
    let app = TestApp::spawn().await;
    let other = TestApp::builder().on(app.database.clone()).spawn().await;
    let tenant = app.set_up("acme").await.id;
    for (number, writer) in [&app, &other].into_iter().enumerate() {
        let cursor = end(&app).await;
        let root = app.root();
        let query = format!("after={cursor}&wait=20");
        let waiting = page(&root, &query);
        let renaming = async {
            tokio::time::sleep(Duration::from_millis(700)).await;
            rename(&writer.root(), tenant, &format!("name {number}")).await;
            Instant::now()
        };
        let ((events, next), committed) = tokio::join!(waiting, renaming);
        let took = committed.elapsed();
        assert_eq!(types(&events), ["tenant.updated"]);
        assert_ne!(next, cursor);
        assert!(took < Duration::from_secs(10), "{took:?} after the commit");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_of_a_command_ends_a_wait() {
    let app = TestApp::spawn().await;
    app.set_up("acme").await;
    let (cursor, root) = (end(&app).await, app.root());
    let query = format!("after={cursor}&wait=20");
    let program = Program::on(&app.database);
    let command = tokio::task::spawn_blocking(move || program.run(&["tenant", "suspend", "acme"]));
    let ((events, _), ran) = tokio::join!(page(&root, &query), command);
    ran.unwrap().expect(0);
    assert_eq!(types(&events), ["tenant.suspended"]);
}

#[tokio::test]
async fn a_wait_without_an_event_ends_in_time_with_the_cursor() {
    let app = TestApp::builder().with("http.request_timeout", "3s").spawn().await;
    app.set_up("acme").await;
    let (cursor, root) = (end(&app).await, app.root());
    // A wait ends before the time limit of a request, however long it is to be.
    for wait in [1, 20] {
        let since = Instant::now();
        let query = format!("after={cursor}&wait={wait}");
        assert_eq!(page(&root, &query).await, (Vec::new(), cursor.clone()));
        assert!(since.elapsed() >= Duration::from_millis(900), "{:?}", since.elapsed());
    }
    // What is no event of the query moves the cursor on and does not end the wait.
    let query = format!("after={cursor}&wait=20&type=member.*");
    let tenant = root.get("/control/v1/tenants").await.body["data"][0]["id"].clone();
    let tenant = tenant.as_str().unwrap().parse().unwrap();
    let ((events, next), ()) = tokio::join!(page(&root, &query), rename(&root, tenant, "other"));
    assert_eq!(events, Vec::<Value>::new());
    assert_eq!(page(&root, &format!("after={next}")).await.0, Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_readers_that_wait_hold_no_connection() {
    const READERS: u32 = 200;
    let app = TestApp::spawn().await;
    let tenant = app.set_up("acme").await.id;
    let (cursor, root) = (end(&app).await, app.root());
    let query = format!("after={cursor}&wait=20");
    let waiting = join_all((0..READERS).map(|number| {
        let (root, query) = (&root, &query);
        async move {
            // Not all at the same moment: to be recognised takes a connection.
            tokio::time::sleep(Duration::from_millis(10) * number).await;
            page(root, query).await
        }
    }));
    let meanwhile = async {
        tokio::time::sleep(Duration::from_millis(10) * READERS).await;
        // All have asked once, and each of the few connections is idle again.
        let sql = app.sql().await;
        let busy = "SELECT count(*) AS count FROM pg_stat_activity
                     WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'";
        let (since, mut quiet) = (Instant::now(), 0);
        while quiet < 5 {
            assert!(since.elapsed() < SOON, "the connections stay busy");
            tokio::time::sleep(Duration::from_millis(100)).await;
            let count: i64 = sql.query_one(busy, &[]).await.unwrap().get("count");
            quiet = if count == 0 { quiet + 1 } else { 0 };
        }
        for _ in 0..20 {
            assert_eq!(root.get("/control/v1/tenants").await.status, 200);
        }
        rename(&root, tenant, "awaited").await;
        Instant::now()
    };
    let (pages, committed) = tokio::join!(waiting, meanwhile);
    assert!(committed.elapsed() < Duration::from_secs(15), "{:?}", committed.elapsed());
    for (events, _) in pages {
        assert_eq!(types(&events), ["tenant.updated"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_ends_the_waits_at_once_with_an_empty_page() {
    let app = TestApp::spawn().await;
    app.set_up("acme").await;
    let (cursor, root) = (end(&app).await, app.root());
    let query = format!("after={cursor}&wait=20");
    let readers: Vec<_> = (0..20)
        .map(|_| {
            let (root, query) = (root.clone(), query.clone());
            tokio::spawn(async move { page(&root, &query).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let since = Instant::now();
    // A request that is still running is cut off after http.shutdown_timeout, without an answer.
    app.stop().await;
    assert!(since.elapsed() < Duration::from_secs(15), "{:?}", since.elapsed());
    for reader in readers {
        assert_eq!(reader.await.expect("it is answered"), (Vec::new(), cursor.clone()));
    }
}

#[tokio::test]
async fn a_caller_whose_right_ends_while_they_wait_gets_no_event() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let root = app.root();
    let new = json!({ "name": "a reader", "permissions": ["VIEW_AUDIT"] });
    let made = root.post("/control/v1/tokens", &new).await;
    assert_eq!(made.status, 201, "{made:?}");
    let reader = app.bearer(made.body["token"].as_str().expect("there is a token"));
    let admin = app.log_in(&acme.admin_email).await;
    let query = format!("{EVENTS}?after={}&wait=20", end(&app).await);
    let revoking = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let id = made.body["id"].as_str().expect("it has an id");
        let revoked = root.post(&format!("/control/v1/tokens/{id}/revoke"), &json!({})).await;
        assert!(revoked.status < 300, "{revoked:?}");
        assert_eq!(transition(&root, "acme", "suspend").await.status, 200);
    };
    let (of_token, of_admin, ()) = tokio::join!(reader.get(&query), admin.get(&query), revoking);
    assert_problem(&of_token, 401, "unauthenticated");
    // The revocation wakes the admin too, who may see nothing of it; the suspension closes the tenant to them.
    assert_problem(&of_admin, 404, "tenant_not_found");
}

#[tokio::test]
async fn a_read_is_refused_while_the_database_is_away_and_goes_on_after_it() {
    let app = TestApp::builder().with("database.connect_timeout", "500ms").spawn().await;
    let tenant = app.set_up("acme").await.id;
    let (cursor, root) = (end(&app).await, app.root());
    app.database.close().await;
    let answer = root.get(&format!("{EVENTS}?after={cursor}&wait=1")).await;
    assert_problem(&answer, 503, "unavailable");
    answer.retry_after();
    app.database.open().await;
    rename(&root, tenant, "after").await;
    let since = Instant::now();
    loop {
        let (events, _) = page(&root, &format!("after={cursor}&wait=5")).await;
        if !events.is_empty() {
            assert_eq!(types(&events), ["tenant.updated"]);
            return;
        }
        assert!(since.elapsed() < SOON, "the feed stands still");
    }
}
