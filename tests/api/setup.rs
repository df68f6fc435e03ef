//! `POST /api/tenant/setup`: its answers, and the rows and schema that it creates.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use rowhouse::domain::Permission;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Answer, PASSWORD, Snapshot, StrayRoles, TestApp, TestEngine};

const SETUP: &str = "/api/tenant/setup";

/// The body of the example in Reten's page "Setup Tenant", byte for byte.
const DOCUMENTED_BODY: &str = r#"{
    "name": "Acme Corp",
    "slug": "acme-corp",
    "adminEmail": "admin@acme.com",
    "adminPassword": "SecurePass123!",
    "adminFirstName": "Acme",
    "adminLastName": "Admin"
  }"#;

/// Returns the body of a valid set-up with one field changed.
fn changed(slug: &str, field: &str, value: impl Into<Value>) -> Value {
    let mut body = TestApp::setup_body(slug);
    body[field] = value.into();
    body
}

fn statuses(answers: &[Answer]) -> Vec<u16> {
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    statuses
}

#[tokio::test]
async fn the_documented_example_is_answered_with_id_name_and_slug_and_nothing_else() {
    let app = TestApp::spawn().await;
    let answer = app.root().post_raw(SETUP, DOCUMENTED_BODY).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let id: Uuid = answer.body["id"].as_str().expect("there is an id").parse().expect("a UUID");
    assert_eq!(answer.body, json!({ "id": id, "name": "Acme Corp", "slug": "acme-corp" }));
    assert_eq!(answer.header("content-type"), Some("application/json"));

    // Without an option, curl sends a body with the content type of a form.
    let labelled = app
        .root()
        .request(reqwest::Method::POST, SETUP)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(DOCUMENTED_BODY.replace("acme", "label"));
    assert_eq!(crate::support::callers::send(labelled).await.status, 201);
}

#[tokio::test]
async fn setup_creates_row_schema_role_tables_admin_membership_and_audit_event() {
    let app = TestApp::spawn().await;
    let answer = app.root().post_raw(SETUP, DOCUMENTED_BODY).await;
    let id: Uuid = answer.body["id"].as_str().expect("there is an id").parse().expect("a UUID");
    let schema = format!("tenant_{}", id.simple());
    let sql = app.sql().await;

    let row = sql.query_one("SELECT id, name, slug, status FROM tenants", &[]).await.unwrap();
    let tenant: (Uuid, &str, &str, &str) = (row.get(0), row.get(1), row.get(2), row.get(3));
    assert_eq!(tenant, (id, "Acme Corp", "acme-corp", "active"));

    let applied = format!("SELECT name FROM {schema}.refinery_schema_history ORDER BY version");
    let applied = sql.query(&applied, &[]).await.unwrap();
    let applied: Vec<&str> = applied.iter().map(|row| row.get(0)).collect();
    assert_eq!(
        applied,
        [
            "create_profiles",
            "create_profile_versions",
            "create_profile_events",
            "add_lifetime_to_profile_versions",
            "protect_profile_events",
        ]
    );
    let tables = "SELECT tablename::text FROM pg_tables WHERE schemaname = $1";
    let tables = sql.query(tables, &[&schema]).await.unwrap();
    let tables: BTreeSet<&str> = tables.iter().map(|row| row.get(0)).collect();
    let expected = BTreeSet::from([
        "profiles",
        "profile_events",
        "profile_versions",
        "refinery_schema_history",
    ]);
    assert_eq!(tables, expected);

    let role = "SELECT rolcanlogin, rolsuper, has_schema_privilege(rolname, $1, 'USAGE'),
                       has_schema_privilege(rolname, $1, 'CREATE'),
                       has_table_privilege(rolname, $1 || '.profiles', 'SELECT, INSERT, UPDATE, DELETE')
                  FROM pg_roles WHERE rolname = $1";
    let role = sql.query_one(role, &[&schema]).await.unwrap();
    let rights: [bool; 5] = std::array::from_fn(|column| role.get(column));
    // On Citus a role may log in: the coordinator connects to the nodes as the tenant.
    let may_log_in = TestEngine::of_run() != TestEngine::Postgres;
    assert_eq!(rights, [may_log_in, false, true, false, true]);

    let admin =
        "SELECT u.email, u.first_name, u.last_name, u.platform_role, u.password_hash, m.role
                   FROM users u JOIN memberships m ON m.user_id = u.id WHERE m.tenant_id = $1";
    let admin = sql.query_one(admin, &[&id]).await.unwrap();
    let admin_columns: [&str; 3] = std::array::from_fn(|column| admin.get(column));
    assert_eq!(admin_columns, ["admin@acme.com", "Acme", "Admin"]);
    assert_eq!(admin.get::<_, Option<&str>>(3), None, "a tenant's admin has no platform role");
    assert!(admin.get::<_, &str>(4).starts_with("$argon2id$"));
    assert_eq!(admin.get::<_, &str>(5), "ADMIN");

    let event = "SELECT actor, request_id, details::text FROM audit_events
                  WHERE action = 'tenant.create' AND tenant_id = $1";
    let event = sql.query_one(event, &[&id]).await.unwrap();
    assert_eq!(event.get::<_, &str>(0), "root");
    assert_eq!(Some(event.get::<_, &str>(1)), answer.header("x-request-id"));
    assert!(!event.get::<_, &str>(2).contains("acme.com"), "the audit event has no address");

    let mine = app.log_in("admin@acme.com").await.get("/api/tenant/mine").await;
    assert_eq!(mine.body, json!([{ "id": id, "name": "Acme Corp", "slug": "acme-corp" }]));
}

