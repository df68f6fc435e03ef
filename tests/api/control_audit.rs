//! `/control/v1/audit-events`, and the hash chain that reveals a changed or removed event.

use rowhouse::app::{Backend, Options};
use rowhouse::config::Settings;
use rowhouse::service::audit::{Break, Verdict};
use serde_json::json;
use uuid::Uuid;

use crate::support::control::{assert_problem, pointers, token_with, transition};
use crate::support::{Caller, TestApp, settings_for};

const EVENTS: &str = "/control/v1/audit-events";
const VERIFY: &str = "/control/v1/audit-events/verify";

/// Returns the actions of all events that match a query, page by page.
async fn actions(caller: &Caller, query: &str) -> Vec<String> {
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = caller.get(&format!("{EVENTS}?{query}{cursor}")).await;
        assert_eq!(page.status, 200, "{page:?}");
        let rows = page.body["data"].as_array().expect("there is data");
        found.extend(rows.iter().map(|row| row["action"].as_str().expect("a text").to_owned()));
        match page.body["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return found,
        }
    }
}

async fn backend(app: &TestApp) -> Backend {
    let settings = Settings::from_values(&settings_for(&app.database.url()));
    Backend::open(&settings.expect("the settings are good"), &Options::default())
        .await
        .expect("a backend opens")
}

async fn verify(backend: &Backend) -> Verdict {
    backend.services.audit.verify(&backend.operator()).await.expect("a chain can be checked")
}

#[tokio::test]
async fn events_are_listed_newest_first_filtered_and_only_of_tenants_that_the_caller_may_read() {
    let app = TestApp::spawn().await;
    let root = app.root();
    let (acme, other) = (app.set_up("acme").await, app.set_up("other").await);
    for verb in ["suspend", "resume"] {
        assert_eq!(transition(&root, "acme", verb).await.status, 200);
    }
    let all = ["tenant.resume", "tenant.suspend", "tenant.create", "tenant.create"];
    assert_eq!(actions(&root, "limit=1").await, all);
    let event = root.get(&format!("{EVENTS}?limit=1")).await.body["data"][0].clone();
    assert_eq!(event["actor"], "root");
    assert_eq!(event["tenant_id"], json!(acme.id));
    let details = json!({
        "slug": "acme", "external_id": null, "revision": 3, "from": "suspended", "to": "active",
    });
    assert_eq!(event["details"], details);
    let at = event["created_at"].as_str().unwrap();
    for (query, found) in [
        ("action=tenant.suspend".to_owned(), &all[1..2]),
        ("actor=root&action=tenant.create".to_owned(), &all[2..]),
        ("actor=unknown".to_owned(), &[]),
        (format!("tenant={}", other.id), &all[2..3]),
        (format!("created_after={at}"), &all[..1]),
        (format!("created_before={at}"), &all[1..]),
    ] {
        assert_eq!(actions(&root, &query).await, found, "{query}");
    }
    let admin = app.log_in(&acme.admin_email).await;
    assert_eq!(actions(&admin, "limit=2").await, all[..3]);
    let foreign = admin.get(&format!("{EVENTS}?tenant={}", other.id)).await;
    let unknown = admin.get(&format!("{EVENTS}?tenant={}", Uuid::new_v4())).await;
    assert_problem(&foreign, 404, "tenant_not_found");
    assert_problem(&unknown, 404, "tenant_not_found");
}

#[tokio::test]
async fn events_are_found_by_their_request_and_say_who_acted() {
    let app = TestApp::spawn().await;
    let root = app.root();
    app.add_user("ada@example.com", Some("SUPER_ADMIN")).await;
    let ada = app.log_in("ada@example.com").await;
    app.set_up("acme").await;
    app.set_up("other").await;
    let suspended = transition(&ada, "acme", "suspend").await;
    let request = suspended.header("x-request-id").unwrap();
    let found = root.get(&format!("{EVENTS}?request_id={request}")).await.body;
    let events = found["data"].as_array().unwrap();
    assert_eq!(events.len(), 1, "{found}");
    assert_eq!(events[0]["action"], "tenant.suspend");
    assert_eq!(events[0]["actor_name"], "ada@example.com");
    assert_eq!(events[0]["tenant_slug"], "acme");
    for (actor, found) in [
        ("ADA@example.com", 1),
        ("absent@example.com", 0),
        (events[0]["actor"].as_str().unwrap(), 1),
    ] {
        let path = format!("{EVENTS}?action=tenant.suspend&actor={actor}");
        let by = root.get(&path).await.body;
        assert_eq!(by["data"].as_array().unwrap().len(), found, "{actor}: {by}");
    }
    let one = root.get(&format!("{EVENTS}/{}", events[0]["id"].as_str().unwrap())).await;
    assert_eq!((one.status, &one.body), (200, &events[0]));
    assert_problem(
        &root.get(&format!("{EVENTS}/{}", Uuid::new_v4())).await,
        404,
        "audit_event_not_found",
    );
    assert_problem(&root.get(&format!("{EVENTS}/x")).await, 404, "audit_event_not_found");
    let maker = token_with(&app, &["UPDATE_TENANT"], None).await;
    assert_eq!(transition(&maker, "acme", "resume").await.status, 200);
    let resumed = root.get(&format!("{EVENTS}?action=tenant.resume")).await.body;
    assert_eq!(resumed["data"][0]["actor_name"], "test");
    let actions = root.get("/control/v1/audit-actions").await.body;
    assert!(actions["data"].as_array().unwrap().contains(&json!("tenant.suspend")), "{actions}");
}

