//! `/control/v1/tenants`: list, read, create, update.

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::callers::send;
use crate::support::control::{assert_problem, events, pointers, put, send_if_match, token_with};
use crate::support::{Answer, Caller, PASSWORD, TestApp};

const TENANTS: &str = "/control/v1/tenants";

fn path(tenant: impl std::fmt::Display) -> String {
    format!("{TENANTS}/{tenant}")
}

async fn patch(caller: &Caller, tenant: &str, etag: &str, body: &Value) -> Answer {
    send_if_match(caller, Method::PATCH, &path(tenant), etag, Some(body)).await
}

/// Reads a list to its end. Returns the slugs of all pages and the number of pages.
async fn list_all(caller: &Caller, query: &str) -> (Vec<String>, usize) {
    let (mut slugs, mut pages, mut cursor) = (Vec::new(), 0, None::<String>);
    loop {
        let after = cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
        let answer = caller.get(&format!("{TENANTS}?{query}{after}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let rows = answer.body["data"].as_array().expect("there is data");
        slugs.extend(rows.iter().filter_map(|row| Some(row["slug"].as_str()?.to_owned())));
        pages += 1;
        match answer.body["next_cursor"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => return (slugs, pages),
        }
    }
}

#[tokio::test]
async fn a_list_is_read_page_by_page_and_filtered() {
    let app = TestApp::spawn().await;
    let root = app.root();
    for slug in ["one", "two", "three", "four", "five"] {
        app.set_up(slug).await;
    }
    let (all, pages) = list_all(&root, "limit=2").await;
    assert_eq!(all, ["one", "two", "three", "four", "five"]);
    assert_eq!(pages, 3);
    assert_eq!(list_all(&root, "limit=5").await.1, 1, "a full last page has no cursor");
    let sql = app.sql().await;
    sql.execute(
        "UPDATE tenants SET status = 'suspended', name = '100% Ægir' WHERE slug = 'two'",
        &[],
    )
    .await
    .unwrap();
    for (query, found) in [
        ("status=suspended", vec!["two"]),
        ("status=active&limit=1", vec!["one", "three", "four", "five"]),
        ("slug=four", vec!["four"]),
        ("slug=absent", vec![]),
        ("name=Tenant%20three", vec!["three"]),
        ("q=%C3%86GIR", vec!["two"]),
        ("q=0%25", vec!["two"]),
        ("q=_", vec![]),
        ("q=TENANT%20f", vec!["four", "five"]),
        ("created_after=2999-01-01T00:00:00Z", vec![]),
        ("created_before=2000-01-01T00:00:00%2B02:00", vec![]),
    ] {
        assert_eq!(list_all(&root, query).await.0, found, "{query}");
    }
    let third = root.get(&path("three")).await.body["created_at"].as_str().unwrap().to_owned();
    assert_eq!(
        list_all(&root, &format!("created_after={third}")).await.0,
        ["three", "four", "five"]
    );
    assert_eq!(list_all(&root, &format!("created_before={third}")).await.0, ["one", "two"]);
}

#[tokio::test]
async fn tenants_deleted_or_created_between_two_pages_do_not_shift_the_second_page() {
    let app = TestApp::spawn().await;
    for slug in ["one", "two", "three"] {
        app.set_up(slug).await;
    }
    let first = app.root().get(&format!("{TENANTS}?limit=2")).await;
    let cursor = first.body["next_cursor"].as_str().unwrap();
    app.sql().await.execute("DELETE FROM tenants WHERE slug = 'two'", &[]).await.unwrap();
    app.set_up("four").await;
    let second = app.root().get(&format!("{TENANTS}?limit=2&cursor={cursor}")).await;
    let slugs: Vec<_> =
        second.body["data"].as_array().unwrap().iter().map(|row| &row["slug"]).collect();
    assert_eq!(slugs, ["three", "four"]);
}

#[tokio::test]
async fn every_invalid_parameter_is_reported_by_name() {
    let app = TestApp::spawn().await;
    for (query, problems) in [
        ("colour=red", vec!["?colour: unknown_field"]),
        ("limit=0", vec!["?limit: out_of_range"]),
        ("limit=101", vec!["?limit: out_of_range"]),
        ("limit=ten", vec!["?limit: out_of_range"]),
        ("limit=", vec!["?limit: out_of_range"]),
        ("cursor=xyz", vec!["?cursor: cursor"]),
        ("status=asleep", vec!["?status: not_one_of"]),
        ("created_after=yesterday", vec!["?created_after: timestamp"]),
        ("created_before=2025-13-01T00:00:00Z", vec!["?created_before: timestamp"]),
        ("q=%00", vec!["?q: control_character"]),
        ("slug=a&slug=b", vec!["?slug: unknown_field"]),
        (
            "limit=0&x=1&cursor=!",
            vec!["?limit: out_of_range", "?cursor: cursor", "?x: unknown_field"],
        ),
    ] {
        let answer = app.root().get(&format!("{TENANTS}?{query}")).await;
        assert_problem(&answer, 400, "invalid");
        assert_eq!(pointers(&answer), problems, "{query}");
    }
}

#[tokio::test]
async fn a_list_of_ten_thousand_tenants_uses_the_index() {
    let app = TestApp::spawn().await;
    let sql = app.sql().await;
    sql.batch_execute(
        "INSERT INTO tenants (id, number, slug, name, status, cluster, migrations_version,
                              migrations_fingerprint, created_at, updated_at)
         SELECT gen_random_uuid(), n, 'bulk-' || n, 'Bulk ' || n, 'active', 'default', 1, 'x',
                timestamptz '2020-01-01' + n * interval '1 minute', now()
           FROM generate_series(10, 10009) n;
         ANALYZE tenants;",
    )
    .await
    .unwrap();
    // The statement behind the list, with its parameters filled in.
    for after in [
        "NULL::timestamptz IS NULL OR (created_at, id) > (NULL::timestamptz, NULL::uuid)",
        "false OR (created_at, id) > (timestamptz '2020-01-07', '00000000-0000-0000-0000-000000000000')",
    ] {
        let plan = sql
            .query(
                &format!(
                    "EXPLAIN SELECT id FROM tenants WHERE ({after}) AND (NULL::text IS NULL OR status = NULL)
                      ORDER BY created_at, id LIMIT 51"
                ),
                &[],
            )
            .await
            .unwrap();
        let plan: Vec<String> = plan.iter().map(|row| row.get(0)).collect();
        let plan = plan.join("\n");
        assert!(plan.contains("tenants_created_at_idx"), "{plan}");
        assert!(!plan.contains("Seq Scan") && !plan.contains("Sort"), "{plan}");
    }
    let (all, pages) = list_all(&app.root(), "limit=100").await;
    assert_eq!((all.len(), pages), (10_000, 100));
    // `benches/lists.rs` measures how long these lists take.
    for query in ["limit=100", "limit=100&created_after=2020-01-07T22:00:00Z", "q=bulk-10009"] {
        let answer = app.root().get(&format!("{TENANTS}?{query}")).await;
        assert!(!answer.body["data"].as_array().unwrap().is_empty(), "{query}");
    }
}

#[tokio::test]
async fn a_tenant_is_read_by_id_and_by_slug_with_its_revision() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let by_id = app.root().get(&path(acme.id)).await;
    assert_eq!(by_id.status, 200, "{by_id:?}");
    assert_eq!(by_id.header("etag"), Some("\"1\""));
    let mut keys: Vec<_> = by_id.body.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        [
            "created_at",
            "external_id",
            "id",
            "migrations_fingerprint",
            "migrations_version",
            "name",
            "purge_after",
            "revision",
            "settings",
            "slug",
            "status",
            "updated_at"
        ]
    );
    assert_eq!(by_id.body["settings"], json!({}));
    assert_eq!(app.root().get(&path("acme")).await.body, by_id.body);
    assert_eq!(app.root().get(&path(acme.id.simple())).await.body, by_id.body);
    for unknown in ["absent", "%00", "%zz", "-", &Uuid::new_v4().to_string()] {
        assert_eq!(app.root().get(&path(unknown)).await.status, 404, "{unknown}");
    }
}

