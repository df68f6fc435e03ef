//! What operators read and do over HTTP beside tenants: the summary, the server, vacancies, capacity, the migration set,
//! examinations.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::control::{assert_problem, pointers, token_with, transition};
use crate::support::{Caller, TestApp};

const EXAMINATIONS: &str = "/control/v1/examinations";

async fn with_vacancies(count: usize) -> TestApp {
    TestApp::builder().with("tenants.vacancies", count.to_string()).spawn().await
}

/// Waits until an examination is no longer running.
async fn ended(caller: &Caller, id: &Value) -> Value {
    for _ in 0..6000 {
        let answer = caller.get(&format!("{EXAMINATIONS}/{}", id.as_str().expect("an id"))).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        if answer.body["state"] != "running" {
            return answer.body;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the examination does not end")
}

#[tokio::test]
async fn an_admin_of_the_platform_watches_and_one_of_a_tenant_does_not() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    app.add_user("ada@example.com", Some("ADMIN")).await;
    let admin = app.log_in("ada@example.com").await;
    let of_tenant = app.log_in(&acme.admin_email).await;
    for path in [
        "/control/v1/summary",
        "/control/v1/server",
        "/control/v1/capacity",
        "/control/v1/measurements",
        "/control/v1/vacancies",
        "/control/v1/migrations",
        "/control/v1/migration-set",
        EXAMINATIONS,
    ] {
        let answer = admin.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        assert_problem(&of_tenant.get(path).await, 403, "forbidden");
        let unexpected = admin.get(&format!("{path}?nonsense=1")).await;
        assert_eq!(pointers(&unexpected), ["?nonsense: unknown_field"], "{path}");
    }
    let plan = admin.post("/control/v1/migrations", &json!({ "dry_run": true })).await;
    assert_eq!(plan.status, 200, "{plan:?}");
    for path in ["/control/v1/migrations", EXAMINATIONS] {
        assert_problem(&admin.post(path, &json!({})).await, 403, "forbidden");
    }
}

#[tokio::test]
async fn the_summary_counts_what_there_is() {
    let app = with_vacancies(2).await;
    let root = app.root();
    let before = root.get("/control/v1/summary").await.body["tenants"].clone();
    app.set_up("acme").await;
    app.set_up("globex").await;
    assert_eq!(transition(&root, "globex", "suspend").await.status, 200);
    let summary = root.get("/control/v1/summary").await.body;
    let more =
        |field: &str| summary["tenants"][field].as_i64().unwrap() - before[field].as_i64().unwrap();
    let counts = ["total", "active", "suspended", "deleting", "created_last_day"].map(more);
    assert_eq!(counts, [2, 1, 1, 0, 2], "{summary}");
    assert_eq!(summary["tenants"]["behind"], 0);
    assert_eq!(summary["vacancies"]["wanted"], 2);
    assert_eq!(
        (&summary["open_migration"], &summary["last_examination"]),
        (&json!(null), &json!(null))
    );
    let sql = app.sql().await;
    sql.execute("UPDATE tenants SET migrations_fingerprint = 'other' WHERE slug = 'acme'", &[])
        .await
        .unwrap();
    let summary = root.get("/control/v1/summary").await.body;
    assert_eq!(summary["tenants"]["behind"], 1);
}

#[tokio::test]
async fn vacancies_are_filled_and_dropped() {
    let app = with_vacancies(3).await;
    let root = app.root();
    let dropped = root.post("/control/v1/vacancies/drop", &json!({})).await;
    assert_eq!(dropped.status, 200, "{dropped:?}");
    let filled = root.post("/control/v1/vacancies/fill", &json!({})).await;
    assert_eq!(filled.status, 200, "{filled:?}");
    let stock = root.get("/control/v1/vacancies").await.body;
    assert_eq!((&stock["wanted"], &stock["ready"]), (&json!(3), &json!(3)), "{stock}");
    let again = root.post("/control/v1/vacancies/fill", &json!({})).await;
    assert_eq!(again.body, json!({ "built": 0, "migrated": 0, "dropped": 0 }));
}

#[tokio::test]
async fn the_capacity_names_each_resource_with_its_limit() {
    let app = TestApp::spawn().await;
    let capacity = app.root().get("/control/v1/capacity").await.body;
    let resources = capacity["resources"].as_array().unwrap();
    for name in ["connections", "locks", "relations", "catalogs", "dead_rows", "memory"] {
        let one = resources.iter().find(|one| one["name"] == name).expect(name);
        assert!(one["limit"].as_i64().unwrap() > 0, "{one}");
        assert!(one["used"].as_i64().unwrap() >= 0, "{one}");
    }
}

#[tokio::test]
async fn the_migration_set_has_each_file_with_its_text_and_what_lint_says() {
    let folder = tempfile::tempdir().unwrap();
    let first = "CREATE TABLE notes (id uuid NOT NULL CONSTRAINT notes_pkey PRIMARY KEY);";
    let second = "CREATE INDEX notes_id_idx ON notes (id);";
    std::fs::write(folder.path().join("V1__create_notes.sql"), first).unwrap();
    std::fs::write(folder.path().join("V2__index_notes.sql"), second).unwrap();
    let app = TestApp::builder()
        .with("tenant_migrations", folder.path().display().to_string())
        .spawn()
        .await;
    let set = app.root().get("/control/v1/migration-set").await.body;
    assert_eq!(set["version"], 2);
    let files = set["files"].as_array().unwrap();
    assert_eq!(files[0]["name"], "V1__create_notes.sql");
    assert_eq!((&files[0]["text"], &files[0]["version"]), (&json!(first), &json!(1)));
    assert_eq!(files[0]["findings"], json!([]));
    assert_eq!(files[1]["findings"][0]["rule"], "create-index-blocking", "{set}");
    assert_eq!(files[1]["findings"][0]["line"], 1);
}

#[tokio::test]
async fn the_server_says_what_it_is() {
    let app = TestApp::spawn().await;
    let server = app.root().get("/control/v1/server").await.body;
    assert_eq!(server["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(server["pid"], std::process::id());
    assert_eq!(server["isolation"], "role");
    assert!(server["postgresql_version"].as_str().unwrap().contains('.'), "{server}");
}

#[tokio::test]
async fn the_settings_of_the_server_are_listed_without_secrets_for_those_who_may_see_them() {
    let app = TestApp::builder().with("fleet.workers", "3").spawn().await;
    app.add_user("ada@example.com", Some("ADMIN")).await;
    app.add_user("sue@example.com", Some("SUPER_ADMIN")).await;
    let path = "/control/v1/settings";
    let settings = app.log_in("sue@example.com").await.get(path).await;
    let rows = settings.body["data"].as_array().unwrap();
    let of =
        |key: &str| rows.iter().find(|row| row["key"] == key).unwrap_or_else(|| panic!("no {key}"));
    assert_eq!(of("fleet.workers")["value"], "3");
    assert_ne!(of("fleet.workers")["default"], "3");
    for key in ["root_token", "database.url"] {
        assert_eq!((&of(key)["value"], &of(key)["hidden"]), (&json!(null), &json!(true)), "{key}");
    }
    let text = settings.body.to_string();
    assert!(!text.contains(&app.root_token) && !text.contains(&app.database.url()), "{text}");
    assert_problem(&app.log_in("ada@example.com").await.get(path).await, 403, "forbidden");
    let unexpected = app.root().get(&format!("{path}?nonsense=1")).await;
    assert_eq!(pointers(&unexpected), ["?nonsense: unknown_field"]);
}

#[tokio::test]
async fn the_measurements_are_those_of_the_server_that_answers() {
    let app = TestApp::spawn().await;
    let root = app.root();
    let measured = root.get("/control/v1/measurements").await.body;
    assert_eq!(
        (&measured["pid"], &measured["interval_seconds"]),
        (&json!(std::process::id()), &json!(10))
    );
    let names: Vec<_> =
        measured["series"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(
        names,
        [
            "requests_succeeded",
            "requests_refused",
            "requests_failed",
            "duration_p50",
            "duration_p95",
            "setups_with_vacancy",
            "setups_without_vacancy",
            "connections_in_use",
            "connection_waits",
            "hashes_waiting",
            "limited",
            "tenants_migrated",
        ]
    );
    // The jobs of the server take a second measurement about ten seconds after the first.
    let measured = loop {
        assert_eq!(root.get("/nowhere").await.status, 404);
        let answer = root.get("/control/v1/measurements").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        if answer.body["times"] != json!([]) {
            break answer.body;
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    };
    assert!(measured["connections_max"].as_i64().unwrap() > 0, "{measured}");
    let last = |name: &str| {
        let series = measured["series"].as_array().unwrap().iter().find(|one| one["name"] == name);
        series.unwrap()["values"].as_array().unwrap().last().unwrap().as_f64().unwrap()
    };
    for name in ["requests_succeeded", "requests_refused", "duration_p50", "duration_p95"] {
        assert!(last(name) > 0.0, "{name} in {measured}");
    }
    assert!(last("duration_p50") <= last("duration_p95"), "{measured}");
    for name in ["requests_failed", "limited", "tenants_migrated", "setups_with_vacancy"] {
        assert!(last(name).abs() < f64::EPSILON, "{name} in {measured}");
    }
}

#[tokio::test]
async fn an_examination_runs_in_the_background_and_keeps_what_it_found() {
    let app = TestApp::spawn().await;
    let root = app.root();
    let acme = app.set_up("acme").await;
    let sql = app.sql().await;
    let schema = format!("tenant_{}", acme.id.simple());
    sql.batch_execute(&format!("REVOKE SELECT ON {schema}.profiles FROM {schema}")).await.unwrap();

    let started = root.post(EXAMINATIONS, &json!({})).await;
    assert_eq!((started.status, &started.body["state"]), (202, &json!("running")), "{started:?}");
    let id = started.body["id"].clone();
    let path = format!("{EXAMINATIONS}/{}", id.as_str().unwrap());
    assert_eq!(started.header("location"), Some(path.as_str()));
    let done = ended(&root, &id).await;
    assert_eq!(done["state"], "done", "{done}");
    assert!(done["counts"]["wrong"].as_i64().unwrap() >= 1, "{done}");
    let rights = root.get(&format!("{path}/findings?area=rights&gravity=wrong")).await.body;
    let finding = &rights["data"][0];
    assert_eq!(
        (&finding["slug"], &finding["tenant_id"]),
        (&json!("acme"), &json!(acme.id)),
        "{rights}"
    );
    assert_eq!((&finding["repairable"], &finding["outcome"]), (&json!(true), &json!("open")));

    let repair = json!({ "repair": true, "tenants": ["acme"] });
    let started = root.post(EXAMINATIONS, &repair).await;
    let done = ended(&root, &started.body["id"]).await;
    assert_eq!(done["counts"]["wrong"], 0, "{done}");
    assert!(done["counts"]["repaired"].as_i64().unwrap() >= 1, "{done}");
    assert_eq!(done["options"]["tenants"], json!(["acme"]));

    let list = root.get(EXAMINATIONS).await.body;
    assert_eq!(list["data"].as_array().unwrap().len(), 2, "{list}");
    assert_eq!(list["data"][0]["id"], started.body["id"]);
    // That of one tenant says nothing of the whole.
    let newest = root.get("/control/v1/summary").await.body["last_examination"].clone();
    assert_eq!(newest["id"], id);
}

#[tokio::test]
async fn findings_are_listed_page_by_page_in_their_order() {
    let app = TestApp::spawn().await;
    let root = app.root();
    let sql = app.sql().await;
    for slug in ["a-one", "b-two", "c-three"] {
        let tenant = app.set_up(slug).await;
        let schema = format!("tenant_{}", tenant.id.simple());
        sql.batch_execute(&format!("REVOKE SELECT ON {schema}.profiles FROM {schema}"))
            .await
            .unwrap();
    }
    let started =
        root.post(EXAMINATIONS, &json!({ "tenants": ["a-one", "b-two", "c-three"] })).await;
    let id = started.body["id"].clone();
    ended(&root, &id).await;
    let path = format!("{EXAMINATIONS}/{}/findings?gravity=wrong&limit=1", id.as_str().unwrap());
    let (mut slugs, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = root.get(&format!("{path}{cursor}")).await.body;
        slugs.push(page["data"][0]["slug"].as_str().unwrap().to_owned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(slugs, ["a-one", "b-two", "c-three"]);
}

#[tokio::test]
async fn one_examination_runs_at_a_time_and_one_whose_server_is_gone_has_failed() {
    let app = TestApp::spawn().await;
    let root = app.root();
    let sql = app.sql().await;
    let id = Uuid::now_v7();
    let running = "INSERT INTO examinations (id, state, actor, options, lease_until, created_at)
                   VALUES ($1, 'running', 'root', '{}', now() + interval '1 hour', now())";
    sql.execute(running, &[&id]).await.unwrap();
    assert_problem(&root.post(EXAMINATIONS, &json!({})).await, 409, "examination_running");
    sql.execute("UPDATE examinations SET lease_until = now()", &[]).await.unwrap();
    let gone = root.get(&format!("{EXAMINATIONS}/{id}")).await.body;
    assert_eq!(
        (&gone["state"], &gone["error"]),
        (&json!("failed"), &json!("the server that ran it is gone"))
    );
    let started = root.post(EXAMINATIONS, &json!({})).await;
    assert_eq!(started.status, 202, "{started:?}");
    assert_eq!(ended(&root, &started.body["id"]).await["state"], "done");
}

#[tokio::test]
async fn a_server_that_stops_fails_the_examination_that_it_runs() {
    let app = TestApp::spawn().await;
    let root = app.root();
    let tenant = app.set_up("acme").await;
    // The examination waits for the lock of the schema that differs.
    let mut sql = app.sql().await;
    let schema = format!("tenant_{}", tenant.id.simple());
    sql.batch_execute(&format!("REVOKE SELECT ON {schema}.profiles FROM {schema}")).await.unwrap();
    let lock = sql.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE tenants IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let started = root.post(EXAMINATIONS, &json!({})).await;
    let id = started.body["id"].as_str().map(|id| id.parse::<Uuid>().unwrap());
    let database = app.stop().await;
    lock.rollback().await.unwrap();
    let Some(id) = id else { panic!("{started:?}") };
    let row = database
        .connect()
        .await
        .query_one("SELECT state, error FROM examinations WHERE id = $1", &[&id])
        .await
        .unwrap();
    assert_eq!(row.get::<_, &str>("state"), "failed");
    assert_eq!(row.get::<_, &str>("error"), "the server that ran it was stopped");
}

#[tokio::test]
async fn a_bad_request_for_an_examination_names_each_field() {
    let app = TestApp::spawn().await;
    let root = app.root();
    for (body, problems) in [
        (json!({ "tenants": [] }), vec!["/tenants: required"]),
        (json!({ "tenants": ["unknown"] }), vec!["/tenants/0: unknown_tenant"]),
        (json!({ "repair": "yes" }), vec!["/repair: wrong_type"]),
        (json!({ "drop_orphans": ["x"], "repair": true }), vec!["/drop_orphans/0: uuid_format"]),
        (json!({ "drop_orphans": [Uuid::nil()] }), vec!["/repair: required"]),
        (json!({ "fix": true }), vec!["/fix: unknown_field"]),
    ] {
        let refused = root.post(EXAMINATIONS, &body).await;
        assert_eq!(
            (refused.status, pointers(&refused)),
            (400, problems.into_iter().map(str::to_owned).collect()),
            "{body}"
        );
    }
    let migrator = token_with(&app, &["MIGRATE_FLEET"], None).await;
    let drop = json!({ "repair": true, "drop_orphans": [Uuid::new_v4()] });
    assert_problem(&migrator.post(EXAMINATIONS, &drop).await, 403, "forbidden");
    let unknown = format!("{EXAMINATIONS}/{}", Uuid::new_v4());
    for path in [unknown.clone(), format!("{unknown}/findings"), format!("{EXAMINATIONS}/x")] {
        assert_problem(&root.get(&path).await, 404, "examination_not_found");
    }
}

#[tokio::test]
async fn tenants_are_listed_in_the_order_that_is_asked_for() {
    let app = TestApp::spawn().await;
    let root = app.root();
    for slug in ["b-first", "c-second", "a-third"] {
        app.set_up(slug).await;
    }
    let slugs = async |order: &str| {
        let (mut slugs, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/control/v1/tenants?limit=1&q=-&order={order}{cursor}");
            let page = root.get(&path).await;
            assert_eq!(page.status, 200, "{page:?}");
            let rows = page.body["data"].as_array().unwrap();
            slugs.extend(rows.iter().map(|row| row["slug"].as_str().unwrap().to_owned()));
            match page.body["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return slugs,
            }
        }
    };
    assert_eq!(slugs("created_at").await, ["b-first", "c-second", "a-third"]);
    assert_eq!(slugs("-created_at").await, ["a-third", "c-second", "b-first"]);
    assert_eq!(slugs("name").await, ["a-third", "b-first", "c-second"]);
    let refused = root.get("/control/v1/tenants?order=size").await;
    assert_eq!(pointers(&refused), ["?order: not_one_of"]);
    let first = root.get("/control/v1/tenants?limit=1&q=-&order=name").await.body;
    let gone = "UPDATE tenants SET id = gen_random_uuid() WHERE slug = 'a-third'";
    let sql = app.sql().await;
    sql.batch_execute("ALTER TABLE memberships DROP CONSTRAINT memberships_tenant_id_fkey")
        .await
        .unwrap();
    sql.batch_execute(gone).await.unwrap();
    let cursor = first["next_cursor"].as_str().unwrap();
    let refused = root.get(&format!("/control/v1/tenants?order=name&cursor={cursor}")).await;
    assert_eq!(pointers(&refused), ["?cursor: cursor"]);
}

#[tokio::test]
async fn the_schema_of_a_tenant_says_what_it_holds_and_lacks() {
    let app = TestApp::spawn().await;
    let root = app.root();
    let (acme, other) = (app.set_up("acme").await, app.set_up("other").await);
    let path = "/control/v1/tenants/acme/schema";
    let schema = root.get(path).await.body;
    assert_eq!(schema["schema"], acme.schema());
    assert_eq!(
        (&schema["files_behind"], &schema["conflict"]),
        (&json!([]), &json!(null)),
        "{schema}"
    );
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = $1";
    let count: i64 = app.sql().await.query_one(tables, &[&acme.schema()]).await.unwrap().get(0);
    assert_eq!(schema["tables"], count);
    assert!(schema["bytes"].as_i64().unwrap() > 0, "{schema}");
    let admin = app.log_in(&acme.admin_email).await;
    assert_eq!(admin.get(path).await.body, schema);
    assert_problem(
        &admin.get(&format!("/control/v1/tenants/{}/schema", other.id)).await,
        404,
        "tenant_not_found",
    );
}