#[tokio::test]
async fn a_single_event_of_another_tenant_is_not_found() {
    let app = TestApp::spawn().await;
    let (acme, other) = (app.set_up("acme").await, app.set_up("other").await);
    let root = app.root();
    let foreign = root.get(&format!("{EVENTS}?tenant={}", other.id)).await.body["data"][0].clone();
    let admin = app.log_in(&acme.admin_email).await;
    let refused = admin.get(&format!("{EVENTS}/{}", foreign["id"].as_str().unwrap())).await;
    assert_problem(&refused, 404, "audit_event_not_found");
}

#[tokio::test]
async fn an_export_holds_every_event_once_in_either_form() {
    let app = TestApp::spawn().await;
    app.set_up("acme").await;
    let sql = app.sql().await;
    // More than are read at a time.
    sql.execute(
        "INSERT INTO audit_events (id, at, actor, action, request_id, details)
         SELECT gen_random_uuid(), now() - n * interval '1 second', 'root', 'test.made', 'r',
                jsonb_build_object('n', n, 'text', E'a, \"b\"\nc')
           FROM generate_series(1, 2500) n",
        &[],
    )
    .await
    .unwrap();
    let root = app.root();
    let wanted = |format: &'static str| {
        let path = format!("{EVENTS}?action=test.made");
        let request = root.request(reqwest::Method::GET, &path).header("accept", format);
        async move { request.send().await.unwrap() }
    };
    let answer = wanted("application/x-ndjson").await;
    assert_eq!(answer.headers()["content-type"], "application/x-ndjson");
    let text = answer.text().await.unwrap();
    let numbers: Vec<i64> = text
        .lines()
        .map(|line| {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            event["details"]["n"].as_i64().unwrap()
        })
        .collect();
    assert_eq!(numbers, (1..=2500).collect::<Vec<i64>>());
    let answer = wanted("text/csv").await;
    assert_eq!(answer.headers()["content-type"], "text/csv; charset=utf-8");
    let text = answer.text().await.unwrap();
    let headings =
        "id,created_at,actor,actor_name,action,tenant_id,tenant_slug,request_id,details\r\n";
    assert!(text.starts_with(headings), "{}", &text[..90]);
    // The line feed in the details is escaped in JSON, so a row is a line.
    assert_eq!(text.lines().count(), 2501);
    let refused = token_with(&app, &["VIEW_TENANTS"], None).await;
    let answer = refused.request(reqwest::Method::GET, EVENTS).header("accept", "text/csv");
    assert_eq!(answer.send().await.unwrap().status(), 403);
}

#[tokio::test]
async fn an_unauthorized_caller_and_invalid_parameters_are_refused() {
    let app = TestApp::spawn().await;
    let viewer = token_with(&app, &["VIEW_TENANTS"], None).await;
    let refused = viewer.get(EVENTS).await;
    assert_problem(&refused, 403, "forbidden");
    assert_eq!(refused.body["missing"], json!(["VIEW_AUDIT"]));
    assert_problem(&app.anonymous().get(EVENTS).await, 401, "unauthenticated");
    // The chain covers all tenants, so the permission to read one tenant's events is not enough to verify it.
    let admin = app.log_in(&app.set_up("acme").await.admin_email).await;
    assert_problem(&admin.post(VERIFY, &json!({})).await, 403, "forbidden");
    assert_problem(&app.root().post(VERIFY, &json!({ "from": 1 })).await, 400, "invalid");
    let bad = app.root().get(&format!("{EVENTS}?tenant=acme&created_after=now&who=me")).await;
    assert_problem(&bad, 400, "invalid");
    assert_eq!(
        pointers(&bad),
        ["?tenant: uuid_format", "?created_after: timestamp", "?who: unknown_field"]
    );
}

