//! Imports of archives that the server keeps.

use reqwest::Method;
use rowhouse::domain::Permission;
use serde_json::{Value, json};
use uuid::Uuid;

use super::fixture::{run, state, value};
use super::store::{ended, exported, files, with_store};
use crate::support::callers::send;
use crate::support::control::assert_problem;

const IMPORTS: &str = "/control/v1/imports";

#[tokio::test]
async fn a_stored_archive_is_tried_and_imported_and_both_are_reported() {
    let files = files();
    let app = with_store(&files, &[]).spawn().await;
    app.set_up("acme").await;
    let (root, sql) = (app.root(), app.sql().await);
    let (_, archive) = exported(&root).await;
    let body = json!({ "archive": archive["id"], "slug": "copy" });
    let with = |more: Value| {
        let mut body = body.clone();
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let before = state(&sql).await;
    let begun = root.post(IMPORTS, &with(json!({ "dry_run": true }))).await;
    assert_eq!((begun.status, &begun.body["state"]), (202, &json!("running")), "{begun:?}");
    let tried = ended(&root, begun.header("location").unwrap()).await;
    assert_eq!(
        (&tried["state"], &tried["report"]["id"]),
        (&json!("done"), &Value::Null),
        "{tried}"
    );
    assert_eq!((&tried["report"]["rows"], &tried["report"]["tables"]), (&json!(1), &json!(1)));
    assert_eq!(state(&sql).await, before);
    let keyed = || {
        let request = root.request(Method::POST, IMPORTS).header("idempotency-key", "k");
        send(request.json(&with(json!({ "status": "suspended", "members": "none" }))))
    };
    let first = keyed().await;
    let made = ended(&root, first.header("location").unwrap()).await;
    assert_eq!((&made["state"], &made["error"]), (&json!("done"), &Value::Null), "{made}");
    assert_eq!(made["report"]["manifest_sha256"], archive["manifest_sha256"]);
    let tenant = root.get("/control/v1/tenants/copy").await.body;
    assert_eq!((&tenant["id"], &tenant["status"]), (&made["report"]["id"], &json!("suspended")));
    let again = keyed().await;
    assert_eq!((again.header("idempotent-replayed"), &again.body), (Some("true"), &made));
    let other = root.request(Method::POST, IMPORTS).header("idempotency-key", "k").json(&body);
    assert_problem(&send(other).await, 422, "idempotency_key_reused");
    let taken = root.post(IMPORTS, &body).await;
    let taken = ended(&root, taken.header("location").unwrap()).await;
    assert_eq!(
        (&taken["state"], &taken["error"]["code"]),
        (&json!("failed"), &json!("slug_taken"))
    );
    // All three are listed, newest first.
    let ids = async |query: &str| {
        let list = root.get(&format!("{IMPORTS}{query}")).await;
        assert_eq!(list.status, 200, "{list:?}");
        let rows = list.body["data"].as_array().expect("a list").clone();
        let ids: Vec<Value> = rows.iter().map(|row| row["id"].clone()).collect();
        (ids, list.body["next_cursor"].as_str().map(str::to_owned))
    };
    let [newest, middle, oldest] = [&taken["id"], &made["id"], &tried["id"]].map(Clone::clone);
    let all = vec![newest.clone(), middle.clone(), oldest.clone()];
    assert_eq!(ids("").await, (all.clone(), None));
    let (page, cursor) = ids("?limit=2").await;
    let rest = ids(&format!("?limit=2&cursor={}", cursor.expect("there are more"))).await;
    assert_eq!(([page, rest.0].concat(), rest.1), (all.clone(), None));
    assert_eq!(ids("?state=failed").await.0, [newest]);
    assert_eq!(ids("?state=done&slug=copy").await.0, [middle, oldest]);
    let of = archive["id"].as_str().unwrap();
    assert_eq!(ids(&format!("?archive={of}")).await.0, all);
    for none in [format!("?archive={}", Uuid::nil()), "?slug=other".to_owned()] {
        assert_eq!(ids(&none).await.0, [Value::Null; 0]);
    }
    for wrong in ["?state=ready", "?archive=1", "?slug=A", "?tenant=copy"] {
        assert_problem(&root.get(&format!("{IMPORTS}{wrong}")).await, 400, "invalid");
    }
    // What cannot be an import is refused at once.
    let unknown = root.post(IMPORTS, &with(json!({ "archive": Uuid::nil() }))).await;
    assert_problem(&unknown, 404, "archive_not_found");
    let wrong = json!({ "archive": "x", "slug": "A b", "id": "old", "trust": [], "onto": "acme" });
    let wrong = root.post(IMPORTS, &wrong).await;
    assert_problem(&wrong, 400, "invalid");
    let fields = wrong.body["errors"].as_array().unwrap().iter();
    let fields: Vec<_> = fields.map(|field| field["pointer"].as_str().unwrap()).collect();
    assert_eq!(fields, ["/archive", "/slug", "/id", "/trust", "/onto"], "{wrong:?}");
    assert_problem(&root.get(&format!("{IMPORTS}/{}", Uuid::nil())).await, 404, "import_not_found");
    let admin = app.log_in("admin@acme.example.com").await;
    assert_problem(&admin.post(IMPORTS, &body).await, 403, "forbidden");
    assert_problem(&admin.get(first.header("location").unwrap()).await, 403, "forbidden");
    let imports = "SELECT count(*)::text FROM audit_events WHERE action = 'tenant.import'";
    assert_eq!(value(&sql, imports).await, "1");
}

#[tokio::test]
async fn an_import_that_is_cancelled_or_whose_server_stops_leaves_nothing() {
    let files = files();
    let app = with_store(&files, &[("database.lock_timeout", "30s")]).spawn().await;
    app.set_up("acme").await;
    let (root, mut sql) = (app.root(), app.sql().await);
    let (_, archive) = exported(&root).await;
    let before = state(&sql).await;
    // The row of the tenant is the last step.
    let lock = sql.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE tenants IN SHARE MODE").await.unwrap();
    let waits = async || {
        let waiting = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'tenants'::regclass)";
        while !lock.query_one(waiting, &[]).await.unwrap().get::<_, bool>(0) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let body = json!({ "archive": archive["id"], "slug": "copy" });
    let begun = root.post(IMPORTS, &body).await;
    let path = begun.header("location").unwrap().to_owned();
    waits().await;
    let cancelled = root.post(&format!("{path}/cancel"), &json!({})).await;
    assert_eq!((cancelled.status, &cancelled.body["state"]), (200, &json!("cancelled")));
    // Its transaction ends, and another one gets as far.
    let nothing = "SELECT NOT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'tenants'::regclass)";
    while !lock.query_one(nothing, &[]).await.unwrap().get::<_, bool>(0) {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let again = root.post(IMPORTS, &body).await;
    assert_eq!(again.status, 202, "{again:?}");
    waits().await;
    let database = app.stop().await;
    lock.rollback().await.unwrap();
    let sql = database.connect().await;
    let states = "SELECT string_agg(state || coalesce(' ' || error_code, ''), ', ' ORDER BY created_at) FROM imports";
    assert_eq!(value(&sql, states).await, "cancelled, failed server_stopped");
    while state(&sql).await != before {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn an_archive_without_members_becomes_a_tenant_with_another_name_and_external_id() {
    let files = files();
    let app = with_store(&files, &[]).spawn().await;
    app.set_up("acme").await;
    let (root, sql) = (app.root(), app.sql().await);
    let path = "/control/v1/tenants/acme/archives";
    let begun = root.post(path, &json!({ "members": false })).await;
    let archive = ended(&root, begun.header("location").expect("it began")).await;
    assert_eq!(archive["state"], "ready", "{archive}");
    assert_eq!(archive["warnings"], json!(["the members of the tenant are not in the archive"]));
    for wrong in [json!({ "members": "no" }), json!({ "recipients": [] })] {
        assert_problem(&root.post(path, &wrong).await, 400, "invalid");
    }
    let body = |slug: &str, external_id: &str| json!({ "archive": archive["id"], "slug": slug, "name": "Copy", "external_id": external_id });
    let begun = root.post(IMPORTS, &body("copy", "crm-7")).await;
    let made = ended(&root, begun.header("location").expect("it began")).await;
    assert_eq!(
        (&made["state"], &made["report"]["members"], &made["report"]["skipped"]),
        (&json!("done"), &json!(0), &json!([])),
        "{made}"
    );
    let tenant = root.get("/control/v1/tenants/copy").await.body;
    assert_eq!((&tenant["name"], &tenant["external_id"]), (&json!("Copy"), &json!("crm-7")));
    let before = state(&sql).await;
    let begun = root.post(IMPORTS, &body("other", "crm-7")).await;
    let taken = ended(&root, begun.header("location").expect("it began")).await;
    assert_eq!(taken["error"]["code"], "external_id_taken", "{taken}");
    for wrong in [json!({ "name": " " }), json!({ "external_id": "" }), json!({ "name": 1 })] {
        let mut body = body("other", "crm-8");
        body.as_object_mut()
            .expect("an object")
            .extend(wrong.as_object().cloned().unwrap_or_default());
        assert_problem(&root.post(IMPORTS, &body).await, 400, "invalid");
    }
    assert_eq!(state(&sql).await, before);
}

#[tokio::test]
async fn an_archive_takes_the_place_of_what_a_tenant_has_for_callers_who_may_change_it() {
    let files = files();
    let app = with_store(&files, &[]).spawn().await;
    let acme = app.set_up("acme").await;
    let (root, sql) = (app.root(), app.sql().await);
    let (_, archive) = exported(&root).await;
    run(&sql, &format!("UPDATE {}.notes SET body = 'spoiled'", acme.schema())).await;
    let body = |more: Value| {
        let mut body = json!({ "archive": archive["id"], "into": "acme" });
        body.as_object_mut()
            .expect("an object")
            .extend(more.as_object().cloned().unwrap_or_default());
        body
    };
    let before = state(&sql).await;
    for wrong in [
        json!({ "slug": "copy" }),
        json!({ "members": "none" }),
        json!({ "status": "active" }),
        json!({ "id": "new" }),
        json!({ "name": "Acme" }),
        json!({ "into": 1 }),
    ] {
        assert_problem(&root.post(IMPORTS, &body(wrong)).await, 400, "invalid");
    }
    let unknown = root.post(IMPORTS, &body(json!({ "into": "none" }))).await;
    assert_problem(&unknown, 404, "tenant_not_found");
    let run_to_end = async |more: Value| {
        let begun = root.post(IMPORTS, &body(more)).await;
        assert_eq!((begun.status, &begun.body["slug"]), (202, &json!("acme")), "{begun:?}");
        ended(&root, begun.header("location").expect("it has a place")).await
    };
    let tried = run_to_end(json!({ "dry_run": true })).await;
    assert_eq!(
        (&tried["state"], &tried["report"]["id"]),
        (&json!("done"), &Value::Null),
        "{tried}"
    );
    assert_eq!(state(&sql).await, before);
    let done = run_to_end(json!({})).await;
    assert_eq!(
        (&done["state"], &done["report"]["id"]),
        (&json!("done"), &json!(acme.id)),
        "{done}"
    );
    let kept = done["report"]["kept"].clone();
    let beside = root.get(&format!("/control/v1/tenants/{}", kept["id"].as_str().unwrap())).await;
    for field in ["id", "slug", "status"] {
        assert_eq!(beside.body[field], kept[field], "{field}");
    }
    let notes = format!("SELECT string_agg(body, ',') FROM {}.notes", acme.schema());
    assert_eq!(value(&sql, &notes).await, "a seed");
    // Where the swap fails, the tenant is as it was, and the import says why.
    run(&sql, "UPDATE tenants SET closed_until = now() + interval '1 hour' WHERE slug = 'acme'")
        .await;
    let busy = run_to_end(json!({})).await;
    assert_eq!((&busy["state"], &busy["error"]["code"]), (&json!("failed"), &json!("swap_busy")));
    let (_, importer) = app.add_token(&[Permission::ImportTenant], None, None).await;
    let refused = importer.post(IMPORTS, &body(json!({}))).await;
    assert_problem(&refused, 403, "forbidden");
    assert_eq!(refused.body["missing"], json!(["UPDATE_TENANT"]));
}