#[tokio::test]
async fn an_existing_user_becomes_admin_and_keeps_password_and_names() {
    let app = TestApp::spawn().await;
    app.set_up("first").await;
    let users = "SELECT email, first_name, last_name, password_hash, updated_at::text FROM users";
    let sql = app.sql().await;
    let fields = |row: &tokio_postgres::Row| -> [String; 5] {
        std::array::from_fn(|column| row.get(column))
    };
    let before = fields(&sql.query_one(users, &[]).await.unwrap());

    let body = json!({
        "name": "Second", "slug": "second", "adminEmail": " ADMIN@First.Example.COM ",
        "adminPassword": "AnotherPass456?", "adminFirstName": "Eve", "adminLastName": "Else",
    });
    assert_eq!(app.root().post(SETUP, &body).await.status, 201);

    assert_eq!(fields(&sql.query_one(users, &[]).await.unwrap()), before);
    let admin = app.log_in("admin@first.example.com").await;
    let mine = admin.get("/api/tenant/mine").await;
    let slugs: Vec<_> = mine.body.as_array().unwrap().iter().map(|t| &t["slug"]).collect();
    assert_eq!(slugs, ["first", "second"]);
    let login = json!({ "identifier": "admin@first.example.com", "password": "AnotherPass456?" });
    assert_eq!(app.anonymous().post("/api/auth/login", &login).await.status, 401);
}

#[tokio::test]
async fn names_in_any_script_are_kept_as_given_and_unknown_fields_are_ignored() {
    let app = TestApp::spawn().await;
    let sql = app.sql().await;
    let names = [
        "株式会社アクメ",
        "  padded  ",
        "O'Brien\"; DROP TABLE tenants; --",
        "Ægir 🏠 ñ e\u{301}",
        "عقار\u{200f} \u{202e}x",
        "<script>alert(1)</script>",
        "${jndi:ldap://x}{{7*7}}%s\\n",
    ];
    for (number, name) in names.into_iter().enumerate() {
        let slug = format!("t{number}");
        let mut body = TestApp::setup_body(&slug);
        for field in ["name", "adminFirstName", "adminLastName"] {
            body[field] = name.into();
        }
        body["0"] = "n".into();
        body["nested"] = json!({ "deep": [1, null, { "slug": "other" }] });
        body["id"] = Uuid::nil().to_string().into();
        let answer = app.root().post(SETUP, &body).await;
        assert_eq!(answer.status, 201, "{name:?}: {answer:?}");
        assert_eq!(answer.body["name"], name);
        assert_ne!(answer.body["id"], Uuid::nil().to_string());
        let row = sql
            .query_one(
                "SELECT t.name, u.first_name, u.last_name FROM tenants t
                   JOIN memberships m ON m.tenant_id = t.id JOIN users u ON u.id = m.user_id
                  WHERE t.slug = $1",
                &[&slug],
            )
            .await
            .unwrap();
        let kept: [&str; 3] = std::array::from_fn(|column| row.get(column));
        assert_eq!(kept, [name; 3]);
    }
}