#[tokio::test]
async fn a_caller_bound_to_one_tenant_sees_only_that_tenant() {
    let app = TestApp::spawn().await;
    let (acme, other) = (app.set_up("acme").await, app.set_up("other").await);
    let admin = app.log_in(&acme.admin_email).await;
    let bound = token_with(&app, &["VIEW_TENANTS", "UPDATE_TENANT"], Some(acme.id)).await;
    for caller in [&admin, &bound] {
        assert_eq!(list_all(caller, "limit=1").await.0, ["acme"]);
        assert_eq!(list_all(caller, "slug=other").await.0, Vec::<String>::new());
        assert_eq!(caller.get(&path("acme")).await.status, 200);
        for name in [other.id.to_string(), "other".to_owned(), Uuid::new_v4().to_string()] {
            assert_problem(&caller.get(&path(&name)).await, 404, "tenant_not_found");
        }
    }
    let foreign = patch(&bound, "other", "*", &json!({ "name": "Mine" })).await;
    assert_problem(&foreign, 404, "tenant_not_found");
    assert_eq!(patch(&bound, "acme", "*", &json!({ "name": "Mine" })).await.status, 200);
}

#[tokio::test]
async fn a_refused_caller_is_told_the_missing_permission_and_changes_nothing() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let viewer = token_with(&app, &["VIEW_TENANTS"], None).await;
    let admin = app.log_in(&acme.admin_email).await;
    let nothing = token_with(&app, &["READ_PROFILES"], None).await;
    let body = json!({ "name": "New", "slug": "new" });
    for (caller, method, path, missing) in [
        (&nothing, Method::GET, TENANTS.to_owned(), "VIEW_TENANTS"),
        (&nothing, Method::GET, path("acme"), "VIEW_TENANTS"),
        (&viewer, Method::POST, TENANTS.to_owned(), "CREATE_TENANT"),
        (&admin, Method::POST, TENANTS.to_owned(), "CREATE_TENANT"),
        (&viewer, Method::PUT, path("by-external-id/x"), "CREATE_TENANT"),
        (&viewer, Method::PATCH, path("acme"), "UPDATE_TENANT"),
        (&admin, Method::PATCH, path("acme"), "UPDATE_TENANT"),
    ] {
        let refused = send(caller.request(method.clone(), &path).json(&body)).await;
        assert_problem(&refused, 403, "forbidden");
        assert_eq!(refused.body["missing"], json!([missing]), "{method} {path}");
        let anonymous = send(app.anonymous().request(method.clone(), &path).json(&body)).await;
        assert_problem(&anonymous, 401, "unauthenticated");
        assert_eq!(anonymous.header("www-authenticate"), Some("Bearer"));
        let forger = app.bearer("rh_nonsense");
        assert_problem(
            &send(forger.request(method, &path).json(&body)).await,
            401,
            "unauthenticated",
        );
    }
    let row =
        app.sql().await.query_one("SELECT count(*), min(name) FROM tenants", &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, &str>(1)), (1, "Tenant acme"));
}

