//! Who may read and who may write the tables of an application: the handler says which by its type, the permission
//! decides, and the database refuses to write where the handler only reads. A handler with several extractors has one
//! caller, who is looked for and counted once.

use std::sync::Arc;

use actix_web::{HttpResponse, get, post};
use reqwest::Method;
use rowhouse::domain::Permission;
use rowhouse::http::native;
use rowhouse::{Problem, TenantTx, Write};
use serde_json::json;
use uuid::Uuid;

use crate::isolation::fixture;
use crate::support::callers::send;
use crate::support::scoped::{add_member, make_key, plaintext};
use crate::support::{Answer, Caller, TestApp, TestAppBuilder, TestTenant};

const INSERT: &str = "INSERT INTO notes (id, body) VALUES ($1, 'written')";

#[get("/notes")]
async fn count(tx: TenantTx) -> Result<HttpResponse, Problem> {
    let row = tx.query_one("SELECT count(*) AS notes FROM notes", &[]).await?;
    Ok(HttpResponse::Ok().json(row.get::<_, i64>("notes")))
}

#[post("/notes")]
async fn add(Write(tx): Write<TenantTx>) -> Result<HttpResponse, Problem> {
    tx.execute(INSERT, &[&Uuid::now_v7()]).await?;
    tx.commit().await?;
    Ok(HttpResponse::Created().finish())
}

/// A handler that writes although it asked only to read.
#[post("/notes/undeclared")]
async fn add_undeclared(tx: TenantTx) -> Result<HttpResponse, Problem> {
    tx.execute(INSERT, &[&Uuid::now_v7()]).await?;
    tx.commit().await?;
    Ok(HttpResponse::Created().finish())
}

/// The same, hidden in a query.
#[post("/notes/hidden")]
async fn add_hidden(tx: TenantTx) -> Result<HttpResponse, Problem> {
    let sql =
        "WITH x AS (INSERT INTO notes (id, body) VALUES ($1, 'x') RETURNING 1) SELECT 1 FROM x";
    tx.query_and_commit(sql, &[&Uuid::now_v7()]).await?;
    Ok(HttpResponse::Created().finish())
}

/// A handler with several extractors.
#[get("/several")]
async fn several(
    caller: native::Caller,
    reading: TenantTx,
    again: native::Caller,
    writing: Write<TenantTx>,
) -> Result<HttpResponse, Problem> {
    assert_eq!(caller.0.principal, again.0.principal);
    reading.query_and_commit("SELECT 1", &[]).await?;
    writing.0.query_and_commit("SELECT 1", &[]).await?;
    Ok(HttpResponse::Ok().finish())
}

/// A handler that goes on if one extractor fails.
#[get("/optional")]
async fn optional(
    caller: Result<native::Caller, actix_web::Error>,
    tx: Result<TenantTx, actix_web::Error>,
) -> Result<HttpResponse, actix_web::Error> {
    assert!(caller.is_err(), "the test sends a wrong token");
    tx.map(|_| HttpResponse::Ok().finish())
}

fn builder() -> TestAppBuilder {
    TestApp::builder()
        .with("tenant_migrations", fixture::notes().display().to_string())
        .with_routes(Arc::new(|config| {
            config
                .service(count)
                .service(add)
                .service(add_undeclared)
                .service(add_hidden)
                .service(several)
                .service(optional);
        }))
}

async fn call(caller: &Caller, tenant: &TestTenant, method: Method, path: &str) -> Answer {
    send(caller.request(method, path).header("x-tenant-id", tenant.id.to_string())).await
}

async fn notes(caller: &Caller, tenant: &TestTenant) -> Answer {
    call(caller, tenant, Method::GET, "/notes").await
}

async fn write(caller: &Caller, tenant: &TestTenant) -> Answer {
    call(caller, tenant, Method::POST, "/notes").await
}

#[tokio::test]
async fn a_viewer_reads_and_only_the_roles_above_write() {
    let app = builder().spawn().await;
    let acme = app.set_up("acme").await;
    for (role, status) in [("VIEWER", 403), ("FDE", 201), ("ADMIN", 201)] {
        let email = format!("{}@example.com", role.to_lowercase());
        add_member(&app, &acme, &email, role).await;
        let member = app.log_in(&email).await;
        assert_eq!(notes(&member, &acme).await.status, 200, "{role}");
        assert_eq!(write(&member, &acme).await.status, status, "{role}");
    }
    for (role, status) in [("VIEWER", 403), ("FDE", 201)] {
        let email = format!("platform-{}@example.com", role.to_lowercase());
        app.add_user(&email, Some(role)).await;
        let user = app.log_in(&email).await;
        assert_eq!(notes(&user, &acme).await.status, 200, "{role}");
        assert_eq!(write(&user, &acme).await.status, status, "{role}");
    }
    assert_eq!(write(&app.root(), &acme).await.status, 201);
    let viewer = app.log_in("viewer@example.com").await;
    let refused = write(&viewer, &acme).await;
    assert_eq!(refused.refusal(403), "Missing permission: WRITE_PROFILES");
    // Three members above the viewer, one of them of the platform, and the root.
    assert_eq!(notes(&viewer, &acme).await.body, json!(4));
}

