//! The feed of events: `GET /control/v1/events`, `/control/v1/events/{id}` and `/control/v1/event-types`.

mod reader;
mod waiting;

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::control::{assert_problem, pointers, send_if_match, token_with, transition};
use crate::support::{Caller, PASSWORD, TestApp};

const EVENTS: &str = "/control/v1/events";

/// Longer than any step takes, on a busy machine too.
const SOON: Duration = Duration::from_secs(30);

/// Returns a page of the feed.
async fn page(caller: &Caller, query: &str) -> (Vec<Value>, String) {
    let answer = caller.get(&format!("{EVENTS}?{query}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let events = answer.body["data"].as_array().expect("there is data").clone();
    (events, answer.body["next_cursor"].as_str().expect("there is always a cursor").to_owned())
}

/// Seals everything, and returns the events of a query.
async fn feed(app: &TestApp, caller: &Caller, query: &str) -> Vec<Value> {
    app.services.audit.seal(&app.operator()).await.expect("the operator may");
    page(caller, query).await.0
}

fn types(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().expect("it has a type")).collect()
}

async fn rename(caller: &Caller, tenant: Uuid, name: &str) {
    let path = format!("/control/v1/tenants/{tenant}");
    let change = json!({ "name": name });
    let answer = send_if_match(caller, Method::PATCH, &path, "*", Some(&change)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn an_empty_feed_has_a_cursor_and_so_has_an_empty_page() {
    let app = TestApp::spawn().await;
    let root = app.root();
    assert_eq!(page(&root, "").await, (Vec::new(), "0".to_owned()));
    app.set_up("acme").await;
    let events = feed(&app, &root, "").await;
    assert_eq!(types(&events), ["tenant.created"]);
    let (_, cursor) = page(&root, "").await;
    assert!(cursor.starts_with("1-"), "{cursor}");
    assert_eq!(page(&root, &format!("after={cursor}")).await, (Vec::new(), cursor.clone()));
    // The position of an event is a cursor too, and a page that shows nothing of what it looked at moves on.
    assert_eq!(page(&root, "after=1").await, (Vec::new(), cursor.clone()));
    assert_eq!(page(&root, "type=token.*").await, (Vec::new(), cursor));
}

#[expect(clippy::too_many_lines, reason = "one event of each kind")]
#[tokio::test]
async fn an_event_tells_what_happened_to_which_tenant_and_nothing_secret() {
    let app = TestApp::builder().with("tenants.purge_interval", "1h").spawn().await;
    let root = app.root();
    let acme = app.set_up("acme").await;
    let path = format!("/control/v1/tenants/{}", acme.id);
    let change = json!({ "slug": "acme-two", "settings": { "key": "secret value" } });
    let changed = send_if_match(&root, Method::PATCH, &path, "*", Some(&change)).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    let una = app.add_user("una@example.com", None).await;
    let member = json!({ "email": "una@example.com", "role": "VIEWER" });
    let added = root.post(&format!("{path}/members"), &member).await;
    assert_eq!(added.status, 201, "{added:?}");
    let of_una = format!("{path}/members/{una}");
    let role = json!({ "role": "ADMIN" });
    let answer =
        crate::support::callers::send(root.request(Method::PATCH, &of_una).json(&role)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let removed = crate::support::callers::send(root.request(Method::DELETE, &of_una)).await;
    assert_eq!(removed.status, 204, "{removed:?}");
    let token = json!({ "name": "a script's", "permissions": ["VIEW_TENANTS"] });
    let token = root.post("/control/v1/tokens", &token).await;
    assert_eq!(token.status, 201, "{token:?}");
    let id = token.body["id"].as_str().expect("it has an id").to_owned();
    for verb in ["rotate", "revoke"] {
        let answer = root.post(&format!("/control/v1/tokens/{id}/{verb}"), &json!({})).await;
        assert!(answer.status < 300, "{verb}: {answer:?}");
    }
    for verb in ["suspend", "resume", "delete", "restore", "delete", "purge"] {
        assert!(transition(&root, &acme.id.to_string(), verb).await.status < 300, "{verb}");
    }
    let migration = root.post("/control/v1/migrations", &json!({})).await;
    assert_eq!(migration.status, 202, "{migration:?}");
    let since = Instant::now();
    let events = loop {
        let events = feed(&app, &root, "limit=100").await;
        if types(&events).contains(&"migration.finished") {
            break events;
        }
        assert!(since.elapsed() < SOON, "the migration does not end: {events:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(
        types(&events),
        [
            "tenant.created",
            "tenant.updated",
            "member.added",
            "member.role_changed",
            "member.removed",
            "token.created",
            "token.rotated",
            "token.revoked",
            "tenant.suspended",
            "tenant.resumed",
            "tenant.deletion_scheduled",
            "tenant.restored",
            "tenant.deletion_scheduled",
            "tenant.purged",
            "migration.started",
            "migration.finished",
        ]
    );
    let data = |number: usize| &events[number]["data"];
    assert_eq!(
        data(0),
        &json!({
            "revision": 1, "name": "Tenant acme", "admin": "created", "adopted_schema": null,
        })
    );
    let differences = json!({ "slug": { "from": "acme", "to": "acme-two" }, "settings": ["key"] });
    assert_eq!(data(1), &json!({ "revision": 2, "changes": differences }));
    assert_eq!(data(2), &json!({ "user_id": una, "role": "VIEWER" }));
    assert_eq!(data(3), &json!({ "user_id": una, "role": "ADMIN", "previous_role": "VIEWER" }));
    assert_eq!(data(4), &json!({ "user_id": una, "role": "ADMIN" }));
    for number in 5..8 {
        assert_eq!(data(number), &json!({ "token_id": id, "kind": "token" }));
    }
    assert_eq!(
        data(9),
        &json!({ "revision": 4, "status": "active", "previous_status": "suspended" })
    );
    assert!(data(10)["purge_after"].is_string(), "{}", events[10]);
    assert_eq!(data(13), &json!({ "revision": 8, "name": "Tenant acme" }));
    assert_eq!((&data(15)["state"], &events[15]["actor"]), (&json!("done"), &json!("system")));
    assert_eq!(
        data(15)["path"],
        format!("/control/v1/migrations/{}", migration.body["id"].as_str().unwrap())
    );
    let tenant = json!({ "id": acme.id, "slug": "acme-two", "external_id": null });
    assert_eq!((&events[1]["tenant"], &events[5]["tenant"]), (&tenant, &Value::Null));
    assert_eq!(events[0]["tenant"]["slug"], "acme");
    assert_eq!((&events[1]["actor"], &events[1]["version"]), (&json!("root"), &json!(1)));
    assert_eq!(events[1]["request_id"].as_str(), changed.header("x-request-id"));
    let text = json!(events).to_string();
    for secret in ["secret value", "example.com", PASSWORD, token.body["token"].as_str().unwrap()] {
        assert!(!text.contains(secret), "{secret} is in {text}");
    }

    // Each event satisfies the schema of its type, and is read by its id as it is listed.
    let catalogue = root.get("/control/v1/event-types").await;
    let catalogue = catalogue.body["data"].as_array().expect("there is data");
    for event in &events {
        let info =
            catalogue.iter().find(|info| info["type"] == event["type"]).expect("it is listed");
        let validator = jsonschema::draft202012::new(&info["schema"]).expect("it is a schema");
        assert!(validator.is_valid(event), "{event}: {}", info["schema"]);
        let alone = root.get(&format!("{EVENTS}/{}", event["id"].as_str().unwrap())).await;
        assert_eq!((alone.status, &alone.body), (200, event));
    }
}

#[tokio::test]
async fn a_feed_is_read_in_pages_and_by_type_and_by_tenant() {
    let app = TestApp::spawn().await;
    let root = app.root();
    let (acme, other) = (app.set_up("acme").await, app.set_up("other").await);
    for verb in ["suspend", "resume"] {
        assert_eq!(transition(&root, "acme", verb).await.status, 200);
    }
    let all = feed(&app, &root, "").await;
    assert_eq!(all.len(), 4);
    let (mut found, mut cursor) = (Vec::new(), "0".to_owned());
    for _ in 0..4 {
        let (events, next) = page(&root, &format!("limit=1&after={cursor}")).await;
        found.extend(events);
        cursor = next;
    }
    assert_eq!(found, all);
    assert_eq!(page(&root, &format!("after={cursor}")).await, (Vec::new(), cursor));
    let positions: Vec<_> = all.iter().map(|event| event["position"].as_i64().unwrap()).collect();
    assert!(positions.is_sorted_by(|a, b| a < b), "{positions:?}");
    for (query, expected) in [
        ("type=tenant.suspended".to_owned(), &all[2..3]),
        ("type=tenant.*,member.added".to_owned(), &all[..]),
        ("type=member.*".to_owned(), &[]),
        (format!("tenant={}", other.id), &all[1..2]),
        (format!("tenant={}&type=tenant.created", acme.id), &all[..1]),
        (format!("tenant={}", Uuid::new_v4()), &[]),
    ] {
        assert_eq!(page(&root, &query).await.0, expected, "{query}");
    }
}

#[tokio::test]
async fn an_admin_sees_the_events_of_their_tenants_and_no_other_caller_sees_them() {
    let app = TestApp::spawn().await;
    let (acme, other) = (app.set_up("acme").await, app.set_up("other").await);
    let (admin, root) = (app.log_in(&acme.admin_email).await, app.root());
    let token = json!({ "name": "of no tenant", "permissions": ["VIEW_TENANTS"] });
    assert_eq!(root.post("/control/v1/tokens", &token).await.status, 201);
    let all = feed(&app, &root, "").await;
    assert_eq!(types(&all), ["tenant.created", "tenant.created", "token.created"]);
    let own = page(&admin, "").await;
    assert_eq!(own.0, all[..1]);
    assert_eq!(own.1, page(&root, "").await.1, "the cursor passes what the caller may not see");
    let foreign = admin.get(&format!("{EVENTS}?tenant={}", other.id)).await;
    assert_problem(&foreign, 404, "tenant_not_found");
    for (caller, visible) in [(&admin, 1), (&root, 3)] {
        for (number, event) in all.iter().enumerate() {
            let answer = caller.get(&format!("{EVENTS}/{}", event["id"].as_str().unwrap())).await;
            if number < visible {
                assert_eq!((answer.status, &answer.body), (200, event));
            } else {
                assert_problem(&answer, 404, "audit_event_not_found");
            }
        }
    }
    let weak = token_with(&app, &["VIEW_TENANTS"], None).await;
    for path in
        [EVENTS.to_owned(), "/control/v1/event-types".to_owned(), format!("{EVENTS}/{}", acme.id)]
    {
        assert_problem(&weak.get(&path).await, 403, "forbidden");
        assert_problem(&app.anonymous().get(&path).await, 401, "unauthenticated");
    }
}

#[tokio::test]
async fn events_of_the_audit_trail_alone_are_not_in_the_feed() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    app.log_in(&acme.admin_email).await;
    let events = feed(&app, &app.root(), "").await;
    assert_eq!(types(&events), ["tenant.created"]);
    let sql = app.sql().await;
    let opened = "SELECT id FROM audit_events WHERE action = 'session.open'";
    let id: Uuid = sql.query_one(opened, &[]).await.unwrap().get("id");
    assert_problem(&app.root().get(&format!("{EVENTS}/{id}")).await, 404, "audit_event_not_found");
}

#[tokio::test]
async fn bad_parameters_are_refused_by_name() {
    let app = TestApp::spawn().await;
    let root = app.root();
    let bad = root
        .get(&format!("{EVENTS}?after=x&limit=0&type=tenant.create&tenant=acme&wait=21&cursor=1"))
        .await;
    assert_problem(&bad, 400, "invalid");
    assert_eq!(
        pointers(&bad),
        [
            "?after: cursor",
            "?limit: out_of_range",
            "?type: not_one_of",
            "?tenant: uuid_format",
            "?wait: out_of_range",
            "?cursor: unknown_field",
        ]
    );
    assert_problem(&root.get(&format!("{EVENTS}/1")).await, 404, "audit_event_not_found");
    let long = root.get(&format!("{EVENTS}?type=")).await;
    assert_problem(&long, 400, "invalid");
}

#[tokio::test]
async fn a_cursor_of_a_log_that_was_restored_from_a_backup_is_refused() {
    let app = TestApp::spawn().await;
    let root = app.root();
    let tenant = app.set_up("acme").await.id;
    rename(&root, tenant, "A").await;
    rename(&root, tenant, "B").await;
    feed(&app, &root, "").await;
    let (_, cursor) = page(&root, "").await;
    let (_, early) = page(&root, "limit=1").await;
    // A backup from after the first event comes back.
    app.sql()
        .await
        .batch_execute(
            "DELETE FROM audit_events WHERE position > 1;
             UPDATE audit_heads SET position = 1, seal = (SELECT seal FROM audit_events WHERE position = 1)",
        )
        .await
        .unwrap();
    for query in ["", "&wait=20"] {
        let answer = root.get(&format!("{EVENTS}?after={cursor}{query}")).await;
        assert_problem(&answer, 409, "cursor_ahead");
    }
    assert_eq!(page(&root, &format!("after={early}")).await.0, Vec::<Value>::new());
    // The log goes on beyond the cursor with other events.
    for name in ["C", "D", "E"] {
        rename(&root, tenant, name).await;
    }
    assert_eq!(feed(&app, &root, &format!("after={early}")).await.len(), 3);
    assert_problem(&root.get(&format!("{EVENTS}?after={cursor}")).await, 409, "cursor_ahead");
}
