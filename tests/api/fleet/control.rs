//! `/control/v1/migrations`.

use rowhouse::domain::operation::Then;
use rowhouse::service::fleet::{Canary, MigrationRequest};
use serde_json::{Value, json};

use super::fixture::{Fixture, MigrationLock, SECOND, WAITS_FOR_LOCK, wait_for};
use crate::support::control::{assert_problem, pointers, token_with};
use crate::support::{Answer, Caller, Snapshot, TestApp};

const MIGRATIONS: &str = "/control/v1/migrations";

/// Starts a server on the fixture's tenants and current migration files.
pub async fn serve(fixture: &Fixture) -> TestApp {
    let app = TestApp::builder()
        .with("tenant_migrations", fixture.folder.path().display().to_string())
        .with("fleet.lease", "2s")
        .on(fixture.database.clone())
        .spawn()
        .await;
    seal(&app).await;
    app
}

/// Seals the audit chain now, so that the server's background job does not change a later snapshot.
async fn seal(app: &TestApp) {
    app.services.audit.seal(&app.operator()).await.expect("the operator may seal");
}

async fn post_verb(caller: &Caller, id: &str, verb: &str) -> Answer {
    caller.post(&format!("{MIGRATIONS}/{id}/{verb}"), &json!({})).await
}

/// Starts a migration and returns its id.
async fn start(caller: &Caller, body: &Value) -> String {
    let started = caller.post(MIGRATIONS, body).await;
    assert_eq!(started.status, 202, "{started:?}");
    started.body["id"].as_str().expect("it has an id").to_owned()
}

