//! Tenants with an end: how it is given and changed, and that they are purged by themselves.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::support::callers::send;
use crate::support::control::{assert_problem, events, pointers, put, send_if_match, transition};
use crate::support::{Answer, TestApp};

const TENANTS: &str = "/control/v1/tenants";
const TARGET: &str = "/control/v1/tenants/by-external-id/pr-77";

/// The longest wait for a job that runs ten times a second.
const SOON: Duration = Duration::from_secs(30);

fn time_of(answer: &Answer, field: &str) -> OffsetDateTime {
    let text = answer.body[field].as_str().unwrap_or_else(|| panic!("no {field}: {answer:?}"));
    OffsetDateTime::parse(text, &Rfc3339).expect("it is a time")
}

async fn patch(app: &TestApp, tenant: &str, body: &Value) -> Answer {
    send_if_match(&app.root(), Method::PATCH, &format!("{TENANTS}/{tenant}"), "*", Some(body)).await
}

#[tokio::test]
async fn a_tenant_is_made_with_an_end_in_either_form() {
    let app = TestApp::builder().with_stopped_clock().spawn().await;
    let root = app.root();
    let made = root.post(TENANTS, &json!({ "name": "A", "slug": "a", "expires_in": "24h" })).await;
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(time_of(&made, "expires_at"), app.clock.now() + time::Duration::DAY);
    let at = json!({ "name": "B", "slug": "b", "expires_at": "2999-01-31T12:00:00+02:00" });
    let made = put(&root, TARGET, &at).await;
    assert_eq!(made.body["expires_at"], "2999-01-31T10:00:00Z", "{made:?}");
    let stays = root.post(TENANTS, &json!({ "name": "C", "slug": "c" })).await;
    assert_eq!(stays.body["expires_at"], Value::Null);
    for (end, problems) in [
        (json!({ "expires_at": "2001-01-01T00:00:00Z" }), vec!["/expires_at: in_the_past"]),
        (json!({ "expires_at": "tomorrow" }), vec!["/expires_at: timestamp"]),
        (json!({ "expires_in": "0s" }), vec!["/expires_in: in_the_past"]),
        (json!({ "expires_in": "soon" }), vec!["/expires_in: lifetime"]),
        (json!({ "expires_in": 24 }), vec!["/expires_in: wrong_type"]),
        (json!({ "expires_in": "9000y" }), vec!["/expires_in: lifetime"]),
        (
            json!({ "expires_in": "1h", "expires_at": "2999-01-01T00:00:00Z" }),
            vec!["/expires_in: unknown_field"],
        ),
    ] {
        let mut body = json!({ "name": "X", "slug": "x" });
        body.as_object_mut().unwrap().extend(end.as_object().unwrap().clone());
        for refused in [
            root.post(TENANTS, &body).await,
            put(&root, "/control/v1/tenants/by-external-id/x", &body).await,
            patch(&app, "a", &end).await,
        ] {
            assert_problem(&refused, 400, "invalid");
            assert_eq!(pointers(&refused), problems, "{end}");
        }
    }
}

#[tokio::test]
async fn a_retry_with_an_idempotency_key_and_a_length_of_time_finds_the_first_tenant() {
    let app = TestApp::spawn().await;
    let body = json!({ "name": "A", "slug": "a", "expires_in": "24h" });
    let root = app.root();
    let with_key = |body: &Value| {
        send(root.request(Method::POST, TENANTS).header("Idempotency-Key", "k1").json(body))
    };
    let first = with_key(&body).await;
    app.clock.advance(time::Duration::HOUR);
    let second = with_key(&body).await;
    assert_eq!((first.status, second.status), (201, 201), "{second:?}");
    assert_eq!(second.body, first.body);
    let other = json!({ "name": "A", "slug": "a", "expires_in": "25h" });
    assert_problem(&with_key(&other).await, 422, "idempotency_key_reused");
}

#[tokio::test]
async fn an_end_is_moved_and_removed_and_given_only_where_that_is_said() {
    let app = TestApp::builder().with_stopped_clock().spawn().await;
    let root = app.root();
    let made = root.post(TENANTS, &json!({ "name": "A", "slug": "a", "expires_in": "1h" })).await;
    let id = made.body["id"].as_str().unwrap().parse().unwrap();
    let moved = patch(&app, "a", &json!({ "expires_in": "48h" })).await;
    assert_eq!(moved.status, 200, "{moved:?}");
    assert_eq!(time_of(&moved, "expires_at"), app.clock.now() + time::Duration::DAY * 2);
    assert_eq!(moved.header("etag"), Some("\"2\""));
    let removed = patch(&app, "a", &json!({ "expires_at": null })).await;
    assert_eq!((removed.status, &removed.body["expires_at"]), (200, &Value::Null), "{removed:?}");
    assert_eq!(events(&app, id, "tenant.update").await, 2);

    // Now it has none, as one that was made without.
    let at = json!({ "expires_at": "2999-01-01T00:00:00Z" });
    assert_problem(&patch(&app, "a", &at).await, 409, "tenant_has_no_end");
    assert_problem(
        &patch(&app, "a", &json!({ "expires_in": "1h" })).await,
        409,
        "tenant_has_no_end",
    );
    let said = json!({ "expires_at": "2999-01-01T00:00:00Z", "add_expiry": true });
    assert_eq!(patch(&app, "a", &said).await.body["expires_at"], "2999-01-01T00:00:00Z");
}