#[tokio::test]
async fn a_tenant_is_created_with_a_new_an_existing_or_no_admin() {
    let app = TestApp::spawn().await;
    let new = json!({
        "name": "Acme", "slug": "acme", "external_id": "crm/42 ü", "settings": { "plan": "pro", "n": 1.5 },
        "admin": { "email": "Ada@Acme.com", "password": PASSWORD, "first_name": "Ada", "last_name": "L" },
    });
    let made = app.root().post_raw(TENANTS, new.to_string().replace("1.5", "1.50")).await;
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(made.header("etag"), Some("\"1\""));
    assert_eq!(made.body["external_id"], "crm/42 ü");
    assert_eq!(made.body["settings"], new["settings"]);
    assert!(made.text.contains("1.50"), "settings are stored as written: {}", made.text);
    let location = made.header("location").unwrap();
    let mut read = app.root().get(location).await.body;
    // Only the answer that creates it says what was done with the account of the admin.
    read["admin"] = json!("created");
    assert_eq!(read, made.body);
    app.log_in("ada@acme.com").await;

    let existing = json!({ "name": "Two", "slug": "two", "admin": { "email": "ada@acme.com" } });
    assert_eq!(app.root().post(TENANTS, &existing).await.status, 201);
    assert_eq!(
        app.root().post(TENANTS, &json!({ "name": "Three", "slug": "three" })).await.status,
        201
    );
    let sql = app.sql().await;
    let rows = sql
        .query(
            "SELECT t.slug, m.role, to_regnamespace('tenant_' || replace(t.id::text, '-', '')) IS NOT NULL
               FROM tenants t LEFT JOIN memberships m ON m.tenant_id = t.id ORDER BY t.created_at",
            &[],
        )
        .await
        .unwrap();
    let rows: Vec<(&str, Option<&str>, bool)> =
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    assert_eq!(
        rows,
        [("acme", Some("ADMIN"), true), ("two", Some("ADMIN"), true), ("three", None, true)]
    );

    let unknown = json!({ "name": "Four", "slug": "four", "admin": { "email": "no@body.com" } });
    let refused = app.root().post(TENANTS, &unknown).await;
    assert_problem(&refused, 400, "invalid");
    assert_eq!(pointers(&refused), ["/admin/email: unknown_user"]);
    let schemas = sql
        .query_one(r"SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'tenant\_%'", &[])
        .await
        .unwrap();
    assert_eq!(schemas.get::<_, i64>(0), 3, "the refused request leaves no schema");

    for (body, code) in [
        (json!({ "name": "x", "slug": "acme" }), "slug_taken"),
        (json!({ "name": "x", "slug": "free", "external_id": "crm/42 ü" }), "external_id_taken"),
    ] {
        assert_problem(&app.root().post(TENANTS, &body).await, 409, code);
    }
}