#[tokio::test]
async fn a_credential_without_the_permission_cannot_use_the_routes_of_an_application() {
    let app = builder().spawn().await;
    let (acme, globex) = (app.set_up("acme").await, app.set_up("globex").await);
    let admin = app.log_in(&acme.admin_email).await;
    for (permissions, reads, writes) in [
        (&["VIEW_USERS"][..], 403, 403),
        (&["VIEW_USERS", "VIEW_TENANTS", "MANAGE_API_KEYS", "BULK_PROFILES"], 403, 403),
        (&["READ_PROFILES"], 200, 403),
        (&["WRITE_PROFILES"], 403, 201),
        (&["READ_PROFILES", "WRITE_PROFILES"], 200, 201),
    ] {
        let key = app.keyed(&plaintext(&make_key(&admin, acme.id, permissions).await));
        let given: Vec<Permission> =
            permissions.iter().map(|name| name.parse().expect("a permission")).collect();
        let (_, token) = app.add_token(&given, Some(acme.id), None).await;
        for caller in [&key, &token] {
            assert_eq!(notes(caller, &acme).await.status, reads, "{permissions:?}");
            assert_eq!(write(caller, &acme).await.status, writes, "{permissions:?}");
            // Another tenant is not found, whatever the permissions.
            assert_eq!(notes(caller, &globex).await.status, 404, "{permissions:?}");
            assert_eq!(write(caller, &globex).await.status, 404, "{permissions:?}");
        }
        // A token of the platform enters no tenant.
        let (_, unbound) = app.add_token(&given, None, None).await;
        assert_eq!(notes(&unbound, &acme).await.status, 404, "{permissions:?}");
    }
    let key = app.keyed(&plaintext(&make_key(&admin, acme.id, &["VIEW_USERS"]).await));
    let refused = notes(&key, &acme).await;
    assert_eq!(refused.refusal(403), "Missing permission: READ_PROFILES");
}

#[tokio::test]
async fn a_handler_that_only_reads_cannot_write_even_for_an_admin() {
    let app = builder().spawn().await;
    let acme = app.set_up("acme").await;
    let admin = app.log_in(&acme.admin_email).await;
    for path in ["/notes/undeclared", "/notes/hidden"] {
        let answer = call(&admin, &acme, Method::POST, path).await;
        assert_eq!(answer.refusal(500), "Internal server error", "{path}");
    }
    assert_eq!(notes(&admin, &acme).await.body, json!(0));
    // The connection is sound, and the next transaction on it may write.
    for expected in 1..4 {
        assert_eq!(write(&admin, &acme).await.status, 201);
        assert_eq!(notes(&admin, &acme).await.body, json!(expected));
    }
}

#[tokio::test]
async fn a_handler_with_several_extractors_counts_its_request_once() {
    for limit in ["limits.requests_token", "limits.requests_tenant"] {
        let app = builder().with_stopped_clock().with(limit, "60/3").spawn().await;
        let acme = app.set_up("acme").await;
        let admin = app.log_in(&acme.admin_email).await;
        let mut statuses = Vec::new();
        for _ in 0..4 {
            statuses.push(call(&admin, &acme, Method::GET, "/several").await.status);
        }
        assert_eq!(statuses, [200, 200, 200, 429], "{limit}");
    }
}

#[tokio::test]
async fn a_wrong_token_counts_once_however_many_extractors_look_at_it() {
    let app = builder().with_stopped_clock().with("limits.token_address", "60/3").spawn().await;
    let acme = app.set_up("acme").await;
    let stranger = app.bearer(&Uuid::new_v4().to_string());
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(call(&stranger, &acme, Method::GET, "/optional").await.status);
    }
    assert_eq!(statuses, [401, 401, 401, 429]);
}

/// A caller without the permission must not use up the tenant's limit.
#[tokio::test]
async fn a_request_without_the_permission_is_not_counted_for_the_tenant() {
    let app = builder().with_stopped_clock().with("limits.requests_tenant", "60/2").spawn().await;
    let acme = app.set_up("acme").await;
    add_member(&app, &acme, "viewer@example.com", "VIEWER").await;
    let viewer = app.log_in("viewer@example.com").await;
    for _ in 0..5 {
        assert_eq!(write(&viewer, &acme).await.status, 403);
    }
    let admin = app.log_in(&acme.admin_email).await;
    assert_eq!(write(&admin, &acme).await.status, 201);
    assert_eq!(write(&admin, &acme).await.status, 201);
    assert_eq!(write(&admin, &acme).await.status, 429);
}