async fn wait_until_stopped(caller: &Caller, id: &str) -> Value {
    for _ in 0..6000 {
        let answer = caller.get(&format!("{MIGRATIONS}/{id}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        if answer.body["runner"]["alive"] == false {
            return answer.body;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the migration does not stop")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_is_planned_started_and_read_until_it_ends() {
    let fixture = Fixture::with(3).await;
    fixture.write(SECOND);
    let app = serve(&fixture).await;
    let caller = token_with(&app, &["MIGRATE_FLEET"], None).await;
    let sql = app.sql().await;
    let before = Snapshot::take(&sql).await;
    let plan = caller.post(MIGRATIONS, &json!({ "dry_run": true })).await;
    assert_eq!((plan.status, &plan.body["behind_count"]), (200, &json!(3)), "{plan:?}");
    assert_eq!(plan.body["behind"][0]["files"], json!(["V2__add_mood.sql"]));
    assert_eq!(Snapshot::take(&sql).await, before);

    let started = caller.post(MIGRATIONS, &json!({ "workers": 2, "max_failures": 5 })).await;
    assert_eq!(started.status, 202, "{started:?}");
    let id = started.body["id"].as_str().unwrap().to_owned();
    assert_eq!(started.header("location"), Some(format!("{MIGRATIONS}/{id}").as_str()));
    assert_eq!(started.body["tenants"]["total"], 3);
    assert_eq!(started.body["options"]["max_failures"], 5);
    let ended = wait_until_stopped(&caller, &id).await;
    assert_eq!(
        (&ended["state"], &ended["tenants"]["done"]),
        (&json!("done"), &json!(3)),
        "{ended}"
    );
    assert_eq!(fixture.runs().await, [1; 3]);

    let mut slugs = Vec::new();
    let mut path = format!("{MIGRATIONS}/{id}/tenants?state=done&limit=2");
    loop {
        let part = caller.get(&path).await;
        assert_eq!(part.status, 200, "{part:?}");
        for row in part.body["data"].as_array().unwrap() {
            assert_eq!(
                (&row["attempts"], &row["applied"]),
                (&json!(1), &json!(["V2__add_mood.sql"]))
            );
            slugs.push(row["slug"].as_str().unwrap().to_owned());
        }
        let Some(cursor) = part.body["next_cursor"].as_str() else { break };
        path = format!("{MIGRATIONS}/{id}/tenants?state=done&limit=2&cursor={cursor}");
    }
    slugs.sort();
    assert_eq!(slugs, ["t0", "t1", "t2"]);
    let none = caller.get(&format!("{MIGRATIONS}/{id}/tenants?state=failed")).await;
    assert_eq!(none.body["data"], json!([]));

    let again = caller.post(MIGRATIONS, &json!({})).await;
    let again = wait_until_stopped(&caller, again.body["id"].as_str().unwrap()).await;
    assert_eq!((&again["state"], &again["tenants"]["total"]), (&json!("done"), &json!(0)));
    let list = caller.get(&format!("{MIGRATIONS}?limit=1")).await;
    assert_eq!(list.body["data"][0]["id"], again["id"]);
    let cursor = list.body["next_cursor"].as_str().unwrap();
    let rest = caller.get(&format!("{MIGRATIONS}?cursor={cursor}&state=done")).await;
    assert_eq!(
        (&rest.body["data"][0]["id"], &rest.body["next_cursor"]),
        (&json!(id), &Value::Null)
    );
    let metrics = caller.get("/metrics").await.text;
    assert!(metrics.contains("rowhouse_fleet_tenants_total{state=\"done\"} 3"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_is_paused_resumed_cancelled_and_retried_by_request() {
    let fixture = Fixture::with(4).await;
    fixture.write(WAITS_FOR_LOCK);
    let lock = MigrationLock::hold(&fixture).await;
    let app = serve(&fixture).await;
    let root = app.root();
    let id = start(&root, &json!({ "workers": 1 })).await;
    lock.wait_until_waiting().await;
    let second = root.post(MIGRATIONS, &json!({})).await;
    assert_problem(&second, 409, "migration_running");
    let detail = second.body["detail"].as_str().unwrap();
    assert!(detail.contains(&id) && detail.contains("is run by process"), "{detail}");
    assert_problem(&post_verb(&root, &id, "resume").await, 409, "migration_running");
    let paused = post_verb(&root, &id, "pause").await;
    assert_eq!((paused.status, &paused.body["pause_reason"]), (200, &json!("asked")), "{paused:?}");
    super::transitions::wait_for_two_heartbeats(&app.sql().await).await;
    lock.release().await;
    let paused = wait_until_stopped(&root, &id).await;
    assert_eq!(
        paused["tenants"],
        json!({ "total": 4, "pending": 3, "running": 0, "done": 1, "failed": 0, "skipped": 0, "pruned": 0 })
    );
    assert_problem(&root.post(MIGRATIONS, &json!({})).await, 409, "migration_open");

    let rename = format!("ALTER TABLE {}.notes RENAME TO lost", fixture.schema(3));
    fixture.sql().await.batch_execute(&rename).await.unwrap();
    assert_eq!(post_verb(&root, &id, "resume").await.status, 202);
    let failed = wait_until_stopped(&root, &id).await;
    assert_eq!(
        (&failed["state"], &failed["tenants"]["failed"]),
        (&json!("failed"), &json!(1)),
        "{failed}"
    );
    for verb in ["pause", "resume", "cancel"] {
        assert_problem(&post_verb(&root, &id, verb).await, 409, "illegal_move");
    }
    let repair = format!("ALTER TABLE {}.lost RENAME TO notes", fixture.schema(3));
    fixture.sql().await.batch_execute(&repair).await.unwrap();
    assert_eq!(post_verb(&root, &id, "retry").await.status, 202);
    assert_eq!(wait_until_stopped(&root, &id).await["state"], "done");
    assert_problem(&post_verb(&root, &id, "retry").await, 409, "illegal_move");
    assert_eq!(fixture.runs().await, [1; 4]);

    fixture.write(SECOND_OF_TWO);
    let app = serve(&fixture).await;
    let root = app.root();
    let body = json!({ "canary": { "count": 1, "then": "pause" } });
    let id = start(&root, &body).await;
    let paused = wait_until_stopped(&root, &id).await;
    assert_eq!(
        (&paused["pause_reason"], &paused["tenants"]["done"]),
        (&json!("canary"), &json!(1))
    );
    let cancelled = post_verb(&root, &id, "cancel").await;
    assert_eq!((cancelled.status, &cancelled.body["tenants"]["skipped"]), (200, &json!(3)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_is_taken_back_while_its_tenants_are_still_being_finished() {
    let fixture = Fixture::with(4).await;
    fixture.write(WAITS_FOR_LOCK);
    let lock = MigrationLock::hold(&fixture).await;
    let app = serve(&fixture).await;
    let root = app.root();
    let id = start(&root, &json!({ "workers": 1 })).await;
    lock.wait_until_waiting().await;
    // Once before the runner has seen the pause, once after it.
    for is_seen in [false, true] {
        assert_eq!(post_verb(&root, &id, "pause").await.status, 200);
        if is_seen {
            super::transitions::wait_for_two_heartbeats(&app.sql().await).await;
        }
        let resumed = post_verb(&root, &id, "resume").await;
        assert_eq!(
            (resumed.status, &resumed.body["state"]),
            (202, &json!("running")),
            "{resumed:?}"
        );
    }
    lock.release().await;
    let done = wait_until_stopped(&root, &id).await;
    assert_eq!((&done["state"], &done["tenants"]["done"]), (&json!("done"), &json!(4)), "{done}");
    assert_eq!(fixture.runs().await, [1; 4]);
    let events = root.get("/control/v1/audit-events?action=migration.resume").await.body;
    assert_eq!(events["data"].as_array().unwrap().len(), 2, "{events}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_tenants_are_retried_by_name_and_found_by_a_part_of_their_slug() {
    let fixture = Fixture::with(3).await;
    fixture.write(SECOND);
    let app = serve(&fixture).await;
    let root = app.root();
    let (sql, lost) = (fixture.sql().await, [fixture.schema(1), fixture.schema(2)]);
    for schema in &lost {
        sql.batch_execute(&format!("ALTER TABLE {schema}.notes RENAME TO lost")).await.unwrap();
    }
    let id = start(&root, &json!({})).await;
    let failed = wait_until_stopped(&root, &id).await;
    assert_eq!(failed["tenants"]["failed"], 2, "{failed}");
    for schema in &lost {
        sql.batch_execute(&format!("ALTER TABLE {schema}.lost RENAME TO notes")).await.unwrap();
    }
    let path = format!("{MIGRATIONS}/{id}");
    let failures = root.get(&format!("{path}/tenants?state=failed")).await.body;
    let slug = failures["data"][0]["slug"].as_str().unwrap().to_owned();
    let found = root.get(&format!("{path}/tenants?q={}", slug.to_uppercase())).await.body;
    assert_eq!(found["data"][0]["slug"], json!(slug), "{found}");
    let none = root.get(&format!("{path}/tenants?q=no-such-slug")).await.body;
    assert_eq!(none["data"], json!([]));

    let sql_time =
        "UPDATE operation_tenants SET ended_at = started_at + interval '1 hour' * length(slug)
                     WHERE slug IN ('t1', 't2')";
    sql.execute(sql_time, &[]).await.unwrap();
    let (mut slowest, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = root.get(&format!("{path}/tenants?order=-took&limit=1{cursor}")).await.body;
        slowest.push(page["data"][0]["slug"].as_str().unwrap().to_owned());
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    slowest[..2].sort();
    assert_eq!(slowest, ["t1", "t2", "t0"], "each once, the slowest first");
    let wrong = root.get(&format!("{path}/tenants?order=took")).await;
    assert_eq!(pointers(&wrong), ["?order: not_one_of"]);

    let done = root.get(&format!("{path}/tenants?state=done")).await.body["data"][0].clone();
    let retry = format!("{path}/retry");
    let not_failed = root.post(&retry, &json!({ "tenants": [slug, done["slug"]] })).await;
    assert_eq!(pointers(&not_failed), ["/tenants/1: unknown_tenant"]);
    assert_eq!(
        pointers(&root.post(&retry, &json!({ "tenant": "x" })).await),
        ["/tenant: unknown_field"]
    );
    let one = root.post(&retry, &json!({ "tenants": [slug] })).await;
    assert_eq!(one.status, 202, "{one:?}");
    let after = wait_until_stopped(&root, &id).await;
    assert_eq!(
        (&after["tenants"]["failed"], &after["state"]),
        (&json!(1), &json!("failed")),
        "{after}"
    );
    assert_eq!(post_verb(&root, &id, "retry").await.status, 202);
    assert_eq!(wait_until_stopped(&root, &id).await["state"], "done");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_that_has_not_changed_is_not_sent_again() {
    let fixture = Fixture::with(2).await;
    fixture.write(SECOND);
    let app = serve(&fixture).await;
    let root = app.root();
    let id = start(&root, &json!({})).await;
    let done = wait_until_stopped(&root, &id).await;
    assert_eq!((&done["done_per_second"], &done["eta_seconds"]), (&Value::Null, &Value::Null));
    let path = format!("{MIGRATIONS}/{id}");
    let first = root.get(&path).await;
    let tag = first.header("etag").unwrap().to_owned();
    let ask = |known: String| {
        let request = root.request(reqwest::Method::GET, &path).header("if-none-match", known);
        async move { request.send().await.unwrap() }
    };
    for known in [tag.clone(), format!("\"other\", W/{tag}"), "*".to_owned()] {
        let answer = ask(known.clone()).await;
        assert_eq!(answer.status(), 304, "{known}");
        assert_eq!(answer.headers()["etag"], tag.as_str());
        assert_eq!(answer.text().await.unwrap(), "");
    }
    assert_eq!(ask("\"other\"".to_owned()).await.status(), 200);
}

const SECOND_OF_TWO: (&str, &str) = ("V3__add_mood.sql", SECOND.1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopping_server_releases_its_run_and_another_server_resumes_it() {
    let fixture = Fixture::with(3).await;
    fixture.write(WAITS_FOR_LOCK);
    let lock = MigrationLock::hold(&fixture).await;
    let app = serve(&fixture).await;
    let id = start(&app.root(), &json!({ "workers": 1 })).await;
    lock.wait_until_waiting().await;
    let (_, ()) = tokio::join!(app.stop(), async {
        let sql = fixture.sql().await;
        // The run is released only after the stop signal; the listener is already closed then.
        wait_for(&sql, "SELECT count(*) = 1 FROM operations WHERE state = 'running'").await;
        lock.release().await;
    });
    let other = serve(&fixture).await;
    let released = wait_until_stopped(&other.root(), &id).await;
    if released["state"] == "running" {
        assert_eq!(post_verb(&other.root(), &id, "resume").await.status, 202);
        assert_eq!(wait_until_stopped(&other.root(), &id).await["state"], "done");
    }
    assert_eq!(fixture.runs().await, [1; 3]);
}

#[tokio::test]
async fn an_invalid_body_field_or_parameter_is_refused_by_name() {
    let fixture = Fixture::with(1).await;
    let app = serve(&fixture).await;
    let root = app.root();
    for (body, expected) in [
        (json!({ "worker": 1 }), "/worker: unknown_field"),
        (json!({ "workers": 0 }), "/workers: out_of_range"),
        (json!({ "workers": "4" }), "/workers: wrong_type"),
        (json!({ "max_failures": 1.5 }), "/max_failures: out_of_range"),
        (json!({ "dry_run": 1 }), "/dry_run: wrong_type"),
        (json!({ "tenants": [] }), "/tenants: required"),
        (json!({ "tenants": ["t0", 7] }), "/tenants/1: wrong_type"),
        (json!({ "tenants": ["unknown"] }), "/tenants/0: unknown_tenant"),
        (json!({ "canary": {} }), "/canary/count: required"),
        (json!({ "canary": { "count": 1, "then": "stop" } }), "/canary/then: not_one_of"),
        (json!({ "canary": { "tenants": ["unknown"] } }), "/canary/tenants/0: unknown_tenant"),
    ] {
        let answer = root.post(MIGRATIONS, &body).await;
        assert_problem(&answer, 400, "invalid");
        assert_eq!(pointers(&answer), [expected], "{body}");
    }
    for path in [MIGRATIONS.to_owned(), format!("{MIGRATIONS}/{}/tenants", uuid::Uuid::nil())] {
        for (query, expected) in [
            ("state=asleep", "?state: not_one_of"),
            ("limit=0", "?limit: out_of_range"),
            ("cursor=x", "?cursor: cursor"),
            ("page=2", "?page: unknown_field"),
        ] {
            let answer = root.get(&format!("{path}?{query}")).await;
            assert_problem(&answer, 400, "invalid");
            assert_eq!(pointers(&answer), [expected], "{path}?{query}");
        }
    }
    for id in ["no-id", "00000000-0000-0000-0000-000000000000"] {
        for verb in ["pause", "resume", "cancel", "retry"] {
            assert_problem(&post_verb(&root, id, verb).await, 404, "operation_not_found");
        }
        assert_problem(&root.get(&format!("{MIGRATIONS}/{id}")).await, 404, "operation_not_found");
    }
    assert_problem(
        &root.post(&format!("{MIGRATIONS}/x/pause"), &json!({ "why": 1 })).await,
        400,
        "invalid",
    );
}

#[tokio::test]
async fn callers_without_migrate_fleet_neither_read_nor_change_migrations() {
    let fixture = Fixture::with(2).await;
    fixture.write(SECOND);
    let app = serve(&fixture).await;
    // A migration that an unauthorized caller could otherwise read.
    let command = MigrationRequest {
        canary: Some(Canary { count: 1, tenants: Vec::new(), then: Then::Pause }),
        ..MigrationRequest::default()
    };
    let id = app.services.fleet.start(&app.operator(), &command).await.unwrap().id;
    let weak = token_with(&app, &["VIEW_TENANTS", "UPDATE_TENANT", "DELETE_TENANT"], None).await;
    let bound = token_with(&app, &["MIGRATE_FLEET"], Some(fixture.tenants[0])).await;
    seal(&app).await;
    let before = Snapshot::of(&app).await;
    let mut calls = vec![("GET", MIGRATIONS.to_owned()), ("POST", MIGRATIONS.to_owned())];
    calls.extend(["", "/tenants"].map(|tail| ("GET", format!("{MIGRATIONS}/{id}{tail}"))));
    calls.extend(
        ["pause", "resume", "cancel", "retry"]
            .map(|verb| ("POST", format!("{MIGRATIONS}/{id}/{verb}"))),
    );
    calls.push(("POST", "/control/v1/rehearsals".to_owned()));
    for (method, path) in calls {
        for (caller, status, code) in [
            (app.anonymous(), 401, "unauthenticated"),
            (app.bearer("garbage"), 401, "unauthenticated"),
            (app.bearer(weak.token()), 403, "forbidden"),
            (app.bearer(bound.token()), 403, "forbidden"),
        ] {
            let answer = match method {
                "GET" => caller.get(&path).await,
                _ => caller.post(&path, &json!({})).await,
            };
            assert_problem(&answer, status, code);
        }
    }
    assert_eq!(Snapshot::of(&app).await, before);
}
