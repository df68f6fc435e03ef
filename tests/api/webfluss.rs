//! WebFluss's dialect: `POST /api/tenants`, `GET /api/tenants/{uuid}`.

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::callers::send;
use crate::support::{Answer, TestApp};

/// Creates a tenant with the root token.
async fn create(app: &TestApp, body: &Value) -> Answer {
    app.root().post("/api/tenants", body).await
}

fn tenant_id(answer: &Answer) -> Uuid {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body["tenant_id"].as_str().expect("a tenant_id").parse().expect("a UUID")
}

/// Creates a user who can own tenants and returns the address.
async fn owner(app: &TestApp) -> String {
    app.set_up("owners").await.admin_email
}

#[tokio::test]
async fn the_documented_request_is_answered_as_documented() {
    let app = TestApp::spawn().await;
    let email = owner(&app).await;
    let body = json!({ "email": email, "name": "My Organization", "subdomain": "my-organization" });
    let answer = create(&app, &body).await;
    let id = tenant_id(&answer);
    assert_eq!(answer.body, json!({ "tenant_id": id }));

    let sql = app.sql().await;
    let row = sql
        .query_one(
            "SELECT t.name, t.slug, u.email, m.role FROM tenants t
               JOIN memberships m ON m.tenant_id = t.id JOIN users u ON u.id = m.user_id WHERE t.id = $1",
            &[&id],
        )
        .await
        .expect("the tenant has an owner");
    let found: (String, String, String, String) = (row.get(0), row.get(1), row.get(2), row.get(3));
    let expected = ("My Organization", "my-organization", email.as_str(), "ADMIN");
    assert_eq!((found.0.as_str(), found.1.as_str(), found.2.as_str(), found.3.as_str()), expected);
    let schema = format!("tenant_{}", id.simple());
    let there =
        sql.query_one("SELECT to_regclass($1 || '.profiles') IS NOT NULL", &[&schema]).await;
    assert!(there.expect("the catalog can be read").get::<_, bool>(0));

    let shown = app.root().get(&format!("/api/tenants/{id}")).await;
    assert_eq!(shown.status, 200);
    assert_eq!(
        shown.body,
        json!({
            "tenant_id": id,
            "organization_name": "My Organization",
            "domains": { "base": null, "custom": null, "subdomain": "my-organization" },
        })
    );
}

#[tokio::test]
async fn all_fields_and_the_body_are_optional() {
    let app = TestApp::spawn().await;
    let empty = create(&app, &json!({})).await;
    let absent = send(app.root().request(Method::POST, "/api/tenants")).await;
    let nulls = create(&app, &json!({ "email": null, "name": "", "subdomain": "  " })).await;
    let mut ids = vec![tenant_id(&empty), tenant_id(&absent), tenant_id(&nulls)];
    ids.dedup();
    assert_eq!(ids.len(), 3);
    let shown = app.root().get(&format!("/api/tenants/{}", ids[0])).await;
    assert!(
        shown.body["organization_name"].as_str().is_some_and(|name| !name.is_empty()),
        "{shown:?}"
    );
}

#[tokio::test]
async fn the_admin_of_the_settings_owns_tenants_without_an_owner() {
    let email = "default-owner@example.com";
    let app = TestApp::builder()
        .with("admin_email", email)
        .with("admin_password", "SecurePass123!")
        .spawn()
        .await;
    let id = tenant_id(&create(&app, &json!({})).await);
    let mine = app.log_in(email).await.get("/api/tenant/mine").await;
    assert_eq!(mine.body[0]["id"], json!(id), "{mine:?}");
}

#[tokio::test]
async fn a_missing_owner_is_answered_404_and_creates_nothing() {
    let app = TestApp::spawn().await;
    let answer =
        create(&app, &json!({ "email": "missing@example.com", "subdomain": "left-over" })).await;
    assert_eq!((answer.status, &answer.body), (404, &json!({ "message": "User not found" })));
    let sql = app.sql().await;
    let row =
        sql.query_one("SELECT count(*) FROM tenants", &[]).await.expect("tenants can be counted");
    assert_eq!(row.get::<_, i64>(0), 0);
}

