//! `rowhouse::testing`, as an application uses it: tenants, callers, rows, time, the document, and servers for tests
//! that are not written in Rust. [`processes`] runs tests as processes of their own and looks for what they leave.

mod application;
mod processes;
mod serve;
mod subjects;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use futures_util::FutureExt;
use rowhouse::Role;
use rowhouse::testing::{TestServer, TestTenant};
use serde_json::json;
use uuid::Uuid;

use self::application::{INSERT, another, notes};

const HOUR: Duration = Duration::from_hours(1);

/// Returns the message of a panic.
fn message(panicked: Box<dyn std::any::Any + Send>) -> String {
    *panicked.downcast::<String>().expect("the message is formatted")
}

#[rowhouse::test(notes)]
async fn a_test_has_a_tenant_of_its_own_and_its_admin(t: TestTenant) {
    let made = t.post("/notes", json!({ "body": "mine" })).await.expect(201);
    assert_eq!(made["body"], "mine");
    assert_eq!(t.get("/notes").await.expect(200).body, json!(["mine"]));
    let other = t.other_tenant().await;
    assert_eq!(other.get("/notes").await.expect(200).json::<Vec<String>>(), [""; 0]);
    assert_ne!(other.id(), t.id());
}

#[rowhouse::test(notes)]
async fn a_member_may_do_what_its_role_permits(t: TestTenant) {
    let body = json!({ "body": "x" });
    let viewer = t.member(Role::Viewer).await;
    viewer.get("/notes").await.expect(200);
    viewer.post("/notes", body.clone()).await.expect(403);
    t.member(Role::Fde).await.post("/notes", body.clone()).await.expect(201);
    t.anonymous().get("/notes").await.expect(401);
    // A member of one tenant is none of another.
    let other = t.other_tenant().await;
    viewer.get("/notes").header("x-tenant-id", &other.id().to_string()).await.expect(400);
}

#[rowhouse::test(notes)]
async fn rows_are_read_and_written_inside_the_tenant(t: TestTenant) {
    t.rows(INSERT, &[&Uuid::now_v7(), &"direct"]).await;
    let tx = t.tx().await;
    tx.execute(INSERT, &[&Uuid::now_v7(), &"not committed"]).await.expect("a row is written");
    drop(tx);
    assert_eq!(t.get("/notes").await.expect(200).body, json!(["direct"]));
    let rows = t.rows("SELECT body FROM notes", &[]).await;
    assert_eq!(rows.iter().map(|row| row.get::<_, String>("body")).collect::<Vec<_>>(), ["direct"]);
}

#[rowhouse::test(notes)]
async fn time_is_moved_for_the_callers_of_one_test_and_for_no_other(t: TestTenant) {
    let end = rowhouse::domain::Clock::system().now() + HOUR;
    let end = end.format(&time::format_description::well_known::Rfc3339).expect("a time");
    let key = json!({ "name": "ends", "permissions": ["READ_PROFILES"], "expiresAt": end });
    let key = t.post("/api/api-keys", key).await.expect(201);
    let key = key["plaintextKey"].as_str().expect("it is shown once").to_owned();
    t.anonymous().get("/notes").header("x-api-key", &key).await.expect(200);
    t.advance(2 * HOUR);
    t.anonymous().get("/notes").header("x-api-key", &key).await.expect(401);
    // The access token of the admin has ended too: the admin logs in again.
    t.get("/notes").await.expect(200);
    t.server().anonymous().get("/notes").header("x-api-key", &key).await.expect(200);
}