#[tokio::test]
async fn every_invalid_field_of_a_new_tenant_is_reported_at_once() {
    let app = TestApp::spawn().await;
    let root = app.root();
    for (body, problems) in [
        (json!({}), vec!["/name: required", "/slug: required"]),
        (
            json!({ "name": 5, "slug": "No", "colour": 1, "settings": [], "external_id": "",
                    "admin": { "email": "x", "password": "short", "role": "ADMIN" } }),
            vec![
                "/external_id: required",
                "/name: wrong_type",
                "/slug: slug_format",
                "/settings: wrong_type",
                "/admin/email: email_format",
                "/admin/password: too_short",
                "/admin/first_name: required",
                "/admin/last_name: required",
                "/admin/role: unknown_field",
                "/colour: unknown_field",
            ],
        ),
        (
            json!({ "name": "x", "slug": "api", "admin": "me" }),
            vec!["/slug: reserved", "/admin: wrong_type"],
        ),
        (json!({ "name": "x\u{0}", "slug": "x" }), vec!["/name: control_character"]),
        (
            json!({ "name": "x", "slug": "x", "settings": { "a": "\u{0}" } }),
            vec!["/settings: control_character"],
        ),
        (
            json!({ "name": "x", "slug": "x", "settings": { "a": "y".repeat(70_000) } }),
            vec!["/settings: too_long"],
        ),
    ] {
        let answer = root.post(TENANTS, &body).await;
        assert_problem(&answer, 400, "invalid");
        assert_eq!(pointers(&answer), problems);
        let with_put = put(&root, &path("by-external-id/x"), &body).await;
        assert_eq!(with_put.status, 400, "{with_put:?}");
    }
    let in_put = json!({ "name": "x", "slug": "x", "external_id": "y" });
    let answer = put(&root, &path("by-external-id/x"), &in_put).await;
    assert_eq!(pointers(&answer), ["/external_id: unknown_field"]);
    assert_problem(&root.post_raw(TENANTS, "{\"name\":").await, 400, "malformed_json");
    assert_problem(&root.post_raw(TENANTS, "[1]").await, 400, "not_an_object");
    assert_problem(&root.post_raw(TENANTS, vec![b' '; 2 << 20]).await, 413, "body_too_large");
    let row = app.sql().await.query_one("SELECT count(*) FROM tenants", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 0);
}