#[tokio::test]
async fn validation_errors_have_laravels_messages_and_count() {
    let app = TestApp::spawn().await;
    let answer = create(&app, &json!({ "email": "not-an-email", "subdomain": "-a" })).await;
    assert_eq!(answer.status, 422);
    assert_eq!(
        answer.text,
        concat!(
            r#"{"message":"The email field must be a valid email address. (and 3 more errors)","errors":{"#,
            r#""email":["The email field must be a valid email address.","The selected email is invalid."],"#,
            r#""subdomain":["The subdomain field must be at least 3 characters.","#,
            r#""The subdomain field format is invalid."]}}"#,
        )
    );
    for (body, message) in [
        (
            json!({ "name": "x".repeat(256) }),
            "The name field must not be greater than 255 characters.",
        ),
        (json!({ "name": 5 }), "The name field must be a string."),
        (json!({ "name": "a\u{0}b" }), "The name field format is invalid."),
        (json!({ "email": ["a"] }), "The email field must be a string."),
        (json!({ "email": "a@b" , "name": {} }), "The name field must be a string."),
        (
            json!({ "email": "a" }),
            "The email field must be a valid email address. (and 1 more error)",
        ),
        (json!({ "subdomain": "ab" }), "The subdomain field must be at least 3 characters."),
        (
            json!({ "subdomain": "a".repeat(64) }),
            "The subdomain field must not be greater than 63 characters.",
        ),
        (json!({ "subdomain": "www" }), "The selected subdomain is invalid."),
    ] {
        let answer = create(&app, &body).await;
        assert_eq!(answer.status, 422, "{body}: {answer:?}");
        assert_eq!(answer.body["message"], message, "{body}");
    }
}

#[tokio::test]
async fn the_documented_subdomains_are_accepted_or_refused_as_documented() {
    let app = TestApp::spawn().await;
    for good in ["my-page", "page123", "test-site-1"] {
        tenant_id(&create(&app, &json!({ "subdomain": good })).await);
    }
    for bad in ["my page", "My-Page", "-mypage", "page.qrweb.mn", "my--page"] {
        let answer = create(&app, &json!({ "subdomain": bad })).await;
        assert_eq!(answer.status, 422, "{bad}");
        assert_eq!(
            answer.body["errors"]["subdomain"],
            json!(["The subdomain field format is invalid."]),
            "{bad}"
        );
    }
}

#[tokio::test]
async fn a_taken_subdomain_is_a_validation_error() {
    let app = TestApp::spawn().await;
    app.set_up("taken").await;
    let answer = create(&app, &json!({ "subdomain": "taken" })).await;
    assert_eq!(answer.status, 422);
    assert_eq!(
        answer.body,
        json!({
            "message": "The subdomain has already been taken.",
            "errors": { "subdomain": ["The subdomain has already been taken."] }
        })
    );
}

#[tokio::test]
async fn unauthorized_callers_are_refused_in_laravels_form() {
    let app = TestApp::spawn().await;
    let tenant = app.set_up("acme").await;
    let member = app.log_in(&tenant.admin_email).await;
    for caller in [app.anonymous(), app.bearer("nonsense"), app.bearer(&Uuid::new_v4().to_string())]
    {
        let answer = caller.post("/api/tenants", &json!({})).await;
        assert_eq!((answer.status, &answer.body), (401, &json!({ "message": "Unauthorized" })));
        let answer = caller.get(&format!("/api/tenants/{}", tenant.id)).await;
        assert_eq!((answer.status, &answer.body), (401, &json!({ "message": "Unauthorized" })));
    }
    let answer = member.post("/api/tenants", &json!({})).await;
    assert_eq!(
        (answer.status, &answer.body),
        (403, &json!({ "message": "This action is unauthorized." }))
    );
    assert_eq!(member.get(&format!("/api/tenants/{}", tenant.id)).await.status, 200);
}

#[tokio::test]
async fn a_missing_or_foreign_tenant_is_answered_404_in_laravels_words() {
    let app = TestApp::spawn().await;
    let (acme, other) = (app.set_up("acme").await, app.set_up("other").await);
    let member = app.log_in(&acme.admin_email).await;
    for (caller, id) in [
        (app.root(), Uuid::nil().to_string()),
        (app.root(), "not-a-uuid".to_owned()),
        (member, other.id.to_string()),
    ] {
        let answer = caller.get(&format!("/api/tenants/{id}")).await;
        let message = format!("No query results for model [App\\Models\\Tenant] {id}");
        assert_eq!((answer.status, &answer.body), (404, &json!({ "message": message })));
    }
}

#[tokio::test]
async fn a_body_that_is_not_an_object_is_refused_in_laravels_form() {
    let app = TestApp::builder().with("http.max_body_bytes", "1024").spawn().await;
    for (body, status) in [("{", 400), ("[]", 400), ("\"x\"", 400), (&*"x".repeat(2000), 413)] {
        let answer = app.root().post_raw("/api/tenants", body.to_owned()).await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(
            answer.body["message"].is_string() && answer.body["statusCode"].is_null(),
            "{answer:?}"
        );
    }
    let answer = send(app.root().request(Method::DELETE, "/api/tenants")).await;
    assert_eq!(
        (answer.status, &answer.body),
        (405, &json!({ "message": "The method is not supported for this route." }))
    );
}