#[rowhouse::test(notes)]
async fn a_failed_expectation_shows_the_whole_request_and_the_whole_reply(t: TestTenant) {
    let viewer = t.member(Role::Viewer).await;
    let reply = viewer.post("/notes", json!({ "body": "unwanted" })).header("x-trace", "7").await;
    let panicked = catch_unwind(AssertUnwindSafe(|| reply.expect(201))).expect_err("it is a 403");
    let message = message(panicked);
    for shown in [
        "expected 201, and the answer is 403",
        "> POST /notes",
        "> x-trace: 7",
        "\"body\": \"unwanted\"",
        "< 403 Forbidden",
        "< content-type: application/json",
        "\"statusCode\": 403",
        "tests/api/testing.rs",
    ] {
        assert!(message.contains(shown), "{shown:?} is not in {message}");
    }
    assert!(!message.to_lowercase().contains("bearer"), "{message}");
}

#[rowhouse::test(notes)]
async fn an_answer_that_the_document_does_not_describe_fails_the_test(t: TestTenant) {
    for (path, why) in [
        ("/undocumented/member", "'extra' was unexpected"),
        ("/undocumented/status", "does not list 418"),
        ("/undocumented/type", "has no \"text/plain"),
    ] {
        let sent = AssertUnwindSafe(IntoFuture::into_future(t.get(path)));
        let panicked = sent.catch_unwind().await.expect_err("it is not documented");
        let message = message(panicked);
        assert!(message.contains("differs from the OpenAPI document"), "{message}");
        assert!(message.contains(why) && message.contains(path), "{message}");
    }
}

#[rowhouse::test(another)]
async fn two_applications_are_tested_in_one_program(t: TestTenant) {
    assert_eq!(t.get("/another").await.expect(200).text, "another");
    t.get("/notes").await.expect(404);
}

#[rowhouse::test(notes)]
async fn a_test_may_have_a_whole_server_of_its_own(server: TestServer) {
    let tenant = server.tenant().await;
    tenant.post("/notes", json!({ "body": "x" })).await.expect(201);
    let all = server.root().get("/control/v1/tenants").await.expect(200);
    let ids: Vec<_> = all["data"].as_array().expect("a list").iter().map(|t| &t["id"]).collect();
    assert_eq!(ids, [&json!(tenant.id().to_string())], "no other test is on it");
}

#[tokio::test]
async fn settings_of_one_test_are_those_of_its_server_alone() {
    let settings = [("limits.requests_tenant", "1/1")];
    let server = TestServer::start_with(&notes(), &settings).await.expect("a server starts");
    let t = server.tenant().await;
    t.get("/notes").await.expect(200);
    t.get("/notes").await.expect(429);
    let wrong = TestServer::start_with(&notes(), &[("http.workers", "none")]).await;
    let error = wrong.err().expect("it is no number").to_string();
    assert!(error.contains("http.workers"), "{error}");
}

/// A test may say how it failed by its result.
#[rowhouse::test(notes)]
async fn a_test_may_return_a_result(t: TestTenant) -> Result<(), rowhouse::Failure> {
    let tx = t.tx().await;
    tx.execute(INSERT, &[&Uuid::now_v7(), &"x"]).await?;
    tx.commit().await?;
    assert_eq!(t.get("/notes").await.expect(200).body, json!(["x"]));
    Ok(())
}

/// The figure of the book: how long a tenant takes, beside the first.
#[rowhouse::test(notes)]
async fn a_tenant_is_taken_from_the_vacancies(t: TestTenant) {
    let mut took = Vec::new();
    for _ in 0..20 {
        let began = std::time::Instant::now();
        let tenant = t.server().tenant().await;
        took.push(began.elapsed());
        tenant.get("/notes").await.expect(200);
    }
    took.sort();
    println!("a tenant takes {:?} at the median, {:?} at most", took[took.len() / 2], took.last());
    let metrics = t.server().anonymous().get("/metrics").await.expect(200).text;
    let mut claims = metrics.lines().filter(|line| line.starts_with("rowhouse_vacancy_claims"));
    let taken = claims.find(|line| line.contains("\"claimed\""));
    println!("{taken:?}");
    assert!(taken.is_some_and(|line| !line.ends_with(" 0")), "{metrics}");
}