#[tokio::test]
async fn the_longest_valid_values_are_accepted() {
    let app = TestApp::spawn().await;
    let (name, slug) = ("é".repeat(255), "a".repeat(63));
    let password = "pässwörd".repeat(102) + "1234"; // ten bytes for eight characters
    assert_eq!(password.len(), 1024);
    let email =
        format!("{}@{}.{}.{}.com", "l".repeat(60), "d".repeat(60), "e".repeat(60), "f".repeat(60));
    let body = json!({
        "name": name, "slug": slug, "adminEmail": email, "adminPassword": password,
        "adminFirstName": name, "adminLastName": name,
    });
    let answer = app.root().post(SETUP, &body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let login = json!({ "identifier": email, "password": password });
    assert_eq!(app.anonymous().post("/api/auth/login", &login).await.status, 200);
}

#[tokio::test]
async fn every_invalid_field_is_reported_in_one_answer_with_its_rule() {
    let app = TestApp::spawn().await;
    let before = Snapshot::of(&app).await;
    let body = json!({
        "name": " ", "slug": "Acme Corp", "adminEmail": "no-address", "adminPassword": "hunter2",
        "adminFirstName": 7, "adminLastName": null,
    });
    let answer = app.root().post(SETUP, &body).await;
    assert_eq!(answer.refusal(400), "Validation failed");
    let expected = [
        ("name", "required"),
        ("slug", "slug_format"),
        ("adminEmail", "email_format"),
        ("adminPassword", "too_short"),
        ("adminFirstName", "wrong_type"),
        ("adminLastName", "required"),
    ];
    assert_eq!(answer.bad_rules(), expected);
    for error in answer.body["errors"].as_array().unwrap() {
        let (field, message) = (error["field"].as_str().unwrap(), error["message"].as_str());
        assert!(message.is_some_and(|text| text.starts_with(field)), "{error}");
    }
    assert!(!answer.text.contains("hunter2"), "the answer repeats the password: {answer:?}");
    assert_eq!(Snapshot::of(&app).await, before);
}

#[tokio::test]
async fn setup_without_the_permission_names_the_missing_one() {
    let app = TestApp::spawn().await;
    let tenant = app.set_up("first").await;
    app.add_user("platform-admin@example.com", Some("ADMIN")).await;
    let other = [Permission::ViewTenants, Permission::DeleteTenant];
    let (_, weak) = app.add_token(&other, None, None).await;
    // A token that is bound to a tenant creates no others, whatever its permissions.
    let (_, bound) = app.add_token(&[Permission::CreateTenant], Some(tenant.id), None).await;
    let admin = app.log_in(&tenant.admin_email).await;
    let platform_admin = app.log_in("platform-admin@example.com").await;
    let before = Snapshot::of(&app).await;

    for caller in [&weak, &bound, &admin, &platform_admin] {
        // Authorization precedes validation: 403 even when the body is invalid.
        for body in [TestApp::setup_body("second"), json!({}), json!([])] {
            let answer = caller.post(SETUP, &body).await;
            assert_eq!(answer.refusal(403), "Missing permission: CREATE_TENANT");
        }
    }
    for body in [TestApp::setup_body("second"), json!({})] {
        let answer = app.anonymous().post(SETUP, &body).await;
        assert!(answer.refusal(401).starts_with("Unauthorized"), "{answer:?}");
        assert!(answer.header("www-authenticate").is_some_and(|text| text.starts_with("Bearer")));
    }
    assert_eq!(Snapshot::of(&app).await, before);
}

#[tokio::test]
async fn a_super_admin_and_a_token_with_the_permission_may_set_up() {
    let app = TestApp::spawn().await;
    app.add_user("super@example.com", Some("SUPER_ADMIN")).await;
    let superuser = app.log_in("super@example.com").await;
    let (_, token) = app.add_token(&[Permission::CreateTenant], None, None).await;
    for (caller, slug, actor) in [(superuser, "by-user", "user:"), (token, "by-token", "token:")] {
        let answer = caller.post(SETUP, &TestApp::setup_body(slug)).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let by = "SELECT actor FROM audit_events WHERE action = 'tenant.create' AND details->>'slug' = $1";
        let row = app.sql().await.query_one(by, &[&slug]).await.unwrap();
        assert!(row.get::<_, &str>(0).starts_with(actor));
    }
}

#[tokio::test]
async fn a_taken_slug_is_a_conflict_and_changes_nothing() {
    let app = TestApp::spawn().await;
    app.set_up("acme").await;
    let (before, strays) = (Snapshot::of(&app).await, StrayRoles::of(&app).await);
    let body = changed("acme", "adminEmail", "new-admin@example.com");
    let answer = app.root().post(SETUP, &body).await;
    assert_eq!(answer.refusal(409), "Slug already exists");
    assert_eq!(answer.header("retry-after"), None, "a retry would not succeed");
    assert_eq!(Snapshot::of(&app).await, before);
    strays.assert_no_more(&app).await;
}

#[tokio::test]
async fn two_setups_with_one_slug_leave_exactly_one_tenant() {
    one_of_concurrent_setups_succeeds(2).await;
}

#[tokio::test]
async fn fifty_setups_with_one_slug_leave_exactly_one_tenant() {
    one_of_concurrent_setups_succeeds(50).await;
}

async fn one_of_concurrent_setups_succeeds(number: usize) {
    let app = TestApp::builder().with("database.max_connections", "40").spawn().await;
    let strays = StrayRoles::of(&app).await;
    let root = app.root();
    let bodies: Vec<_> = (0..number)
        .map(|n| changed("acme", "adminEmail", format!("admin{n}@example.com")))
        .collect();
    let answers = join_all(bodies.iter().map(|body| root.post(SETUP, body))).await;
    let mut expected = vec![409; number];
    expected[0] = 201;
    assert_eq!(statuses(&answers), expected);
    for answer in answers.iter().filter(|answer| answer.status == 409) {
        assert_eq!(answer.refusal(409), "Slug already exists");
    }
    let after = Snapshot::of(&app).await;
    for table in ["tenants", "users", "memberships", "audit_events"] {
        assert_eq!(after.count(table), 1, "{table}");
    }
    assert_eq!(after.tenant_schemas(), 1);
    strays.assert_no_more(&app).await;
}

#[tokio::test]
async fn fifty_setups_with_one_new_admin_make_fifty_tenants_and_one_user() {
    let app = TestApp::builder().with("database.max_connections", "40").spawn().await;
    let root = app.root();
    let bodies: Vec<_> =
        (0..50).map(|n| changed(&format!("t{n}"), "adminEmail", "one@example.com")).collect();
    let answers = join_all(bodies.iter().map(|body| root.post(SETUP, body))).await;
    assert_eq!(statuses(&answers), vec![201; 50], "{answers:?}");
    let after = Snapshot::of(&app).await;
    let counts = ["users", "tenants", "memberships"].map(|table| after.count(table));
    assert_eq!(counts, [1, 50, 50]);
    assert_eq!(after.tenant_schemas(), 50);
    let mine = app.log_in("one@example.com").await.get("/api/tenant/mine").await;
    assert_eq!(mine.body.as_array().map(Vec::len), Some(50));
    let login = json!({ "identifier": "one@example.com", "password": PASSWORD });
    assert_eq!(app.anonymous().post("/api/auth/login", &login).await.status, 200);
}