#[tokio::test]
async fn an_unknown_path_and_a_wrong_method_are_answered_with_a_problem() {
    let app = TestApp::spawn().await;
    assert_problem(&app.root().get("/control/v1/nothing").await, 404, "route_not_found");
    let wrong = send(app.root().request(Method::DELETE, TENANTS)).await;
    assert_problem(&wrong, 405, "method_not_allowed");
    assert_eq!(wrong.header("allow"), Some("GET, HEAD, POST, OPTIONS"));
}

#[tokio::test]
async fn an_idempotency_key_creates_one_tenant_and_refuses_another_body() {
    let app = TestApp::spawn().await;
    let root = app.root();
    let body =
        json!({ "name": "Acme", "slug": "acme", "external_id": "e1", "settings": { "a": 1 } });
    let with_key = |body: &Value| {
        send(root.request(Method::POST, TENANTS).header("Idempotency-Key", "k1").json(body))
    };
    let (first, second) = (with_key(&body).await, with_key(&body).await);
    assert_eq!((first.status, second.status), (201, 201), "{second:?}");
    assert_eq!(first.body, second.body);
    for other in [
        json!({ "name": "Acme", "slug": "acme", "external_id": "e2", "settings": { "a": 1 } }),
        json!({ "name": "Acme", "slug": "acme", "external_id": "e1", "settings": { "a": 2 } }),
        json!({ "name": "Acme", "slug": "acme" }),
    ] {
        assert_problem(&with_key(&other).await, 422, "idempotency_key_reused");
    }
}

#[tokio::test]
async fn repeated_and_concurrent_puts_of_one_external_id_create_one_tenant() {
    let app = TestApp::spawn().await;
    let root = app.root();
    let target = path("by-external-id/crm%2F42");
    let body = json!({ "name": "Acme", "slug": "acme" });
    let answers = futures_util::future::join_all((0..4).map(|_| put(&root, &target, &body))).await;
    let mut statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 201], "{answers:?}");
    assert!(answers.iter().all(|answer| answer.body["id"] == answers[0].body["id"]));
    assert_eq!(answers[0].body["external_id"], "crm/42");
    let other_slug = json!({ "name": "Acme", "slug": "acme-2" });
    assert_problem(&put(&root, &target, &other_slug).await, 409, "external_id_differs");
    assert_problem(&put(&root, &path("by-external-id/other"), &body).await, 409, "slug_taken");
    let row = app
        .sql()
        .await
        .query_one("SELECT count(*), min(name), min(external_id) FROM tenants", &[])
        .await
        .unwrap();
    assert_eq!(
        (row.get::<_, i64>(0), row.get::<_, &str>(1), row.get::<_, &str>(2)),
        (1, "Acme", "crm/42")
    );
}

#[tokio::test]
async fn an_update_requires_the_current_revision() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let root = app.root();
    let body =
        json!({ "name": "Ægir", "slug": "aegir", "settings": { "a": 1, "b": { "c": 2, "d": 3 } } });
    let missing = send(root.request(Method::PATCH, &path("acme")).json(&body)).await;
    assert_problem(&missing, 428, "precondition_required");
    for stale in ["\"2\"", "W/\"1\"", "\"x\"", "\"7\", \"8\""] {
        assert_problem(&patch(&root, "acme", stale, &body).await, 412, "precondition_failed");
    }
    for broken in ["1", "\"1", ""] {
        assert_problem(&patch(&root, "acme", broken, &body).await, 400, "malformed_header");
    }
    let changed = patch(&root, "acme", "\"9\", \"1\"", &body).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    assert_eq!(changed.header("etag"), Some("\"2\""));
    assert_eq!(root.get(&path("aegir")).await.body, changed.body);
    assert_eq!(root.get(&path("acme")).await.status, 404);

    let merge = json!({ "settings": { "a": null, "b": { "d": 4 }, "e": [1] } });
    let merged = patch(&root, "aegir", "\"2\"", &merge).await;
    assert_eq!(merged.body["settings"], json!({ "b": { "c": 2, "d": 4 }, "e": [1] }));
    assert_eq!(merged.body["name"], "Ægir");
    let same = patch(&root, "aegir", "\"3\"", &json!({ "name": "Ægir" })).await;
    assert_eq!(
        (same.status, same.header("etag")),
        (200, Some("\"3\"")),
        "an update that changes nothing keeps the revision"
    );
    let emptied = patch(&root, "aegir", "*", &json!({ "settings": null })).await;
    assert_eq!(emptied.body["settings"], json!({}));
    assert_eq!(events(&app, acme.id, "tenant.update").await, 3);
    let details = app
        .sql()
        .await
        .query_one(
            "SELECT details FROM audit_events WHERE action = 'tenant.update' ORDER BY at LIMIT 1",
            &[],
        )
        .await
        .unwrap();
    let details: Value = details.get(0);
    assert_eq!(details["slug"], "aegir");
    assert_eq!(details["changes"]["slug"], json!({ "from": "acme", "to": "aegir" }));
    assert_eq!(
        details["changes"]["settings"],
        json!(["a", "b"]),
        "the names of settings are recorded, not their values"
    );
}