#[tokio::test]
async fn an_upsert_moves_the_end_by_more_than_a_twentieth_of_its_length() {
    let app = TestApp::builder().with_stopped_clock().spawn().await;
    let root = app.root();
    let body = json!({ "name": "A", "slug": "a", "expires_in": "24h" });
    let made = put(&root, TARGET, &body).await;
    app.clock.advance(time::Duration::HOUR);
    let soon = put(&root, TARGET, &body).await;
    assert_eq!(soon.body["outcome"], "unchanged", "{soon:?}");
    assert_eq!(soon.body["expires_at"], made.body["expires_at"]);
    app.clock.advance(time::Duration::HOUR);
    let later = put(&root, TARGET, &body).await;
    assert_eq!(later.body["outcome"], "changed", "{later:?}");
    assert_eq!(time_of(&later, "expires_at"), app.clock.now() + time::Duration::DAY);
    let at = json!({ "name": "A", "slug": "a", "expires_at": "2999-01-01T00:00:00Z" });
    assert_eq!(put(&root, TARGET, &at).await.body["outcome"], "changed");
    assert_eq!(put(&root, TARGET, &at).await.body["outcome"], "unchanged");
    let without = put(&root, TARGET, &json!({ "name": "A", "slug": "a" })).await;
    assert_eq!(without.body["outcome"], "unchanged", "an end that is not given stays");
    assert_eq!(without.body["expires_at"], "2999-01-01T00:00:00Z");
}

#[tokio::test]
async fn a_tenant_that_has_ended_is_purged_by_itself_with_an_event_before_and_after() {
    let app = TestApp::builder()
        .with("tenants.grace_period", "30d")
        .with("tenants.purge_interval", "100ms")
        .spawn()
        .await;
    let root = app.root();
    let ending = |slug: &str| json!({ "name": slug, "slug": slug, "expires_in": "1h" });
    let mut ids = Vec::new();
    for slug in ["active", "suspended", "deleted", "kept", "extended"] {
        let made = root.post(TENANTS, &ending(slug)).await;
        assert_eq!(made.status, 201, "{made:?}");
        ids.push(made.body["id"].as_str().unwrap().parse::<uuid::Uuid>().unwrap());
    }
    let stays = app.set_up("stays").await;
    assert_eq!(transition(&root, "suspended", "suspend").await.status, 200);
    assert_eq!(transition(&root, "deleted", "delete").await.status, 200);
    assert_eq!(patch(&app, "kept", &json!({ "expires_at": null })).await.status, 200);
    assert_eq!(patch(&app, "extended", &json!({ "expires_in": "3h" })).await.status, 200);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(root.get(&format!("{TENANTS}/active")).await.body["status"], "active", "not before");

    app.clock.advance(time::Duration::hours(2));
    let since = Instant::now();
    for slug in ["active", "suspended", "deleted"] {
        while root.get(&format!("{TENANTS}/{slug}")).await.status != 404 {
            assert!(since.elapsed() < SOON, "{slug} is still there");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    for slug in ["kept", "extended", "stays"] {
        assert_eq!(root.get(&format!("{TENANTS}/{slug}")).await.body["status"], "active", "{slug}");
    }
    for id in &ids[..3] {
        assert_eq!(events(&app, *id, "tenant.expire").await, 1);
        assert_eq!(events(&app, *id, "tenant.purge").await, 1);
        let sql = "SELECT count(*) FROM pg_namespace WHERE nspname = $1";
        let schema = format!("tenant_{}", id.simple());
        let left: i64 = app.sql().await.query_one(sql, &[&schema]).await.unwrap().get(0);
        assert_eq!(left, 0, "its schema is gone");
    }
    assert_eq!(events(&app, stays.id, "tenant.expire").await, 0);
    app.services.audit.seal(&app.operator()).await.expect("the operator may");
    let feed = root.get(&format!("/control/v1/events?tenant={}&limit=100", ids[0])).await;
    let feed = feed.body["data"].as_array().expect("there is data").clone();
    let types: Vec<_> = feed.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["tenant.created", "tenant.expired", "tenant.purged"]);
    assert!(feed[0]["data"]["expires_at"].is_string(), "{}", feed[0]);
    let told = &feed[1]["data"];
    assert_eq!((&told["status"], &told["previous_status"]), (&json!("deleting"), &json!("active")));
    assert_eq!(told["expires_at"], feed[0]["data"]["expires_at"]);
}

#[tokio::test]
async fn a_deleted_tenant_that_has_ended_is_not_restored() {
    let app = TestApp::builder().with("tenants.purge_interval", "1h").spawn().await;
    let root = app.root();
    let body = json!({ "name": "A", "slug": "a", "expires_in": "1h" });
    put(&root, TARGET, &body).await;
    assert_eq!(transition(&root, "a", "delete").await.status, 200);
    app.clock.advance(time::Duration::hours(2));
    assert_problem(&transition(&root, "a", "restore").await, 409, "grace_over");
    let restore = format!("{TARGET}?restore=true");
    assert_problem(&put(&root, &restore, &body).await, 409, "grace_over");
}