#[tokio::test]
async fn a_changed_event_and_a_removed_event_are_found_even_at_the_end_of_the_chain() {
    let app = TestApp::spawn().await;
    for slug in ["one", "two", "three", "four"] {
        app.set_up(slug).await;
    }
    let backend = backend(&app).await;
    let whole = verify(&backend).await;
    assert_eq!((whole.events, whole.broken), (4, None));
    let answer = app.root().post(VERIFY, &json!({})).await;
    let intact = json!({ "intact": true, "event_count": 4, "head": whole.head, "broken": null });
    assert_eq!((answer.status, answer.body), (200, intact));
    app.set_up("five").await;
    let longer = verify(&backend).await;
    assert_eq!((longer.events, longer.broken), (5, None));
    assert_ne!(longer.head, whole.head);
    let sql = app.sql().await;
    for (damage, repair, found) in [
        (
            "UPDATE audit_events SET actor = 'mallory' WHERE position = 2",
            "UPDATE audit_events SET actor = 'root' WHERE position = 2",
            Break::Changed(2),
        ),
        (
            "UPDATE audit_events SET tenant_id = NULL WHERE position = 1",
            "UPDATE audit_events e SET tenant_id = t.id FROM tenants t WHERE e.position = 1 AND t.slug = 'one'",
            Break::Changed(1),
        ),
        (
            "CREATE TABLE kept AS SELECT * FROM audit_events WHERE position = 3; DELETE FROM audit_events WHERE position = 3",
            "INSERT INTO audit_events SELECT * FROM kept; DROP TABLE kept",
            Break::Missing(3),
        ),
        (
            "CREATE TABLE kept AS SELECT * FROM audit_events WHERE position = 5; DELETE FROM audit_events WHERE position = 5",
            "INSERT INTO audit_events SELECT * FROM kept; DROP TABLE kept",
            Break::Missing(5),
        ),
    ] {
        sql.batch_execute(damage).await.unwrap();
        assert_eq!(verify(&backend).await.broken, Some(found), "{damage}");
        let answer = app.root().post(VERIFY, &json!({})).await;
        let broken = match found {
            Break::Missing(position) => json!({ "position": position, "fault": "missing" }),
            Break::Changed(position) => json!({ "position": position, "fault": "changed" }),
        };
        assert_eq!((answer.status, &answer.body["intact"]), (200, &json!(false)), "{damage}");
        assert_eq!(answer.body["broken"], broken, "{damage}");
        sql.batch_execute(repair).await.unwrap();
        assert_eq!(verify(&backend).await, longer, "{repair}");
    }
    backend.close().await;
}

#[tokio::test]
async fn concurrent_writers_and_sealers_build_one_chain_and_writers_do_not_wait() {
    let app = TestApp::builder().with("events.seal_interval", "20ms").spawn().await;
    let second = TestApp::builder()
        .on(app.database.clone())
        .with("events.seal_interval", "20ms")
        .spawn()
        .await;
    app.set_up("acme").await;
    let (root, there) = (app.root(), second.root());
    let sealing = app.sql().await;
    // Another session holds the lock for sealing for a long time: writers do not wait for it.
    sealing
        .batch_execute("BEGIN; SELECT FROM locks WHERE name = 'audit chain' FOR UPDATE")
        .await
        .unwrap();
    for n in 0..10 {
        let caller = if n % 2 == 0 { &root } else { &there };
        let verb = if n % 2 == 0 { "suspend" } else { "resume" };
        assert_eq!(transition(caller, "acme", verb).await.status, 200);
    }
    sealing.batch_execute("ROLLBACK").await.unwrap();
    let slugs: Vec<String> = (0..6).map(|n| format!("many-{n}")).collect();
    futures_util::future::join_all(slugs.iter().map(|slug| app.set_up(slug))).await;
    let backend = backend(&app).await;
    let verdict = verify(&backend).await;
    assert_eq!((verdict.events, verdict.broken), (17, None));
    let row = app
        .sql()
        .await
        .query_one(
            "SELECT count(DISTINCT position), max(position), count(*) FROM audit_events",
            &[],
        )
        .await
        .unwrap();
    let counts: [i64; 3] = [row.get(0), row.get(1), row.get(2)];
    assert_eq!(counts, [17, 17, 17]);
    backend.close().await;
}