#[tokio::test]
async fn every_invalid_field_of_an_update_is_reported_and_nothing_is_changed() {
    let app = TestApp::spawn().await;
    app.set_up("acme").await;
    app.set_up("other").await;
    for (body, problems) in [
        (json!({ "name": null, "slug": "" }), vec!["/name: required", "/slug: required"]),
        (json!({ "status": "suspended" }), vec!["/status: unknown_field"]),
        (json!({ "settings": [] }), vec!["/settings: wrong_type"]),
        (json!({ "settings": { "x": "y".repeat(70_000) } }), vec!["/settings: too_long"]),
    ] {
        let answer = patch(&app.root(), "acme", "*", &body).await;
        assert_problem(&answer, 400, "invalid");
        assert_eq!(pointers(&answer), problems);
    }
    assert_problem(
        &patch(&app.root(), "acme", "*", &json!({ "slug": "other" })).await,
        409,
        "slug_taken",
    );
    assert_problem(&patch(&app.root(), "absent", "*", &json!({})).await, 404, "tenant_not_found");
    assert_eq!(app.root().get(&path("acme")).await.header("etag"), Some("\"1\""));
}

#[tokio::test]
async fn one_of_several_concurrent_updates_of_one_revision_succeeds() {
    let app = TestApp::spawn().await;
    app.set_up("acme").await;
    let root = app.root();
    let bodies: Vec<_> = (0..6).map(|n| json!({ "settings": { "winner": n } })).collect();
    let answers = futures_util::future::join_all(
        bodies.iter().map(|body| patch(&root, "acme", "\"1\"", body)),
    )
    .await;
    let succeeded: Vec<_> = answers.iter().filter(|answer| answer.status == 200).collect();
    assert_eq!(succeeded.len(), 1, "{answers:?}");
    assert_eq!(answers.iter().filter(|answer| answer.status == 412).count(), 5, "{answers:?}");
    let now = root.get(&path("acme")).await;
    assert_eq!(now.body["settings"], succeeded[0].body["settings"]);
    assert_eq!(now.header("etag"), Some("\"2\""));
}

#[tokio::test]
async fn an_update_through_another_dialect_raises_the_revision() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let number: i64 = app
        .sql()
        .await
        .query_one("SELECT number FROM tenants WHERE id = $1", &[&acme.id])
        .await
        .unwrap()
        .get(0);
    let body = json!({ "tenantid": number, "tenantname": "ajax" });
    let request = app.anonymous().request(Method::POST, "/v2/TenantUpdate").json(&body);
    let renamed = send(request.header("X-Bunker-Token", &app.root_token)).await;
    assert_eq!(renamed.status, 200, "{renamed:?}");
    assert_problem(
        &patch(&app.root(), "ajax", "\"1\"", &json!({})).await,
        412,
        "precondition_failed",
    );
}

#[tokio::test]
async fn an_internal_error_does_not_reveal_its_cause() {
    let app = TestApp::spawn().await;
    app.set_up("acme").await;
    app.sql().await.batch_execute("ALTER TABLE tenants RENAME TO tenants_away").await.unwrap();
    let broken = app.root().get(&path("acme")).await;
    assert_problem(&broken, 500, "internal");
    assert!(!broken.text.contains("tenants_away") && !broken.text.contains("SELECT"), "{broken:?}");
}
