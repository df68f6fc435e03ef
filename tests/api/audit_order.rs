//! The order in which audit events are sealed is that of the commits, and they are sealed soon.

use std::time::{Duration, Instant};

use reqwest::Method;
use rowhouse::app::{Backend, Options, Purpose};
use rowhouse::config::Settings;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::support::control::{put, send_if_match, transition};
use crate::support::{Caller, Program, TestApp, TestClock, settings_for, wire};

/// Longer than any seal takes, on a busy machine too.
const SOON: Duration = Duration::from_secs(20);

/// Waits until all events are sealed; returns action and details of those about a tenant, by position.
async fn sealed(sql: &Client, tenant: Uuid) -> Vec<(String, Value)> {
    let since = Instant::now();
    loop {
        let left = "SELECT count(*) AS count FROM audit_events WHERE position IS NULL";
        if sql.query_one(left, &[]).await.expect("events can be counted").get::<_, i64>("count")
            == 0
        {
            break;
        }
        assert!(since.elapsed() < SOON, "some events are not sealed");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let events = "SELECT action, details FROM audit_events WHERE tenant_id = $1 ORDER BY position";
    let rows = sql.query(events, &[&tenant]).await.expect("events can be read");
    rows.iter().map(|row| (row.get("action"), row.get("details"))).collect()
}

async fn rename(caller: &Caller, tenant: Uuid, name: &str) {
    let path = format!("/control/v1/tenants/{tenant}");
    let answer =
        send_if_match(caller, Method::PATCH, &path, "*", Some(&json!({ "name": name }))).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn a_request_that_begins_first_and_commits_last_is_sealed_last() {
    let app = TestApp::spawn().await;
    let tenant = app.set_up("acme").await.id;
    let body = r#"{ "name": "A" }"#;
    // So that the server has made out the time of the call.
    let pause = Duration::from_millis(300);
    let mut slow = wire::begin_rename(&app, tenant, body, pause).await;
    rename(&app.root(), tenant, "B").await;
    let (_, rest) = body.split_at(body.len() / 2);
    slow.write_all(rest.as_bytes()).await.unwrap();
    assert_eq!(wire::status(&wire::read_answer(&mut slow).await), 200);

    let record = app.root().get(&format!("/control/v1/tenants/{tenant}")).await.body;
    assert_eq!((&record["name"], &record["revision"]), (&json!("A"), &json!(3)));
    let events = sealed(&app.sql().await, tenant).await;
    let names: Vec<_> = events.iter().map(|(_, details)| &details["changes"]["name"]).collect();
    assert_eq!(
        names[1..],
        [&json!({ "from": "Tenant acme", "to": "B" }), &json!({ "from": "B", "to": "A" }),]
    );
    let verdict = app.services.audit.verify(&app.operator()).await.unwrap();
    assert_eq!((verdict.events, verdict.broken), (3, None));
}

#[tokio::test]
async fn servers_whose_clocks_differ_by_days_seal_in_the_order_of_the_commits() {
    let app = TestApp::spawn().await;
    let (ahead, behind) = (TestClock::default(), TestClock::default());
    ahead.advance(time::Duration::days(8));
    behind.advance(time::Duration::days(-8));
    let servers = [
        TestApp::builder().on(app.database.clone()).with_clock(&ahead).spawn().await,
        TestApp::builder().on(app.database.clone()).with_clock(&behind).spawn().await,
        app,
    ];
    let tenant = servers[2].set_up("acme").await.id;
    // No event is sealed on the way, so that one seal orders all of them.
    let held = servers[2].sql().await;
    held.batch_execute("BEGIN; SELECT FROM locks WHERE name = 'audit chain' FOR UPDATE")
        .await
        .unwrap();
    for number in 0..12 {
        rename(&servers[number % 3].root(), tenant, &format!("name {number}")).await;
    }
    held.batch_execute("ROLLBACK").await.unwrap();
    let events = sealed(&servers[2].sql().await, tenant).await;
    let revisions: Vec<_> =
        events.iter().map(|(_, details)| details["revision"].as_i64().unwrap()).collect();
    assert_eq!(revisions, (1..=13).collect::<Vec<_>>());
}

#[tokio::test]
async fn events_of_an_earlier_version_are_sealed_first_and_the_chain_stays_intact() {
    let app = TestApp::spawn().await;
    let sql = app.sql().await;
    sql.batch_execute("BEGIN; SELECT FROM locks WHERE name = 'audit chain' FOR UPDATE")
        .await
        .unwrap();
    let tenant = app.set_up("acme").await.id;
    // As if the upgrade had found them unsealed.
    let older = app.sql().await;
    older
        .execute(
            "INSERT INTO audit_events (id, at, actor, action, tenant_id, request_id, details, write_order)
             SELECT gen_random_uuid(), now() + n * interval '1 day', 'test', 'tenant.update', $1, 'x',
                    jsonb_build_object('name', n), NULL
               FROM generate_series(1, 3) AS n",
            &[&tenant],
        )
        .await
        .unwrap();
    sql.batch_execute("ROLLBACK").await.unwrap();
    let actions: Vec<_> =
        sealed(&older, tenant).await.into_iter().map(|(action, _)| action).collect();
    assert_eq!(actions, ["tenant.update", "tenant.update", "tenant.update", "tenant.create"]);
    let verdict = app.services.audit.verify(&app.operator()).await.unwrap();
    assert_eq!((verdict.events, verdict.broken), (4, None));
}

#[tokio::test]
async fn each_event_of_a_tenant_names_it_and_has_the_revision_of_its_record() {
    let app = TestApp::builder().with("tenants.purge_interval", "1h").spawn().await;
    let (root, sql) = (app.root(), app.sql().await);
    let body = json!({ "name": "Acme", "slug": "acme" });
    let made = put(&root, "/control/v1/tenants/by-external-id/crm-1", &body).await;
    assert_eq!(made.status, 201, "{made:?}");
    let acme: Uuid = made.body["id"].as_str().unwrap().parse().unwrap();
    let path = format!("/control/v1/tenants/{acme}");
    let change = json!({ "slug": "acme-two", "settings": { "key": "secret value" } });
    assert_eq!(send_if_match(&root, Method::PATCH, &path, "*", Some(&change)).await.status, 200);
    let program = Program::on(&app.database);
    program.run(&["tenant", "rename", "acme-two", "--name", "Acme Two"]).expect(0);
    for verb in ["suspend", "resume", "delete", "restore", "delete"] {
        assert_eq!(transition(&root, &acme.to_string(), verb).await.status, 200, "{verb}");
    }
    let due = root.get(&path).await.body["purge_after"].clone();
    assert_eq!(transition(&root, &acme.to_string(), "purge").await.status, 204);

    let events = sealed(&sql, acme).await;
    let actions: Vec<_> = events.iter().map(|(action, _)| action.as_str()).collect();
    assert_eq!(
        actions,
        [
            "tenant.create",
            "tenant.update",
            "tenant.update",
            "tenant.suspend",
            "tenant.resume",
            "tenant.delete",
            "tenant.restore",
            "tenant.delete",
            "tenant.purge",
        ]
    );
    for (number, (action, details)) in (1..).zip(&events) {
        let slug = if number == 1 { "acme" } else { "acme-two" };
        let told = (&details["revision"], &details["slug"], &details["external_id"]);
        assert_eq!(told, (&json!(number), &json!(slug), &json!("crm-1")), "{action}");
        assert!(!details.to_string().contains("secret value"), "{details}");
    }
    let changes = json!({ "slug": { "from": "acme", "to": "acme-two" }, "settings": ["key"] });
    assert_eq!(events[1].1["changes"], changes);
    assert_eq!(events[2].1["changes"], json!({ "name": { "from": "Acme", "to": "Acme Two" } }));
    assert_eq!(events[7].1["purge_after"], due);
    assert_eq!(events[8].1["name"], "Acme Two");
}

#[tokio::test]
async fn each_way_to_make_and_change_a_tenant_tells_its_revision() {
    let app = TestApp::spawn().await;
    let sql = app.sql().await;
    // Reten, Databunker (with the main tenant), WebFluss and the command line.
    app.set_up("reten").await;
    let bunker = app.bunker_tenant("bunker").await;
    let change = json!({ "tenantname": "bunkertwo", "tenantorg": "other" });
    bunker.admin.call("TenantUpdate", change).await.ok();
    app.bunker_root()
        .call("UserCreate", json!({ "profile": { "email": "a@example.com" } }))
        .await
        .ok();
    Program::on(&app.database).create_tenant("cli").expect(0);
    let webfluss = json!({ "name": "Web", "subdomain": "webfluss" });
    let made = app.root().post("/api/tenants", &webfluss).await;
    assert_eq!(made.status, 200, "{made:?}");

    let rows = sql
        .query(
            "SELECT action, details FROM audit_events
              WHERE action LIKE 'tenant.%' AND (details ->> 'revision' IS NULL OR details ->> 'slug' IS NULL
                                                OR NOT details ? 'external_id')",
            &[],
        )
        .await
        .unwrap();
    let lacking: Vec<(String, Value)> =
        rows.iter().map(|row| (row.get("action"), row.get("details"))).collect();
    assert_eq!(lacking, []);
    let told = "SELECT string_agg(details ->> 'slug', ' ' ORDER BY write_order) AS slugs
                  FROM audit_events WHERE action = 'tenant.create'";
    let slugs: String = sql.query_one(told, &[]).await.unwrap().get("slugs");
    let tenants = "SELECT count(*) AS count FROM tenants";
    let count: i64 = sql.query_one(tenants, &[]).await.unwrap().get("count");
    assert_eq!(slugs.split(' ').count(), usize::try_from(count).unwrap(), "{slugs}");
    assert!(
        ["reten", "main", "cli", "webfluss"].iter().all(|slug| slugs.contains(slug)),
        "{slugs}"
    );
}

#[tokio::test]
async fn an_event_is_sealed_soon_after_its_commit_and_not_behind_purges() {
    let app = TestApp::builder()
        .with("events.seal_interval", "1h")
        .with("tenants.purge_interval", "20ms")
        .with("tenants.grace_period", "1h")
        .spawn()
        .await;
    let (gone, sql) = (app.set_up("gone").await, app.sql().await);
    assert_eq!(transition(&app.root(), "gone", "delete").await.status, 200);
    // The purge waits for a lock in the tenant.
    let held = app.sql().await;
    held.batch_execute(&format!("BEGIN; LOCK TABLE {}.profiles", gone.schema())).await.unwrap();
    app.clock.advance(time::Duration::hours(2));
    let tenant = app.set_up("acme").await.id;
    let events = sealed(&sql, tenant).await;
    assert_eq!(events.len(), 1);
    held.batch_execute("ROLLBACK").await.unwrap();
}

#[tokio::test]
async fn an_event_of_a_command_is_sealed_by_a_server_at_its_interval() {
    let app = TestApp::builder().with("events.seal_interval", "50ms").spawn().await;
    let tenant = app.set_up("acme").await.id;
    Program::on(&app.database).run(&["tenant", "suspend", "acme"]).expect(0);
    assert_eq!(sealed(&app.sql().await, tenant).await.len(), 2);
}

#[tokio::test]
async fn the_age_of_the_oldest_unsealed_event_is_a_metric() {
    const NAME: &str = "rowhouse_events_unsealed_age_seconds ";
    let app = TestApp::builder().with("events.seal_interval", "50ms").spawn().await;
    let age = async || -> f64 {
        let metrics = app.anonymous().get("/metrics").await.text;
        let line = metrics.lines().find_map(|line| line.strip_prefix(NAME));
        line.unwrap_or_else(|| panic!("{NAME} is not in {metrics}")).parse().unwrap()
    };
    let held = app.sql().await;
    held.batch_execute("BEGIN; SELECT FROM locks WHERE name = 'audit chain' FOR UPDATE")
        .await
        .unwrap();
    let tenant = app.set_up("acme").await.id;
    let since = Instant::now();
    while age().await < 0.5 {
        assert!(since.elapsed() < SOON, "the age does not grow");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    held.batch_execute("ROLLBACK").await.unwrap();
    sealed(&app.sql().await, tenant).await;
    let since = Instant::now();
    while age().await > 0.0 {
        assert!(since.elapsed() < SOON, "the age stays");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_server_that_finds_the_chain_locked_by_another_seals_when_it_is_free() {
    let app = TestApp::spawn().await;
    let held = app.sql().await;
    held.batch_execute("BEGIN; SELECT FROM locks WHERE name = 'audit chain' FOR UPDATE")
        .await
        .unwrap();
    let tenant = app.set_up("acme").await.id;
    let settings = Settings::from_values(&settings_for(&app.database.url())).unwrap();
    let other = Backend::open_for(Purpose::Operate, &settings, &Options::default()).await.unwrap();
    let outcome = other.services.audit.tend(&other.operator()).await.unwrap();
    assert_eq!(outcome, rowhouse::service::audit::SealOutcome::Busy);
    held.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(sealed(&app.sql().await, tenant).await.len(), 1);
    other.close().await;
}
